//! SPECmail's criteria: 95 % of every operation within 5 s, 95 % of mail delivered within 60 s,
//! errors under 1 %.
//!
//! Guarantees: what is too little to be judged is not passed. It fails only where it would have even
//! if all that is missing had been good.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::file::{Class, Kind, Population, Qos};
use crate::steps::Ran;

/// Rows of a report that are no operations of users.
const NO_OPERATIONS: [&str; 7] = [
    "250->visible",
    "outage",
    "generator.late",
    "session",
    "session.started",
    "message.started",
    "QUIT",
];
/// A class that reached less than this part of its rate was not under its load.
const REACHED_MIN: f64 = 0.9;
/// So few operations vary by chance more than `REACHED_MIN` allows.
const OPERATIONS_FEW: f64 = 400.0;
/// A generator whose busiest thread used more of its CPU, or which began 1 % of the operations later
/// than this part of what they are allowed, has measured itself.
const BUSY_MAX: f64 = 0.9;
const LATE_NS_MAX: f64 = 0.5e9;

/// What a class came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// Nobody can say.
    TooFew,
}

impl Verdict {
    /// For people, and for programs.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::TooFew => "not judged",
        }
    }
}

/// A class at one load.
#[derive(Debug)]
pub struct Row {
    name: String,
    idle: bool,
    wanted: f64,
    reached: f64,
    errors_percent: f64,
    /// The operation of which the smallest part was within 5 s: name, percent, p99 in ms.
    worst: Option<(String, f64, f64)>,
    /// Percent of mail delivered within 60 s.
    delivered: Option<f64>,
    /// What is wrong, if anything is.
    wrong: Vec<String>,
    /// Why it cannot be judged, if it cannot.
    unjudged: Vec<String>,
    /// Operations of kinds that came too seldom, which take no part in the verdict.
    seldom: Vec<String>,
    /// Of its generator: the busiest thread's part of its CPU, 1 % began so late or later (ms), the
    /// most memory (KiB).
    generator: (f64, f64, u64),
}

impl Row {
    /// Judges a run.
    pub fn of(class: &Class, wanted: f64, ran: &Ran, qos: &Qos) -> Row {
        let done = ran.number(&["done"]);
        let failed = ran.number(&["failed"]);
        let errors: f64 = ran.json["errors"].as_array().map_or(0.0, |errors| {
            errors.iter().filter_map(|e| e["count"].as_f64()).sum()
        });
        let idle = class.kind == Kind::Idle;
        let elapsed = ran.number(&["elapsed_s"]).max(0.001);
        let (reached, tried) = if idle {
            let sessions = ran.number(&["sessions"]);
            (sessions, sessions)
        } else {
            (done / elapsed, done + failed)
        };
        let bad = failed.max(errors);
        let errors_percent = 100.0 * bad / tried.max(bad).max(1.0);
        let (mut wrong, mut unjudged, mut seldom) = (Vec::new(), Vec::new(), Vec::new());
        let kind_min = qos.operations_of_a_kind_min();
        let mut worst: Option<(String, f64, f64)> = None;
        for (name, verb) in ran.json["verbs"].as_object().into_iter().flatten() {
            let number = |key: &str| verb[key].as_f64().unwrap_or(0.0);
            let (count, share) = (number("count"), number("within_5s_percent"));
            if NO_OPERATIONS.contains(&name.as_str()) || count == 0.0 {
                continue;
            }
            let p99 = number("p99_ns") / 1e6;
            if worst
                .as_ref()
                .is_none_or(|(_, least, most)| share < *least || (share == *least && p99 > *most))
            {
                worst = Some((name.clone(), share, p99));
            }
            if percent_at_best(share, count, kind_min) < qos.operation_share {
                wrong.push(format!("only {share:.2} % of {name} within 5 s"));
            } else if count < kind_min {
                seldom.push(format!("{name} ({count})"));
            }
        }
        let unseen = ran.number(&["end_to_end", "not_seen"]);
        let seen = ran.number(&["verbs", "250->visible", "count"]);
        let watched = !idle && ran.json["end_to_end"].is_object();
        let delivered = (seen + unseen > 0.0).then(|| {
            ran.number(&["verbs", "250->visible", "within_60s_percent"]) * seen / (seen + unseen)
        });
        let deliveries_min = qos.deliveries_min();
        if let Some(delivered) = delivered
            && percent_at_best(delivered, seen + unseen, deliveries_min) < qos.delivery_share
        {
            wrong.push(format!("only {delivered:.2} % delivered within 60 s"));
        } else if watched && seen + unseen < deliveries_min {
            unjudged.push(format!(
                "{:.0} deliveries are too few to judge, wanted are {deliveries_min:.0}",
                seen + unseen
            ));
        }
        let operations_min = qos.operations_min();
        if 100.0 * bad / tried.max(bad).max(operations_min) >= qos.errors_percent_max {
            wrong.push(format!("{errors_percent:.2} % errors"));
        }
        if !idle && tried < operations_min {
            unjudged.push(format!(
                "{tried:.0} operations are too few to judge, wanted are {operations_min:.0}"
            ));
        }
        let generator = (
            ran.number(&["generator", "busiest_thread"]),
            ran.number(&["generator", "late_p99_ns"]) / 1e6,
            ran.number(&["generator", "memory_max_kib"]) as u64,
        );
        if generator.0 >= BUSY_MAX || generator.1 * 1e6 >= LATE_NS_MAX {
            unjudged.push(format!(
                "the generator was the bottleneck: its busiest thread used {:.0} % of its CPU, and \
                 began 1 % of the operations {:.0} ms late or more",
                generator.0 * 100.0,
                generator.1
            ));
        }
        let enough = idle || wanted * elapsed >= OPERATIONS_FEW;
        if reached < wanted * REACHED_MIN && enough {
            wrong.push(format!("reached {reached:.2} of {wanted:.2}"));
        }
        if !wrong.is_empty()
            && let Some(errors) = ran.errors()
        {
            wrong.push(errors);
        }
        Row {
            name: class.name.clone(),
            idle,
            wanted,
            reached,
            errors_percent,
            worst,
            delivered,
            wrong,
            unjudged,
            seldom,
            generator,
        }
    }

    /// Of a run that did not come to an end.
    pub fn broken(class: &Class, wanted: f64, why: String) -> Row {
        Row {
            name: class.name.clone(),
            idle: class.kind == Kind::Idle,
            wanted,
            reached: 0.0,
            errors_percent: 100.0,
            worst: None,
            delivered: None,
            wrong: vec![why],
            unjudged: Vec::new(),
            seldom: Vec::new(),
            generator: (0.0, 0.0, 0),
        }
    }

    fn verdict(&self) -> Verdict {
        match (self.wrong.is_empty(), self.unjudged.is_empty()) {
            (false, _) => Verdict::Fail,
            (true, false) => Verdict::TooFew,
            (true, true) => Verdict::Pass,
        }
    }
}

/// The percentage of good ones among `count`, had there been `wanted` and all that are missing good.
fn percent_at_best(percent: f64, count: f64, wanted: f64) -> f64 {
    100.0 - (100.0 - percent) * count / count.max(wanted)
}

/// All classes at one load.
#[derive(Debug)]
pub struct Judgement {
    /// Percent of the rated load.
    pub load: u32,
    /// Those that ran.
    pub rows: Vec<Row>,
    /// Those that did not, and why.
    pub left_out: Vec<(String, String)>,
    /// What was run.
    pub commands: Vec<String>,
}

impl Judgement {
    /// Of nothing yet.
    pub fn new(load: u32) -> Judgement {
        Judgement {
            load,
            rows: Vec::new(),
            left_out: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// The worst of what ran.
    pub fn verdict(&self) -> Verdict {
        let is = |wanted| self.rows.iter().any(|row| row.verdict() == wanted);
        match (is(Verdict::Fail), is(Verdict::TooFew)) {
            (true, _) => Verdict::Fail,
            (false, true) => Verdict::TooFew,
            (false, false) => Verdict::Pass,
        }
    }

    /// Everything that ran holds.
    pub fn good(&self) -> bool {
        self.verdict() == Verdict::Pass
    }

    /// For people.
    pub fn text(&self, population: &Population) -> String {
        let qos = &population.qos;
        let mut text = format!(
            "\n{} % of the rated load\n{:<26}{:>10}{:>10}{:>9}  {:<14}{:>10}{:>12}{:>11}  {}\n",
            self.load,
            "",
            "wanted",
            "reached",
            "errors",
            "slowest",
            "p99 ms",
            "within 5 s",
            "delivered",
            "verdict"
        );
        // Writing to a string cannot fail.
        for row in &self.rows {
            let unit = if row.idle { " open" } else { "/s" };
            let number = |value: f64| match value {
                _ if row.idle => format!("{value:.0}{unit}"),
                value if value >= 100.0 => format!("{value:.0}{unit}"),
                value => format!("{value:.2}{unit}"),
            };
            let (verb, share, p99) = match &row.worst {
                Some((name, share, p99)) => {
                    (name.as_str(), format!("{share:.2} %"), format!("{p99:.1}"))
                }
                None => ("", String::new(), String::new()),
            };
            let delivered = row
                .delivered
                .map_or(String::new(), |share| format!("{share:.2} %"));
            let _ = writeln!(
                text,
                "{:<26}{:>10}{:>10}{:>7.2} %  {verb:<14}{p99:>10}{share:>12}{delivered:>11}  {}",
                row.name,
                number(row.wanted),
                number(row.reached),
                row.errors_percent,
                row.verdict().name(),
            );
            for why in row.wrong.iter().chain(&row.unjudged) {
                let _ = writeln!(text, "    {why}");
            }
            if !row.seldom.is_empty() {
                let _ = writeln!(
                    text,
                    "    too few for a share of their own: {}",
                    row.seldom.join(", ")
                );
            }
        }
        for (name, why) in &self.left_out {
            let _ = writeln!(text, "{name:<26}{why}");
        }
        let most = |of: fn(&Row) -> f64| self.rows.iter().map(of).fold(0.0, f64::max);
        let memory: u64 = self.rows.iter().map(|row| row.generator.2).sum();
        let _ = writeln!(
            text,
            "generator: a thread used {:.1} % of its CPU at most; of each class 99 % began within \
             {:.1} ms; {:.0} MiB in all",
            most(|row| row.generator.0) * 100.0,
            most(|row| row.generator.1),
            memory as f64 / 1024.0
        );
        let _ = writeln!(
            text,
            "wanted: {} % of every operation within 5 s, {} % of mail delivered within 60 s, errors \
             under {} %: {}",
            qos.operation_share,
            qos.delivery_share,
            qos.errors_percent_max,
            self.verdict().name()
        );
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "class": row.name,
                    "wanted": row.wanted,
                    "reached": row.reached,
                    "errors_percent": row.errors_percent,
                    "slowest": row.worst.as_ref().map(|(name, share, p99)| json!({
                        "verb": name, "within_5s_percent": share, "p99_ms": p99,
                    })),
                    "delivered_within_60s_percent": row.delivered,
                    "verdict": row.verdict().name(),
                    "wrong": row.wrong,
                    "not_judged": row.unjudged,
                    "seldom": row.seldom,
                    "generator": {
                        "busiest_thread": row.generator.0,
                        "late_p99_ms": row.generator.1,
                        "memory_max_kib": row.generator.2,
                    },
                })
            })
            .collect();
        json!({ "verdict": self.verdict().name(), "classes": rows, "left_out": self.left_out, "commands": self.commands })
    }
}

/// One line for each load.
pub fn table(judgements: &[Judgement]) -> String {
    let mut text = "\nload     verdict\n".to_owned();
    for judgement in judgements {
        let beyond = if judgement.load > 100 {
            "  (beyond the rated load: does not decide)"
        } else {
            ""
        };
        let left_out = match judgement.left_out.len() {
            0 => String::new(),
            1 => "  a class left out".to_owned(),
            count => format!("  {count} classes left out"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:>4} %   {:<12}{left_out}{beyond}",
            judgement.load,
            judgement.verdict().name()
        );
    }
    text
}
