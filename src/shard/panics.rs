//! What a panic does: within a session it ends that session, anywhere else the process.
//!
//! A panic in a shard's own state or in the store leaves something half done that the rest would
//! build on. Restarting recovers from that; going on might not. So it is reported and the process
//! aborts, which loses nothing that was acknowledged.

use std::cell::Cell;

thread_local! {
    static IN_SESSION: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with panics left to the caller, who catches them.
pub(super) fn in_session<T>(work: impl FnOnce() -> T) -> T {
    IN_SESSION.set(true);
    let result = work();
    IN_SESSION.set(false);
    result
}

/// Installs the rule for the whole process.
pub(super) fn install() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        if !IN_SESSION.get() {
            eprintln!("ringpost: a defect in the server itself; ending so that a restart recovers");
            std::process::abort();
        }
    }));
}
