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
            "Ringpost\n\n/metrics  counters and latencies, for Prometheus\n/health   one line a partition; 503 when one cannot take mail\n".to_owned(),
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
    for id in 0..shard.mesh.shards() {
        let part = shard
            .mesh
            .call(shard, id, |owner| {
                Box::pin(async move {
                    let mut part = Exposition::of_shard(owner.id);
                    probe::expose(&owner, &mut part);
                    part
                })
            })
            .await;
        all.merge(part);
    }
    all
}

/// Every partition's state, as number, shard and health.
pub(crate) async fn health(shard: &Rc<Shard>) -> Vec<(u16, usize, Health)> {
    let mut all = Vec::new();
    for id in 0..shard.mesh.shards() {
        let part = shard
            .mesh
            .call(shard, id, |owner| {
                Box::pin(async move {
                    let partitions = owner.own_partitions();
                    let states = partitions.iter().map(|(n, p)| (*n, owner.id, p.health()));
                    states.collect::<Vec<_>>()
                })
            })
            .await;
        all.extend(part);
    }
    all.sort_by_key(|(number, ..)| *number);
    all
}

/// Is all well, and a line for each partition.
fn health_page(all: Vec<(u16, usize, Health)>) -> (u16, String) {
    let healthy = all.iter().all(|(_, _, state)| *state == Health::Good);
    let mut text = String::from(if healthy { "ok\n" } else { "not all well\n" });
    for (number, id, state) in all {
        let state = match state {
            Health::Good => "good".to_owned(),
            Health::Full => "full: refuses mail with 452, reads and deletes work".to_owned(),
            Health::ReadOnly(reason) => format!("read-only until restart: {reason}"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "partition {number} (shard {id}): {state}");
    }
    (if healthy { 200 } else { 503 }, text)
}
