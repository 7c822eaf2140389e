//! Runs with and without TLS.

use std::sync::Arc;

use crate::cli::Switch;
use crate::cli::wire::{Certificates, Tls as Flags};
use crate::dialogue::secured::{Secured, SecuredWork, Upgrade};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::run::{self, Plan, Summary};
use crate::schedule::Schedule;
use crate::target::Target;
use crate::tls::{Start, Tls, Trust};

/// TLS as the flags want it; `None`: they want none.
///
/// # Errors
/// Names the flag or the file.
pub fn tls(flags: &Flags, target: &Target) -> Result<Option<Tls>, String> {
    let names = &flags.certificates;
    let start = match (flags.tls, flags.starttls) {
        (true, _) => Start::Implicit,
        (false, true) => Start::Command,
        (false, false) => {
            let named = names.tls_name.is_some() || names.tls_ca.is_some() || names.tls_insecure;
            return if named {
                Err(
                    "--tls-name, --tls-ca and --tls-insecure need --tls or --starttls (HTTP has only \
                     --tls)"
                        .to_owned(),
                )
            } else {
                Ok(None)
            };
        }
    };
    let name = names.tls_name.clone().or_else(|| target.server_name());
    let name = name.ok_or_else(|| {
        format!("{target} has no name that a certificate could be for: --tls-name has to give one")
    })?;
    let trust = match (&names.tls_ca, names.tls_insecure) {
        (_, true) => Trust::Anybody,
        (Some(path), false) => Trust::File(path),
        (None, false) => Trust::System,
    };
    Tls::new(start, &name, trust, names.tls_resume == Switch::On).map(Some)
}

/// TLS from the first byte, for protocols that know no other.
pub fn implicit(tls: bool, certificates: &Certificates) -> Flags {
    Flags {
        tls,
        starttls: false,
        certificates: certificates.clone(),
    }
}

/// What reports say of it; nothing where there is no TLS.
pub fn described(flags: &Flags) -> String {
    let how = match (flags.tls, flags.starttls) {
        (true, _) => ", TLS",
        (false, true) => ", STARTTLS",
        (false, false) => return String::new(),
    };
    let trust = if flags.certificates.tls_insecure {
        ", certificate not checked"
    } else {
        ""
    };
    let full = if flags.certificates.tls_resume == Switch::On {
        ""
    } else {
        ", nothing resumed"
    };
    format!("{how}{trust}{full}")
}

/// [`run::drive`], under TLS if there is any: a run without it pays nothing for it.
///
/// # Errors
/// As [`run::drive`].
pub fn drive<D>(
    plan: &Plan,
    schedule: &Arc<Schedule>,
    progress: Progress,
    tls: Option<&Tls>,
    make: impl Fn(usize, Recorder) -> Result<D::Work, String> + Sync,
) -> Result<(Summary, Vec<D::Work>), String>
where
    D: Upgrade,
    D::Work: Send,
{
    let Some(tls) = tls else {
        return run::drive::<D>(plan, schedule, progress, make);
    };
    let make = |thread, recorder| Ok(SecuredWork::new(make(thread, recorder)?, tls.client()));
    let (summary, works) = run::drive::<Secured<D>>(plan, schedule, progress, make)?;
    Ok((summary, works.into_iter().map(|work| work.inner).collect()))
}
