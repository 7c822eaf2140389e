//! `loadgen http`.

use std::sync::Arc;

use super::{Verdict, load, secure};
use crate::cli::Switch;
use crate::cli::http::Http;
use crate::dialogue::http::{self, HttpWork, Options};
use crate::report::Title;
use crate::run::Summary;
use crate::target::Target;
use crate::task::Task;

/// `http`.
///
/// # Errors
/// Flags that make no sense, files that cannot be written, a machine that cannot do it.
pub fn http(flags: &Http) -> Result<Verdict, String> {
    load::shown(&flags.asked(), |task| http_run(flags, task))
}

/// One run of `http`; nothing is shown.
fn http_run(flags: &Http, task: Task) -> Result<(Title, Summary), String> {
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
    let tls_flags = secure::implicit(flags.tls, &flags.certificates);
    let title = Title {
        command: "http",
        noun: "requests",
        items: "bytes of bodies",
        settings: format!(
            "{}, GET {}, {}{}{}",
            flags.target,
            flags.path,
            load::described(&flags.asked(), &task),
            if options.keep_alive {
                ""
            } else {
                ", one request each"
            },
            secure::described(&tls_flags),
        ),
    };
    let tls = secure::tls(&tls_flags, &flags.target)?;
    let make = |pace, _, recorder| HttpWork::new(options.clone(), pace, recorder);
    let (summary, _) =
        load::drive::<http::Http>(&flags.asked(), tls.as_ref(), title.noun, task, make)?;
    Ok((title, summary))
}
