//! The load generator's pages in a real browser: report and comparison, as Chromium renders them
//! without a window.
//!
//! Each page has to come up without a word in the browser's console, to have run its script, to ask
//! for nothing, and to hold the figures of `summary.json`.

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::runner::{Test, run_all};
use support::{Server, loadgen};

const TESTS: &[Test] = &[
    Test::driving("the_console_is_heard", &["chromium"], console),
    Test::driving("reports_hold_the_figures", &["chromium"], report),
    Test::driving("comparisons_hold_both_sides", &["chromium"], comparison),
];

fn main() -> std::process::ExitCode {
    run_all("pages", TESTS)
}

/// A page as the browser has it when its scripts have run, and what the browser had to say.
fn open(page: &Path) -> (String, String) {
    let profile = tempfile::tempdir().expect("a folder");
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
        ])
        .args(["--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("chromium starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {errors}", output.status);
    let console = errors.lines().filter(|line| line.contains("CONSOLE"));
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        console.collect::<Vec<_>>().join("\n"),
    )
}

/// Opens a page of ours: whatever it is, it has to be silent and whole.
fn open_ours(page: &Path) -> String {
    let (dom, console) = open(page);
    assert_eq!(console, "", "{}", page.display());
    let charts = dom.matches("data-hover=").count();
    let cursors = dom.matches("class=\"cursor\"").count();
    // Two lines of the style sheet and the script name these too; in the page, each chart has one.
    assert!(
        charts > 0 && cursors >= charts,
        "{charts} charts, {cursors} cursors"
    );
    assert!(dom.contains("svg.wide") && !dom.contains("NaN"), "{dom}");
    dom
}

/// Without this, silence would prove nothing.
fn console() {
    let dir = tempfile::tempdir().expect("a folder");
    let page = dir.path().join("page.html");
    let text = "<!doctype html><meta http-equiv=\"Content-Security-Policy\" \
                content=\"default-src 'none'; script-src 'unsafe-inline'\">\
                <img src=\"http://127.0.0.1:9/x.png\"><script>nothing.there()</script>";
    std::fs::write(&page, text).expect("written");
    let (_, console) = open(&page);
    assert!(console.contains("nothing is not defined"), "{console}");
    assert!(console.contains("Content Security Policy"), "{console}");
}

/// A short run with everything that can be sampled; returns its summary.
fn run(server: &Server, results: &Path, more: &[&str]) -> Value {
    let metrics = format!("http://{}/metrics", server.http);
    let output = loadgen()
        .args(["smtp", "--target", &server.smtp.to_string()])
        .args([
            "--connections",
            "4",
            "--users",
            "4",
            "--duration",
            "2s",
            "--quiet",
        ])
        .args([
            "--sample-metrics",
            &metrics,
            "--sample-pid",
            &server.pid().to_string(),
        ])
        .args(more)
        .arg("--server-data")
        .arg(&server.data)
        .arg("--results")
        .arg(results)
        .output()
        .expect("loadgen");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() != Some(2), "{said}");
    let text = std::fs::read(results.join("summary.json")).expect("a summary");
    serde_json::from_slice(&text).expect("JSON")
}

/// The numbers that the page shows, as exactly as it knows them.
fn figures(dom: &str) -> impl Iterator<Item = f64> + '_ {
    dom.split("<data value=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next()?.parse().ok())
}

/// The same, but for the last digit that reading JSON may lose.
fn is_close(one: f64, other: f64) -> bool {
    (one - other).abs() <= other.abs() * 1e-12
}

fn report() {
    // No connection of a run ends because it had enough.
    let server = Server::start(&["--messages-max", "1000000"]);
    server.generate(4);
    let dir = tempfile::tempdir().expect("a folder");
    let results = dir.path().join("a run");
    let summary = run(
        &server,
        &results,
        &["--warmup", "500ms", "--label", "a <b>"],
    );
    let dom = open_ours(&results.join("report.html"));
    let message = &summary["verbs"]["message"];
    for figure in [
        &summary["done_per_s"],
        &summary["cpu_us_each"],
        &summary["server"]["cpu_us_each"],
        &summary["server"]["rss_bytes_max"],
        &message["p50_ns"],
        &message["p99_ns"],
        &message["p99.9_ns"],
        &message["max_ns"],
    ] {
        let value = figure.as_f64().unwrap_or_else(|| panic!("{summary:#}"));
        assert!(figures(&dom).any(|shown| is_close(shown, value)), "{value}");
    }
    for text in [
        "a &lt;b&gt;",
        "Percentiles",
        "Rate over time",
        "Latency over time",
        "Errors</h2>\n<p>None",
        "CPU</h2>",
        "Memory</h2>",
        "ringpost_messages_accepted_total",
        "server's filesystem",
        "The loop is closed",
    ] {
        assert!(dom.contains(text), "{text}");
    }
    // Errors are named and drawn.
    let results = dir.path().join("refused");
    let more = ["--domain", "elsewhere.test", "--give-up", "1s"];
    let summary = run(&server, &results, &more);
    let dom = open_ours(&results.join("report.html"));
    let error = &summary["errors"][0];
    let count = error["count"]
        .as_u64()
        .unwrap_or_else(|| panic!("{summary:#}"));
    let sum: u64 = summary["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|error| error["count"].as_u64().expect("a count"))
        .sum();
    assert!(
        count > 0 && dom.contains(&format!("<data value=\"{sum}\">")),
        "{summary:#}"
    );
    assert!(
        dom.contains("errors per second") && dom.contains("550"),
        "{summary:#}"
    );
}

fn comparison() {
    // No connection of a run ends because it had enough.
    let server = Server::start(&["--messages-max", "1000000"]);
    server.generate(4);
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["small", "large"] {
        let size = if name == "small" { "2K" } else { "60K" };
        run(&server, &dir.path().join(name), &["--size", size]);
    }
    let out = dir.path().join("out");
    let output = loadgen()
        .arg("compare")
        .args(["small", "large"].map(|name| dir.path().join(name)))
        .arg("--out")
        .arg(&out)
        .output()
        .expect("loadgen");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("cannot tell: too few runs") && said.contains("--size 60K"),
        "{said}"
    );
    let dom = open_ours(&out.join("compare.html"));
    for text in [
        "large beside small",
        "Too few runs to tell",
        "Run by run",
        "--size 60K",
    ] {
        assert!(dom.contains(text), "{text}");
    }
    // The picture stands alone.
    let (dom, console) = open(&out.join("percentiles.svg"));
    assert_eq!(console, "");
    assert!(dom.contains("aria-label=\"latency by percentile"), "{dom}");
}
