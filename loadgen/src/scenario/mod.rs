//! `loadgen scenario`: the documents' throughput targets T1 to T12, each as a test with a verdict.
//!
//! A scenario runs `loadgen` itself, with the flags that anybody can repeat; they are on the page.
//!
//! Guarantees: a scenario that cannot be run because a service was not named, or does not exist,
//! says so and is neither passed nor failed.
//! Does not know: which server it is.

mod cases;
mod direct;
mod page;
mod relay;

use std::fmt::Write as _;

use crate::cli::scenario::Scenario;
use crate::commands::Verdict;
use crate::steps::Obstacle;

/// A target of the documents.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// `T1` to `T12`, as in the project's requirements.
    pub id: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// The documents' figure.
    pub figure: &'static str,
    /// Flags that name what it needs.
    pub needs: &'static [&'static str],
    run: fn(&Scenario) -> Result<Reached, Obstacle>,
}

/// What was reached.
#[derive(Debug, Clone, Default)]
pub struct Reached {
    /// In one line.
    pub what: String,
    /// How many times better than the figure; below 1 it was missed.
    pub headroom: f64,
    /// It holds.
    pub good: bool,
    /// How it came about, a line each.
    pub notes: Vec<String>,
    /// What was run.
    pub commands: Vec<String>,
}

/// A target and what came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The target.
    pub target: &'static Target,
    /// What was reached, or why not.
    pub result: Result<Reached, Obstacle>,
}

impl Outcome {
    /// `pass`, `FAIL`, `not there`.
    pub fn verdict(&self) -> &'static str {
        match &self.result {
            Ok(reached) if reached.good => "pass",
            Ok(_) | Err(Obstacle::Broken(_)) => "FAIL",
            Err(Obstacle::Absent(_)) => "not there",
        }
    }
}

/// `scenario`.
///
/// # Errors
/// A name that is none, a page that cannot be written.
pub fn scenario(flags: &Scenario) -> Result<Verdict, String> {
    if flags.which.eq_ignore_ascii_case("list") {
        crate::say::say(&list());
        return Ok(true);
    }
    let all = flags.which.eq_ignore_ascii_case("all");
    let chosen: Vec<&Target> = cases::TARGETS
        .iter()
        .filter(|target| all || target.id.eq_ignore_ascii_case(&flags.which))
        .collect();
    if chosen.is_empty() {
        return Err(format!(
            "scenario '{}': wanted is list, all, or one of T1 to T12",
            flags.which
        ));
    }
    if let Some(out) = &flags.out
        && !page::is_known(out)
    {
        return Err(format!(
            "--out {}: wanted is a name that ends in .md or .html",
            out.display()
        ));
    }
    let mut outcomes = Vec::new();
    for target in chosen {
        eprintln!("{} {} ...", target.id, target.title);
        let outcome = Outcome {
            target,
            result: (target.run)(flags),
        };
        eprintln!("{} {}", target.id, outcome.verdict());
        outcomes.push(outcome);
    }
    crate::say::say(&page::text(&outcomes));
    if let Some(out) = &flags.out {
        std::fs::write(out, page::of(&outcomes, out))
            .map_err(|e| format!("--out {}: {e}", out.display()))?;
    }
    Ok(outcomes.iter().all(|outcome| outcome.verdict() != "FAIL"))
}

fn list() -> String {
    let mut text = "the documents' targets, and the flags that name what each needs:\n".to_owned();
    for target in cases::TARGETS {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<4} {}: {}\n     {}",
            target.id,
            target.title,
            target.figure,
            if target.needs.is_empty() {
                "cannot be run yet".to_owned()
            } else {
                target.needs.join(" ")
            }
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_numbered_and_listed() {
        for (index, target) in cases::TARGETS.iter().enumerate() {
            assert_eq!(target.id, format!("T{}", index + 1));
        }
        assert_eq!(cases::TARGETS.len(), 12);
        let text = list();
        assert!(text.contains("T12") && text.contains("--start"), "{text}");
    }

    #[test]
    fn a_page_has_a_row_for_each() {
        let outcomes = [
            Outcome {
                target: &cases::TARGETS[1],
                result: Ok(Reached {
                    what: "93 <sessions>/s".to_owned(),
                    headroom: 20.0,
                    good: true,
                    notes: vec!["a note".to_owned()],
                    commands: vec!["loadgen pop3".to_owned()],
                }),
            },
            Outcome {
                target: &cases::TARGETS[5],
                result: Err(Obstacle::Absent("no SIP".to_owned())),
            },
            Outcome {
                target: &cases::TARGETS[8],
                result: Err(Obstacle::Broken("it | fell".to_owned())),
            },
        ];
        let verdicts: Vec<_> = outcomes.iter().map(Outcome::verdict).collect();
        assert_eq!(verdicts, ["pass", "not there", "FAIL"]);
        let text = page::text(&outcomes);
        assert!(text.contains("20") && text.contains("no SIP"), "{text}");
        let markdown = page::of(&outcomes, "x.md".as_ref());
        assert!(
            markdown.contains("| T2 |") && markdown.contains("it \\| fell"),
            "{markdown}"
        );
        let html = page::of(&outcomes, "x.html".as_ref());
        assert!(html.contains("93 &lt;sessions&gt;/s"), "{html}");
    }
}
