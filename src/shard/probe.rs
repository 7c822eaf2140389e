//! What a shard counts of itself.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::Shard;
use super::session::Service;
use crate::metrics::{Counter, Exposition, Gauge, Histogram};

/// Refused connections are logged at most once in this time; all are counted.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Counters of one shard.
#[derive(Default)]
pub(crate) struct Probe {
    pub(crate) connections: [Counter; Service::ALL.len()],
    pub(crate) connections_open: [Gauge; Service::ALL.len()],
    pub(crate) connections_refused: Counter,
    pub(crate) passed_on: Counter,
    pub(crate) moved_out: Counter,
    pub(crate) messages_accepted: Counter,
    pub(crate) messages_refused: Counter,
    pub(crate) memory_refusals: Counter,
    pub(crate) memory_most: Gauge,
    pub(crate) delivery_latency: Histogram,
    pub(crate) logins: Counter,
    pub(crate) login_failures: Counter,
    pub(crate) auth_cache_hits: Counter,
    pub(crate) auth_cache_misses: Counter,
    pub(crate) read_errors: Counter,
    /// By kind of ask: what a session's command waited for.
    pub(crate) asks: [Histogram; AskKind::ALL.len()],
    last_refusal: Cell<Option<Instant>>,
}

/// Kinds of asks, which are the commands that have to wait for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AskKind {
    Rcpt,
    Chunk,
    Message,
    Login,
    Read,
    Quit,
    ImapLogin,
    ImapList,
    ImapManage,
    ImapSelect,
    ImapNews,
    ImapRows,
    ImapSummary,
    ImapRead,
    ImapSearch,
    ImapOrder,
    ImapStore,
    ImapExpunge,
    ImapCopy,
    ImapAppend,
    Http,
    Control,
}

impl AskKind {
    /// All, in order.
    pub(crate) const ALL: [AskKind; 22] = [
        AskKind::Rcpt,
        AskKind::Chunk,
        AskKind::Message,
        AskKind::Login,
        AskKind::Read,
        AskKind::Quit,
        AskKind::ImapLogin,
        AskKind::ImapList,
        AskKind::ImapManage,
        AskKind::ImapSelect,
        AskKind::ImapNews,
        AskKind::ImapRows,
        AskKind::ImapSummary,
        AskKind::ImapRead,
        AskKind::ImapSearch,
        AskKind::ImapOrder,
        AskKind::ImapStore,
        AskKind::ImapExpunge,
        AskKind::ImapCopy,
        AskKind::ImapAppend,
        AskKind::Http,
        AskKind::Control,
    ];

    fn label(self) -> &'static str {
        match self {
            AskKind::Rcpt => "smtp_rcpt",
            AskKind::Chunk => "smtp_chunk",
            AskKind::Message => "smtp_message",
            AskKind::Login => "pop3_login",
            AskKind::Read => "pop3_read",
            AskKind::Quit => "pop3_quit",
            AskKind::ImapLogin => "imap_login",
            AskKind::ImapList => "imap_list",
            AskKind::ImapManage => "imap_manage",
            AskKind::ImapSelect => "imap_select",
            AskKind::ImapNews => "imap_news",
            AskKind::ImapRows => "imap_rows",
            AskKind::ImapSummary => "imap_summary",
            AskKind::ImapRead => "imap_read",
            AskKind::ImapSearch => "imap_search",
            AskKind::ImapOrder => "imap_order",
            AskKind::ImapStore => "imap_store",
            AskKind::ImapExpunge => "imap_expunge",
            AskKind::ImapCopy => "imap_copy",
            AskKind::ImapAppend => "imap_append",
            AskKind::Http => "http_get",
            AskKind::Control => "control",
        }
    }
}

impl Probe {
    /// A refusal may be logged now; the rest of them are only counted.
    pub(crate) fn may_log_refusal(&self) -> bool {
        let now = Instant::now();
        let quiet = self
            .last_refusal
            .get()
            .is_none_or(|last| now - last >= REFUSAL_LOG_INTERVAL);
        if quiet {
            self.last_refusal.set(Some(now));
        }
        quiet
    }
}

/// Everything a shard has to show.
pub(crate) fn expose(shard: &Shard, out: &mut Exposition) {
    let probe = &shard.probe;
    for service in Service::ALL {
        out.counter(
            "ringpost_connections_total",
            "Connections taken, by service",
            &[("service", service.name())],
            probe.connections[service.index()].get(),
        );
        out.gauge(
            "ringpost_connections_open",
            "Connections open now, by service",
            &[("service", service.name())],
            probe.connections_open[service.index()].get(),
        );
    }
    for (name, help, counter) in [
        (
            "ringpost_connections_refused_total",
            "Connections refused for want of descriptors or slots",
            &probe.connections_refused,
        ),
        (
            "ringpost_connections_passed_on_total",
            "Fresh connections passed on to a shard with fewer",
            &probe.passed_on,
        ),
        (
            "ringpost_sessions_moved_total",
            "Sessions moved to the shard that owns their account",
            &probe.moved_out,
        ),
        (
            "ringpost_messages_accepted_total",
            "Messages acknowledged",
            &probe.messages_accepted,
        ),
        (
            "ringpost_messages_refused_total",
            "Messages refused after their data",
            &probe.messages_refused,
        ),
        (
            "ringpost_memory_refusals_total",
            "Connections, recipients, messages and reads put off at --memory-max",
            &probe.memory_refusals,
        ),
        (
            "ringpost_logins_total",
            "Logins by POP3 and IMAP",
            &probe.logins,
        ),
        (
            "ringpost_login_failures_total",
            "Logins refused for a wrong name or password",
            &probe.login_failures,
        ),
        (
            "ringpost_auth_cache_hits_total",
            "Logins answered by the authentication cache",
            &probe.auth_cache_hits,
        ),
        (
            "ringpost_auth_cache_misses_total",
            "Logins that needed a password worker",
            &probe.auth_cache_misses,
        ),
        (
            "ringpost_read_errors_total",
            "Messages that could not be read",
            &probe.read_errors,
        ),
    ] {
        out.counter(name, help, &[], counter.get());
    }
    out.gauge(
        "ringpost_local_delivery_waiting",
        "Messages that wait for a local delivery processor",
        &[],
        shard.delivery.waiting() as i64,
    );
    let age = shard.delivery.oldest().map(|since| since.elapsed());
    out.gauge_seconds(
        "ringpost_local_delivery_oldest_seconds",
        "How long the first of them has waited",
        &[],
        age.unwrap_or_default(),
    );
    out.gauge(
        "ringpost_memory_held_bytes",
        "Bytes that sessions and deliveries hold, which --memory-max bounds",
        &[],
        shard.memory_held(),
    );
    out.gauge(
        "ringpost_memory_held_bytes_max",
        "The most of them at once since the start",
        &[],
        probe.memory_most.get(),
    );
    out.histogram(
        "ringpost_delivery_seconds",
        "From the end of a message to its reply",
        &[],
        &probe.delivery_latency,
    );
    for (kind, histogram) in AskKind::ALL.iter().zip(&probe.asks) {
        out.histogram(
            "ringpost_command_seconds",
            "What commands waited for, from the ask to its answer",
            &[("command", kind.label())],
            histogram,
        );
    }
    if let Some(queue) = shard.queue.get() {
        out.gauge(
            "ringpost_queue_entries",
            "Messages that cannot be delivered now",
            &[],
            queue.len() as i64,
        );
        let age_ms = queue
            .oldest_ms()
            .map_or(0, |oldest| super::now_ms().saturating_sub(oldest));
        out.gauge_seconds(
            "ringpost_queue_oldest_seconds",
            "Age of the oldest of them",
            &[],
            Duration::from_millis(age_ms),
        );
    }
    shard.ring.probe().expose(out, &[]);
    for (number, partition) in shard.own_partitions() {
        let number = number.to_string();
        let labels = [("partition", number.as_str())];
        partition.probe().expose(out, &labels);
        out.gauge_seconds(
            "ringpost_store_queued_oldest_seconds",
            "How long the oldest mutation has waited to be durable",
            &labels,
            partition.oldest_waiting().unwrap_or_default(),
        );
    }
    for (name, log) in shard.other_logs() {
        log.probe().expose(out, &[("partition", name)]);
    }
}
