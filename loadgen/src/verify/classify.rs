//! Compares what a ledger promises with what mailboxes hold.
//!
//! Everything is counted by pair of message and recipient. A server that accepted `a` attempts for
//! a pair, and may have accepted `u` more whose replies were lost, owes at least `a` copies and may
//! hold at most `a + u`.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::dialogue::pop3::Found;
use crate::ledger::{Entry, Outcome};
use crate::message::{MessageId, Verdict};

/// What is known of one pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    /// The ledger has this pair.
    listed: bool,
    accepted: u16,
    unknown: u16,
    whole: u16,
    corrupt: u16,
}

/// What is wrong with a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// Fewer copies than attempts the server accepted.
    Missing,
    /// More copies than attempts the server accepted or may have accepted.
    Doubled,
    /// A copy whose checksum does not match.
    Corrupt,
}

impl Offence {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            Offence::Missing => "missing",
            Offence::Doubled => "doubled",
            Offence::Corrupt => "corrupt",
        }
    }
}

/// A pair that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offender {
    /// In this way.
    pub offence: Offence,
    /// The message, if its id can be read.
    pub id: Option<MessageId>,
    /// The mailbox.
    pub mailbox: String,
    /// The numbers behind it.
    pub detail: String,
}

/// The result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Pairs that the server acknowledged.
    pub acknowledged: u64,
    /// Pairs of which at least one whole copy was found.
    pub found: u64,
    /// Of these, pairs never acknowledged: the reply was lost, or the ledger was.
    pub unacknowledged: u64,
    /// Copies that are owed and not there.
    pub missing: u64,
    /// Copies too many.
    pub doubled: u64,
    /// Copies that are damaged.
    pub corrupt: u64,
    /// Messages of runs whose ledger was not given.
    pub other_runs: u64,
    /// Messages that no load generator made.
    pub foreign: u64,
    /// The first few offenders, `list_max` of each kind.
    pub offenders: Vec<Offender>,
}

impl Findings {
    /// Nothing is missing, doubled or corrupt.
    pub fn is_clean(&self) -> bool {
        self.missing == 0 && self.doubled == 0 && self.corrupt == 0
    }
}

/// Collects entries of ledgers, then what was found, then compares.
#[derive(Debug, Default)]
pub struct Comparison {
    mailboxes: Vec<String>,
    numbers: FxHashMap<String, u32>,
    runs: FxHashSet<u32>,
    tallies: FxHashMap<(MessageId, u32), Tally>,
    findings: Findings,
    /// Damaged messages: mailbox, and id where it can be read.
    corrupt: Vec<(u32, Option<MessageId>)>,
}

impl Comparison {
    /// Takes what a ledger says of one recipient in one attempt.
    pub fn expect(&mut self, entry: Entry<'_>) {
        let number = match self.numbers.get(entry.recipient) {
            Some(&number) => number,
            None => {
                let number = self.mailboxes.len() as u32;
                self.mailboxes.push(entry.recipient.to_owned());
                self.numbers.insert(entry.recipient.to_owned(), number);
                number
            }
        };
        self.runs.insert(entry.id.run);
        let tally = self.tallies.entry((entry.id, number)).or_default();
        tally.listed = true;
        match entry.outcome {
            outcome if outcome.is_acknowledged() => tally.accepted += 1,
            Outcome::Unknown => tally.unknown += 1,
            Outcome::Code(_) | Outcome::Unsent => {}
        }
    }

    /// The mailboxes of all recipients; their index is the number in [`Found`].
    pub fn mailboxes(&self) -> &[String] {
        &self.mailboxes
    }

    /// Takes a message that was found.
    pub fn see(&mut self, found: Found) {
        match found.verdict {
            Verdict::Foreign => self.findings.foreign += 1,
            Verdict::Whole(id) if !self.runs.contains(&id.run) => self.findings.other_runs += 1,
            Verdict::Whole(id) => {
                self.tallies.entry((id, found.mailbox)).or_default().whole += 1;
            }
            Verdict::Corrupt(id) => {
                self.corrupt.push((found.mailbox, id));
                if let Some(tally) = id.and_then(|id| self.tallies.get_mut(&(id, found.mailbox))) {
                    tally.corrupt += 1;
                }
            }
        }
    }

    /// Compares. At most `list_max` offenders of each kind are named.
    pub fn finish(mut self, list_max: usize) -> Findings {
        let mut findings = std::mem::take(&mut self.findings);
        let strays: FxHashSet<MessageId> = self
            .tallies
            .iter()
            .filter(|(_, tally)| !tally.listed)
            .map(|((id, _), _)| *id)
            .collect();
        // Of these, the ones that were sent, but not to the mailbox they were found in.
        let astray: FxHashSet<MessageId> = self
            .tallies
            .iter()
            .filter(|((id, _), tally)| tally.listed && strays.contains(id))
            .map(|((id, _), _)| *id)
            .collect();
        let mut offenders = Vec::new();
        for (&(id, mailbox), tally) in &self.tallies {
            let copies = tally.whole + tally.corrupt;
            let mut allowed = tally.accepted + tally.unknown;
            if !tally.listed && !astray.contains(&id) {
                // Not in the ledger at all: the generator was killed before it could note it.
                allowed = 1;
            }
            findings.acknowledged += u64::from(tally.accepted > 0);
            findings.found += u64::from(tally.whole > 0);
            findings.unacknowledged +=
                u64::from(tally.whole > 0 && tally.accepted == 0 && allowed > 0);
            if copies < tally.accepted {
                findings.missing += u64::from(tally.accepted - copies);
                let detail = format!("{copies} of {} copies", tally.accepted);
                offenders.push((Offence::Missing, mailbox, Some(id), detail));
            }
            if copies > allowed {
                findings.doubled += u64::from(copies - allowed);
                let detail = if tally.listed {
                    format!(
                        "{copies} copies, {} attempts accepted, {} unknown",
                        tally.accepted, tally.unknown
                    )
                } else {
                    format!("{copies} copies, and never sent to this mailbox")
                };
                offenders.push((Offence::Doubled, mailbox, Some(id), detail));
            }
        }
        findings.corrupt = self.corrupt.len() as u64;
        offenders.extend(self.corrupt.iter().map(|&(mailbox, id)| {
            (
                Offence::Corrupt,
                mailbox,
                id,
                "checksum does not match".to_owned(),
            )
        }));
        offenders.sort();
        let mut listed = [0; 3];
        for (offence, mailbox, id, detail) in offenders {
            let listed = &mut listed[offence as usize];
            *listed += 1;
            if *listed <= list_max {
                let mailbox = self.mailboxes[mailbox as usize].clone();
                findings.offenders.push(Offender {
                    offence,
                    id,
                    mailbox,
                    detail,
                });
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sequence: u64) -> MessageId {
        MessageId { run: 1, sequence }
    }

    /// A ledger of (sequence, recipient, outcome) against mailboxes of (mailbox, verdict).
    fn compare(ledger: &[(u64, &str, Outcome)], mailboxes: &[(&str, Verdict)]) -> Findings {
        let mut comparison = Comparison::default();
        for &(sequence, recipient, outcome) in ledger {
            comparison.expect(Entry {
                id: id(sequence),
                attempt: 1,
                recipient,
                outcome,
            });
        }
        for (name, verdict) in mailboxes {
            let mailbox = comparison
                .mailboxes()
                .iter()
                .position(|known| known == name);
            let mailbox = mailbox.expect("known to the ledger") as u32;
            comparison.see(Found {
                mailbox,
                verdict: *verdict,
            });
        }
        comparison.finish(10)
    }

    const OK: Outcome = Outcome::Code(250);

    fn numbers(findings: &Findings) -> [u64; 6] {
        [
            findings.acknowledged,
            findings.found,
            findings.unacknowledged,
            findings.missing,
            findings.doubled,
            findings.corrupt,
        ]
    }

    fn whole(sequence: u64) -> Verdict {
        Verdict::Whole(id(sequence))
    }

    #[test]
    fn all_is_well() {
        let findings = compare(
            &[
                (1, "a", OK),
                (1, "b", OK),
                (2, "a", Outcome::Unknown),
                (3, "a", Outcome::Code(452)),
            ],
            &[("a", whole(1)), ("b", whole(1)), ("a", whole(2))],
        );
        assert_eq!(numbers(&findings), [2, 3, 1, 0, 0, 0]);
        assert!(findings.is_clean() && findings.offenders.is_empty());
        let unknown_and_absent = compare(&[(2, "a", Outcome::Unknown)], &[]);
        assert_eq!(numbers(&unknown_and_absent), [0; 6]);
    }

    #[test]
    fn missing_for_one_of_two_recipients() {
        let findings = compare(&[(1, "a", OK), (1, "b", OK)], &[("a", whole(1))]);
        assert_eq!(numbers(&findings), [2, 1, 0, 1, 0, 0]);
        assert_eq!(findings.offenders[0].mailbox, "b");
        assert_eq!(findings.offenders[0].offence, Offence::Missing);
        assert!(!findings.is_clean());
    }

    #[test]
    fn doubled_is_more_than_accepted_attempts() {
        let twice = [("a", whole(1)), ("a", whole(1))];
        assert_eq!(compare(&[(1, "a", OK)], &twice).doubled, 1);
        // An attempt whose reply was lost may have been accepted as well.
        let unknown_then_ok = [(1, "a", Outcome::Unknown), (1, "a", OK)];
        assert_eq!(compare(&unknown_then_ok, &twice).doubled, 0);
        assert_eq!(compare(&unknown_then_ok, &twice[..1]).missing, 0);
        // One that was never sent whole cannot.
        assert_eq!(
            compare(&[(1, "a", Outcome::Unsent), (1, "a", OK)], &twice).doubled,
            1
        );
        // Refused, and there all the same.
        assert_eq!(
            compare(&[(1, "a", Outcome::Code(550))], &twice[..1]).doubled,
            1
        );
        assert_eq!(
            compare(&[(1, "a", Outcome::Unsent)], &twice[..1]).doubled,
            1
        );
    }

    #[test]
    fn a_message_in_a_wrong_mailbox_is_one_too_many() {
        let findings = compare(
            &[(1, "a", OK), (2, "b", OK)],
            &[("a", whole(1)), ("b", whole(1)), ("b", whole(2))],
        );
        assert_eq!(numbers(&findings), [2, 2 + 1, 0, 0, 1, 0]);
        assert!(
            findings.offenders[0]
                .detail
                .contains("never sent to this mailbox")
        );
    }

    #[test]
    fn corrupt_copies_are_not_missing_as_well() {
        let findings = compare(
            &[(1, "a", OK), (2, "a", OK)],
            &[
                ("a", Verdict::Corrupt(Some(id(1)))),
                ("a", Verdict::Corrupt(None)),
            ],
        );
        assert_eq!(numbers(&findings), [2, 0, 0, 1, 0, 2]);
    }

    #[test]
    fn strangers_do_not_count() {
        let other = Verdict::Whole(MessageId {
            run: 9,
            sequence: 1,
        });
        let findings = compare(
            &[(1, "a", OK)],
            &[
                ("a", whole(1)),
                ("a", Verdict::Foreign),
                ("a", other),
                // Of this run, but the generator did not live to note it.
                ("a", whole(77)),
            ],
        );
        assert_eq!((findings.foreign, findings.other_runs), (1, 1));
        assert_eq!(numbers(&findings), [1, 2, 1, 0, 0, 0]);
    }

    #[test]
    fn only_so_many_are_named() {
        let ledger: Vec<_> = (0..50).map(|sequence| (sequence, "a", OK)).collect();
        let findings = compare(&ledger, &[]);
        assert_eq!((findings.missing, findings.offenders.len()), (50, 10));
    }
}
