//! The TOML file of a population.

use std::time::Duration;

use serde::Deserialize;

use crate::cli::duration;
use crate::cli::mix::Mix;
use crate::target::Target;

/// Seconds of an hour, and hours of a day.
const HOUR_S: f64 = 3600.0;
const HOURS: usize = 24;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    smtp: Option<String>,
    pop3: Option<String>,
    imap: Option<String>,
    relay: Option<String>,
    users: u32,
    #[serde(default = "prefix")]
    prefix: String,
    #[serde(default = "domain")]
    domain: String,
    #[serde(default = "password")]
    password: String,
    time: Option<String>,
    day: Option<String>,
    hourly: Vec<f64>,
    #[serde(default)]
    qos: QosFile,
    class: Vec<Class>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct QosFile {
    operation_share: f64,
    delivery_share: f64,
    errors_percent_max: f64,
}

impl Default for QosFile {
    fn default() -> QosFile {
        QosFile {
            operation_share: 95.0,
            delivery_share: 95.0,
            errors_percent_max: 1.0,
        }
    }
}

fn prefix() -> String {
    "u".to_owned()
}

fn domain() -> String {
    "bench.test".to_owned()
}

fn password() -> String {
    "pw".to_owned()
}

/// What users of a class do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Mail arrives for them.
    Inbound,
    /// They send mail elsewhere.
    Relay,
    /// They check their mailbox and leave.
    Pop3,
    /// They work in their mailbox.
    Imap,
    /// They are connected and wait.
    Idle,
}

/// A class of users.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// In tables.
    pub name: String,
    /// What they do.
    pub kind: Kind,
    /// The part of all users that is of this class, 0 to 1: POP3 and IMAP sessions are of the first
    /// so many of them.
    #[serde(default = "one")]
    pub share: f64,
    /// How often each does it in a day.
    per_day: Option<f64>,
    /// Or from one time to the next, at the busiest hour.
    every: Option<String>,
    /// Connections at most.
    #[serde(default = "connections")]
    pub connections: u32,
    /// Sizes of messages, as `--size`.
    #[serde(default = "size")]
    pub size: String,
    /// Recipients of a message, as `--recipients`.
    #[serde(default = "recipients")]
    pub recipients: String,
    /// The domain of relayed mail.
    #[serde(default = "remote")]
    pub domain: String,
    /// Messages that a POP3 session retrieves at most.
    #[serde(default = "retrieve")]
    pub retrieve: u32,
    /// And deletes.
    #[serde(default)]
    pub delete: bool,
    /// Commands of IMAP sessions, as `--mix`.
    #[serde(default = "mix")]
    pub mix: String,
    /// Commands of one IMAP session.
    #[serde(default = "commands")]
    pub commands_per_session: u64,
    /// Messages that are followed into mailboxes for the time to delivery, a second at most: a POP3
    /// or IMAP session each beside the load.
    #[serde(default = "one")]
    pub watch_messages: f64,
}

fn one() -> f64 {
    1.0
}

fn connections() -> u32 {
    100
}

fn size() -> String {
    "4K".to_owned()
}

fn recipients() -> String {
    "1".to_owned()
}

fn remote() -> String {
    "remote.test".to_owned()
}

fn retrieve() -> u32 {
    5
}

fn mix() -> String {
    "fetch-flags:30,fetch-envelope:15,fetch-body:20,store:15,search:5,status:5,noop:10".to_owned()
}

fn commands() -> u64 {
    20
}

/// What has to hold.
#[derive(Debug, Clone, Copy)]
pub struct Qos {
    /// Percent of every operation within 5 s.
    pub operation_share: f64,
    /// Percent of mail delivered within 60 s.
    pub delivery_share: f64,
    /// Percent of errors, at most.
    pub errors_percent_max: f64,
}

/// A population, ready to be run.
#[derive(Debug)]
pub struct Population {
    /// What it is called.
    pub title: String,
    /// Where mail for the users goes in.
    pub smtp: Option<Target>,
    /// Where they read it.
    pub pop3: Option<Target>,
    /// Or work in it.
    pub imap: Option<Target>,
    /// Where mail for elsewhere goes in.
    pub relay: Option<Target>,
    /// Users.
    pub users: u32,
    /// Begins their names.
    pub prefix: String,
    /// Their domain.
    pub domain: String,
    /// Their password.
    pub password: String,
    /// How long each load is run.
    pub time: Duration,
    /// That time is a whole day; otherwise it is part of the busiest hour.
    whole_day: bool,
    /// Percent of the day's operations in each hour.
    hourly: Vec<f64>,
    /// What has to hold.
    pub qos: Qos,
    /// Who does what.
    pub classes: Vec<Class>,
}

impl Population {
    /// Reads the file, and lets flags have the last word.
    ///
    /// # Errors
    /// Names file, line and key.
    pub fn read(flags: &Mix) -> Result<Population, String> {
        let path = flags.file.display();
        let text = std::fs::read_to_string(&flags.file).map_err(|e| format!("{path}: {e}"))?;
        Population::parse(&text, flags).map_err(|why| format!("{path}: {why}"))
    }

    pub(super) fn parse(text: &str, flags: &Mix) -> Result<Population, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        let target = |name: &str, given: &Option<Target>, written: &Option<String>| {
            if given.is_some() {
                return Ok(given.clone());
            }
            let parsed = written.as_ref().map(|text| text.parse::<Target>());
            parsed.transpose().map_err(|why| format!("{name}: {why}"))
        };
        let time_of = |name: &str, text: &Option<String>| {
            let parsed = text.as_ref().map(|text| duration(text));
            parsed.transpose().map_err(|why| format!("{name}: {why}"))
        };
        let (time, day) = (time_of("time", &file.time)?, time_of("day", &file.day)?);
        let (time, whole_day) = match (flags.time, time, day) {
            (_, Some(_), Some(_)) => {
                return Err("time and day: a run is one or the other".to_owned());
            }
            (Some(time), _, day) => (time, day.is_some()),
            (None, _, Some(day)) => (day, true),
            (None, time, None) => (time.unwrap_or(Duration::from_secs(60)), false),
        };
        if time < Duration::from_secs(1) {
            return Err("time, day: at least 1s".to_owned());
        }
        let sum: f64 = file.hourly.iter().sum();
        let fine = file
            .hourly
            .iter()
            .all(|percent| (0.0..=100.0).contains(percent));
        if file.hourly.len() != HOURS || !fine || (sum - 100.0).abs() > 0.5 {
            return Err(format!(
                "hourly: wanted are 24 percentages of a day that come to 100; these {} come to \
                 {sum:.1}",
                file.hourly.len()
            ));
        }
        let population = Population {
            title: file.title,
            smtp: target("smtp", &flags.smtp, &file.smtp)?,
            pop3: target("pop3", &flags.pop3, &file.pop3)?,
            imap: target("imap", &flags.imap, &file.imap)?,
            relay: target("relay", &flags.relay, &file.relay)?,
            users: flags.users.unwrap_or(file.users),
            prefix: file.prefix,
            domain: file.domain,
            password: flags.password.clone().unwrap_or(file.password),
            time,
            whole_day,
            hourly: file.hourly,
            qos: Qos {
                operation_share: file.qos.operation_share,
                delivery_share: file.qos.delivery_share,
                errors_percent_max: file.qos.errors_percent_max,
            },
            classes: file.class,
        };
        population.check()?;
        Ok(population)
    }

    fn check(&self) -> Result<(), String> {
        if self.users == 0 {
            return Err("users: at least 1".to_owned());
        }
        for (key, percent) in [
            ("operation_share", self.qos.operation_share),
            ("delivery_share", self.qos.delivery_share),
            ("errors_percent_max", self.qos.errors_percent_max),
        ] {
            if !(0.0..=100.0).contains(&percent) {
                return Err(format!("qos.{key}: wanted is a percentage, 0 to 100"));
            }
        }
        for class in &self.classes {
            let wrong = |why: &str| Err(format!("class '{}': {why}", class.name));
            if !(0.0..=1.0).contains(&class.share) {
                return wrong("share: wanted is 0 to 1");
            }
            if !(class.watch_messages > 0.0 && class.watch_messages <= 1000.0) {
                return wrong("watch_messages: wanted is a number above 0 and at most 1000");
            }
            if class.kind == Kind::Idle {
                continue;
            }
            match (class.per_day, &class.every) {
                (Some(per_day), None) if per_day > 0.0 && per_day <= 1e6 => {}
                (None, Some(every)) => {
                    let every = duration(every)
                        .map_err(|why| format!("class '{}': every: {why}", class.name))?;
                    if every < Duration::from_secs(1) {
                        return wrong("every: at least 1s");
                    }
                }
                _ => {
                    return wrong("wanted is one of per_day (a number above 0) and every (a time)");
                }
            }
        }
        Ok(())
    }

    /// The busiest hour's percentage of a day.
    fn peak(&self) -> f64 {
        self.hourly.iter().copied().fold(0.0, f64::max)
    }

    /// Operations per second in an hour with so many percent of the day's.
    fn rate(&self, class: &Class, percent: f64) -> f64 {
        let users = f64::from(self.users) * class.share;
        match (class.per_day, &class.every) {
            (Some(per_day), _) => users * per_day * percent / 100.0 / HOUR_S,
            (None, Some(every)) => {
                let every = duration(every).unwrap_or(Duration::from_secs(600));
                users / every.as_secs_f64() * percent / self.peak()
            }
            (None, None) => 0.0,
        }
    }

    /// When which rate is due: one point, or one for the middle of each hour of the day.
    pub fn curve(&self, class: &Class, load: f64) -> Vec<(Duration, f64)> {
        if !self.whole_day {
            return vec![(Duration::ZERO, self.rate(class, self.peak()) * load)];
        }
        let hour = self.time / HOURS as u32;
        let rate = |index: usize| self.rate(class, self.hourly[index % HOURS]) * load;
        // Midnight stands between the last hour and the first.
        let midnight = f64::midpoint(rate(0), rate(HOURS - 1));
        let middles = (0..HOURS).map(|index| (hour * index as u32 + hour / 2, rate(index)));
        std::iter::once((Duration::ZERO, midnight))
            .chain(middles)
            .chain([(self.time, midnight)])
            .collect()
    }

    /// Operations per second on average over the run, at the rated load.
    pub fn mean_rate(&self, class: &Class) -> f64 {
        if self.whole_day {
            self.rate(class, 100.0 / HOURS as f64)
        } else {
            self.rate(class, self.peak())
        }
    }

    /// How the time to delivery is measured: by the best service there is.
    pub fn watched(&self) -> Option<String> {
        match (&self.imap, &self.pop3) {
            (Some(target), _) => Some(format!("imap-idle:{target}")),
            (None, Some(target)) => Some(format!("pop3:{target}")),
            (None, None) => None,
        }
    }

    /// Users of a class, at least one.
    pub fn members(&self, class: &Class) -> u32 {
        let members = f64::from(self.users) * class.share;
        (members.ceil() as u32).clamp(1, self.users)
    }

    /// In one line.
    pub fn describe(&self) -> String {
        format!(
            "{}: {} users, {:?} for each load, {}",
            self.title,
            self.users,
            self.time,
            if self.whole_day {
                "a whole day in that time".to_owned()
            } else {
                format!("the busiest hour, with {} % of a day", self.peak())
            }
        )
    }
}
