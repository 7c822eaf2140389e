//! Drives several sessions, one after the other at command borders, and compares.

use std::time::Duration;

use ringpost::store::sim::Random;

use super::act::carry_out;
use super::client::{Client, Told};
use super::command::{Command, LAST, Set};
use super::expected::{End, Seen};
use super::generate::Chooser;
use super::link::{Broken, Link};
use super::response::{Response, Status};
use super::support::Server;
use super::tamper::Tamper;
use super::world::Account;

/// What a run does.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub commands: u64,
    /// Accounts `u<first>` and so on.
    pub first_account: usize,
    pub accounts: usize,
    pub sessions: usize,
    /// Commands from one crash to the next; 0: none.
    pub crash_every: u64,
    pub tamper: Option<Tamper>,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub commands: u64,
    pub responses: u64,
    pub kills: u64,
    pub stops: u64,
    /// Commands that a crash left without an answer, and those of them that had happened.
    pub unanswered: u64,
    pub happened: u64,
    pub idles: u64,
    pub looks: u64,
}

/// One session.
struct Session {
    account: usize,
    client: Client,
    link: Option<Link>,
    /// The tag of its IDLE.
    idles: Option<String>,
    tags: u64,
}

/// Commands of one batch.
const BATCH_MAX: usize = 16;
/// Bytes of one batch: what fits into the buffers of a connection.
const BATCH_BYTES_MAX: usize = 48 * 1024;

/// A run.
pub struct Run<'a> {
    server: &'a mut Server,
    plan: Plan,
    random: Random,
    accounts: Vec<Account>,
    sessions: Vec<Session>,
    tally: Tally,
}

/// A recorded exchange: command, tag, responses.
pub type Exchange = (Command, String, Vec<Response>);

/// Compares one answered command. `Ok(false)`: the session has ended, as it had to.
pub fn check(
    (command, tag, responses): Exchange,
    account: &mut Account,
    client: &mut Client,
) -> Result<bool, String> {
    let expected = carry_out(&command, account, client);
    let mut seen = Seen::default();
    for response in responses {
        match response {
            Response::Tagged(own, status, code) => {
                if own != tag {
                    return Err(format!("tag {own}, not {tag}"));
                }
                let closes = expected.end == End::Doomed && matches!(command, Command::Close);
                if closes && status == Status::Ok {
                    // Nothing was known to be in it.
                    client.selected = None;
                    return Ok(true);
                }
                seen.end((status, code), &expected, client, account)?;
                if status == Status::Ok && expected.end == End::Ok {
                    client.check(account, expected.told)?;
                }
                return Ok(true);
            }
            Response::Bye if expected.end == End::Doomed => return Ok(false),
            // The mailbox is gone: what else is said does not matter any more.
            _ if expected.end == End::Doomed => {}
            response => seen.take(response, &expected, client, account, &tag)?,
        }
    }
    Err("no answer".to_owned())
}

impl<'a> Run<'a> {
    pub fn new(server: &'a mut Server, plan: Plan) -> Run<'a> {
        let session = |index: usize| Session {
            account: index % plan.accounts,
            client: Client::default(),
            link: None,
            idles: None,
            tags: 0,
        };
        Run {
            random: Random::new(plan.seed),
            accounts: (0..plan.accounts).map(|_| Account::new()).collect(),
            sessions: (0..plan.sessions).map(session).collect(),
            tally: Tally::default(),
            server,
            plan,
        }
    }

    /// Runs all commands; what was done, or the first difference.
    pub fn go(mut self) -> Result<Tally, String> {
        self.look_at_all()?;
        while self.tally.commands < self.plan.commands {
            let is_due = self.plan.crash_every > 0
                && self.tally.commands / self.plan.crash_every
                    > self.tally.kills + self.tally.stops;
            if is_due {
                self.crash()?;
                continue;
            }
            let index = self.random.index(self.sessions.len());
            let done = self.turn(index);
            done.map_err(|error| self.report(index, &error))?;
        }
        self.look_at_all()?;
        Ok(self.tally)
    }

    fn report(&self, index: usize, error: &str) -> String {
        let session = &self.sessions[index];
        let history = session.link.as_ref().map(Link::history).unwrap_or_default();
        format!(
            "difference: {error}\nseed {}, command {}, session {index} of account {}, {:?}\n{history}",
            self.plan.seed, self.tally.commands, session.account, session.client.enabled
        )
    }

    fn turn(&mut self, index: usize) -> Result<(), String> {
        if self.sessions[index].link.is_none() {
            return self.log_in(index);
        }
        if self.sessions[index].idles.is_some() {
            return self.stop_idling(index);
        }
        if self.random.one_in(25) {
            return self.idle(index);
        }
        if self.random.one_in(150) {
            self.sessions[index] = self.fresh(index);
            return Ok(());
        }
        let own = self.sessions[index].account;
        let watched = self
            .sessions
            .iter()
            .any(|session| session.account == own && session.idles.is_some());
        let count = if watched { 3 } else { BATCH_MAX };
        let commands = self.choose(index, count);
        if watched {
            // Those that wait are told of each change by itself.
            for command in commands {
                if self.sessions[index].link.is_some() {
                    self.exchange(index, vec![command])?;
                    self.settle_all(own)?;
                }
            }
            return Ok(());
        }
        self.exchange(index, commands)
    }

    fn fresh(&self, index: usize) -> Session {
        Session {
            account: self.sessions[index].account,
            client: Client::default(),
            link: None,
            idles: None,
            tags: 0,
        }
    }

    fn choose(&mut self, index: usize, count: usize) -> Vec<Command> {
        let session = &self.sessions[index];
        let mut chooser = Chooser {
            random: &mut self.random,
            account: &self.accounts[session.account],
            client: &session.client,
            popular: "INBOX",
        };
        let count = 1 + chooser.random.index(count);
        let is_doomed = session.client.selected.as_ref().is_some_and(|selected| {
            self.accounts[session.account]
                .find(selected.mailbox)
                .is_none()
        });
        let count = if is_doomed { 1 } else { count };
        let mut bytes = 0;
        let mut commands = Vec::new();
        while commands.len() < count && bytes < BATCH_BYTES_MAX {
            let command = chooser.choose();
            if let Command::Append(_, messages) = &command {
                bytes += messages.iter().map(|new| new.body.len()).sum::<usize>();
            }
            // What is chosen later is about the mailbox that is open then.
            let moves_on = matches!(
                command,
                Command::Select { .. } | Command::Close | Command::Unselect | Command::Delete(_)
            );
            commands.push(command);
            if moves_on {
                break;
            }
        }
        commands
    }

    /// Writes commands with tags of their own.
    fn send(&mut self, index: usize, commands: &[Command]) -> Vec<String> {
        let session = &mut self.sessions[index];
        let mut bytes = Vec::new();
        let mut tags = Vec::new();
        // Names are written as what is enabled now says: nothing in a batch changes that.
        for command in commands {
            session.tags += 1;
            let tag = format!("t{}", session.tags);
            command.write(&tag, session.client.enabled.utf8, &mut bytes);
            tags.push(tag);
        }
        if let Some(link) = &mut session.link {
            link.send(&bytes);
        }
        tags
    }

    /// Reads an answer to its end.
    fn read(&mut self, index: usize) -> Result<Vec<Response>, Broken> {
        let mut responses = Vec::new();
        loop {
            let Some(link) = &mut self.sessions[index].link else {
                return Err(Broken::Closed);
            };
            let response = link.read()?;
            self.tally.responses += 1;
            let ends = matches!(response, Response::Tagged(..) | Response::Bye);
            responses.push(response);
            if ends {
                return Ok(responses);
            }
        }
    }

    /// Sends commands at once, and compares their answers one by one.
    fn exchange(&mut self, index: usize, commands: Vec<Command>) -> Result<(), String> {
        let tags = self.send(index, &commands);
        for (command, tag) in commands.into_iter().zip(tags) {
            let responses = self.read(index).map_err(said)?;
            self.tally.commands += 1;
            let own = command.clone();
            let taken = self.take(index, (command, tag, responses));
            if !taken.map_err(|error| format!("{error}\nthe answer to {own:?}"))? {
                break;
            }
        }
        Ok(())
    }

    fn take(&mut self, index: usize, exchange: Exchange) -> Result<bool, String> {
        let session = &mut self.sessions[index];
        let account = &mut self.accounts[session.account];
        let goes_on = check(exchange, account, &mut session.client)?;
        if !goes_on {
            self.sessions[index] = self.fresh(index);
        }
        Ok(goes_on)
    }

    fn log_in(&mut self, index: usize) -> Result<(), String> {
        let number = self.plan.first_account + self.sessions[index].account;
        let tamper = self.plan.tamper.clone();
        let mut link = Link::new(self.server.imap, tamper);
        link.send(format!("t0 LOGIN u{number}@bench.test pw\r\n").as_bytes());
        let greeting = link.read().map_err(said)?;
        let answer = link.read().map_err(said)?;
        let well = matches!(greeting, Response::Note(_))
            && matches!(answer, Response::Tagged(_, Status::Ok, _));
        if !well {
            return Err(format!("login: {greeting:?} {answer:?}"));
        }
        self.sessions[index].link = Some(link);
        let profiles: [&[&'static str]; 6] = [
            &[],
            &[],
            &["CONDSTORE"],
            &["QRESYNC"],
            &["IMAP4rev2"],
            &["UTF8=ACCEPT", "IMAP4rev2", "QRESYNC"],
        ];
        let profile = profiles[self.random.index(profiles.len())];
        let commands = profile.iter().map(|what| Command::Enable(what));
        self.exchange(index, commands.collect())
    }

    fn idle(&mut self, index: usize) -> Result<(), String> {
        let session = &mut self.sessions[index];
        if let Some(selected) = &session.client.selected
            && self.accounts[session.account]
                .find(selected.mailbox)
                .is_none()
        {
            return Ok(());
        }
        session.tags += 1;
        let tag = format!("t{}", session.tags);
        let Some(link) = &mut session.link else {
            return Ok(());
        };
        link.send(format!("{tag} IDLE\r\n").as_bytes());
        loop {
            match link.read().map_err(said)? {
                Response::Continue => break,
                response => {
                    let account = &mut self.accounts[session.account];
                    session.client.take(response, account, Told::All)?;
                }
            }
        }
        session.idles = Some(tag);
        session.client.idles = true;
        self.tally.idles += 1;
        self.tally.commands += 1;
        self.settle(index)
    }

    /// Waits until a session that idles has been told everything.
    fn settle(&mut self, index: usize) -> Result<(), String> {
        loop {
            let session = &mut self.sessions[index];
            let account = &mut self.accounts[session.account];
            let Err(error) = session.client.check(account, Told::All) else {
                return Ok(());
            };
            let Some(link) = &mut session.link else {
                return Ok(());
            };
            let response = link.read();
            self.tally.responses += 1;
            match response {
                Ok(Response::Bye) => {
                    let selected = session.client.selected.as_ref();
                    if selected.is_some_and(|s| account.find(s.mailbox).is_some()) {
                        return Err("BYE in IDLE".to_owned());
                    }
                    self.sessions[index] = self.fresh(index);
                    return Ok(());
                }
                Ok(response) => {
                    if let Some(response) = session.client.take(response, account, Told::All)?
                        && !matches!(response, Response::Fetch(..) | Response::Note(_))
                    {
                        return Err(format!("{response:?} in IDLE"));
                    }
                }
                Err(Broken::Silent) => return Err(format!("IDLE is silent: {error}")),
                Err(broken) => return Err(said(broken)),
            }
        }
    }

    fn settle_all(&mut self, account: usize) -> Result<(), String> {
        for index in 0..self.sessions.len() {
            if self.sessions[index].account == account && self.sessions[index].idles.is_some() {
                let settled = self.settle(index);
                settled.map_err(|error| self.report(index, &error))?;
            }
        }
        Ok(())
    }

    fn stop_idling(&mut self, index: usize) -> Result<(), String> {
        let Some(tag) = self.sessions[index].idles.take() else {
            return Ok(());
        };
        if let Some(link) = &mut self.sessions[index].link {
            link.send(b"DONE\r\n");
        }
        let responses = self.read(index).map_err(said)?;
        let session = &mut self.sessions[index];
        let account = &mut self.accounts[session.account];
        for response in responses {
            match response {
                Response::Tagged(own, Status::Ok, _) if own == tag => {
                    session.client.idles = false;
                    return session.client.check(account, Told::All);
                }
                Response::Note(_) => {}
                response => {
                    session.client.take(response, account, Told::All)?;
                }
            }
        }
        Err("IDLE does not end".to_owned())
    }

    /// Everything in every account, as it is now.
    fn look_at_all(&mut self) -> Result<(), String> {
        for account in 0..self.accounts.len() {
            let looked = self.look(account)?;
            let compared = compare(&looked, &self.accounts[account]);
            self.accounts[account] = compared.map_err(|error| {
                format!(
                    "account {account} as a whole: {error}\nseed {}, command {}",
                    self.plan.seed, self.tally.commands
                )
            })?;
        }
        Ok(())
    }

    /// Looks at everything in an account with a session of its own.
    fn look(&mut self, account: usize) -> Result<Vec<Exchange>, String> {
        self.tally.looks += 1;
        self.sessions.push(Session {
            account,
            client: Client::default(),
            link: None,
            idles: None,
            tags: 0,
        });
        let index = self.sessions.len() - 1;
        let looked = self.look_with(index, account);
        let looked = looked.map_err(|error| self.report(index, &error));
        self.sessions.pop();
        looked
    }

    fn look_with(&mut self, index: usize, account: usize) -> Result<Vec<Exchange>, String> {
        let number = self.plan.first_account + account;
        let mut link = Link::new(self.server.imap, None);
        link.send(format!("t0 LOGIN u{number}@bench.test pw\r\n").as_bytes());
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
    fn crash(&mut self) -> Result<(), String> {
        self.look_at_all()?;
        let ready = |session: &Session| session.link.is_some() && session.idles.is_none();
        let indexes: Vec<usize> = (0..self.sessions.len())
            .filter(|index| ready(&self.sessions[*index]))
            .collect();
        let mut waiting = Vec::new();
        let index = indexes.get(self.random.index(indexes.len())).copied();
        if let Some(index) = index {
            let commands = self.choose(index, BATCH_MAX);
            let tags = self.send(index, &commands);
            waiting = commands.into_iter().zip(tags).collect();
        }
        std::thread::sleep(Duration::from_micros(self.random.below(3000)));
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
        let own = index.map(|index| self.sessions[index].account);
        for account in 0..self.accounts.len() {
            let looked = self.look(account)?;
            let before = [self.accounts[account].clone()];
            let candidates = if own == Some(account) {
                &candidates[..]
            } else {
                &before
            };
            let compared: Vec<Result<Account, String>> = candidates
                .iter()
                .map(|candidate| compare(&looked, candidate))
                .collect();
            let Some(place) = compared.iter().position(Result::is_ok) else {
                let errors = compared.into_iter().filter_map(Result::err);
                let errors: Vec<String> = errors.collect();
                return Err(format!(
                    "after a crash account {account} is nothing that it can be; after so many more of the \
                     unanswered commands:\n{}\nseed {}, command {}\n{history}",
                    errors.join("\n"),
                    self.plan.seed,
                    self.tally.commands
                ));
            };
            self.tally.happened += place as u64;
            if let Some(Ok(found)) = compared.into_iter().nth(place) {
                self.accounts[account] = found;
            }
        }
        Ok(())
    }

    /// What an account may be after none, one, two and so on of the unanswered commands.
    fn candidates(
        &mut self,
        index: Option<usize>,
        waiting: impl Iterator<Item = Command>,
    ) -> Vec<Account> {
        let Some(index) = index else {
            return Vec::new();
        };
        let session = &mut self.sessions[index];
        let mut account = self.accounts[session.account].clone();
        let mut candidates = vec![account.clone()];
        for command in waiting {
            self.tally.unanswered += 1;
            if let Command::Rename(from, to) = &command
                && from == "INBOX"
                && !account.mailboxes.contains_key(to)
            {
                // Two steps: the mailbox is made, then the messages go there.
                let mut half = account.clone();
                half.create(to, None);
                candidates.push(half);
            }
            carry_out(&command, &mut account, &mut session.client);
            candidates.push(account.clone());
        }
        candidates
    }
}

/// Compares all that was looked at; the account, with what it has learned.
fn compare(looked: &[Exchange], account: &Account) -> Result<Account, String> {
    let mut account = account.clone();
    let mut client = Client::default();
    for exchange in looked {
        let compared = check(exchange.clone(), &mut account, &mut client);
        compared.map_err(|error| format!("{:?}: {error}", exchange.0))?;
    }
    Ok(account)
}

fn said(broken: Broken) -> String {
    match broken {
        Broken::Closed => "the server closed the connection".to_owned(),
        Broken::Silent => "the server does not answer".to_owned(),
        Broken::Nonsense(what) => what,
    }
}
