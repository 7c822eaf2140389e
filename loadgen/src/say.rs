//! Standard output, for whoever still reads it.
//!
//! Guarantees: a reader that has gone (`loadgen compare A B | head`) ends nothing: what is written
//! to files is written all the same.

use std::io::Write as _;

/// Writes `text` to standard output as it stands.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever does not read it does not miss it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line to standard output, made as by `println!`.
#[macro_export]
macro_rules! sayln {
    ($($words:tt)*) => {
        $crate::say::say(&format!("{}\n", format_args!($($words)*)))
    };
}
