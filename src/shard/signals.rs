//! SIGTERM and SIGINT, as something the main thread can wait for.

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Iter;

/// The signals that end a server, from now on.
pub(super) struct Signals(Receiver<i32>);

impl Signals {
    /// Takes them over from their default, on a thread of its own.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(super) fn install() -> io::Result<Signals> {
        let mut signals = Iter::new([SIGTERM, SIGINT])?;
        let (sender, receiver) = channel();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if sender.send(signal).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Signals(receiver))
    }

    /// The name of the next signal, if one comes within `time`.
    pub(super) fn wait(&self, time: Duration) -> Option<&'static str> {
        match self.0.recv_timeout(time).ok()? {
            SIGINT => Some("SIGINT"),
            _ => Some("SIGTERM"),
        }
    }
}
