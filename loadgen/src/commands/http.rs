//! `loadgen http`.

use std::sync::Arc;

use super::{Verdict, finish, prepare};
use crate::cli::Switch;
use crate::cli::http::Http;
use crate::dialogue::http::{self, HttpWork, Options};
use crate::report::Title;
use crate::run;
use crate::schedule::Pace;
use crate::target::Target;

/// `http`.
///
/// # Errors
/// Flags that make no sense, files that cannot be written, a machine that cannot do it.
pub fn http(flags: &Http) -> Result<Verdict, String> {
    let fine = |text: &str| !text.chars().any(char::is_control);
    if !flags.path.starts_with('/') || !fine(&flags.path) || flags.path.contains(' ') {
        return Err(format!(
            "--path '{}': wanted is a path that begins with a slash, without blanks",
            flags.path
        ));
    }
    for field in &flags.header {
        if !fine(field) || !field.contains(':') {
            return Err(format!("--header '{field}': wanted is NAME: VALUE"));
        }
    }
    let host = match (&flags.host, &flags.target) {
        (Some(host), _) if fine(host) => host.clone(),
        (Some(host), _) => return Err(format!("--host '{host}': wanted is a name")),
        (None, Target::Unix(_)) => "localhost".to_owned(),
        (None, target) => target.to_string(),
    };
    let options = Arc::new(Options {
        path: flags.path.clone(),
        host,
        fields: flags
            .header
            .iter()
            .map(|field| format!("{field}\r\n"))
            .collect(),
        keep_alive: flags.keep_alive == Switch::On,
        status: flags.status,
        body_bytes: flags.body_bytes,
    });
    let title = Title {
        command: "http",
        noun: "requests",
        items: "bytes of bodies",
        settings: format!(
            "{}, GET {}, {} connections{}",
            flags.target,
            flags.path,
            flags.run.connections,
            if options.keep_alive {
                ""
            } else {
                ", one request each"
            },
        ),
    };
    let (plan, schedule, progress) =
        prepare(&flags.run, &flags.common, flags.target.clone(), title.noun)?;
    let schedule = Arc::new(schedule);
    let (summary, _) = run::drive::<http::Http>(&plan, &schedule, progress, |thread, recorder| {
        Ok(HttpWork::new(
            options.clone(),
            Pace::new(schedule.clone(), thread),
            recorder,
        ))
    })?;
    finish(&title, &summary, &flags.common)
}
