//! What a scrape shows.

use std::time::Duration;

use super::*;

fn assert_send<T: Send>(_: &T) {}

#[test]
fn renders_families_together_with_one_head_each() {
    let latency = Histogram::default();
    latency.record(Duration::from_millis(250));
    let mut all = Exposition::of_shard(0);
    all.counter("ringpost_bytes_total", "Bytes.", &[("service", "pop3")], 7);
    all.gauge("ringpost_sessions", "Open now.", &[], -2);
    all.histogram("ringpost_wait_seconds", "Wait.", &[("c", "RETR")], &latency);
    let mut other = Exposition::of_shard(1);
    other.counter("ringpost_bytes_total", "Bytes.", &[("service", "pop3")], 9);
    other.gauge_seconds(
        "ringpost_age_seconds",
        "Oldest.",
        &[],
        Duration::from_millis(1500),
    );
    assert_send(&other);
    all.merge(other);
    let expected = "\
# HELP ringpost_bytes_total Bytes.
# TYPE ringpost_bytes_total counter
ringpost_bytes_total{shard=\"0\",service=\"pop3\"} 7
ringpost_bytes_total{shard=\"1\",service=\"pop3\"} 9
# HELP ringpost_sessions Open now.
# TYPE ringpost_sessions gauge
ringpost_sessions{shard=\"0\"} -2
# HELP ringpost_wait_seconds Wait.
# TYPE ringpost_wait_seconds summary
ringpost_wait_seconds{shard=\"0\",c=\"RETR\",quantile=\"0.5\"} 0.250879
ringpost_wait_seconds{shard=\"0\",c=\"RETR\",quantile=\"0.9\"} 0.250879
ringpost_wait_seconds{shard=\"0\",c=\"RETR\",quantile=\"0.99\"} 0.250879
ringpost_wait_seconds{shard=\"0\",c=\"RETR\",quantile=\"0.999\"} 0.250879
ringpost_wait_seconds{shard=\"0\",c=\"RETR\",quantile=\"1\"} 0.250879
ringpost_wait_seconds_sum{shard=\"0\",c=\"RETR\"} 0.25
ringpost_wait_seconds_count{shard=\"0\",c=\"RETR\"} 1
# HELP ringpost_age_seconds Oldest.
# TYPE ringpost_age_seconds gauge
ringpost_age_seconds{shard=\"1\"} 1.5
";
    assert_eq!(all.render(), expected);
}

#[test]
fn escapes_help_and_label_values() {
    let mut all = Exposition::default();
    all.gauge("ringpost_x", "a \\ \"b\"\nc", &[("path", "a\\b\"c\nd")], 1);
    assert_eq!(
        all.render(),
        "# HELP ringpost_x a \\\\ \"b\"\\nc\n# TYPE ringpost_x gauge\n\
         ringpost_x{path=\"a\\\\b\\\"c\\nd\"} 1\n"
    );
}

#[test]
fn an_unused_histogram_has_no_quantiles() {
    let mut all = Exposition::default();
    all.histogram("ringpost_batch_bytes", "h", &[], &Histogram::default());
    let text = all.render();
    assert!(!text.contains("quantile"), "{text}");
    assert!(text.contains("ringpost_batch_bytes_count 0\n"), "{text}");
    assert!(text.contains("ringpost_batch_bytes_sum 0\n"), "{text}");
}

#[test]
fn quantiles_are_within_a_percent_and_the_sum_is_exact() {
    let sizes = Histogram::default();
    for value in 1..=100_000 {
        sizes.record_value(value);
    }
    let summary = sizes.summary();
    assert_eq!(summary.count, 100_000);
    assert_eq!(summary.sum, 100_000 * 100_001 / 2);
    let quantiles = summary.quantiles.unwrap();
    for (found, expected) in quantiles
        .iter()
        .zip([50_000, 90_000, 99_000, 99_900, 100_000])
    {
        let off = found.abs_diff(expected);
        assert!(off * 100 <= expected, "{found} against {expected}");
    }
}

#[test]
fn any_value_can_be_recorded() {
    let latency = Histogram::default();
    latency.record(Duration::ZERO);
    latency.record(Duration::MAX);
    latency.record_value(u64::MAX);
    assert_eq!(latency.count(), 3);
    assert_eq!(latency.summary().sum, 7_200_000_000);
}
