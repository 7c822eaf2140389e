//! What each subcommand does: asks the running server by its control socket or, while none runs,
//! opens the store itself.
//!
//! Output is for people, on stdout; progress and errors go to stderr, each error one line that begins
//! with `ringpost:`. Exit code 0: done; 1: failed; 2: wrong usage, nothing was done.

mod account;
mod cli;
mod import;
mod office;
mod secret;
mod site;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::FromArgMatches;

use crate::config::{self, ConfigError, Effective};
use crate::{directory::password, shard};
use cli::{AliasCommand, CatchAllCommand, Command, ConfigCommand, DomainCommand};

/// Why a command ends without success.
#[derive(Debug)]
enum Failure {
    /// Said to the operator; exit code 1.
    Failed(String),
    /// Said to the operator; exit code 2.
    Usage(String),
    /// Nobody reads our output any more.
    Unheard,
}

impl Failure {
    fn new(error: impl Display) -> Failure {
        Failure::Failed(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::Unheard
        } else {
            Failure::new(error)
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        if error.is_usage() {
            Failure::Usage(error.to_string())
        } else {
            Failure::new(error)
        }
    }
}

impl From<password::PasswordError> for Failure {
    fn from(error: password::PasswordError) -> Failure {
        Failure::new(error)
    }
}

/// Runs the command line; the exit code is 0, 1 (failed) or 2 (wrong usage).
pub fn run() -> ExitCode {
    let command = match cli::command().try_get_matches() {
        Ok(matches) => match Command::from_arg_matches(&matches) {
            Ok(command) => command,
            Err(error) => return clap_says(&error),
        },
        Err(error) => return clap_says(&error),
    };
    match carry_out(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => {
            complain(&message);
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            complain(&message);
            ExitCode::from(2)
        }
        Err(Failure::Unheard) => ExitCode::from(1),
    }
}

/// clap has its own words, and prints help as an error that is none.
fn clap_says(error: &clap::Error) -> ExitCode {
    // Where even stderr is gone there is nobody to tell.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "ringpost: {message}");
}

fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(settings) => {
            let config = config::load(&settings.0)?.config;
            shard::serve(config).map_err(Failure::new)
        }
        Command::Config(ConfigCommand::Show(settings)) => {
            let effective = config::load(&settings.0)?;
            io::stdout().write_all(effective.show().as_bytes())?;
            Ok(())
        }
        Command::Domain(command) => domain(command),
        Command::Alias(command) => alias(command),
        Command::Catchall(command) => catch_all(command),
        Command::Postmaster { address, settings } => {
            let effective = config::load(&settings.0)?;
            office::run(effective, async move |mut office| {
                site::postmaster(&mut office, address).await
            })
        }
        Command::Account(command) => account::carry_out(command),
        Command::Hashdir { address, settings } => {
            let effective = existing(&settings)?;
            office::run(effective, async move |mut office| {
                site::hashdir(&mut office, &address).await
            })
        }
        Command::Expire { now: _, settings } => {
            let effective = existing(&settings)?;
            office::run(effective, async move |mut office| {
                site::expire(&mut office).await
            })
        }
        Command::Status(settings) => {
            let effective = existing(&settings)?;
            office::status(&effective.config)
        }
    }
}

fn domain(command: DomainCommand) -> Result<(), Failure> {
    match command {
        DomainCommand::Add { domain, settings } => {
            let effective = config::load(&settings.0)?;
            office::run(effective, async move |mut office| {
                site::domain_add(&mut office, domain).await
            })
        }
        DomainCommand::List(settings) => {
            office::run(existing(&settings)?, async move |mut office| {
                site::domain_list(&mut office).await
            })
        }
        DomainCommand::Remove { domain, settings } => {
            office::run(existing(&settings)?, async move |mut office| {
                site::domain_remove(&mut office, domain).await
            })
        }
    }
}

fn alias(command: AliasCommand) -> Result<(), Failure> {
    match command {
        AliasCommand::Add {
            address,
            targets,
            settings,
        } => office::run(existing(&settings)?, async move |mut office| {
            site::alias_add(&mut office, &address, &targets).await
        }),
        AliasCommand::List { domain, settings } => {
            office::run(existing(&settings)?, async move |mut office| {
                site::alias_list(&mut office, domain).await
            })
        }
        AliasCommand::Remove { address, settings } => {
            office::run(existing(&settings)?, async move |mut office| {
                site::alias_remove(&mut office, &address).await
            })
        }
    }
}

fn catch_all(command: CatchAllCommand) -> Result<(), Failure> {
    match command {
        CatchAllCommand::Set {
            domain,
            address,
            settings,
        } => office::run(existing(&settings)?, async move |mut office| {
            site::catch_all_set(&mut office, domain, &address).await
        }),
        CatchAllCommand::Clear { domain, settings } => {
            office::run(existing(&settings)?, async move |mut office| {
                site::catch_all_clear(&mut office, domain).await
            })
        }
    }
}

/// The settings of a command that needs a store: it makes none.
fn existing(settings: &cli::StoreSettings) -> Result<Effective, Failure> {
    let effective = config::load(&settings.0)?;
    let data = &effective.config.data;
    if data.join("store").exists() {
        Ok(effective)
    } else {
        Err(Failure::Failed(format!(
            "{}: there is no store here; 'ringpost serve' or 'ringpost domain add' makes one, --data DIR names another",
            data.display()
        )))
    }
}
