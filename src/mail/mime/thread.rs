//! THREAD (RFC 5256 §3): ORDEREDSUBJECT and REFERENCES over the keys of messages.
//!
//! Guarantees: n log n in messages and references; no recursion, however deep a thread is; every
//! message is in the answer exactly once.
//! Does not know: sequence numbers and UIDs; a message is its index among the keys.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use super::keys::MessageIdHash;

/// What threading looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThreadKeys<'a> {
    /// The message's own id.
    pub message_id: Option<MessageIdHash>,
    /// Its ancestors, the oldest first.
    pub references: Cow<'a, [MessageIdHash]>,
    /// Collation key of the base subject.
    pub subject: &'a [u8],
    /// A reply or a forward, by its subject.
    pub is_reply: bool,
    /// When it was sent, or else its internal date; seconds since 1970.
    pub date_seconds: i64,
}

/// The keys of many messages, packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThreadList {
    messages: Vec<Packed>,
    references: Vec<MessageIdHash>,
    subjects: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Packed {
    message_id: Option<MessageIdHash>,
    /// Where its references and its subject end; they begin where those of the message before end.
    references_end: u32,
    subject_end: u32,
    is_reply: bool,
    date_seconds: i64,
}

impl ThreadList {
    /// Adds a message. The caller bounds [`ThreadList::held_bytes`] to less than 4 GiB.
    pub fn push(&mut self, keys: &ThreadKeys<'_>) {
        self.references.extend_from_slice(&keys.references);
        self.subjects.extend_from_slice(keys.subject);
        self.messages.push(Packed {
            message_id: keys.message_id,
            references_end: self.references.len() as u32,
            subject_end: self.subjects.len() as u32,
            is_reply: keys.is_reply,
            date_seconds: keys.date_seconds,
        });
    }

    /// Messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes of memory held beside itself.
    pub fn held_bytes(&self) -> usize {
        self.messages.capacity() * size_of::<Packed>()
            + self.references.capacity() * size_of::<MessageIdHash>()
            + self.subjects.capacity()
    }

    /// The keys, in the order in which they were added.
    pub fn keys(&self) -> Vec<ThreadKeys<'_>> {
        let (mut references, mut subject) = (0, 0);
        let unpacked = self.messages.iter().map(|packed| {
            let (references_end, subject_end) =
                (packed.references_end as usize, packed.subject_end as usize);
            let keys = ThreadKeys {
                message_id: packed.message_id,
                references: Cow::Borrowed(&self.references[references..references_end]),
                subject: &self.subjects[subject..subject_end],
                is_reply: packed.is_reply,
                date_seconds: packed.date_seconds,
            };
            (references, subject) = (references_end, subject_end);
            keys
        });
        unpacked.collect()
    }
}

/// Threads, ready to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Threads {
    roots: Vec<u32>,
    nodes: Vec<Node>,
}

/// A message, or a place that holds messages together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    message: Option<u32>,
    children: Vec<u32>,
}

impl Threads {
    /// Writes the threads; `numbers[index]` is what the client knows the message by.
    ///
    /// ```text
    /// thread-data    = "THREAD" [SP 1*thread-list]
    /// thread-list    = "(" (thread-members / thread-nested) ")"
    /// thread-members = nz-number *(SP nz-number) [SP thread-nested]
    /// thread-nested  = 2*thread-list
    /// ```
    pub fn write(&self, numbers: impl Fn(usize) -> u32, out: &mut Vec<u8>) {
        enum Todo {
            Open(u32),
            Inside(u32),
            Close,
        }
        let mut todo: Vec<Todo> = self
            .roots
            .iter()
            .rev()
            .map(|root| Todo::Open(*root))
            .collect();
        while let Some(next) = todo.pop() {
            let index = match next {
                Todo::Close => {
                    out.push(b')');
                    continue;
                }
                Todo::Open(index) => {
                    out.push(b'(');
                    todo.push(Todo::Close);
                    index
                }
                Todo::Inside(index) => index,
            };
            let node = &self.nodes[index as usize];
            if let Some(message) = node.message {
                out.extend_from_slice(numbers(message as usize).to_string().as_bytes());
                if !node.children.is_empty() {
                    out.push(b' ');
                }
            }
            match node.children.as_slice() {
                [only] => todo.push(Todo::Inside(*only)),
                several => todo.extend(several.iter().rev().map(|child| Todo::Open(*child))),
            }
        }
    }

    /// Messages in all threads.
    pub fn message_count(&self) -> usize {
        let held = |node: &&Node| node.message.is_some();
        self.nodes.iter().filter(held).count()
    }
}

/// ORDEREDSUBJECT: messages with one base subject are a thread; the earliest is the parent of all
/// others.
pub fn thread_by_subject(keys: &[ThreadKeys<'_>]) -> Threads {
    let mut order: Vec<u32> = (0..keys.len() as u32).collect();
    let key = |index: &u32| &keys[*index as usize];
    order.sort_by_key(|index| (key(index).subject, key(index).date_seconds, *index));
    let mut threads = Threads {
        roots: Vec::new(),
        nodes: (0..keys.len() as u32)
            .map(|index| Node {
                message: Some(index),
                children: Vec::new(),
            })
            .collect(),
    };
    for thread in order.chunk_by(|a, b| key(a).subject == key(b).subject) {
        threads.roots.push(thread[0]);
        threads.nodes[thread[0] as usize].children = thread[1..].to_vec();
    }
    threads
        .roots
        .sort_by_key(|index| (key(index).date_seconds, *index));
    threads
}

/// REFERENCES, step by step as in the RFC.
///
/// Step 1 is done in two passes, so that no walk up a thread is needed to see a loop: first every
/// message gets the parent that it names itself (1.B), then the links among ancestors that other
/// messages tell of (1.A). Those cannot replace a parent, and come before the own one only where the
/// message that tells of them comes later, as in the RFC.
pub fn thread_by_references(keys: &[ThreadKeys<'_>]) -> Threads {
    let mut builder = Builder::new(keys);
    builder.link();
    builder.prune();
    builder.gather();
    builder.finish()
}

const NONE: u32 = u32::MAX;

struct Builder<'a> {
    keys: &'a [ThreadKeys<'a>],
    ids: FxHashMap<MessageIdHash, u32>,
    nodes: Vec<Node>,
    parents: Vec<u32>,
    /// Towards the root of the node's tree: a union-find forest.
    towards_root: Vec<u32>,
    roots: Vec<u32>,
}

impl<'a> Builder<'a> {
    /// The first nodes are the messages, in their order.
    fn new(keys: &'a [ThreadKeys<'a>]) -> Builder<'a> {
        let mut builder = Builder {
            keys,
            ids: FxHashMap::default(),
            nodes: Vec::with_capacity(keys.len()),
            parents: Vec::with_capacity(keys.len()),
            towards_root: Vec::with_capacity(keys.len()),
            roots: Vec::new(),
        };
        for (index, key) in keys.iter().enumerate() {
            let node = builder.add(Some(index as u32));
            // Of several messages with one id, the first has it.
            if let Some(id) = key.message_id {
                builder.ids.entry(id).or_insert(node);
            }
        }
        builder
    }

    fn add(&mut self, message: Option<u32>) -> u32 {
        let index = self.nodes.len() as u32;
        self.nodes.push(Node {
            message,
            children: Vec::new(),
        });
        self.parents.push(NONE);
        self.towards_root.push(index);
        index
    }

    fn node_of(&mut self, id: MessageIdHash) -> u32 {
        match self.ids.get(&id) {
            Some(node) => *node,
            None => {
                let node = self.add(None);
                self.ids.insert(id, node);
                node
            }
        }
    }

    fn root_of(&mut self, mut node: u32) -> u32 {
        while self.towards_root[node as usize] != node {
            let next = self.towards_root[node as usize];
            self.towards_root[node as usize] = self.towards_root[next as usize];
            node = next;
        }
        node
    }

    /// Links a node that has no parent; not if that makes a loop.
    fn set_parent(&mut self, child: u32, parent: u32) {
        if self.root_of(parent) != child {
            self.parents[child as usize] = parent;
            self.towards_root[child as usize] = parent;
        }
    }

    fn link(&mut self) {
        let keys = self.keys;
        for (index, key) in keys.iter().enumerate() {
            if let Some(last) = key.references.last() {
                let parent = self.node_of(*last);
                self.set_parent(index as u32, parent);
            }
        }
        for (index, key) in keys.iter().enumerate() {
            for pair in key.references.windows(2) {
                let (parent, child) = (self.node_of(pair[0]), self.node_of(pair[1]));
                let is_told_later = self.nodes[child as usize]
                    .message
                    .is_none_or(|message| (message as usize) < index);
                if self.parents[child as usize] == NONE && is_told_later {
                    self.set_parent(child, parent);
                }
            }
        }
    }

    /// Steps 2 and 3: the top of the threads, without places that hold nothing together.
    fn prune(&mut self) {
        for child in 0..self.nodes.len() as u32 {
            let mut parent = self.parents[child as usize];
            if self.nodes[child as usize].message.is_none() {
                continue;
            }
            // A message moves up past ancestors that are not there, up to the last of them.
            while parent != NONE
                && self.nodes[parent as usize].message.is_none()
                && self.parents[parent as usize] != NONE
            {
                let above = self.parents[parent as usize];
                // The next message has half the way.
                if self.nodes[above as usize].message.is_none()
                    && self.parents[above as usize] != NONE
                {
                    self.parents[parent as usize] = self.parents[above as usize];
                }
                parent = above;
            }
            self.parents[child as usize] = parent;
            if parent != NONE {
                self.nodes[parent as usize].children.push(child);
            }
        }
        for index in 0..self.nodes.len() as u32 {
            if self.parents[index as usize] != NONE {
                continue;
            }
            let node = &self.nodes[index as usize];
            match (node.message, node.children.as_slice()) {
                (None, []) => {}
                (None, [only]) => self.roots.push(*only),
                _ => self.roots.push(index),
            }
        }
    }

    /// The message that stands for a thread: its root, or of a place without one the earliest.
    fn first(&self, node: u32) -> u32 {
        let node = &self.nodes[node as usize];
        match node.message {
            Some(message) => message,
            None => {
                let earliest = node.children.iter().min_by_key(|child| self.order(**child));
                earliest.map_or(0, |child| self.first_message(*child))
            }
        }
    }

    /// Children of a place are messages; one that came of step 5 can hold places no deeper than one.
    fn first_message(&self, node: u32) -> u32 {
        self.nodes[node as usize].message.unwrap_or(0)
    }

    fn order(&self, node: u32) -> (i64, u32) {
        let message = self.first_message(node);
        (self.keys[message as usize].date_seconds, message)
    }

    fn root_order(&self, node: u32) -> (i64, u32) {
        let message = self.first(node);
        (self.keys[message as usize].date_seconds, message)
    }

    /// Steps 4 and 5: threads whose base subject is the same become one.
    fn gather(&mut self) {
        let mut roots = std::mem::take(&mut self.roots);
        roots.sort_by_cached_key(|root| self.root_order(*root));
        let keys = self.keys;
        let mut table: FxHashMap<&[u8], u32> = FxHashMap::default();
        // 5.B: a place without a message is the best to gather under, then what is no reply.
        for &root in &roots {
            let key = &keys[self.first(root) as usize];
            if key.subject.is_empty() {
                continue;
            }
            let known = table.entry(key.subject).or_insert(root);
            let rank = |node: u32| match self.nodes[node as usize].message {
                None => 0,
                Some(message) => 1 + u8::from(keys[message as usize].is_reply),
            };
            if rank(root) < rank(*known) {
                *known = root;
            }
        }
        // 5.C
        let mut gone = vec![false; self.nodes.len()];
        let mut made = Vec::new();
        for &root in &roots {
            let subject = keys[self.first(root) as usize].subject;
            let Some(&known) = table.get(subject).filter(|known| **known != root) else {
                continue;
            };
            gone[root as usize] = true;
            let is_reply = |message: Option<u32>| {
                message.is_some_and(|message| keys[message as usize].is_reply)
            };
            let message = self.nodes[root as usize].message;
            let known_message = self.nodes[known as usize].message;
            if message.is_none() {
                // The other has no message either: 5.B prefers those.
                let children = std::mem::take(&mut self.nodes[root as usize].children);
                self.nodes[known as usize].children.extend(children);
            } else if known_message.is_none() || is_reply(message) && !is_reply(known_message) {
                self.nodes[known as usize].children.push(root);
            } else {
                let place = self.add(None);
                self.nodes[place as usize].children = vec![known, root];
                gone[known as usize] = true;
                table.insert(subject, place);
                made.push(place);
            }
        }
        roots.retain(|root| !gone[*root as usize]);
        roots.extend(made);
        self.roots = roots;
    }

    /// Step 6: siblings by date, at every level.
    fn finish(mut self) -> Threads {
        for index in 0..self.nodes.len() {
            let mut children = std::mem::take(&mut self.nodes[index].children);
            children.sort_by_key(|child| self.order(*child));
            self.nodes[index].children = children;
        }
        let mut roots = std::mem::take(&mut self.roots);
        roots.sort_by_cached_key(|root| self.root_order(*root));
        Threads {
            roots,
            nodes: self.nodes,
        }
    }
}

#[cfg(test)]
mod tests;
