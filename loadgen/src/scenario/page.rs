//! The page of a scenario run: for a terminal, in Markdown, in HTML.

use std::fmt::Write as _;
use std::path::Path;

use super::{Obstacle, Outcome};

/// The page can be written to this file.
pub fn is_known(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending == "md" || ending == "html")
}

/// The page for this file.
pub fn of(outcomes: &[Outcome], path: &Path) -> String {
    if path.extension().is_some_and(|ending| ending == "html") {
        html(outcomes)
    } else {
        markdown(outcomes)
    }
}

/// Reached, headroom, and what there is to say: of one outcome.
fn cells(outcome: &Outcome) -> (String, String) {
    match &outcome.result {
        Ok(reached) => (reached.what.clone(), Short(reached.headroom).to_string()),
        Err(Obstacle::Absent(why) | Obstacle::Broken(why)) => (why.clone(), String::new()),
    }
}

/// Three digits that matter.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value >= 100.0 => write!(f, "{value:.0} x"),
            value if value >= 10.0 => write!(f, "{value:.1} x"),
            value => write!(f, "{value:.2} x"),
        }
    }
}

/// For a terminal.
pub fn text(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let target = outcome.target;
        let (what, headroom) = cells(outcome);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "\n{:<4}{:<10}{:>9}  {}\n    wanted   {}\n    reached  {what}",
            target.id,
            outcome.verdict(),
            headroom,
            target.title,
            target.figure,
        );
        if let Ok(reached) = &outcome.result {
            for note in &reached.notes {
                let _ = writeln!(text, "             {note}");
            }
            for command in &reached.commands {
                let _ = writeln!(text, "    $ {command}");
            }
        }
    }
    let count = |verdict| outcomes.iter().filter(|o| o.verdict() == verdict).count();
    let _ = writeln!(
        text,
        "\n{} passed, {} failed, {} whose service is not there",
        count("pass"),
        count("FAIL"),
        count("not there")
    );
    text
}

fn markdown(outcomes: &[Outcome]) -> String {
    let safe = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut text = "# Scenarios\n\n| | target | wanted | reached | headroom | verdict |\n\
                    |---|---|---|---|---|---|\n"
        .to_owned();
    for outcome in outcomes {
        let target = outcome.target;
        let (what, headroom) = cells(outcome);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {headroom} | {} |",
            target.id,
            safe(target.title),
            safe(target.figure),
            safe(&what),
            outcome.verdict()
        );
    }
    for outcome in outcomes {
        if let Ok(reached) = &outcome.result {
            let _ = writeln!(text, "\n## {}\n", outcome.target.id);
            for note in &reached.notes {
                let _ = writeln!(text, "- {note}");
            }
            if !reached.commands.is_empty() {
                let _ = writeln!(text, "\n```\n{}\n```", reached.commands.join("\n"));
            }
        }
    }
    text
}

fn html(outcomes: &[Outcome]) -> String {
    let safe = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    let mut text = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
        <title>Scenarios</title>\n<style>\
        body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
        table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;\
        padding:.4rem .6rem;border-bottom:1px solid #ccc}\
        .pass{color:#176b2c;font-weight:600}.fail{color:#a3101a;font-weight:600}.none{color:#777}\
        pre{background:#f5f5f5;padding:.6rem;overflow-x:auto;font-size:13px}\
        td:nth-child(5){white-space:nowrap;text-align:right}</style>\n\
        <h1>Scenarios</h1>\n<table><tr><th><th>Target<th>Wanted<th>Reached<th>Headroom<th>Verdict\n"
        .to_owned();
    for outcome in outcomes {
        let target = outcome.target;
        let (what, headroom) = cells(outcome);
        let class = match outcome.verdict() {
            "pass" => "pass",
            "FAIL" => "fail",
            _ => "none",
        };
        let _ = writeln!(
            text,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{headroom}<td class=\"{class}\">{}",
            target.id,
            safe(target.title),
            safe(target.figure),
            safe(&what),
            outcome.verdict()
        );
    }
    text.push_str("</table>\n");
    for outcome in outcomes {
        if let Ok(reached) = &outcome.result {
            let _ = writeln!(text, "<h2>{}</h2>\n<ul>", outcome.target.id);
            for note in &reached.notes {
                let _ = writeln!(text, "<li>{}", safe(note));
            }
            let _ = writeln!(
                text,
                "</ul>\n<pre>{}</pre>",
                safe(&reached.commands.join("\n"))
            );
        }
    }
    text.push_str("</html>\n");
    text
}
