//! What one command costs the index of a store, by the size of the mailbox: what must not grow is
//! seen not to. `cargo run --release -p bench --bin growth`, a few seconds, no disk.
//!
//! Each mailbox is measured as a start leaves it (*sealed*: all of it in the index file), with all of
//! it in memory (*fresh*), and sealed with every other message expunged since (*holes*). A line is the
//! median of many runs, in nanoseconds. Last come the goals of issue 4, and what was found.
//!
//! Exit status 0: the goals are met; 1: they are not; 2: unknown arguments.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringpost::mail::Address;
use ringpost::store::index::{Change, Index, Location};
use ringpost::store::record::NewMark;
use ringpost::store::{Account, Flags, Identity, MailboxId, Sequence, Uid};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const IDENTITY: Identity = Identity {
    store_id: 0x5eed,
    partition: 7,
};
const SIZES: [u32; 3] = [100, 10_000, 1_000_000];
const STATES: [State; 3] = [State::Sealed, State::Fresh, State::Holes];
/// Messages of the last page that a client shows.
const PAGE: u32 = 50;
/// Changes that a client asks for that was away.
const CHANGES: u32 = 10;
/// Mailboxes beside the one that is measured.
const OTHERS: u64 = 50;
/// Marks in one record where all are marked.
const MARKS: usize = 4096;

/// Where a mailbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sealed,
    Fresh,
    Holes,
}

/// A mailbox in an index.
struct World {
    index: Index,
    address: Address,
    mailbox: MailboxId,
    seq: Sequence,
}

impl World {
    fn next(&mut self) -> Sequence {
        self.seq += 1;
        self.seq
    }

    fn at(&self, bytes: u32) -> Location {
        Location {
            segment: 1 + (self.seq >> 14),
            offset: (self.seq & 0x3fff) as u32 * 4096,
            bytes,
        }
    }

    /// Every third message is marked, as clients leave them.
    fn new(size: u32, state: State) -> World {
        let mut world = World {
            index: Index::new(),
            address: Address::parse("ann@bench.test").expect("a good address"),
            mailbox: MailboxId::INBOX,
            seq: 0,
        };
        let account = Account {
            address: world.address.clone(),
            password_hash: "$1$x$y".to_owned(),
            quota_bytes: 0,
        };
        let (seq, at) = (world.next(), world.at(96));
        let validity = 1;
        let change = Change::PutAccount {
            account: &account,
            validity,
        };
        world.index.apply(seq, at, change);
        for number in 0..=OTHERS {
            let (seq, at) = (world.next(), world.at(96));
            world.mailbox = MailboxId(seq);
            let change = Change::PutMailbox {
                address: &account.address,
                mailbox: world.mailbox,
                validity,
                special_use: 0,
                name: &format!("folder/{number}"),
            };
            world.index.apply(seq, at, change);
        }
        for uid in 1..=size {
            world.append(uid);
        }
        let third: Vec<Uid> = (1..=size).step_by(3).collect();
        third.chunks(MARKS).for_each(|uids| world.mark(uids));
        if state != State::Fresh {
            world.seal();
        }
        if state == State::Holes {
            let even: Vec<Uid> = (2..=size).step_by(2).collect();
            for uids in even.chunks(MARKS) {
                let (seq, at) = (world.next(), world.at(64 + 4 * uids.len() as u32));
                let expunge = Change::Expunge {
                    address: &account.address,
                    mailbox: world.mailbox,
                    uids,
                    now_ms: 5,
                };
                world.index.apply(seq, at, expunge);
            }
        }
        world
    }

    fn append(&mut self, uid: Uid) {
        let (body_seq, at) = (self.next(), self.at(3000));
        let body = Change::Body {
            body_seq,
            location: at,
            chunks: &[],
        };
        self.index.apply(body_seq, at, body);
        let (seq, at) = (self.next(), self.at(128));
        let append = Change::Append {
            address: &self.address,
            mailbox: self.mailbox,
            uid,
            body_seq,
            bytes: 2900,
            date_ms: 1_795_351_035_000,
            saved_ms: 1_795_351_035_000,
            flags: Flags::NONE,
            keywords: &[],
        };
        self.index.apply(seq, at, append);
    }

    fn mark(&mut self, uids: &[Uid]) {
        let marks: Vec<NewMark> = uids
            .iter()
            .map(|uid| NewMark {
                uid: *uid,
                flags: Flags::SEEN,
                keywords: 0,
            })
            .collect();
        let (seq, at) = (self.next(), self.at(64 + 13 * marks.len() as u32));
        let flags = Change::Flags {
            address: &self.address,
            mailbox: self.mailbox,
            keywords: &[],
            marks: &marks,
        };
        self.index.apply(seq, at, flags);
    }

    fn seal(&mut self) {
        let mut writer = self.index.begin_seal(IDENTITY, self.seq, (1, 4096));
        let mut file = Vec::new();
        while let Some(piece) = writer.next_piece() {
            file.extend(piece);
        }
        let sealed = self.index.finish_seal(Rc::new(file));
        sealed.expect("it was written a moment ago");
    }

    /// SELECT: the runs of UIDs, keywords and counts.
    fn view(&self) -> usize {
        let info = self.status();
        let keywords = self.index.keywords(&self.address, self.mailbox);
        let runs = self.index.runs(&self.address, self.mailbox);
        info as usize + keywords.len() + runs.len()
    }

    /// STATUS, by the mailbox's name.
    fn status(&self) -> u32 {
        let name = format!("folder/{OTHERS}");
        let id = self.index.find_mailbox(&self.address, &name);
        let id = id.expect("it was made");
        let info = self.index.mailbox_info(&self.address, id, name);
        info.map_or(0, |info| info.exists)
    }

    /// NOOP: the same, by its number.
    fn noop(&self) -> u32 {
        let name = self.index.name(&self.address, self.mailbox);
        let name = name.expect("it is there").as_ref().to_owned();
        let info = self.index.mailbox_info(&self.address, self.mailbox, name);
        info.map_or(0, |info| info.exists)
    }

    /// FETCH FLAGS from a UID on.
    fn fetch(&self, first: Uid) -> u64 {
        let mut sum = 0;
        let uids = (first, Uid::MAX);
        self.index
            .visit(&self.address, self.mailbox, uids, &mut |message| {
                sum += u64::from(message.uid) + u64::from(message.flags.0);
                ControlFlow::Continue(())
            });
        sum
    }

    /// What came since a number, and what went.
    fn changed(&self, since: Sequence) -> usize {
        let changed = self
            .index
            .changed_since(&self.address, self.mailbox, since, usize::MAX);
        let gone = self
            .index
            .vanished_since(&self.address, self.mailbox, since);
        changed.flatten().map_or(0, |changed| changed.len()) + gone.map_or(0, |gone| gone.len())
    }
}

/// The median time of one run, in nanoseconds, of as many as take a tenth of a second or so.
fn median<T>(mut run: impl FnMut() -> T) -> u64 {
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || (began.elapsed() < Duration::from_millis(100) && times.len() < 1000) {
        let started = Instant::now();
        black_box(run());
        times.push(started.elapsed().as_nanos() as u64);
    }
    times.sort_unstable();
    times[times.len() / 2]
}

/// Medians of a mailbox, by command.
#[derive(Debug, Clone, Copy)]
struct Found {
    view: u64,
    status: u64,
    noop: u64,
    page: u64,
    store: u64,
    changed: u64,
    /// Messages a second of one walk through all.
    all_per_s: u64,
}

fn measure(size: u32, state: State) -> Found {
    let mut world = World::new(size, state);
    let live = u64::from(world.status());
    let page = if state == State::Holes {
        2 * PAGE
    } else {
        PAGE
    };
    let first = size.saturating_sub(page) + 1;
    let view = median(|| world.view());
    let status = median(|| world.status());
    let noop = median(|| world.noop());
    let page = median(|| world.fetch(first));
    let all = median(|| world.fetch(0));
    let mut uid = 1;
    let store = median(|| {
        // All over the mailbox; odd ones are there in every state.
        uid = ((uid + 7919 * 2) % size) | 1;
        world.mark(&[uid]);
    });
    let since = world.seq;
    for number in 0..CHANGES {
        world.mark(&[(number * (size / CHANGES)) | 1]);
    }
    let changed = median(|| world.changed(since));
    assert_eq!(world.changed(since), CHANGES as usize, "what has changed");
    Found {
        view,
        status,
        noop,
        page,
        store,
        changed,
        all_per_s: live * 1_000_000_000 / all.max(1),
    }
}

fn main() -> ExitCode {
    if let Some(argument) = std::env::args().nth(1) {
        eprintln!("{argument}: unknown; usage: growth");
        return ExitCode::from(2);
    }
    println!(
        "| messages | state | SELECT ns | STATUS ns | NOOP ns | FETCH last {PAGE} ns | STORE ns | {CHANGES} changes ns | messages/s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut found = Vec::new();
    for state in STATES {
        for size in SIZES {
            let own = measure(size, state);
            println!(
                "| {size} | {state:?} | {} | {} | {} | {} | {} | {} | {} |",
                own.view, own.status, own.noop, own.page, own.store, own.changed, own.all_per_s
            );
            found.push((size, state, own));
        }
    }
    let of = |size: u32, state: State| {
        let mut all = found.iter();
        let own = all.find(|(own, at, _)| (*own, *at) == (size, state));
        own.map(|(.., own)| *own).expect("every state was measured")
    };
    let [small, _, large] = SIZES;
    let (few, million) = (of(small, State::Sealed), of(large, State::Sealed));
    let grows = |own: u64, before: u64| own as f64 / before.max(1) as f64;
    // A search goes through a file that no cache holds: that is what a factor is for.
    let goals = [
        (
            "SELECT of a closed mailbox of a million, ms",
            million.view as f64 / 1e6,
            5.0,
            false,
        ),
        (
            "a walk through a million, million messages/s",
            million.all_per_s as f64 / 1e6,
            2.0,
            true,
        ),
        (
            "ten changes in a million over those in a hundred",
            grows(million.changed, few.changed),
            10.0,
            false,
        ),
        (
            "FETCH FLAGS of the last page, a million over a hundred",
            grows(million.page, few.page),
            3.0,
            false,
        ),
        (
            "STATUS, a million over a hundred",
            grows(million.status, few.status),
            3.0,
            false,
        ),
        (
            "STORE of one message, a million over a hundred",
            grows(million.store, few.store),
            10.0,
            false,
        ),
    ];
    println!("\n| goal | bound | found |\n|---|---|---|");
    let mut is_met = true;
    for (name, value, bound, is_least) in goals {
        let holds = if is_least {
            value >= bound
        } else {
            value <= bound
        };
        is_met &= holds;
        let sign = if is_least { "at least" } else { "at most" };
        let verdict = if holds { "" } else { " (missed)" };
        println!("| {name} | {sign} {bound} | {value:.2}{verdict} |");
    }
    if is_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}
