//! The simulated directory tree: names as processes see them, and as the platter knows them.
//!
//! Guarantees: a change is durable once every directory it touches was synced after it; until then
//! a loss of power keeps or drops it as a whole (a rename is never half done). A change that builds
//! on a lost one is lost too.
//! Does not know: what is in the files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::random::Random;

/// Number of a directory; the root is 0.
pub(super) type DirNumber = u64;
/// Number of a file.
pub(super) type FileNumber = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Dir(DirNumber),
    File(FileNumber),
}

type Name = (DirNumber, OsString);

/// One creation, removal or rename that is not durable everywhere yet.
#[derive(Debug)]
struct Change {
    number: u64,
    entries: Vec<(Name, Option<Node>)>,
    unsynced_dirs: Vec<DirNumber>,
}

impl Change {
    fn touches_any_of(&self, names: &[Name]) -> bool {
        self.entries.iter().any(|(name, _)| names.contains(name))
    }
}

#[derive(Debug, Default)]
pub(super) struct Names {
    seen: BTreeMap<Name, Node>,
    durable: BTreeMap<Name, Node>,
    unsynced: Vec<Change>,
    last_dir: DirNumber,
}

fn apply(tree: &mut BTreeMap<Name, Node>, change: &Change) {
    for (name, node) in &change.entries {
        match node {
            Some(node) => tree.insert(name.clone(), *node),
            None => tree.remove(name),
        };
    }
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Names {
    /// What is at `path`.
    pub(super) fn find(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Dir(0);
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            let Node::Dir(dir) = node else {
                return Err(errno(libc::ENOTDIR));
            };
            node = *self
                .seen
                .get(&(dir, name.to_owned()))
                .ok_or_else(|| errno(libc::ENOENT))?;
        }
        Ok(node)
    }

    pub(super) fn find_dir(&self, path: &Path) -> io::Result<DirNumber> {
        match self.find(path)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(errno(libc::ENOTDIR)),
        }
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<FileNumber> {
        match self.find(path)? {
            Node::Dir(_) => Err(errno(libc::EISDIR)),
            Node::File(file) => Ok(file),
        }
    }

    /// The directory and name that `path` ends in; nothing need be there.
    fn name(&self, path: &Path) -> io::Result<Name> {
        let name = path.file_name().ok_or_else(|| errno(libc::EINVAL))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.find_dir(parent)?, name.to_owned()))
    }

    /// What a directory holds, in an order drawn at random as `readdir` promises none.
    pub(super) fn list(
        &self,
        path: &Path,
        random: &mut Random,
    ) -> io::Result<Vec<(PathBuf, Node)>> {
        let dir = self.find_dir(path)?;
        let mut found: Vec<_> = self
            .seen
            .range((dir, OsString::new())..(dir + 1, OsString::new()))
            .map(|((_, name), node)| (path.join(name), *node))
            .collect();
        for index in (1..found.len()).rev() {
            found.swap(index, random.index(index + 1));
        }
        Ok(found)
    }

    fn change(&mut self, number: u64, entries: Vec<(Name, Option<Node>)>) {
        let mut unsynced_dirs: Vec<_> = entries.iter().map(|((dir, _), _)| *dir).collect();
        unsynced_dirs.dedup();
        let change = Change {
            number,
            entries,
            unsynced_dirs,
        };
        apply(&mut self.seen, &change);
        self.unsynced.push(change);
    }

    fn add(&mut self, number: u64, path: &Path, node: Node) -> io::Result<()> {
        let name = self.name(path)?;
        if self.seen.contains_key(&name) {
            return Err(errno(libc::EEXIST));
        }
        self.change(number, vec![(name, Some(node))]);
        Ok(())
    }

    pub(super) fn create_dir(&mut self, number: u64, path: &Path) -> io::Result<()> {
        self.add(number, path, Node::Dir(self.last_dir + 1))?;
        self.last_dir += 1;
        Ok(())
    }

    pub(super) fn create_file(
        &mut self,
        number: u64,
        path: &Path,
        file: FileNumber,
    ) -> io::Result<()> {
        self.add(number, path, Node::File(file))
    }

    pub(super) fn remove(&mut self, number: u64, path: &Path) -> io::Result<()> {
        self.find_file(path)?;
        let name = self.name(path)?;
        self.change(number, vec![(name, None)]);
        Ok(())
    }

    pub(super) fn rename(&mut self, number: u64, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        let (old, new) = (self.name(from)?, self.name(to)?);
        match (node, self.seen.get(&new)) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (_, Some(Node::Dir(_))) => return Err(errno(libc::EEXIST)),
            (Node::Dir(_), Some(Node::File(_))) => return Err(errno(libc::ENOTDIR)),
        }
        if old != new {
            self.change(number, vec![(old, None), (new, Some(node))]);
        }
        Ok(())
    }

    /// Makes the changes of one directory up to `number` durable.
    pub(super) fn sync_dir(&mut self, dir: DirNumber, number: u64) {
        for change in &mut self.unsynced {
            if change.number <= number {
                change.unsynced_dirs.retain(|d| *d != dir);
            }
        }
        // A name's changes arrive in their order: one that is due takes along those before it.
        let mut index = self.unsynced.len();
        let mut due: Vec<Name> = Vec::new();
        let mut is_due = vec![false; self.unsynced.len()];
        while index > 0 {
            index -= 1;
            let change = &self.unsynced[index];
            if change.unsynced_dirs.is_empty() || change.touches_any_of(&due) {
                due.extend(change.entries.iter().map(|(name, _)| name.clone()));
                is_due[index] = true;
            }
        }
        let mut index = 0;
        let durable = &mut self.durable;
        self.unsynced.retain(|change| {
            index += 1;
            if is_due[index - 1] {
                apply(durable, change);
            }
            !is_due[index - 1]
        });
    }

    /// Power is gone: what was unsynced arrived or did not.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        let kept_per_mille = [0, 500, 500, 1000][random.index(4)];
        let mut lost: Vec<Name> = Vec::new();
        for change in std::mem::take(&mut self.unsynced) {
            if change.touches_any_of(&lost) || !random.chance(kept_per_mille) {
                lost.extend(change.entries.into_iter().map(|(name, _)| name));
            } else {
                apply(&mut self.durable, &change);
            }
        }
        self.seen = self.durable.clone();
    }

    /// Files that can be reached, with their paths, in order of path.
    pub(super) fn files(&self) -> Vec<(PathBuf, FileNumber)> {
        let mut found = Vec::new();
        let mut todo = vec![(PathBuf::from("/"), 0)];
        while let Some((path, dir)) = todo.pop() {
            for ((_, name), node) in self
                .seen
                .range((dir, OsString::new())..(dir + 1, OsString::new()))
            {
                match node {
                    Node::Dir(number) => todo.push((path.join(name), *number)),
                    Node::File(number) => found.push((path.join(name), *number)),
                }
            }
        }
        found.sort();
        found
    }

    /// Is the file named anywhere, now or after a loss of power?
    pub(super) fn keeps(&self, file: FileNumber) -> bool {
        let node = Node::File(file);
        self.seen.values().any(|n| *n == node)
            || self.durable.values().any(|n| *n == node)
            || self
                .unsynced
                .iter()
                .any(|c| c.entries.iter().any(|(_, n)| *n == Some(node)))
    }

    /// Is the file named anywhere by what processes see?
    pub(super) fn shows(&self, file: FileNumber) -> bool {
        self.seen.values().any(|n| *n == Node::File(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &Names) -> Vec<String> {
        names
            .files()
            .iter()
            .map(|(path, file)| format!("{}={file}", path.display()))
            .collect()
    }

    #[test]
    fn a_rename_is_kept_or_lost_whole() {
        let mut random = Random::new(1);
        let mut outcomes = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let mut names = Names::default();
            names.create_file(1, Path::new("/new"), 1).unwrap();
            names.create_file(2, Path::new("/old"), 2).unwrap();
            names.sync_dir(0, 2);
            names
                .rename(3, Path::new("/new"), Path::new("/old"))
                .unwrap();
            names.lose_power(&mut random);
            outcomes.insert(paths(&names));
        }
        assert_eq!(
            outcomes.into_iter().collect::<Vec<_>>(),
            [vec!["/new=1", "/old=2"], vec!["/old=1"]]
        );
    }

    #[test]
    fn synced_changes_stay_and_lost_ones_take_along_what_builds_on_them() {
        let mut random = Random::new(2);
        for _ in 0..100 {
            let mut names = Names::default();
            names.create_dir(1, Path::new("/d")).unwrap();
            names.sync_dir(0, 1);
            names.create_file(2, Path::new("/d/a"), 1).unwrap();
            names.sync_dir(1, 2);
            names
                .rename(3, Path::new("/d/a"), Path::new("/d/b"))
                .unwrap();
            names.create_file(4, Path::new("/d/a"), 2).unwrap();
            names.lose_power(&mut random);
            let found = paths(&names);
            assert!(
                found.iter().any(|f| f.ends_with("=1")),
                "the synced file is gone: {found:?}"
            );
        }
    }

    #[test]
    fn a_file_in_a_lost_directory_is_lost() {
        let mut random = Random::new(3);
        let mut lost = 0;
        for _ in 0..100 {
            let mut names = Names::default();
            names.create_dir(1, Path::new("/d")).unwrap();
            names.create_file(2, Path::new("/d/a"), 1).unwrap();
            names.sync_dir(1, 2);
            names.lose_power(&mut random);
            lost += u32::from(paths(&names).is_empty());
        }
        assert!(lost > 20);
    }
}
