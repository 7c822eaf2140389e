//! The command, the machine, and what the figures leave out.

use std::fmt::Write as _;

use serde_json::Value;

use super::charts::seconds;
use crate::chart::COLOURS;
use crate::chart::scale::bytes;
use crate::page::{escape, list, shell};
use crate::results::Folder;

/// A JSON value in words.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(true) => Some("yes".to_owned()),
        Value::Bool(false) => Some("no".to_owned()),
        other => Some(other.to_string()),
    }
}

pub(super) fn machine(body: &mut String, folder: &Folder) {
    let run = &folder.read.run;
    let command: Vec<String> = run["command"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|word| word.as_str().map(str::to_owned))
        .collect();
    let _ = writeln!(
        body,
        "<h2>Command and machine</h2>\n<pre>{}</pre>",
        escape(&shell(&command))
    );
    let machine = &run["machine"];
    let data = &machine["server_data"];
    let mut entries: Vec<(&str, String)> = Vec::new();
    let mut entry = |name, value: Option<String>| {
        if let Some(value) = value {
            entries.push((name, value));
        }
    };
    entry("loadgen", words(&run["loadgen"]));
    let server = run["server"].as_object().into_iter().flatten();
    let server: Vec<String> = server
        .filter_map(|(name, value)| Some(format!("{name} {}", words(value)?)))
        .collect();
    entry(
        "server says",
        (!server.is_empty()).then(|| server.join(", ")),
    );
    let cpu = words(&machine["cpu"]).unwrap_or_else(|| "unknown".to_owned());
    let cpus = machine["cpu_count"].as_u64().unwrap_or_default();
    let own = folder.summary["cpus"].to_string();
    entry(
        "processor",
        Some(format!("{cpu}, {cpus} CPUs; loadgen on {own}")),
    );
    let governor = words(&machine["governor"]);
    entry(
        "frequency governor",
        governor.or_else(|| Some("the machine does not say".to_owned())),
    );
    entry("virtual machine", words(&machine["virtual_machine"]));
    entry("memory", machine["memory_bytes"].as_f64().map(bytes));
    entry("kernel", words(&machine["kernel"]));
    entry("system", words(&machine["system"]));
    if data.is_null() {
        entry(
            "server's disk",
            Some("unknown: --server-data was not given".to_owned()),
        );
    } else {
        let parts = ["filesystem", "mounted_from", "options"];
        let parts: Vec<String> = parts
            .iter()
            .filter_map(|name| words(&data[*name]))
            .collect();
        entry("server's filesystem", Some(parts.join(", ")));
        entry(
            "its disk rotates, says the kernel",
            words(&data["disk_rotates"]),
        );
        entry("its write cache", words(&data["disk_cache"]));
        entry("its scheduler", words(&data["disk_scheduler"]));
    }
    body.push_str(&list(&entries));
}

pub(super) fn left_out(body: &mut String, folder: &Folder) {
    let mut notes = Vec::new();
    if folder.warmup_s() > 0.0 {
        notes.push(
            "What began in the warm-up is in no percentile and no rate of the figures above; charts \
             over time show it shaded."
                .to_owned(),
        );
    }
    if folder.timeline.iter().all(|moment| moment.late.is_none()) {
        notes.push(
            "The loop is closed: a connection starts its next operation when the last one has ended. \
             While the server stalls nothing new is started, so the percentiles tell less of a stall \
             than users who come at their own times would feel."
                .to_owned(),
        );
    }
    let verbs = folder.series.len();
    if verbs > COLOURS {
        notes.push(format!(
            "{COLOURS} of {verbs} verbs have a curve; all are in hdr.log."
        ));
    }
    notes.push(
        "Histograms keep three digits: a value may be up to 0.1% off. Generator and server clocks are \
         not compared, all times are the generator's."
            .to_owned(),
    );
    for source in folder.read.sources() {
        let missing = folder
            .read
            .samples
            .iter()
            .filter(|sample| sample.source == source);
        let missing: Vec<_> = missing
            .filter_map(|sample| match &sample.found {
                crate::sample::Found::Absent(why) => Some((sample.t, why)),
                _ => None,
            })
            .collect();
        if let Some((t, why)) = missing.first() {
            notes.push(format!(
                "{} samples of {source} are missing, the first after {}: {why}",
                missing.len(),
                seconds(*t)
            ));
        }
    }
    let notes: String = notes
        .iter()
        .map(|note| format!("<li>{}</li>\n", escape(note)))
        .collect();
    let _ = writeln!(
        body,
        "<h2>What these figures leave out</h2>\n<ul>\n{notes}</ul>\n<p class=\"soft\">Beside this page: \
         summary.json, hdr.log (HdrHistogram interval log V2), timeline.jsonl, samples.jsonl, run.json.</p>"
    );
}
