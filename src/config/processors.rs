//! `--processors`: its grammar, what the machine has, and which processors come of both.
//!
//! Guarantees: what [`resolve`] returns exists, is allowed for this process, and names no processor
//! twice; hyper-threading siblings are not cores [C13], so they are in it only when they were named.
//! Does not know: how a thread is pinned.

use std::io;
use std::path::Path;

use super::Processors;
use crate::limits;

/// Highest processor number that is understood (the kernel's own bound is lower).
const NUMBER_MAX: usize = 0xffff;

/// Reads `all`, `LIST` or `count:N`.
pub(super) fn parse(text: &str) -> Result<Processors, String> {
    if text == "all" {
        return Ok(Processors::All);
    }
    if let Some(count) = text.strip_prefix("count:") {
        return match count.parse() {
            Ok(n) if (1..=limits::SHARDS_MAX).contains(&n) => Ok(Processors::Count(n)),
            _ => Err(format!(
                "count: takes a number from 1 to {}",
                limits::SHARDS_MAX
            )),
        };
    }
    parse_list(text).map(Processors::List)
}

/// Reads a list of processor numbers with ranges, such as `0` or `0-3,6`, in the order given; at
/// most `limits::SHARDS_MAX` of them.
///
/// # Errors
/// What is wrong with it.
pub fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let mut list: Vec<usize> = Vec::new();
    for item in text.trim_end().split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = match (parse_number(first), parse_number(last)) {
            (Some(first), Some(last)) => (first, last),
            _ => {
                return Err(format!(
                    "{item:?} is neither a processor number nor a range such as 0-3"
                ));
            }
        };
        if first > last {
            return Err(format!("the range {item} runs backwards"));
        }
        if last - first >= limits::SHARDS_MAX || list.len() + last - first >= limits::SHARDS_MAX {
            return Err(format!("more than {} processors", limits::SHARDS_MAX));
        }
        for number in first..=last {
            if list.contains(&number) {
                return Err(format!("processor {number} is named twice"));
            }
            list.push(number);
        }
    }
    Ok(list)
}

fn parse_number(text: &str) -> Option<usize> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n| *n <= NUMBER_MAX)
}

/// One logical processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processor {
    /// Its number.
    pub number: usize,
    /// This process may run on it (affinity mask, cgroup).
    pub allowed: bool,
    /// Numbers of the logical processors of its core, itself among them.
    pub siblings: Vec<usize>,
}

/// The processors that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// In ascending order.
    pub processors: Vec<Processor>,
}

impl Machine {
    /// Reads what is online from `/sys`, and what is allowed from the calling thread's mask: call it
    /// before any thread is pinned.
    ///
    /// # Errors
    /// When the mask or the list of processors cannot be read.
    pub fn read() -> io::Result<Machine> {
        let allowed: Vec<usize> = core_affinity::get_core_ids()
            .ok_or_else(|| io::Error::other("the kernel does not tell the affinity mask"))?
            .into_iter()
            .map(|core| core.id)
            .collect();
        Machine::read_from(Path::new("/sys/devices/system/cpu"), &allowed)
    }

    fn read_from(sys: &Path, allowed: &[usize]) -> io::Result<Machine> {
        let list = |path: &Path| -> io::Result<Vec<usize>> {
            let text = std::fs::read_to_string(path)?;
            parse_kernel_list(&text).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{}: not a list of processors: {text:?}", path.display()),
                )
            })
        };
        // Containers without /sys still have a mask.
        let online = list(&sys.join("online")).unwrap_or_else(|_| allowed.to_vec());
        let processors = online
            .into_iter()
            .map(|number| Processor {
                number,
                allowed: allowed.contains(&number),
                siblings: list(&sys.join(format!("cpu{number}/topology/thread_siblings_list")))
                    .unwrap_or_else(|_| vec![number]),
            })
            .collect();
        Ok(Machine { processors })
    }

    fn numbers(&self) -> String {
        show_ranges(&self.processors.iter().map(|p| p.number).collect::<Vec<_>>())
    }
}

/// The kernel's lists may be longer than ours.
fn parse_kernel_list(text: &str) -> Option<Vec<usize>> {
    let mut list = Vec::new();
    for item in text.trim_end().split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        list.extend(parse_number(first)?..=parse_number(last)?);
    }
    Some(list)
}

/// `[0, 1, 2, 5]` as `0-2,5`.
fn show_ranges(numbers: &[usize]) -> String {
    let mut out = String::new();
    let mut rest = numbers;
    while let Some(&first) = rest.first() {
        let run = rest
            .iter()
            .zip(first..)
            .take_while(|(number, want)| **number == *want)
            .count();
        if !out.is_empty() {
            out.push(',');
        }
        match run {
            1 => out.push_str(&first.to_string()),
            _ => out.push_str(&format!("{first}-{}", first + run - 1)),
        }
        rest = &rest[run..];
    }
    out
}

/// Why the processors asked for cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessorsError {
    /// There is no such processor.
    #[error("--processors: processor {number} does not exist ({there} are there)")]
    Missing {
        /// Asked for.
        number: usize,
        /// What exists, as ranges.
        there: String,
    },
    /// The affinity mask or the cgroup keeps us off it.
    #[error("--processors: processor {number} is not allowed for this process ({allowed} are)")]
    NotAllowed {
        /// Asked for.
        number: usize,
        /// What is allowed, as ranges.
        allowed: String,
    },
    /// Fewer cores than asked for.
    #[error(
        "--processors: count:{count} asks for more than the {cores} processors there are for this \
         process (hyper-threading siblings left out; name them in a list to use them)"
    )]
    TooMany {
        /// Asked for.
        count: usize,
        /// There are so many.
        cores: usize,
    },
    /// More than the server can have shards.
    #[error("--processors: {count} processors are more than the {max} that are supported; name fewer in a list", max = limits::SHARDS_MAX)]
    OverBound {
        /// So many.
        count: usize,
    },
}

/// Which processors to run on, one shard each.
///
/// # Errors
/// When the machine does not have them or does not allow them.
pub fn resolve(wanted: &Processors, machine: &Machine) -> Result<Vec<usize>, ProcessorsError> {
    let allowed = || machine.processors.iter().filter(|p| p.allowed);
    // Of each core the first logical processor that we may use.
    let cores: Vec<usize> = allowed()
        .filter(|p| !allowed().any(|q| q.number < p.number && p.siblings.contains(&q.number)))
        .map(|p| p.number)
        .collect();
    let list = match wanted {
        Processors::All => cores,
        Processors::Count(count) if *count <= cores.len() => cores[..*count].to_vec(),
        Processors::Count(count) => {
            return Err(ProcessorsError::TooMany {
                count: *count,
                cores: cores.len(),
            });
        }
        Processors::List(list) => {
            for &number in list {
                match machine.processors.iter().find(|p| p.number == number) {
                    None => {
                        return Err(ProcessorsError::Missing {
                            number,
                            there: machine.numbers(),
                        });
                    }
                    Some(p) if !p.allowed => {
                        return Err(ProcessorsError::NotAllowed {
                            number,
                            allowed: show_ranges(&allowed().map(|p| p.number).collect::<Vec<_>>()),
                        });
                    }
                    Some(_) => {}
                }
            }
            list.clone()
        }
    };
    if list.len() > limits::SHARDS_MAX {
        return Err(ProcessorsError::OverBound { count: list.len() });
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four cores of two threads: siblings are n and n + 4. Processor 2 and its sibling are not ours.
    fn fake() -> Machine {
        Machine {
            processors: (0..8)
                .map(|number| Processor {
                    number,
                    allowed: number % 4 != 2,
                    siblings: vec![number % 4, number % 4 + 4],
                })
                .collect(),
        }
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(parse_list("0"), Ok(vec![0]));
        assert_eq!(parse_list("0-3,6"), Ok(vec![0, 1, 2, 3, 6]));
        assert_eq!(parse_list("6,0-1"), Ok(vec![6, 0, 1]));
        for (text, error) in [
            ("", "\"\" is neither"),
            ("a", "\"a\" is neither"),
            ("0,", "\"\" is neither"),
            ("-1", "\"-1\" is neither"),
            ("3-1", "the range 3-1 runs backwards"),
            ("0-2,1", "processor 1 is named twice"),
            ("0-65535", "more than 512 processors"),
            ("99999999999999999999", "is neither"),
        ] {
            let found = parse_list(text).expect_err(text);
            assert!(found.contains(error), "{text}: {found}");
        }
    }

    #[test]
    fn what_is_parsed_is_shown_the_same() {
        for text in ["all", "count:3", "0,2,1"] {
            assert_eq!(parse(text).expect(text).to_string(), text);
        }
        for text in ["count:0", "count:513", "count:x", "every"] {
            parse(text).expect_err(text);
        }
    }

    #[test]
    fn siblings_are_left_out_unless_named() {
        let machine = fake();
        assert_eq!(resolve(&Processors::All, &machine), Ok(vec![0, 1, 3]));
        assert_eq!(resolve(&Processors::Count(2), &machine), Ok(vec![0, 1]));
        assert_eq!(
            resolve(&Processors::List(vec![4, 0]), &machine),
            Ok(vec![4, 0])
        );
    }

    #[test]
    fn a_core_counts_by_the_sibling_that_is_allowed() {
        let mut machine = fake();
        machine.processors[1].allowed = false;
        assert_eq!(resolve(&Processors::All, &machine), Ok(vec![0, 3, 5]));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let two = Machine {
            processors: (0..2)
                .map(|number| Processor {
                    number,
                    allowed: number == 0,
                    siblings: vec![number],
                })
                .collect(),
        };
        let error = |wanted| resolve(&wanted, &two).expect_err("refused").to_string();
        assert_eq!(
            error(Processors::List(vec![7])),
            "--processors: processor 7 does not exist (0-1 are there)"
        );
        assert_eq!(
            error(Processors::List(vec![0, 1])),
            "--processors: processor 1 is not allowed for this process (0 are)"
        );
        assert!(
            error(Processors::Count(2)).contains("count:2 asks for more than the 1 processors")
        );
    }

    #[test]
    fn the_kernels_files_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write("online", "0-2\n");
        write("cpu0/topology/thread_siblings_list", "0,2\n");
        write("cpu2/topology/thread_siblings_list", "0,2\n");
        let machine = Machine::read_from(dir.path(), &[0, 2]).expect("read");
        assert_eq!(machine.numbers(), "0-2");
        assert!(!machine.processors[1].allowed);
        assert_eq!(machine.processors[1].siblings, [1]);
        assert_eq!(resolve(&Processors::All, &machine), Ok(vec![0]));
        // Nothing in /sys: the mask is what is known.
        let bare = Machine::read_from(&dir.path().join("absent"), &[3, 4]).expect("read");
        assert_eq!(resolve(&Processors::All, &bare), Ok(vec![3, 4]));
    }

    #[test]
    fn this_machine_has_a_processor() {
        let machine = Machine::read().expect("read");
        assert!(
            !resolve(&Processors::All, &machine)
                .expect("some")
                .is_empty()
        );
    }
}
