//! Drives several sessions, one after the other at command borders, and compares.

mod crash;

use std::collections::BTreeSet;

use ringpost::store::sim::Random;

use super::act::carry_out;
use super::client::{Client, Told};
use super::command::Command;
use super::expected::{End, Seen};
use super::generate::{Chooser, LARGE};
use super::link::{Broken, Link};
use super::response::{Response, Status};
use super::site::Site;
use super::support::Server;
use super::tamper::Tamper;

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
    /// Others' mailboxes, annotations, compressed connections, sessions without message numbers, and a
    /// large mailbox.
    pub wide: bool,
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
    /// Crashes that left a part of a command.
    pub broken_off: u64,
    pub idles: u64,
    pub looks: u64,
    /// Sessions whose connection is compressed.
    pub packed: u64,
    /// Crashes while messages went from one account to another.
    pub crossings: u64,
    /// Times that the large mailbox was filled.
    pub fills: u64,
    /// Commands of sessions that had another account's mailbox open.
    pub visits: u64,
}

/// One session.
struct Session {
    client: Client,
    link: Option<Link>,
    /// The tag of its IDLE.
    idles: Option<String>,
    tags: u64,
}

/// Messages of the large mailbox when it has been filled.
const LARGE_MESSAGES: usize = 3000;
/// Commands of one batch.
const BATCH_MAX: usize = 16;
/// Bytes of one batch: what fits into the buffers of a connection.
const BATCH_BYTES_MAX: usize = 48 * 1024;

/// A run.
pub struct Run<'a> {
    server: &'a mut Server,
    plan: Plan,
    random: Random,
    site: Site,
    sessions: Vec<Session>,
    tally: Tally,
}

/// A recorded exchange: command, tag, responses.
pub type Exchange = (Command, String, Vec<Response>);

/// Compares one answered command. `Ok(false)`: the session has ended, as it had to.
pub fn check(
    (command, tag, responses): Exchange,
    site: &mut Site,
    client: &mut Client,
) -> Result<bool, String> {
    let expected = carry_out(&command, site, client);
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
                seen.end((status, code), &expected, client, site)?;
                if status == Status::Ok && expected.end == End::Ok {
                    client.check(site, expected.told)?;
                }
                return Ok(true);
            }
            Response::Bye if expected.end == End::Doomed => return Ok(false),
            // The mailbox is gone: what else is said does not matter any more.
            _ if expected.end == End::Doomed => {}
            response => seen.take(response, &expected, client, site, &tag)?,
        }
    }
    Err("no answer".to_owned())
}

impl<'a> Run<'a> {
    pub fn new(server: &'a mut Server, plan: Plan) -> Run<'a> {
        let session = |index: usize| Session::new(index % plan.accounts);
        Run {
            random: Random::new(plan.seed),
            site: Site::new(plan.first_account, plan.accounts),
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
            self.plan.seed, self.tally.commands, session.client.own, session.client.enabled
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
        if self.plan.wide && self.random.one_in(60) && self.fill(index)? {
            return Ok(());
        }
        let watched = self.is_watched(index);
        let count = if watched { 3 } else { BATCH_MAX };
        let commands = self.choose(index, count);
        if watched {
            // Those that wait are told of each change by itself.
            for command in commands {
                if self.sessions[index].link.is_some() {
                    self.exchange(index, vec![command])?;
                    self.settle_all()?;
                }
            }
            return Ok(());
        }
        self.exchange(index, commands)
    }

    /// Some session idles that may be told of what this one does.
    fn is_watched(&self, index: usize) -> bool {
        let own = self.sessions[index].client.own;
        let open = |session: &Session| {
            let selected = session.client.selected.as_ref();
            selected.map(|selected| Site::owner(selected.mailbox))
        };
        let visible = self.site.visible(own);
        let touched = visible.values().map(|mailbox| Site::owner(mailbox.id));
        let touched: BTreeSet<usize> = touched.chain(open(&self.sessions[index])).collect();
        let mut idle = self
            .sessions
            .iter()
            .filter(|session| session.idles.is_some());
        idle.any(|session| {
            session.client.own == own || open(session).is_some_and(|of| touched.contains(&of))
        })
    }

    /// Fills the large mailbox by one command, where there is room; `false`: it is large enough.
    fn fill(&mut self, index: usize) -> Result<bool, String> {
        let session = &self.sessions[index];
        let mailbox = self.site.accounts[0].mailboxes.get(LARGE);
        let count = mailbox.map_or(0, |mailbox| mailbox.messages.len());
        let is_doomed =
            session.client.selected.is_some() && self.site.open(&session.client).is_none();
        if session.client.own != 0
            || is_doomed
            || count >= LARGE_MESSAGES / 2
            || self.is_watched(index)
        {
            return Ok(false);
        }
        let messages = self.chooser(index).many_messages(LARGE_MESSAGES - count);
        self.tally.fills += 1;
        self.exchange(index, vec![Command::Append(LARGE.to_owned(), messages)])?;
        Ok(true)
    }

    fn fresh(&self, index: usize) -> Session {
        Session::new(self.sessions[index].client.own)
    }

    fn chooser(&mut self, index: usize) -> Chooser<'_> {
        let client = &self.sessions[index].client;
        Chooser {
            random: &mut self.random,
            site: &self.site,
            account: &self.site.accounts[client.own],
            client,
            wide: self.plan.wide,
            popular: "INBOX",
        }
    }

    fn choose(&mut self, index: usize, count: usize) -> Vec<Command> {
        let client = &self.sessions[index].client;
        let is_doomed = client.selected.is_some() && self.site.open(client).is_none();
        let mut chooser = self.chooser(index);
        let count = 1 + chooser.random.index(count);
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
            let address = |account: usize| self.site.address(account);
            command.write(&tag, session.client.enabled.utf8, address, &mut bytes);
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
        let visits = session
            .client
            .selected
            .as_ref()
            .is_some_and(|selected| Site::owner(selected.mailbox) != session.client.own);
        self.tally.visits += u64::from(visits);
        let goes_on = check(exchange, &mut self.site, &mut session.client)?;
        if !goes_on {
            self.sessions[index] = self.fresh(index);
        }
        Ok(goes_on)
    }

    fn log_in(&mut self, index: usize) -> Result<(), String> {
        let address = self.site.address(self.sessions[index].client.own);
        let tamper = self.plan.tamper.clone();
        let mut link = Link::new(self.server.imap, tamper);
        link.send(format!("t0 LOGIN {address} pw\r\n").as_bytes());
        let greeting = link.read().map_err(said)?;
        let answer = link.read().map_err(said)?;
        let well = matches!(greeting, Response::Note(_))
            && matches!(answer, Response::Tagged(_, Status::Ok, _));
        if !well {
            return Err(format!("login: {greeting:?} {answer:?}"));
        }
        if self.plan.wide && self.random.one_in(3) {
            link.send(b"t1 COMPRESS DEFLATE\r\n");
            let answer = link.read().map_err(said)?;
            if !matches!(answer, Response::Tagged(_, Status::Ok, _)) {
                return Err(format!("COMPRESS: {answer:?}"));
            }
            link.pack();
            self.tally.packed += 1;
        }
        self.sessions[index].link = Some(link);
        let profiles: &[&[&'static str]] = &[
            &[],
            &[],
            &["CONDSTORE"],
            &["QRESYNC"],
            &["IMAP4rev2"],
            &["UTF8=ACCEPT", "IMAP4rev2", "QRESYNC"],
            // Those behind it only in a wide run.
            &["UIDONLY"],
            &["UIDONLY", "CONDSTORE"],
            &["UIDONLY", "IMAP4rev2", "QRESYNC"],
        ];
        let count = if self.plan.wide { profiles.len() } else { 6 };
        let profile = profiles[self.random.index(count)];
        let commands = profile.iter().map(|what| Command::Enable(what));
        self.exchange(index, commands.collect())
    }

    fn idle(&mut self, index: usize) -> Result<(), String> {
        let session = &mut self.sessions[index];
        if session.client.selected.is_some() && self.site.open(&session.client).is_none() {
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
                    session.client.take(response, &mut self.site, Told::All)?;
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
            let Err(error) = session.client.check(&self.site, Told::All) else {
                return Ok(());
            };
            let Some(link) = &mut session.link else {
                return Ok(());
            };
            let response = link.read();
            self.tally.responses += 1;
            match response {
                Ok(Response::Bye) => {
                    if self.site.open(&session.client).is_some() {
                        return Err("BYE in IDLE".to_owned());
                    }
                    self.sessions[index] = self.fresh(index);
                    return Ok(());
                }
                Ok(response) => {
                    if let Some(response) =
                        session.client.take(response, &mut self.site, Told::All)?
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

    fn settle_all(&mut self) -> Result<(), String> {
        for index in 0..self.sessions.len() {
            if self.sessions[index].idles.is_some() {
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
        let site = &mut self.site;
        for response in responses {
            match response {
                Response::Tagged(own, Status::Ok, _) if own == tag => {
                    session.client.idles = false;
                    return session.client.check(site, Told::All);
                }
                Response::Note(_) => {}
                response => {
                    session.client.take(response, site, Told::All)?;
                }
            }
        }
        Err("IDLE does not end".to_owned())
    }
}

impl Session {
    fn new(account: usize) -> Session {
        Session {
            client: Client {
                own: account,
                ..Client::default()
            },
            link: None,
            idles: None,
            tags: 0,
        }
    }
}

fn said(broken: Broken) -> String {
    match broken {
        Broken::Closed => "the server closed the connection".to_owned(),
        Broken::Silent => "the server does not answer".to_owned(),
        Broken::Nonsense(what) => what,
    }
}
