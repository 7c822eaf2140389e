//! How envelopes and results look in the log.

use std::borrow::Cow;
use std::fmt;

use crate::mail::{ForwardPath, Reply};

/// Forward paths shown one by one up to this many; of more, the rest is counted.
const PATHS_SHOWN_MAX: usize = 16;

/// Shows forward paths as `a@x,b@x`.
pub(crate) struct Paths<'a>(pub(crate) &'a [ForwardPath]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.0.iter().take(PATHS_SHOWN_MAX).enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{path}")?;
        }
        match self.0.len().saturating_sub(PATHS_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, ",+{more} more"),
        }
    }
}

/// `delivered`, the one refusal, or how many of each.
pub(crate) fn summary(replies: &[Reply]) -> Cow<'static, str> {
    let refused: Vec<&Reply> = replies.iter().filter(|reply| reply.code != 250).collect();
    match refused.first() {
        None => Cow::Borrowed("delivered"),
        Some(first) if refused.len() == replies.len() => {
            Cow::Owned(format!("refused: {} {}", first.code, first.text))
        }
        Some(first) => Cow::Owned(format!(
            "delivered {}, refused {}: {} {}",
            replies.len() - refused.len(),
            refused.len(),
            first.code,
            first.text
        )),
    }
}
