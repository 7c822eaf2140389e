//! `loadgen imap`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::load::{self, Thread};
use super::{Verdict, domains, password, secure, users};
use crate::cli::Login;
use crate::cli::imap::{Auth, Imap, ImapLogin};
use crate::dialogue::imap::{self, ImapWork, Operation, Options};
use crate::ledger::Ledger;
use crate::message::{Builder, Content, Framing, Shape};
use crate::report::Title;
use crate::run::Summary;
use crate::task::Task;

/// `imap`.
///
/// # Errors
/// Flags that make no sense, files that cannot be written, a machine that cannot do it.
pub fn imap(flags: &Imap) -> Result<Verdict, String> {
    load::shown(&flags.asked(), |task| imap_run(flags, task))
}

/// One run of `imap`; nothing is shown.
fn imap_run(flags: &Imap, task: Task) -> Result<(Title, Summary), String> {
    if flags.ledger.is_some() && flags.mix.weight(Operation::Append) == 0 {
        return Err("--ledger notes what is appended, and --mix has no append".to_owned());
    }
    let pool = Arc::new(users(&flags.users)?);
    let run = task.run;
    // Each process begins with users of its own.
    let (first_user, _) = task.share_of(pool.len() as u64);
    let options = Arc::new(Options {
        login: login(&flags.login, &flags.imap_login, flags.tls.starttls, false)?,
        mix: flags.mix.clone(),
        commands_per_session: flags.commands_per_session,
        window: flags.window,
        run,
        sessions: AtomicU64::new(first_user),
    });
    let shape = Shape {
        framing: Framing::Chunk,
        sender: "loadgen@loadgen.invalid".to_owned(),
        domain: domains(&flags.users)[0].to_owned(),
    };
    // Tried here, so that a wrong size is told before anything happens.
    let content = Content::Made(flags.size.clone());
    let builder =
        Builder::new(&shape, &content, u64::from(run)).map_err(|why| format!("--size: {why}"))?;
    let title = Title {
        command: "imap",
        noun: "commands",
        items: "bodies fetched",
        settings: format!(
            "{}, run {run:08x}, {} users, {}, {}{}",
            flags.target,
            pool.len(),
            flags.mix,
            load::described(&flags.asked(), &task),
            secure::described(&flags.tls),
        ),
    };
    let tls = secure::tls(&flags.tls, &flags.target)?;
    let path = flags.ledger.as_deref();
    let ledger = path
        .and_then(|path| load::file_of(&task, path))
        .map(|path| Ledger::create(&path, &format!("imap {}", title.settings)))
        .transpose()?;
    let make = |pace, thread: Thread, recorder| {
        let seed = (u64::from(run) << 16) + thread.number;
        ImapWork::new(
            options.clone(),
            pace,
            pool.clone(),
            builder.with_seed(seed),
            recorder,
            ledger.as_ref().map(Ledger::writer),
            seed,
        )
    };
    let (summary, works) =
        load::drive::<imap::Imap>(&flags.asked(), tls.as_ref(), title.noun, task, make)?;
    // The last lines of the ledger are written here.
    drop(works);
    Ok((title, summary))
}

/// How IMAP sessions begin.
///
/// # Errors
/// What cannot be sent in a command.
pub fn login(
    flags: &Login,
    imap: &ImapLogin,
    starttls: bool,
    read_only: bool,
) -> Result<imap::Login, String> {
    let plain = imap.auth == Auth::Plain;
    // A quoted string is ASCII in IMAP4rev1; PLAIN carries everything.
    if !(plain || flags.password.is_ascii() && flags.user_pattern.is_ascii()) {
        return Err(
            "--password, --user-pattern: only --auth plain can send what is not ASCII".into(),
        );
    }
    if imap.mailbox.is_empty()
        || imap
            .mailbox
            .contains(|c: char| !c.is_ascii() || c.is_control())
    {
        return Err(format!(
            "--mailbox '{}': wanted is the name of a mailbox in ASCII (modified UTF-7 for the rest)",
            imap.mailbox
        ));
    }
    Ok(imap::Login {
        user_pattern: flags.user_pattern.clone(),
        password: password(&flags.password)?,
        plain,
        mailbox: imap.mailbox.clone(),
        read_only,
        starttls,
    })
}
