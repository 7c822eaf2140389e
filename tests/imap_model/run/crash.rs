//! Looks at everything that there is; and does so when the server has died within a command.

use std::time::Duration;

use super::super::act::{carry_out, halves};
use super::super::client::Client;
use super::super::command::{Command, LAST, Set};
use super::super::link::Link;
use super::super::response::Response;
use super::super::site::Site;
use super::{BATCH_MAX, Exchange, Run, Session, check, said};

/// What of the unanswered commands had happened when the server died.
#[derive(Debug, Clone, Copy, Default)]
struct Happened {
    whole: u64,
    /// And a part of the next.
    is_broken_off: bool,
}

impl Run<'_> {
    /// Everything in every account, as it is now.
    pub(super) fn look_at_all(&mut self) -> Result<(), String> {
        let looked = self.look()?;
        let compared = compare(&looked, &self.site);
        self.site = compared.map_err(|error| {
            let (seed, command) = (self.plan.seed, self.tally.commands);
            format!("as a whole: {error}\nseed {seed}, command {command}")
        })?;
        Ok(())
    }

    /// Looks at everything, in each account with a session of its own.
    fn look(&mut self) -> Result<Vec<Vec<Exchange>>, String> {
        let mut all = Vec::new();
        for account in 0..self.plan.accounts {
            self.tally.looks += 1;
            self.sessions.push(Session::new(account));
            let index = self.sessions.len() - 1;
            let looked = self.look_with(index);
            all.push(looked.map_err(|error| self.report(index, &error))?);
            self.sessions.pop();
        }
        Ok(all)
    }

    fn look_with(&mut self, index: usize) -> Result<Vec<Exchange>, String> {
        let address = self.site.address(self.sessions[index].client.own);
        let mut link = Link::new(self.server.imap, None);
        link.send(format!("t0 LOGIN {address} pw\r\n").as_bytes());
        for _ in 0..2 {
            link.read().map_err(said)?;
        }
        self.sessions[index].link = Some(link);
        let mut exchanges = Vec::new();
        let all = Command::List {
            pattern: "*".to_owned(),
            subscribed: false,
            status: true,
        };
        let first = vec![
            Command::Enable("IMAP4rev2"),
            all,
            Command::Lsub("*".to_owned()),
        ];
        self.record(index, first, &mut exchanges)?;
        self.sessions[index].client.enabled.utf8 = true;
        let mut names = Vec::new();
        for response in &exchanges[1].2 {
            if let Response::List {
                attributes, name, ..
            } = response
                && !attributes
                    .iter()
                    .any(|attribute| attribute == "\\NonExistent")
            {
                names.push(name.replace("&APw-", "ü"));
            }
        }
        let items = vec![
            "UID",
            "FLAGS",
            "MODSEQ",
            "RFC822.SIZE",
            "INTERNALDATE",
            "EMAILID",
            "BODY.PEEK[]",
        ];
        for name in names {
            let commands = vec![
                Command::Select {
                    name: name.clone(),
                    read_only: true,
                    condstore: true,
                    qresync: None,
                },
                Command::Fetch {
                    by_uid: false,
                    set: Set::Ranges(vec![(1, LAST)]),
                    items: items.clone(),
                    since: None,
                    vanished: false,
                },
                Command::Status(name),
            ];
            self.record(index, commands, &mut exchanges)?;
        }
        Ok(exchanges)
    }

    fn record(
        &mut self,
        index: usize,
        commands: Vec<Command>,
        exchanges: &mut Vec<Exchange>,
    ) -> Result<(), String> {
        let tags = self.send(index, &commands);
        for (command, tag) in commands.into_iter().zip(tags) {
            let responses = self.read(index).map_err(said)?;
            exchanges.push((command, tag, responses));
        }
        Ok(())
    }

    /// The server dies, or is ended, while a session waits for answers; then everything is looked at.
    pub(super) fn crash(&mut self) -> Result<(), String> {
        self.look_at_all()?;
        let ready = |session: &Session| session.link.is_some() && session.idles.is_none();
        let indexes: Vec<usize> = (0..self.sessions.len())
            .filter(|index| ready(&self.sessions[*index]))
            .collect();
        let mut waiting = Vec::new();
        let mut index = indexes.get(self.random.index(indexes.len())).copied();
        if let Some(chosen) = &mut index {
            let mut commands = self.choose(*chosen, BATCH_MAX);
            // Most of all between two accounts.
            if self.plan.wide
                && let Some((by, crossing)) = self.crossing(&indexes)
            {
                *chosen = by;
                commands = vec![crossing];
                self.tally.crossings += 1;
            }
            let index = *chosen;
            let tags = self.send(index, &commands);
            waiting = commands.into_iter().zip(tags).collect();
        }
        // From one account to another it takes several turns of two shards.
        let wait_us_max = if self.plan.wide { 15_000 } else { 3000 };
        std::thread::sleep(Duration::from_micros(self.random.below(wait_us_max)));
        if self.random.one_in(4) {
            self.server.stop();
            self.tally.stops += 1;
        } else {
            self.server.kill();
            self.tally.kills += 1;
        }
        // What was answered before counts as any other answer.
        let mut waiting = std::collections::VecDeque::from(waiting);
        if let Some(index) = index {
            while !waiting.is_empty() {
                let Ok(responses) = self.read(index) else {
                    break;
                };
                if !matches!(responses.last(), Some(Response::Tagged(..))) {
                    break;
                }
                self.tally.commands += 1;
                if let Some((command, tag)) = waiting.pop_front() {
                    let taken = self.take(index, (command, tag, responses));
                    taken.map_err(|error| self.report(index, &error))?;
                }
            }
        }
        let history = index
            .and_then(|index| self.sessions[index].link.as_ref())
            .map(Link::history)
            .unwrap_or_default();
        let candidates = self.candidates(index, waiting.into_iter().map(|(command, _)| command));
        for index in 0..self.sessions.len() {
            self.sessions[index] = self.fresh(index);
        }
        self.server.restart();
        let looked = self.look()?;
        let compared = candidates.iter();
        let compared = compared.map(|(_, candidate)| compare(&looked, candidate));
        let compared: Vec<Result<Site, String>> = compared.collect();
        let Some(place) = compared.iter().position(Result::is_ok) else {
            let errors = compared.into_iter().filter_map(Result::err);
            let errors: Vec<String> = errors.collect();
            return Err(format!(
                "after a crash it is nothing that it can be; after so many more of the unanswered \
                 commands:\n{}\nseed {}, command {}\n{history}",
                errors.join("\n"),
                self.plan.seed,
                self.tally.commands
            ));
        };
        let Happened {
            whole,
            is_broken_off,
        } = candidates[place].0;
        self.tally.happened += whole;
        self.tally.broken_off += u64::from(is_broken_off);
        if let Some(Ok(found)) = compared.into_iter().nth(place) {
            self.site = found;
        }
        Ok(())
    }

    /// A command that takes messages from one account to another, and the session for it.
    fn crossing(&mut self, indexes: &[usize]) -> Option<(usize, Command)> {
        let start = self.random.index(indexes.len().max(1));
        let mut turns = indexes[start.min(indexes.len())..]
            .iter()
            .chain(&indexes[..start]);
        turns.find_map(|index| Some((*index, self.chooser(*index).crossing()?)))
    }

    /// What may be there after none, one, two and so on of the unanswered commands.
    fn candidates(
        &mut self,
        index: Option<usize>,
        waiting: impl Iterator<Item = Command>,
    ) -> Vec<(Happened, Site)> {
        let mut site = self.site.clone();
        let mut happened = Happened::default();
        let mut candidates = vec![(happened, site.clone())];
        let Some(index) = index else {
            return candidates;
        };
        let client = &mut self.sessions[index].client;
        for command in waiting {
            self.tally.unanswered += 1;
            let begun = Happened {
                is_broken_off: true,
                ..happened
            };
            let halves = halves(&command, &site, client).into_iter();
            candidates.extend(halves.map(|half| (begun, half)));
            carry_out(&command, &mut site, client);
            happened.whole += 1;
            candidates.push((happened, site.clone()));
        }
        candidates
    }
}

/// Compares all that was looked at; what is there, with what was learned.
fn compare(looked: &[Vec<Exchange>], site: &Site) -> Result<Site, String> {
    let mut site = site.clone();
    for (own, exchanges) in looked.iter().enumerate() {
        let mut client = Client {
            own,
            ..Client::default()
        };
        for exchange in exchanges {
            let compared = check(exchange.clone(), &mut site, &mut client);
            compared.map_err(|error| format!("account {own}, {:?}: {error}", exchange.0))?;
        }
    }
    Ok(site)
}
