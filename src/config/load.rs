//! From flags and file to a [`Config`]: which source wins, what is wrong with it, where it came from.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches};

use super::Config;
use super::field::{Field, show_duration};
use super::file::read_file;
use super::table::{SETTINGS, Setting, Standard, blank};

/// Name of the one flag that is not a setting.
const CONFIG: &str = "config";

/// A configuration, and for each setting where its value came from.
#[derive(Debug, Clone)]
pub struct Effective {
    /// The settings.
    pub config: Config,
    /// In the order of the table.
    origins: Vec<Origin>,
}

/// Where the value of a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// Nobody set it: it follows this other setting.
    As(&'static str),
    /// A line of the file, counted from 1.
    File(PathBuf, usize),
    /// A flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::As(name) => write!(f, "as {name}"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Flag => f.write_str("flag"),
        }
    }
}

impl Effective {
    /// Where the setting of this name got its value from.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        let index = SETTINGS.iter().position(|s| s.name == name)?;
        self.origins.get(index)
    }

    /// Every setting with its value and its origin, one a line. The text is a configuration file
    /// that sets the same.
    pub fn show(&self) -> String {
        let lines: Vec<(String, &Origin)> = SETTINGS
            .iter()
            .zip(&self.origins)
            .map(|(setting, origin)| {
                let line = match setting.field.show(&self.config) {
                    Some(value) => format!("{} = {value}", setting.name),
                    None => match setting.default {
                        Standard::Unset(instead) => {
                            format!("# {} is not set: {instead}", setting.name)
                        }
                        _ => format!("# {} is not set", setting.name),
                    },
                };
                (line, origin)
            })
            .collect();
        let width = lines
            .iter()
            .map(|(line, _)| line.chars().count())
            .filter(|w| *w < 60)
            .max()
            .unwrap_or(0);
        lines
            .iter()
            .map(|(line, origin)| format!("{line:width$}  # {origin}\n"))
            .collect()
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: cannot read the configuration file: {source}", path = path.display())]
    Unreadable {
        /// Given with `--config`.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of the file is wrong.
    #[error("{path}:{line}: {problem}", path = path.display())]
    File {
        /// Given with `--config`.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Names the key and what is allowed.
        problem: String,
    },
    /// A flag is wrong.
    #[error("--{problem}")]
    Flag {
        /// Begins with the flag's name.
        problem: String,
    },
    /// The command line is wrong; the text is clap's.
    #[error("{0}")]
    Usage(#[from] clap::Error),
}

impl ConfigError {
    /// The command line is at fault: exit code 2.
    pub fn is_usage(&self) -> bool {
        matches!(self, ConfigError::Flag { .. } | ConfigError::Usage(_))
    }
}

/// All flags: every setting, and `--config`.
pub fn flags() -> Vec<Arg> {
    let mut list = vec![config_flag()];
    list.extend(SETTINGS.iter().map(flag));
    list
}

/// `--config` and the flags of these settings; names that no setting has are passed over.
pub fn flags_named(names: &[&str]) -> Vec<Arg> {
    let mut list = vec![config_flag()];
    list.extend(
        SETTINGS
            .iter()
            .filter(|s| names.contains(&s.name))
            .map(flag),
    );
    list
}

fn config_flag() -> Arg {
    Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .help("Read settings from this TOML file; its keys are the names of the flags")
        .help_heading("General")
        .value_parser(clap::value_parser!(PathBuf))
}

fn flag(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .help(help(setting))
        .help_heading(setting.group);
    if matches!(setting.field, Field::Switch(_)) {
        return arg.action(ArgAction::SetTrue);
    }
    // Every value is kept as text: the table's own check has the better errors.
    arg.value_name(setting.field.placeholder())
        .value_parser(NonEmptyStringValueParser::new())
        .action(if setting.field.repeats() {
            ArgAction::Append
        } else {
            ArgAction::Set
        })
}

/// The doc with unit, default, the documents' default, requirement.
fn help(setting: &Setting) -> String {
    let mut notes = Vec::new();
    match setting.default {
        Standard::Texts([]) => {}
        Standard::Texts(texts) if matches!(setting.field, Field::Switch(_)) => {
            debug_assert_eq!(texts, ["false"]);
        }
        Standard::Texts(texts) => {
            let space = if setting.field.unit().is_empty() {
                ""
            } else {
                " "
            };
            notes.push(format!(
                "default: {}{space}{}",
                texts.join(", "),
                setting.field.unit()
            ));
        }
        Standard::As(name) => notes.push(format!("default: as --{name}")),
        Standard::Found(text, _) | Standard::Unset(text) => notes.push(format!("default: {text}")),
    }
    if let Field::Duration {
        floor: Some(floor), ..
    } = setting.field
    {
        notes.push(format!("at least {}", show_duration(floor)));
    }
    if !setting.was.is_empty() {
        notes.push(format!("the documents' default: {}", setting.was));
    }
    if setting.field.repeats() {
        notes.push("may be repeated".to_owned());
    }
    let source = if setting.source.is_empty() {
        String::new()
    } else {
        format!(" [{}]", setting.source)
    };
    if notes.is_empty() {
        format!("{}{source}", setting.doc)
    } else {
        format!("{} ({}){source}", setting.doc, notes.join("; "))
    }
}

/// Reads flags alone, as `ringpost serve` would; without the program's name. For tests and tools.
///
/// # Errors
/// What is wrong with them.
pub fn from_args<A: Into<OsString> + Clone>(
    args: impl IntoIterator<Item = A>,
) -> Result<Effective, ConfigError> {
    let matches = clap::Command::new("ringpost")
        .no_binary_name(true)
        .args(flags())
        .try_get_matches_from(args)?;
    load(&matches)
}

pub(super) fn defaults() -> Config {
    let mut config = blank();
    for setting in SETTINGS {
        set_default(setting, &mut config);
    }
    config
}

/// The effective settings: a flag beats the file that `--config` names, the file beats the default.
/// A flag that the command does not have counts as not given.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(matches: &ArgMatches) -> Result<Effective, ConfigError> {
    let path = matches.try_get_one::<PathBuf>(CONFIG).ok().flatten();
    let entries = match path {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
                path: path.clone(),
                source,
            })?;
            read_file(path, &text)?
        }
        None => Vec::new(),
    };
    let file = path.map_or(Path::new(""), PathBuf::as_path);
    let mut config = blank();
    let mut origins = Vec::with_capacity(SETTINGS.len());
    // The file is checked as a whole, also where a flag overrules it.
    for entry in &entries {
        apply(entry.setting, &mut config, &entry.texts(), |index| {
            Place::File(file, entry.values[index].1)
        })?;
    }
    for setting in SETTINGS {
        let entry = entries.iter().find(|e| e.setting.name == setting.name);
        let given = given(matches, setting);
        let origin = if let Some(texts) = given {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            apply(setting, &mut config, &texts, |_| Place::Flag)?;
            Origin::Flag
        } else if let Some(entry) = entry {
            Origin::File(file.to_owned(), entry.line)
        } else {
            set_default(setting, &mut config)
        };
        origins.push(origin);
    }
    let effective = Effective { config, origins };
    check(&effective)?;
    Ok(effective)
}

/// The texts of a flag, where it was given.
fn given(matches: &ArgMatches, setting: &Setting) -> Option<Vec<String>> {
    if matches!(setting.field, Field::Switch(_)) {
        let on = matches.try_get_one::<bool>(setting.name).ok().flatten();
        return on.filter(|on| **on).map(|_| vec!["true".to_owned()]);
    }
    let values = matches
        .try_get_many::<String>(setting.name)
        .ok()
        .flatten()?;
    Some(values.cloned().collect())
}

fn set_default(setting: &Setting, config: &mut Config) -> Origin {
    let (texts, origin) = match setting.default {
        Standard::Texts(texts) => (
            texts.iter().map(|t| (*t).to_owned()).collect(),
            Origin::Default,
        ),
        Standard::Found(_, find) => (vec![find()], Origin::Default),
        Standard::Unset(_) => (Vec::new(), Origin::Default),
        // The setting it follows stands earlier in the table and has its value by now.
        Standard::As(name) => {
            let other = SETTINGS.iter().find(|s| s.name == name);
            let text = other.and_then(|o| o.field.show(config)).unwrap_or_default();
            (vec![text], Origin::As(name))
        }
    };
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let fits = setting.field.set(config, &texts).is_ok();
    debug_assert!(fits, "the default of {} passes its own check", setting.name);
    origin
}

/// Where a text stands, for errors.
enum Place<'a> {
    Flag,
    File(&'a Path, usize),
}

impl Place<'_> {
    fn error(&self, problem: String) -> ConfigError {
        match self {
            Place::Flag => ConfigError::Flag { problem },
            Place::File(path, line) => ConfigError::File {
                path: path.to_path_buf(),
                line: *line,
                problem,
            },
        }
    }
}

fn apply<'a>(
    setting: &Setting,
    config: &mut Config,
    texts: &[&str],
    place: impl Fn(usize) -> Place<'a>,
) -> Result<(), ConfigError> {
    setting.field.set(config, texts).map_err(|bad| {
        let text = texts.get(bad.index).copied().unwrap_or_default();
        let reason = bad.reason.map(|r| format!(" ({r})")).unwrap_or_default();
        place(bad.index).error(format!(
            "{}: {text:?} is not allowed{reason}: {}",
            setting.name,
            setting.field.allowed()
        ))
    })
}

/// What no single setting can check by itself.
fn check(effective: &Effective) -> Result<(), ConfigError> {
    let config = &effective.config;
    let error = |setting: &Setting, origin: &Origin, problem: String| {
        let problem = format!("{}: {problem}", setting.name);
        match origin {
            Origin::File(path, line) => Place::File(path, *line).error(problem),
            Origin::Default | Origin::As(_) | Origin::Flag => Place::Flag.error(problem),
        }
    };
    let mut taken: Vec<(String, &str)> = Vec::new();
    for (setting, origin) in SETTINGS.iter().zip(&effective.origins) {
        match &setting.field {
            Field::Duration {
                floor: Some(floor),
                at,
                ..
            } => {
                let time = *at(&mut config.clone());
                if time < *floor && !config.allow_short_timeouts {
                    let problem = format!(
                        "{} is shorter than the {} that the protocol asks for; --allow-short-timeouts permits it",
                        show_duration(time),
                        show_duration(*floor)
                    );
                    return Err(error(setting, origin, problem));
                }
            }
            Field::Listen(at) => {
                for address in at(&mut config.clone()).iter() {
                    let text = address.to_string();
                    if address.is_any_port() {
                        continue;
                    }
                    if let Some((_, other)) = taken.iter().find(|(t, _)| *t == text) {
                        let problem = format!("{text} is taken by {other} already");
                        return Err(error(setting, origin, problem));
                    }
                    taken.push((text, setting.name));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
