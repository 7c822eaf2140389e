//! The types a setting can have: how each is read, checked, shown and described.
//!
//! Everything is read from text, whether it comes from a flag or from the file, so that both obey
//! one check. What [`Field::show`] prints reads back as the same value.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::{Config, ListenAddress, Processors, SyncLevel, processors};
use crate::limits;

/// Which type a setting has, and where in [`Config`] it lives.
pub(super) enum Field {
    /// A path of a file or directory.
    Path(fn(&mut Config) -> &mut PathBuf),
    /// Addresses to listen on; the flag repeats, the key is an array.
    Listen(fn(&mut Config) -> &mut Vec<ListenAddress>),
    /// Domain names; the flag repeats, the key is an array.
    Domains(fn(&mut Config) -> &mut Vec<String>),
    /// One domain name, or nothing.
    OptionalDomain(fn(&mut Config) -> &mut Option<String>),
    /// One host name.
    Hostname(fn(&mut Config) -> &mut String),
    /// `all`, `LIST` or `count:N`.
    Processors(fn(&mut Config) -> &mut Processors),
    /// 0, 1 or 2.
    Level(fn(&mut Config) -> &mut SyncLevel),
    /// A whole number of something.
    Number {
        range: RangeInclusive<u64>,
        unit: &'static str,
        set: fn(&mut Config, u64),
        get: fn(&Config) -> u64,
    },
    /// A time with its unit. Below `floor` only with `--allow-short-timeouts` [N17].
    Duration {
        range: RangeInclusive<Duration>,
        floor: Option<Duration>,
        at: fn(&mut Config) -> &mut Duration,
    },
    /// An amount of bytes.
    Bytes {
        range: RangeInclusive<u64>,
        at: fn(&mut Config) -> &mut u64,
    },
    /// A filter of `tracing`.
    LogFilter(fn(&mut Config) -> &mut String),
    /// On or off; the flag takes no value.
    Switch(fn(&mut Config) -> &mut bool),
}

impl Field {
    /// The flag may be given several times, and the key may be an array.
    pub(super) fn repeats(&self) -> bool {
        matches!(self, Field::Listen(_) | Field::Domains(_))
    }

    /// What stands for the value in the help.
    pub(super) fn placeholder(&self) -> &'static str {
        match self {
            Field::Path(_) => "DIR",
            Field::Listen(_) => "ADDR:PORT",
            Field::Domains(_) | Field::OptionalDomain(_) => "DOMAIN",
            Field::Hostname(_) => "NAME",
            Field::Processors(_) => "all|LIST|count:N",
            Field::Level(_) => "0|1|2",
            Field::Number { .. } => "N",
            Field::Duration { .. } => "TIME",
            Field::Bytes { .. } => "SIZE",
            Field::LogFilter(_) => "FILTER",
            Field::Switch(_) => "",
        }
    }

    /// The unit of a bare number, for the help.
    pub(super) fn unit(&self) -> &'static str {
        match self {
            Field::Number { unit, .. } => unit,
            _ => "",
        }
    }

    /// What is allowed, as it ends an error: `... is not allowed: <this>`.
    pub(super) fn allowed(&self) -> String {
        match self {
            Field::Path(_) => "a path that is not empty".to_owned(),
            Field::Listen(_) => {
                "an IP address and port such as 127.0.0.1:2525 or [::1]:2525, the absolute path \
                 of a Unix socket, or none"
                    .to_owned()
            }
            Field::Domains(_) | Field::OptionalDomain(_) | Field::Hostname(_) => {
                "a domain name such as example.org".to_owned()
            }
            Field::Processors(_) => {
                "all, processor numbers such as 0 or 0-3,6, or count:N".to_owned()
            }
            Field::Level(_) => "0 (left to the filesystem), 1 (fdatasync) or 2 (fsync)".to_owned(),
            Field::Number { range, unit, .. } => {
                let space = if unit.is_empty() { "" } else { " " };
                format!(
                    "a number from {} to {}{space}{unit}",
                    range.start(),
                    range.end()
                )
            }
            Field::Duration { range, .. } => format!(
                "a time from {} to {}, written such as 500ms, 30s, 10m, 1h or 2d",
                show_duration(*range.start()),
                show_duration(*range.end())
            ),
            Field::Bytes { range, .. } => format!(
                "a size from {} to {}, in bytes or written such as 64K, 50M or 1G",
                show_bytes(*range.start()),
                show_bytes(*range.end())
            ),
            Field::LogFilter(_) => {
                "error, warn, info, debug or trace, or a list such as info,ringpost::store=debug"
                    .to_owned()
            }
            Field::Switch(_) => "true or false".to_owned(),
        }
    }

    /// Reads `texts` (several only where [`Field::repeats`]) into `config`.
    ///
    /// # Errors
    /// The text at fault, by its index, and what is wrong with it where there is more to say than
    /// [`Field::allowed`].
    pub(super) fn set(&self, config: &mut Config, texts: &[&str]) -> Result<(), Bad> {
        let whole = |r: Result<(), Option<String>>| r.map_err(|reason| Bad { index: 0, reason });
        let text = texts.first().copied().unwrap_or_default();
        match self {
            Field::Listen(at) => {
                *at(config) = set_listen(texts)?;
                Ok(())
            }
            Field::Domains(at) => {
                *at(config) = set_domains(texts)?;
                Ok(())
            }
            Field::Path(at) => whole(if text.is_empty() {
                Err(None)
            } else {
                *at(config) = PathBuf::from(text);
                Ok(())
            }),
            Field::OptionalDomain(at) => whole(if text.is_empty() {
                *at(config) = None;
                Ok(())
            } else {
                parse_domain(text)
                    .map(|d| *at(config) = Some(d))
                    .map_err(Some)
            }),
            Field::Hostname(at) => whole(parse_domain(text).map(|d| *at(config) = d).map_err(Some)),
            Field::Processors(at) => whole(
                processors::parse(text)
                    .map(|p| *at(config) = p)
                    .map_err(Some),
            ),
            Field::Level(at) => {
                let level = match text {
                    "0" => SyncLevel::None,
                    "1" => SyncLevel::Fdatasync,
                    "2" => SyncLevel::Fsync,
                    _ => return whole(Err(None)),
                };
                *at(config) = level;
                Ok(())
            }
            Field::Number { range, set, .. } => whole(
                parse_number(text)
                    .filter(|n| range.contains(n))
                    .map(|n| set(config, n))
                    .ok_or(None),
            ),
            Field::Duration { range, at, .. } => whole(
                parse_duration(text)
                    .filter(|d| range.contains(d))
                    .map(|d| *at(config) = d)
                    .ok_or(None),
            ),
            Field::Bytes { range, at } => whole(
                parse_bytes(text)
                    .filter(|n| range.contains(n))
                    .map(|n| *at(config) = n)
                    .ok_or(None),
            ),
            Field::LogFilter(at) => whole(
                text.parse::<tracing_subscriber::EnvFilter>()
                    .map_err(|e| Some(e.to_string()))
                    .and_then(|_| {
                        if text.trim().is_empty() {
                            return Err(None);
                        }
                        *at(config) = text.to_owned();
                        Ok(())
                    }),
            ),
            Field::Switch(at) => {
                let on = match text {
                    "true" => true,
                    "false" => false,
                    _ => return whole(Err(None)),
                };
                *at(config) = on;
                Ok(())
            }
        }
    }

    /// The value as it stands in a TOML file; `None` where nothing is set.
    pub(super) fn show(&self, config: &Config) -> Option<String> {
        // The accessors give mutable places; a copy spares a second set of them.
        let mut copy = config.clone();
        let config = &mut copy;
        Some(match self {
            Field::Path(at) => quoted(&at(config).to_string_lossy()),
            Field::Listen(at) => {
                let list = at(config);
                if list.is_empty() {
                    quoted("none")
                } else {
                    array(list.iter().map(ToString::to_string))
                }
            }
            Field::Domains(at) => array(at(config).iter().cloned()),
            Field::OptionalDomain(at) => quoted(at(config).as_deref()?),
            Field::Hostname(at) | Field::LogFilter(at) => quoted(at(config)),
            Field::Processors(at) => quoted(&at(config).to_string()),
            Field::Level(at) => at(config).to_string(),
            Field::Number { get, .. } => get(config).to_string(),
            Field::Duration { at, .. } => quoted(&show_duration(*at(config))),
            Field::Bytes { at, .. } => quoted(&show_bytes(*at(config))),
            Field::Switch(at) => at(config).to_string(),
        })
    }
}

/// What [`Field::set`] could not take.
pub(super) struct Bad {
    /// Which of the texts.
    pub(super) index: usize,
    /// More than "not allowed", where there is more to say.
    pub(super) reason: Option<String>,
}

fn set_listen(texts: &[&str]) -> Result<Vec<ListenAddress>, Bad> {
    if texts == ["none"] {
        return Ok(Vec::new());
    }
    let mut list: Vec<ListenAddress> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let bad = |reason: Option<&str>| Bad {
            index,
            reason: reason.map(str::to_owned),
        };
        let address = parse_listen(text).ok_or_else(|| {
            bad((*text == "none").then_some("none stands alone, without addresses beside it"))
        })?;
        if list.contains(&address) && !address.is_any_port() {
            return Err(bad(Some("it is given twice")));
        }
        list.push(address);
    }
    Ok(list)
}

fn set_domains(texts: &[&str]) -> Result<Vec<String>, Bad> {
    let mut list = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let bad = |reason| Bad {
            index,
            reason: Some(reason),
        };
        let domain = parse_domain(text).map_err(bad)?;
        if list.contains(&domain) {
            return Err(bad("it is given twice".to_owned()));
        }
        list.push(domain);
    }
    Ok(list)
}

fn parse_listen(text: &str) -> Option<ListenAddress> {
    if text.starts_with('/') {
        return Some(ListenAddress::Unix(PathBuf::from(text)));
    }
    if let Some(path) = text.strip_prefix("unix:").filter(|p| !p.is_empty()) {
        return Some(ListenAddress::Unix(PathBuf::from(path)));
    }
    text.parse::<SocketAddr>().ok().map(ListenAddress::Tcp)
}

/// Digits only: no sign, no spaces, no underscores.
fn parse_number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// Splits `10m` into 10 and `m`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// Reads a time such as `500ms`, `30s`, `10m`, `1h`, `2d`. The unit is required, but for `0`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 1,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

/// Writes a time so that [`parse_duration`] reads the same one, to the millisecond.
pub fn show_duration(time: Duration) -> String {
    let ms = time.as_millis();
    for (unit_ms, unit) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ] {
        if ms != 0 && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    if ms == 0 {
        "0s".to_owned()
    } else {
        format!("{ms}ms")
    }
}

/// Reads bytes: a number, or one with `K`, `M`, `G` or `T` (powers of 1024).
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let shift = match unit {
        "" => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Writes bytes so that [`parse_bytes`] reads the same number.
pub fn show_bytes(bytes: u64) -> String {
    for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Reads a domain name into its canonical form: lower case, no dot at the end. Labels are letters,
/// digits, `-` and `_` (not a `-` at an end); a name beyond ASCII becomes its A-labels (UTS #46),
/// as in an address, so that a domain has one name however it is written.
///
/// # Errors
/// What is wrong with it.
pub fn parse_domain(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if !name.is_ascii() {
        return Uts46::new()
            .to_ascii(
                name.as_bytes(),
                AsciiDenyList::STD3,
                Hyphens::CheckFirstLast,
                DnsLength::Verify,
            )
            .map(String::from)
            .map_err(|_| format!("{name:?} is not an internationalized domain name (RFC 5890)"));
    }
    if name.is_empty() {
        return Err("a domain name cannot be empty".to_owned());
    }
    if name.len() > limits::DOMAIN_BYTES_MAX {
        return Err(format!(
            "a domain name has at most {} bytes, this one has {}",
            limits::DOMAIN_BYTES_MAX,
            name.len()
        ));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("a label of the domain name is empty".to_owned());
        }
        // RFC 1035 §2.3.4.
        if label.len() > 63 {
            return Err(format!("the label {label:?} has more than 63 characters"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(format!("the label {label:?} begins or ends with a hyphen"));
        }
        let odd = label
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')));
        if let Some(odd) = odd {
            return Err(format!("{odd:?} cannot be in a domain name"));
        }
    }
    Ok(name.to_ascii_lowercase())
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn array(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.map(|item| quoted(&item)).collect();
    format!("[{}]", items.join(", "))
}
