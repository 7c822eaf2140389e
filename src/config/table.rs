//! The table of settings. To add one: a field in [`Config`], an entry here; flag, key, help, check
//! and `config show` follow.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Config;
use super::field::Field;
use crate::limits;

/// One setting.
pub(super) struct Setting {
    /// The flag without its dashes; the key in the file is the same.
    pub(super) name: &'static str,
    /// Heading in the help.
    pub(super) group: &'static str,
    /// What it is unless it is set.
    pub(super) default: Standard,
    /// Type, bounds, and its place in [`Config`].
    pub(super) field: Field,
    /// One sentence for the help, without a full stop.
    pub(super) doc: &'static str,
    /// Where it comes from: a requirement or an RFC. Empty: our own.
    pub(super) source: &'static str,
    /// What the tuning documents had, where they have it. Empty: they have nothing.
    pub(super) was: &'static str,
}

/// A setting's value when nobody sets it.
pub(super) enum Standard {
    /// These texts, as they would be given.
    Texts(&'static [&'static str]),
    /// The value of this other setting.
    As(&'static str),
    /// Found on the machine, described by the text.
    Found(&'static str, fn() -> String),
    /// Nothing; the text says what happens then.
    Unset(&'static str),
}

const LISTENERS: &str = "Listeners";
const SITE: &str = "Site";
const PROCESSORS: &str = "Processors";
const STORE: &str = "Store";
const LIMITS: &str = "Limits";
const TIMEOUTS: &str = "Time-outs";
const OTHER: &str = "General";

const fn seconds(range: RangeInclusive<u64>) -> RangeInclusive<Duration> {
    Duration::from_secs(*range.start())..=Duration::from_secs(*range.end())
}

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// A number kept in a smaller type: its range must fit, which a test holds for every entry.
macro_rules! number {
    ($field:ident: $type:ty, $range:expr, $unit:expr) => {
        Field::Number {
            range: $range,
            unit: $unit,
            set: |config, n| config.$field = <$type>::try_from(n).unwrap_or(<$type>::MAX),
            get: |config| config.$field as u64,
        }
    };
}

/// In the order of the help and of `config show`.
pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        name: "data",
        group: OTHER,
        default: Standard::Texts(&["ringpost-data"]),
        field: Field::Path(|c| &mut c.data),
        doc: "Folder of everything the server keeps; made when it is not there",
        source: "",
        was: "",
    },
    Setting {
        name: "log",
        group: OTHER,
        default: Standard::Texts(&["info"]),
        field: Field::LogFilter(|c| &mut c.log),
        doc: "What is logged: error, warn, info, debug or trace, also by part (info,ringpost::store=debug)",
        source: "",
        was: "",
    },
    Setting {
        name: "drain-seconds",
        group: OTHER,
        default: Standard::Texts(&["30"]),
        field: Field::Number {
            range: 0..=HOUR,
            unit: "seconds",
            set: |c, n| c.drain = Duration::from_secs(n),
            get: |c| c.drain.as_secs(),
        },
        doc: "How long running transactions may take to finish after SIGTERM",
        source: "",
        was: "",
    },
    Setting {
        name: "smtp",
        group: LISTENERS,
        default: Standard::Texts(&["127.0.0.1:2525"]),
        field: Field::Listen(|c| &mut c.smtp),
        doc: "Take mail by SMTP here (an address, the path of a Unix socket, or none)",
        source: "RFC 5321",
        was: "",
    },
    Setting {
        name: "lmtp",
        group: LISTENERS,
        default: Standard::Texts(&["127.0.0.1:2424"]),
        field: Field::Listen(|c| &mut c.lmtp),
        doc: "Take mail by LMTP here",
        source: "RFC 2033",
        was: "",
    },
    Setting {
        name: "pop3",
        group: LISTENERS,
        default: Standard::Texts(&["127.0.0.1:2110"]),
        field: Field::Listen(|c| &mut c.pop3),
        doc: "Serve mailboxes by POP3 here",
        source: "RFC 1939",
        was: "",
    },
    Setting {
        name: "imap",
        group: LISTENERS,
        default: Standard::Texts(&["127.0.0.1:2143"]),
        field: Field::Listen(|c| &mut c.imap),
        doc: "Serve mailboxes by IMAP here",
        source: "RFC 9051, RFC 3501",
        was: "",
    },
    Setting {
        name: "http",
        group: LISTENERS,
        default: Standard::Texts(&["127.0.0.1:2080"]),
        field: Field::Listen(|c| &mut c.http),
        doc: "Serve /metrics and /health here; there is no login, so keep it on a private address",
        source: "",
        was: "",
    },
    Setting {
        name: "domain",
        group: SITE,
        default: Standard::Texts(&[]),
        field: Field::Domains(|c| &mut c.domain),
        doc: "Serve this domain beside those added with 'ringpost domain add'",
        source: "",
        was: "",
    },
    Setting {
        name: "default-domain",
        group: SITE,
        default: Standard::Unset("the postmaster's domain"),
        field: Field::OptionalDomain(|c| &mut c.default_domain),
        doc: "A bare user name belongs to this domain",
        source: "",
        was: "",
    },
    Setting {
        name: "hostname",
        group: SITE,
        default: Standard::Found("the machine's own name", machine_name),
        field: Field::Hostname(|c| &mut c.hostname),
        doc: "The server's name in greetings and in Received fields",
        source: "RFC 5321 §4.1.1.1",
        was: "",
    },
    Setting {
        name: "processors",
        group: PROCESSORS,
        default: Standard::Texts(&["all"]),
        field: Field::Processors(|c| &mut c.processors),
        doc: "Run one shard on each of these processors; hyper-threading siblings only when a LIST (0 or 0-3,6) names them",
        source: "C13",
        was: "",
    },
    Setting {
        name: "poll-us",
        group: PROCESSORS,
        default: Standard::Texts(&["20"]),
        field: Field::Number {
            range: 0..=10_000,
            unit: "microseconds",
            set: |c, n| c.poll = Duration::from_micros(n),
            get: |c| u64::try_from(c.poll.as_micros()).unwrap_or(u64::MAX),
        },
        doc: "How long an idle shard looks for work before it sleeps; shortens the wait of a lone client and costs processor time",
        source: "",
        was: "",
    },
    Setting {
        name: "delivery-processors",
        group: PROCESSORS,
        default: Standard::Texts(&["0"]),
        field: number!(delivery_processors: u32, 0..=100_000, "deliveries"),
        doc: "Local deliveries that run at once on each shard; 0: as many as arrive",
        source: "C1",
        was: "10",
    },
    Setting {
        name: "partitions",
        group: STORE,
        default: Standard::Texts(&["0"]),
        field: number!(partitions: u16, 0..=limits::PARTITIONS_MAX as u64, "partitions"),
        doc: "Partitions of a store that is made now, fixed from then on; 0: in proportion to the processors",
        source: "C7",
        was: "",
    },
    Setting {
        name: "sync-level",
        group: STORE,
        default: Standard::Texts(&["1"]),
        field: Field::Level(|c| &mut c.sync_level),
        doc: "How far a write gets before it is acknowledged: 0 left to the filesystem, 1 fdatasync, 2 fsync",
        source: "N21",
        was: "1",
    },
    Setting {
        name: "sync-level-store",
        group: STORE,
        default: Standard::As("sync-level"),
        field: Field::Level(|c| &mut c.sync.store),
        doc: "The same, for changes of mailboxes",
        source: "N21",
        was: "",
    },
    Setting {
        name: "sync-level-envelope",
        group: STORE,
        default: Standard::As("sync-level"),
        field: Field::Level(|c| &mut c.sync.envelope),
        doc: "The same, for envelopes in the queue",
        source: "N21",
        was: "",
    },
    Setting {
        name: "sync-level-message",
        group: STORE,
        default: Standard::As("sync-level"),
        field: Field::Level(|c| &mut c.sync.message),
        doc: "The same, for messages",
        source: "N21",
        was: "",
    },
    Setting {
        name: "sync-level-database",
        group: STORE,
        default: Standard::As("sync-level"),
        field: Field::Level(|c| &mut c.sync.database),
        doc: "The same, for accounts, domains, aliases and passwords",
        source: "N21",
        was: "",
    },
    Setting {
        name: "expire-start",
        group: STORE,
        default: Standard::Texts(&["23"]),
        field: number!(expire_start: u8, 0..=23, "o'clock, local time"),
        doc: "The hour in which the space of expunged messages is reclaimed, by the machine's time zone as it was at start",
        source: "N23",
        was: "23",
    },
    Setting {
        name: "cleanup-age",
        group: STORE,
        default: Standard::Texts(&["1h"]),
        field: Field::Duration {
            range: seconds(0..=365 * DAY),
            floor: None,
            at: |c| &mut c.cleanup_age,
        },
        doc: "How long a message must have been expunged before its space is reclaimed",
        source: "N23",
        was: "1 hour",
    },
    Setting {
        name: "buffered-writes",
        group: STORE,
        default: Standard::Texts(&["false"]),
        field: Field::Switch(|c| &mut c.buffered_writes),
        doc: "Write mail through the page cache, as it always is at sync level 0, instead of straight to the disk; fresh mail is then in memory for its first reader, and each message costs more processor time",
        source: "",
        was: "",
    },
    Setting {
        name: "reserve",
        group: STORE,
        default: Standard::Texts(&["64M"]),
        field: Field::Bytes {
            range: 0..=1 << 50,
            at: |c| &mut c.reserve_bytes,
        },
        doc: "Disk space kept free, so that reading and deleting go on when no more mail is taken",
        source: "N30",
        was: "",
    },
    Setting {
        name: "message-bytes-max",
        group: LIMITS,
        default: Standard::Texts(&["50M"]),
        field: Field::Bytes {
            // RFC 5321 §4.5.3.1.7: at least 64K octets.
            range: 64 << 10..=limits::MESSAGE_BYTES_MAX,
            at: |c| &mut c.message_bytes_max,
        },
        doc: "Largest message that is taken, announced by SIZE; 2G at most",
        source: "N19",
        was: "",
    },
    Setting {
        name: "recipients-max",
        group: LIMITS,
        default: Standard::Texts(&["1000"]),
        // RFC 5321 §4.5.3.1.8: at least 100.
        field: number!(recipients_max: u32, 100..=limits::RECIPIENTS_MAX, "recipients"),
        doc: "Recipients of one message",
        source: "N15",
        was: "100000, for relays 250",
    },
    Setting {
        name: "messages-max",
        group: LIMITS,
        default: Standard::Texts(&["1000"]),
        field: number!(messages_max: u32, 1..=u32::MAX as u64, "messages"),
        doc: "Messages that one connection may send",
        source: "N15",
        was: "1000",
    },
    Setting {
        name: "refused-recipients-max",
        group: LIMITS,
        default: Standard::Texts(&["20"]),
        field: number!(refused_recipients_max: u32, 0..=1_000_000, "recipients"),
        doc: "Recipients refused for good after which an SMTP connection is closed, against guessing of addresses; 0: as many as come",
        source: "RFC 5321 §7.3",
        was: "",
    },
    Setting {
        name: "smtp-sessions-max",
        group: LIMITS,
        default: Standard::Texts(&["20000"]),
        field: number!(smtp_sessions_max: u32, 1..=limits::CONNECTIONS_MAX as u64, "sessions"),
        doc: "SMTP connections at once, over all shards",
        source: "N18",
        was: "",
    },
    Setting {
        name: "lmtp-sessions-max",
        group: LIMITS,
        default: Standard::Texts(&["20000"]),
        field: number!(lmtp_sessions_max: u32, 1..=limits::CONNECTIONS_MAX as u64, "sessions"),
        doc: "LMTP connections at once, over all shards",
        source: "N18",
        was: "",
    },
    Setting {
        name: "pop3-sessions-max",
        group: LIMITS,
        default: Standard::Texts(&["20000"]),
        field: number!(pop3_sessions_max: u32, 1..=limits::CONNECTIONS_MAX as u64, "sessions"),
        doc: "POP3 connections at once, over all shards",
        source: "N18, C5",
        was: "600",
    },
    Setting {
        name: "imap-sessions-max",
        group: LIMITS,
        default: Standard::Texts(&["20000"]),
        field: number!(imap_sessions_max: u32, 1..=limits::CONNECTIONS_MAX as u64, "sessions"),
        doc: "IMAP connections at once, over all shards; a user has several",
        source: "N18, C5",
        was: "",
    },
    Setting {
        name: "memory-max",
        group: LIMITS,
        default: Standard::Texts(&["256M"]),
        field: Field::Bytes {
            range: 16 << 20..=1 << 40,
            at: |c| &mut c.shard_memory_bytes_max,
        },
        doc: "Memory of one shard for messages and replies on their way; at the bound new connections and messages are put off",
        source: "",
        was: "",
    },
    Setting {
        name: "auth-cache-ttl",
        group: LIMITS,
        default: Standard::Texts(&["15m"]),
        field: Field::Duration {
            range: seconds(0..=30 * DAY),
            floor: None,
            at: |c| &mut c.auth_cache_ttl,
        },
        doc: "How long a verified password is remembered in memory; 0: not at all",
        source: "N37",
        was: "900 s",
    },
    Setting {
        name: "auth-cache-size",
        group: LIMITS,
        default: Standard::Texts(&["100000"]),
        field: number!(auth_cache_size: usize, 0..=10_000_000, "accounts"),
        doc: "Verified passwords that one shard remembers; should be at least the number of users",
        source: "N37",
        was: "10000",
    },
    Setting {
        name: "smtp-timeout",
        group: TIMEOUTS,
        default: Standard::Texts(&["10m"]),
        field: Field::Duration {
            range: seconds(1..=DAY),
            floor: Some(Duration::from_secs(600)),
            at: |c| &mut c.smtp_timeout,
        },
        doc: "How long an SMTP or LMTP client may wait before its next command",
        source: "N17",
        was: "600 s",
    },
    Setting {
        name: "smtp-data-timeout",
        group: TIMEOUTS,
        default: Standard::Texts(&["10m"]),
        field: Field::Duration {
            range: seconds(1..=DAY),
            floor: Some(Duration::from_secs(600)),
            at: |c| &mut c.smtp_data_timeout,
        },
        doc: "How long an SMTP or LMTP client may pause within a message",
        source: "N17",
        was: "600 s",
    },
    Setting {
        name: "pop3-timeout",
        group: TIMEOUTS,
        default: Standard::Texts(&["10m"]),
        field: Field::Duration {
            range: seconds(1..=DAY),
            floor: Some(Duration::from_secs(600)),
            at: |c| &mut c.pop3_timeout,
        },
        doc: "How long a POP3 client may be idle",
        source: "N17",
        was: "10 min",
    },
    Setting {
        name: "imap-timeout",
        group: TIMEOUTS,
        default: Standard::Texts(&["30m"]),
        field: Field::Duration {
            range: seconds(1..=DAY),
            floor: Some(Duration::from_secs(1800)),
            at: |c| &mut c.imap_timeout,
        },
        doc: "How long an IMAP client may be idle, in IDLE too",
        source: "I5, N17, RFC 9051 §5.4",
        was: "30 min",
    },
    Setting {
        name: "tcp-keepalive",
        group: TIMEOUTS,
        default: Standard::Texts(&["0"]),
        field: Field::Duration {
            range: seconds(0..=DAY),
            floor: None,
            at: |c| &mut c.tcp_keepalive,
        },
        doc: "How long a TCP connection may be silent before the kernel asks whether the other end is still there; 0: as the kernel is set (2 hours)",
        source: "C5",
        was: "",
    },
    Setting {
        name: "allow-short-timeouts",
        group: TIMEOUTS,
        default: Standard::Texts(&["false"]),
        field: Field::Switch(|c| &mut c.allow_short_timeouts),
        doc: "Let the time-outs be shorter than the protocols ask for (for tests)",
        source: "N17",
        was: "",
    },
];

/// The kernel's host name, where it is one that can be greeted with.
fn machine_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .and_then(|name| super::parse_domain(name.trim()).ok())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// Before the table has filled it in; every field belongs to an entry, which a test holds.
pub(super) fn blank() -> Config {
    Config {
        data: Default::default(),
        smtp: Vec::new(),
        lmtp: Vec::new(),
        pop3: Vec::new(),
        imap: Vec::new(),
        http: Vec::new(),
        domain: Vec::new(),
        default_domain: None,
        hostname: String::new(),
        processors: Default::default(),
        partitions: 0,
        sync_level: Default::default(),
        sync: Default::default(),
        poll: Duration::ZERO,
        drain: Duration::ZERO,
        delivery_processors: 0,
        expire_start: 0,
        cleanup_age: Duration::ZERO,
        message_bytes_max: 0,
        recipients_max: 0,
        messages_max: 0,
        refused_recipients_max: 0,
        smtp_timeout: Duration::ZERO,
        smtp_data_timeout: Duration::ZERO,
        pop3_timeout: Duration::ZERO,
        imap_timeout: Duration::ZERO,
        tcp_keepalive: Duration::ZERO,
        allow_short_timeouts: false,
        buffered_writes: false,
        smtp_sessions_max: 0,
        lmtp_sessions_max: 0,
        pop3_sessions_max: 0,
        imap_sessions_max: 0,
        auth_cache_ttl: Duration::ZERO,
        auth_cache_size: 0,
        shard_memory_bytes_max: 0,
        reserve_bytes: 0,
        log: String::new(),
    }
}
