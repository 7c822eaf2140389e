//! The admin address: `/metrics` and `/health`.

use std::fmt::Write as _;
use std::rc::Rc;

use super::super::Shard;
use super::super::conn::ConnKey;
use super::super::probe;
use super::super::session::AnyAnswer;
use super::Asked;
use crate::metrics::Exposition;
use crate::proto::http::{Answer, Ask};
use crate::store::Health;

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers a GET.
pub(super) fn get(shard: &Rc<Shard>, key: ConnKey, ask: Ask) -> Asked {
    let page = |status, content_type, body: String| Answer {
        status,
        content_type,
        body: body.into_bytes(),
    };
    match ask.path.as_str() {
        "/metrics" => {
            let shard = Rc::clone(shard);
            super::super::spawn(async move {
                let text = scrape(&shard).await.render();
                let answer = page(200, PROMETHEUS, text);
                shard.answer(key, AnyAnswer::Http(answer));
            });
            Asked::Later
        }
        "/health" => {
            let shard = Rc::clone(shard);
            super::super::spawn(async move {
                let (status, text) = health_page(health(&shard).await);
                shard.answer(key, AnyAnswer::Http(page(status, TEXT, text)));
            });
            Asked::Later
        }
        "/" => Asked::Answer(AnyAnswer::Http(page(
            200,
            TEXT,
            "Ringpost\n\n/metrics  counters and latencies, for Prometheus\n/health   one line a log; 503 when one cannot be written\n".to_owned(),
        ))),
        path => Asked::Answer(AnyAnswer::Http(page(
            404,
            TEXT,
            format!("{path}: there is /metrics and /health\n"),
        ))),
    }
}

/// Asks every shard for its counters.
async fn scrape(shard: &Rc<Shard>) -> Exposition {
    let mut all = Exposition::default();
    // What a load generator writes down beside its figures.
    let sync_level = shard.config.sync_level.to_string();
    all.gauge(
        "ringpost_build_info",
        "Version and settings that figures depend on; always 1.",
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("sync_level", &sync_level),
        ],
        1,
    );
    for id in 0..shard.mesh.shards() {
        let part = shard
            .mesh
            .call(shard, id, async move |owner| {
                let mut part = Exposition::of_shard(owner.id);
                probe::expose(&owner, &mut part);
                part
            })
            .await;
        all.merge(part);
    }
    all
}

/// The state of every log: its name, shard and health. Mailbox partitions first, by number.
pub(crate) async fn health(shard: &Rc<Shard>) -> Vec<(String, usize, Health)> {
    let mut all = Vec::new();
    for id in 0..shard.mesh.shards() {
        let part = shard
            .mesh
            .call(shard, id, async move |owner| {
                let partitions = owner.own_partitions().into_iter();
                let partitions =
                    partitions.map(|(number, log)| (number, format!("partition {number}"), log));
                let others = owner.other_logs().into_iter();
                let others = others.map(|(name, log)| (u16::MAX, name.to_owned(), log));
                let logs = partitions.chain(others);
                let states = logs.map(|(order, name, log)| (order, name, owner.id, log.health()));
                states.collect::<Vec<_>>()
            })
            .await;
        all.extend(part);
    }
    all.sort_by_key(|(order, ..)| *order);
    let states = all.into_iter();
    states
        .map(|(_, name, id, health)| (name, id, health))
        .collect()
}

/// Is all well, and a line for each log.
fn health_page(all: Vec<(String, usize, Health)>) -> (u16, String) {
    let healthy = all.iter().all(|(_, _, state)| *state == Health::Good);
    let mut text = String::from(if healthy { "ok\n" } else { "not all well\n" });
    for (name, id, state) in all {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} (shard {id}): {state}");
    }
    (if healthy { 200 } else { 503 }, text)
}
