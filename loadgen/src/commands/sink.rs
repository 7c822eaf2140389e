//! `loadgen sink`: a mail server that takes everything and keeps nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Verdict, write_json};
use crate::cli::scenario::SinkFlags;
use crate::sink::{Behaviour, Sink};

/// How often the end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `sink`.
///
/// # Errors
/// An address that is taken, a file that cannot be written.
pub fn sink(flags: &SinkFlags) -> Result<Verdict, String> {
    let over = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, over.clone())
            .map_err(|e| format!("signal handlers: {e}"))?;
    }
    let behaviour = Behaviour {
        delay: flags.delay,
        refuse_for: flags.refuse_for,
    };
    let sink = Sink::start(flags.listen, behaviour)?;
    crate::sayln!("listening on {}", sink.address);
    let began = Instant::now();
    let is_time = || flags.duration.is_some_and(|time| began.elapsed() >= time);
    while !over.load(Ordering::Relaxed) && !is_time() {
        std::thread::sleep(LOOK_EVERY);
    }
    crate::say::say(&sink.text());
    if let Some(path) = &flags.json {
        write_json(path, &sink.json())?;
    }
    Ok(sink.json()["corrupt"] == 0)
}
