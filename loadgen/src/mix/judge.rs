//! SPECmail's criteria: 95 % of every operation within 5 s, 95 % of mail delivered within 60 s,
//! errors under 1 %.

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
        let errors_percent = 100.0 * failed.max(errors) / tried.max(failed.max(errors)).max(1.0);
        let worst = ran.json["verbs"].as_object().and_then(|verbs| {
            let shares = verbs.iter().filter_map(|(name, verb)| {
                let operation = !NO_OPERATIONS.contains(&name.as_str());
                let share = verb["within_5s_percent"].as_f64()?;
                let p99 = verb["p99_ns"].as_f64()? / 1e6;
                operation.then(|| (name.clone(), share, p99))
            });
            shares.min_by(|a, b| a.1.total_cmp(&b.1).then(b.2.total_cmp(&a.2)))
        });
        let unseen = ran.number(&["end_to_end", "not_seen"]);
        let visible = &ran.json["verbs"]["250->visible"];
        let delivered = visible["count"].as_f64().map(|seen| {
            let within = visible["within_60s_percent"].as_f64().unwrap_or(0.0);
            within * seen / (seen + unseen).max(1.0)
        });
        let mut wrong = Vec::new();
        if let Some((name, share, _)) = &worst
            && *share < qos.operation_share
        {
            wrong.push(format!("only {share:.2} % of {name} within 5 s"));
        }
        if let Some(delivered) = delivered
            && delivered < qos.delivery_share
        {
            wrong.push(format!("only {delivered:.2} % delivered within 60 s"));
        }
        if errors_percent >= qos.errors_percent_max {
            wrong.push(format!("{errors_percent:.2} % errors"));
        }
        if tried == 0.0 {
            let text =
                "not one operation was due: run longer (--time), or with more users (--users)";
            wrong.push(text.to_owned());
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
        }
    }
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

    /// Everything that ran holds.
    pub fn good(&self) -> bool {
        self.rows.iter().all(|row| row.wrong.is_empty())
    }

    /// For people.
    pub fn text(&self, population: &Population) -> String {
        let qos = &population.qos;
        let mut text = format!(
            "\n{} % of the rated load\n{:<20}{:>10}{:>10}{:>9}  {:<14}{:>10}{:>12}{:>13}\n",
            self.load,
            "",
            "wanted",
            "reached",
            "errors",
            "slowest",
            "p99 ms",
            "within 5 s",
            "delivered"
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
                "{:<20}{:>10}{:>10}{:>7.2} %  {verb:<14}{p99:>10}{share:>12}{delivered:>13}",
                row.name,
                number(row.wanted),
                number(row.reached),
                row.errors_percent,
            );
            for wrong in &row.wrong {
                let _ = writeln!(text, "    {wrong}");
            }
        }
        for (name, why) in &self.left_out {
            let _ = writeln!(text, "{name:<20}{why}");
        }
        let _ = writeln!(
            text,
            "wanted: {} % of every operation within 5 s, {} % of mail delivered within 60 s, errors \
             under {} %: {}",
            qos.operation_share,
            qos.delivery_share,
            qos.errors_percent_max,
            verdict(self)
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
                    "wrong": row.wrong,
                })
            })
            .collect();
        json!({ "classes": rows, "left_out": self.left_out, "commands": self.commands })
    }
}

fn verdict(judgement: &Judgement) -> &'static str {
    if judgement.good() { "pass" } else { "FAIL" }
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
            count => format!("  {count} classes left out"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:>4} %   {:<7}{left_out}{beyond}",
            judgement.load,
            verdict(judgement)
        );
    }
    text
}
