//! What one seed stands for: the kind of trouble, the sizes, the length of each life.

use ringpost::config::{SyncLevel, SyncLevels};
use ringpost::limits::BODY_CHUNK_BYTES;
use ringpost::mail::Address;
use ringpost::store::Settings;
use ringpost::store::sim::{Operation, Random, SimDisk};

use crate::actor::address;

/// The trouble a schedule is about, beside crashes, which all have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Crashes only.
    None,
    /// The disk fills up.
    FillsUp,
    /// Operations fail.
    Fails,
    /// Bits flip at rest, sectors cannot be read any more.
    Rots,
}

/// How long a life lasts, in steps of the disk.
#[derive(Debug, Clone, Copy)]
pub enum Span {
    /// Cut at this step, which may lie in the recovery.
    Cut(u64),
    /// Until its clients are done.
    Whole,
}

/// What a client may ask for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Deliver,
    DeliverOnce,
    Look,
    Expunge,
    Put,
    OwnAccount,
    /// What a mail client does.
    Boxes,
    Reclaim,
    /// Time passes: what was expunged is old enough to be reclaimed.
    Age,
    Idle,
}

/// How often each is asked for.
const REQUESTS: [(Request, u64); 10] = [
    (Request::Deliver, 33),
    (Request::DeliverOnce, 5),
    (Request::Look, 20),
    (Request::Expunge, 14),
    (Request::Put, 10),
    (Request::OwnAccount, 10),
    (Request::Boxes, 30),
    (Request::Reclaim, 3),
    (Request::Age, 2),
    (Request::Idle, 3),
];

#[derive(Debug)]
pub struct Plan {
    pub settings: Settings,
    pub shared: Vec<Address>,
    pub partitions: u16,
    pub lives: u64,
    pub clients: u64,
    pub requests_max: u64,
    /// Requests with their weights. Many schedules have their own: what goes wrong only after much
    /// of one thing is hardly ever met when there is some of everything.
    pub requests: Vec<(Request, u64)>,
    /// One message in so many is streamed though it is small.
    pub streams_one_in: u64,
    /// One message in so many is of any size up to the largest.
    pub large_one_in: u64,
    pub inline_bytes_max: usize,
    pub large_bytes_max: usize,
    pub fills_up: bool,
    pub fails: bool,
    pub rots: bool,
    pub closes_early: bool,
    /// The filesystem writes every time to a new place: reserving space has no effect there.
    pub copy_on_write: bool,
}

impl Plan {
    /// Draws a plan; with `crashes_only` nothing but crashes disturbs it, and all is synced.
    pub fn draw(random: &mut Random, crashes_only: bool) -> Plan {
        let trouble = match random.below(20) {
            _ if crashes_only => Trouble::None,
            0..9 => Trouble::None,
            9..12 => Trouble::FillsUp,
            12..16 => Trouble::Fails,
            _ => Trouble::Rots,
        };
        let segment_bytes = [64, 64, 128, 256][random.index(4)] * 1024;
        Plan {
            settings: Settings {
                sync: draw_levels(random, crashes_only),
                segment_bytes,
                reserve_bytes: segment_bytes * random.below(3),
                cleanup_age_ms: [0, 1000, 3_600_000][random.index(3)],
            },
            shared: (0..1 + random.below(3))
                .map(|number| address(&format!("shared{number}")))
                .collect(),
            partitions: if random.one_in(6) { 2 } else { 1 },
            lives: 2 + random.below(3),
            clients: 1 + random.below(4),
            requests_max: (2 + random.below(10)) * if random.one_in(8) { 5 } else { 1 },
            requests: draw_requests(random),
            streams_one_in: [6, 6, 2, 60][random.index(4)],
            large_one_in: [40, 40, 10, 400][random.index(4)],
            inline_bytes_max: BODY_CHUNK_BYTES.min(segment_bytes as usize / 8),
            large_bytes_max: segment_bytes as usize,
            fills_up: trouble == Trouble::FillsUp,
            fails: trouble == Trouble::Fails,
            rots: trouble == Trouble::Rots,
            closes_early: random.one_in(8),
            copy_on_write: random.one_in(8),
        }
    }

    /// Some kind of write is not synced: a loss of power may take it back.
    pub fn is_loose(&self) -> bool {
        let levels = &self.settings.sync;
        [
            levels.store,
            levels.envelope,
            levels.message,
            levels.database,
        ]
        .contains(&SyncLevel::None)
    }

    pub fn span(&self, random: &mut Random) -> Span {
        match random.below(10) {
            0..3 => Span::Cut(1 + random.below(60)),
            3..6 => Span::Cut(1 + random.below(300)),
            6..8 => Span::Cut(1 + random.below(1500)),
            _ => Span::Whole,
        }
    }

    /// What a client asks for next.
    pub fn request(&self, random: &mut Random) -> Request {
        let all = self.requests.iter().map(|(_, weight)| weight).sum();
        let mut left = random.below(all);
        for (request, weight) in &self.requests {
            if left < *weight {
                return *request;
            }
            left -= weight;
        }
        Request::Idle
    }

    /// Mostly small, now and then larger than a segment likes.
    pub fn message_bytes(&self, random: &mut Random) -> usize {
        if random.one_in(self.large_one_in) {
            return random.index(self.large_bytes_max);
        }
        match random.below(40) {
            0..3 => random.index(20_000),
            3..9 => random.index(6_000),
            _ => 32 + random.index(1_200),
        }
    }
}

/// Some kind of operation fails now and then, or once.
pub fn fail_something(disk: &SimDisk, random: &mut Random) {
    let kinds = [
        Operation::Open,
        Operation::Read,
        Operation::Write,
        Operation::Sync,
        Operation::Directory,
    ];
    let kind = kinds[random.index(kinds.len())];
    if random.one_in(2) {
        disk.fail(kind, 1 + random.below(200) as u32);
    } else {
        disk.fail_at(kind, random.below(30));
    }
}

/// The usual weights, or some requests far more often and others never.
fn draw_requests(random: &mut Random) -> Vec<(Request, u64)> {
    let usual = random.one_in(3);
    let draw = |(request, weight): (Request, u64)| {
        let times = if usual {
            1
        } else {
            [0, 1, 1, 5][random.index(4)]
        };
        (request, weight * times)
    };
    let drawn: Vec<_> = REQUESTS.into_iter().map(draw).collect();
    let delivers = |(request, weight): &(Request, u64)| *request == Request::Deliver && *weight > 0;
    // Without mail there is nothing to be lost.
    if drawn.iter().any(delivers) {
        drawn
    } else {
        REQUESTS.to_vec()
    }
}

fn draw_levels(random: &mut Random, synced: bool) -> SyncLevels {
    let of_all = |level| SyncLevels {
        store: level,
        envelope: level,
        message: level,
        database: level,
    };
    let levels = [SyncLevel::None, SyncLevel::Fdatasync, SyncLevel::Fsync];
    match random.below(20) {
        _ if synced => of_all(SyncLevel::Fdatasync),
        0..12 => of_all(SyncLevel::Fdatasync),
        12..15 => of_all(SyncLevel::Fsync),
        15..17 => of_all(SyncLevel::None),
        _ => SyncLevels {
            store: levels[random.index(3)],
            envelope: levels[random.index(3)],
            message: levels[random.index(3)],
            database: levels[random.index(3)],
        },
    }
}
