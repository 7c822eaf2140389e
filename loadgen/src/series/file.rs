//! A run described in a TOML file.
//!
//! ```toml
//! command = "smtp"              # a subcommand of loadgen
//! target = "127.0.0.1:2525"     # its flags, by their names
//! connections = 50
//! pipelining = "off"
//!
//! [server]                      # optional: started anew for each run
//! start = '"$BIN/ringpost" serve --data "$DATA" --smtp 127.0.0.1:2525'
//! ready = "127.0.0.1:2525"
//! setup = '"$BIN/ringpost" account generate --data "$DATA" --users 1000 --password pw'
//! stop = "TERM"
//! ```
//!
//! Guarantees: flags are declared once, in `cli`: keys are turned into arguments and clap checks
//! them. What is wrong is told with file, line and key, and with what is allowed.
//! Does not know: what any flag means.

use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser as _};
use rustix::process::Signal;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::Cli;
use crate::target::Target;

/// Bytes of a file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Flags that belong to a series, not to a file: it gives each run its own.
const OF_THE_SERIES: [&str; 2] = ["results", "label"];
/// Subcommands that make load.
const NO_LOAD: [&str; 4] = ["help", "compare", "run", "verify"];
/// Signals that end a server.
const SIGNALS: [(&str, Signal); 5] = [
    ("TERM", Signal::TERM),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("HUP", Signal::HUP),
    ("KILL", Signal::KILL),
];

/// A described run.
#[derive(Debug, Clone)]
pub struct RunFile {
    /// The file's name without its ending: what its runs are called.
    pub name: String,
    /// Subcommand and flags.
    pub arguments: Vec<String>,
    /// The server to be started for each run.
    pub server: Option<ServerFile>,
    /// Flags that the file sets.
    keys: Vec<String>,
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct ServerFile {
    /// A simple command of the shell.
    pub start: String,
    /// The server is up when it takes connections here.
    pub ready: Target,
    /// A command of the shell that is run when it is up.
    pub setup: Option<String>,
    /// Ends it.
    pub stop: Signal,
}

/// What is wrong and where.
struct Wrong<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Wrong<'_> {
    fn at(&self, offset: usize, why: &str) -> String {
        let before = self.text.get(..offset).unwrap_or(self.text);
        format!(
            "{}:{}: {why}",
            self.path.display(),
            before.matches('\n').count() + 1
        )
    }
}

impl RunFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Names file, line and key.
    pub fn read(path: &Path) -> Result<RunFile, String> {
        let wrong = |e: std::io::Error| format!("{}: {e}", path.display());
        let bytes = std::fs::metadata(path).map_err(wrong)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(format!("{}: {bytes} bytes are too many", path.display()));
        }
        let text = std::fs::read_to_string(path).map_err(wrong)?;
        RunFile::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<RunFile, String> {
        let wrong = Wrong { path, text };
        let table = DeTable::parse(text).map_err(|error| {
            let why = error.message().trim().replace('\n', "; ");
            wrong.at(error.span().map_or(0, |span| span.start), &why)
        })?;
        let mut cli = Cli::command();
        cli.build();
        let command = command(&wrong, table.get_ref(), &cli)?;
        // It is there: `command` found it.
        let known = cli.find_subcommand(&command).unwrap_or(&cli);
        let mut arguments = vec![command.clone()];
        let mut lines: Vec<(String, usize)> = Vec::new();
        let mut server = None;
        // By their place in the file, so that the first error told is the first in the file.
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            match name {
                "command" => {}
                "server" => server = Some(server_file(&wrong, key.span().start, value)?),
                _ => {
                    arguments.extend(flag(&wrong, known, name, key.span().start, value)?);
                    lines.push((name.to_owned(), key.span().start));
                }
            }
        }
        check(&wrong, &arguments, &lines)?;
        let name = path.file_stem().unwrap_or(path.as_os_str());
        Ok(RunFile {
            name: name.to_string_lossy().into_owned(),
            arguments,
            server,
            keys: lines.into_iter().map(|(name, _)| name).collect(),
        })
    }

    /// Whether the file sets this flag.
    pub fn sets(&self, flag: &str) -> bool {
        self.keys.iter().any(|key| key == flag)
    }
}

fn command(wrong: &Wrong, table: &DeTable, cli: &clap::Command) -> Result<String, String> {
    let known = cli.get_subcommands().map(clap::Command::get_name);
    let known: Vec<&str> = known.filter(|name| !NO_LOAD.contains(name)).collect();
    let allowed = format!("command = \"...\" is wanted, one of {}", known.join(", "));
    let entry = table.iter().find(|(key, _)| key.get_ref() == "command");
    let Some((key, value)) = entry else {
        return Err(wrong.at(0, &allowed));
    };
    match value.get_ref() {
        DeValue::String(name) if known.contains(&name.as_ref()) => Ok(name.clone().into_owned()),
        _ => Err(wrong.at(key.span().start, &allowed)),
    }
}

/// The arguments that a key stands for.
fn flag(
    wrong: &Wrong,
    known: &clap::Command,
    name: &str,
    at: usize,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<String>, String> {
    if OF_THE_SERIES.contains(&name) {
        let why = format!("{name}: loadgen run gives each run its own; it cannot be set here");
        return Err(wrong.at(at, &why));
    }
    let flags = || known.get_arguments().filter(|arg| arg.get_long().is_some());
    let Some(arg) = flags().find(|arg| arg.get_long() == Some(name)) else {
        let mut allowed: Vec<&str> = flags()
            .filter_map(clap::Arg::get_long)
            .filter(|name| !OF_THE_SERIES.contains(name) && !["help", "version"].contains(name))
            .collect();
        allowed.sort_unstable();
        let why = format!(
            "{name}: loadgen {} has no such flag; allowed are command, [server] and {}",
            known.get_name(),
            allowed.join(", ")
        );
        return Err(wrong.at(at, &why));
    };
    let takes_value = arg.get_action().takes_values();
    let one = |value: &Spanned<DeValue<'_>>| -> Result<Option<String>, String> {
        let at = value.span().start;
        let text = match value.get_ref() {
            DeValue::Boolean(on) if !takes_value => return Ok(on.then(|| format!("--{name}"))),
            DeValue::Boolean(on) => on.to_string(),
            DeValue::String(text) if takes_value => text.clone().into_owned(),
            DeValue::Integer(number) if takes_value => number.to_string(),
            DeValue::Float(number) if takes_value => number.to_string(),
            _ if takes_value => {
                return Err(wrong.at(at, &format!("{name}: a text or a number is wanted")));
            }
            _ => return Err(wrong.at(at, &format!("{name}: true or false is wanted"))),
        };
        Ok(Some(format!("--{name}={text}")))
    };
    match value.get_ref() {
        DeValue::Array(items) if takes_value => items
            .iter()
            .filter_map(|item| one(item).transpose())
            .collect(),
        _ => Ok(one(value)?.into_iter().collect()),
    }
}

/// Lets clap see the arguments, and puts the place of the key to what it says.
fn check(wrong: &Wrong, arguments: &[String], lines: &[(String, usize)]) -> Result<(), String> {
    let line = ["loadgen"]
        .into_iter()
        .chain(arguments.iter().map(String::as_str));
    // A series gives each run a folder; some flags want one.
    let Err(error) = Cli::try_parse_from(line.chain(["--results=folder"])) else {
        return Ok(());
    };
    let text = error.to_string();
    let text = text.split("\n\nUsage").next().unwrap_or(&text);
    let text = text.split("\n\nFor more").next().unwrap_or(text);
    let text = text.trim().trim_start_matches("error: ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let named = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(arg)) => arg.clone(),
        Some(ContextValue::Strings(args)) => args.first().cloned().unwrap_or_default(),
        _ => String::new(),
    };
    let flag = named
        .split([' ', '='])
        .next()
        .unwrap_or_default()
        .trim_start_matches('-');
    match lines.iter().find(|(name, _)| name == flag) {
        Some((name, at)) => Err(wrong.at(*at, &format!("{name}: {text}"))),
        None => Err(format!("{}: {text}", wrong.path.display())),
    }
}

fn server_file(
    wrong: &Wrong,
    at: usize,
    value: &Spanned<DeValue<'_>>,
) -> Result<ServerFile, String> {
    const KEYS: &str = "start, ready, setup, stop";
    let DeValue::Table(table) = value.get_ref() else {
        return Err(wrong.at(
            at,
            &format!("server: a table [server] with {KEYS} is wanted"),
        ));
    };
    let (mut start, mut ready, mut setup, mut stop) = (None, None, None, Signal::TERM);
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let told = |why: String| wrong.at(key.span().start, &format!("server.{name}: {why}"));
        if !["start", "ready", "setup", "stop"].contains(&name) {
            return Err(told(format!("there is no such key; allowed are {KEYS}")));
        }
        let DeValue::String(text) = value.get_ref() else {
            return Err(told("a text is wanted".to_owned()));
        };
        let text = text.clone().into_owned();
        match name {
            "start" => start = Some(text),
            "ready" => ready = Some(text.parse::<Target>().map_err(told)?),
            "setup" => setup = Some(text),
            _ => {
                let known = SIGNALS
                    .iter()
                    .find(|(name, _)| *name == text.trim_start_matches("SIG"));
                let (_, signal) = known.ok_or_else(|| {
                    let names = SIGNALS.map(|(name, _)| name);
                    told(format!(
                        "'{text}' ends no server; allowed are {}",
                        names.join(", ")
                    ))
                })?;
                stop = *signal;
            }
        }
    }
    let missing = |name: &str| {
        wrong.at(
            at,
            &format!("server.{name} is missing; wanted are start and ready"),
        )
    };
    Ok(ServerFile {
        start: start.ok_or_else(|| missing("start"))?,
        ready: ready.ok_or_else(|| missing("ready"))?,
        setup,
        stop,
    })
}

/// Reads all files of a series.
///
/// # Errors
/// As for [`RunFile::read`], and when two have the same name.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<RunFile>, String> {
    let mut files: Vec<RunFile> = Vec::new();
    for path in paths {
        let file = RunFile::read(path)?;
        if files.iter().any(|other| other.name == file.name) {
            return Err(format!(
                "{}: another file is called {} as well; runs are named by their files",
                path.display(),
                file.name
            ));
        }
        files.push(file);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RunFile, String> {
        RunFile::parse(Path::new("dir/a.toml"), text)
    }

    #[test]
    fn keys_become_flags() {
        let text = "command = \"smtp\"\ntarget = \"127.0.0.1:25\"\nconnections = 7\nchunking = true\n\
                    stop-on-disconnect = false\nsample-pid = [1, 2]\n[server]\nstart = \"x\"\n\
                    ready = \"127.0.0.1:25\"\nstop = \"SIGKILL\"\n";
        let file = parse(text).expect("read");
        assert_eq!(file.name, "a");
        assert_eq!(
            file.arguments,
            [
                "smtp",
                "--target=127.0.0.1:25",
                "--connections=7",
                "--chunking",
                "--sample-pid=1",
                "--sample-pid=2"
            ]
        );
        assert!(file.sets("target") && !file.sets("size"));
        assert_eq!(file.server.expect("a server").stop, Signal::KILL);
        let pop3 =
            "command = \"pop3\"\ntarget = \"127.0.0.1:25\"\npassword = \"-x\"\nlist = false\n";
        assert_eq!(
            parse(pop3).expect("read").arguments[2..],
            ["--password=-x", "--list=false"]
        );
    }

    #[test]
    fn the_examples_are_right() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/runfiles");
        let entries = std::fs::read_dir(&dir).expect("a folder");
        let paths: Vec<PathBuf> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        let files = read_all(&paths).expect("files that are right");
        assert!(files.len() >= 3 && files.iter().all(|file| file.server.is_some()));
    }

    #[test]
    fn the_example_of_the_help_is_right() {
        let text: String = crate::cli::RUN_FILE
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .map(|line| format!("{line}\n"))
            .collect();
        let file = parse(&text).expect("read");
        assert!(file.server.is_some() && file.sets("warmup"), "{text}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let begin = "command = \"smtp\"\ntarget = \"127.0.0.1:25\"\n";
        for (more, wanted) in [
            ("size = \"4X\"\n", "dir/a.toml:3: size: invalid value '4X'"),
            (
                "\nsise = 3\n",
                "dir/a.toml:4: sise: loadgen smtp has no such flag; allowed are",
            ),
            (
                "connections = 0\n",
                "dir/a.toml:3: connections: invalid value '0'",
            ),
            (
                "chunking = \"yes\"\n",
                "dir/a.toml:3: chunking: true or false",
            ),
            ("size = {}\n", "dir/a.toml:3: size: a text or a number"),
            (
                "results = \"x\"\n",
                "dir/a.toml:3: results: loadgen run gives",
            ),
            ("size = 3\nsize = 4\n", "dir/a.toml:4: "),
            (
                "[server]\nstart = \"x\"\n",
                "dir/a.toml:3: server.ready is missing",
            ),
            (
                "[server]\nstrat = \"x\"\n",
                "dir/a.toml:4: server.strat: there is no such key; allowed are start,",
            ),
            (
                "[server]\nstart = 3\n",
                "dir/a.toml:4: server.start: a text",
            ),
            (
                "[server]\nstop = \"USR1\"\n",
                "'USR1' ends no server; allowed are TERM,",
            ),
            (
                "[server]\nready = \"here\"\n",
                "dir/a.toml:4: server.ready: ",
            ),
            ("server = 3\n", "dir/a.toml:3: server: a table"),
        ] {
            let why = parse(&format!("{begin}{more}")).expect_err(more);
            assert!(why.contains(wanted), "{why}");
        }
        for (text, wanted) in [
            (
                "command = \"smtp\"\n",
                "dir/a.toml: the following required arguments were not provided: --target",
            ),
            (
                "command = \"run\"\n",
                "dir/a.toml:1: command = \"...\" is wanted, one of",
            ),
            ("target = \"x\"\n", "dir/a.toml:1: command = "),
            ("command = \n", "dir/a.toml:1: "),
        ] {
            let why = parse(text).expect_err(text);
            assert!(why.contains(wanted), "{why}");
        }
    }
}
