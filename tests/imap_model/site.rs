//! What the server must hold: several accounts, and what each of them sees of the others.

use std::collections::BTreeMap;

use super::client::Client;
use super::world::{Account, BoxId, Mailbox, Tick};

/// Below this name, then below an address, are others' mailboxes.
pub const OTHER_USERS: &str = "Other Users/";
/// All rights, by their letters.
pub const ALL_RIGHTS: &str = "lrswipkxtea";
/// Mailboxes that an account may ever have had.
const IDS: BoxId = 1_000_000;

/// Why a mailbox is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// It is not there, or the user may not know that it is.
    Missing,
    /// The user lacks the right.
    Right,
}

/// All accounts.
#[derive(Debug, Clone)]
pub struct Site {
    pub accounts: Vec<Account>,
    /// The number in the address of the first.
    first: usize,
    tick: Tick,
}

impl Site {
    /// Accounts `u<first>` and so on, as the server makes them.
    pub fn new(first: usize, count: usize) -> Site {
        let ids = (0..count).map(|index| index as BoxId * IDS);
        Site {
            accounts: ids.map(Account::new).collect(),
            first,
            tick: 0,
        }
    }

    pub fn address(&self, account: usize) -> String {
        format!("u{}@bench.test", self.first + account)
    }

    pub fn next_tick(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }

    /// Whose mailbox it is.
    pub fn owner(id: BoxId) -> usize {
        (id / IDS) as usize
    }

    pub fn by_id(&mut self, id: BoxId) -> Option<&mut Mailbox> {
        self.accounts.get_mut(Site::owner(id))?.by_id(id)
    }

    pub fn find(&self, id: BoxId) -> Option<&Mailbox> {
        self.accounts.get(Site::owner(id))?.find(id)
    }

    /// The account of a name that `own` uses, and the name there.
    pub fn locate<'n>(&self, own: usize, name: &'n str) -> Option<(usize, &'n str)> {
        let Some(rest) = name.strip_prefix(OTHER_USERS) else {
            return Some((own, name));
        };
        let (address, name) = rest.split_once('/')?;
        let found = (0..self.accounts.len()).find(|account| self.address(*account) == address);
        Some((found?, name))
    }

    /// The name that `own` uses.
    pub fn name_for(&self, own: usize, account: usize, name: &str) -> String {
        if account == own {
            return name.to_owned();
        }
        format!("{OTHER_USERS}{}/{name}", self.address(account))
    }

    /// Letters of the rights that `own` has.
    pub fn rights(&self, own: usize, mailbox: &Mailbox) -> &'static str {
        if Site::owner(mailbox.id) == own {
            return ALL_RIGHTS;
        }
        mailbox.rights.get(&own).copied().unwrap_or_default()
    }

    /// Whatever the rights.
    pub fn named(&self, own: usize, name: &str) -> Option<&Mailbox> {
        let (account, name) = self.locate(own, name)?;
        self.accounts[account].mailboxes.get(name)
    }

    /// The mailbox of a name, where `own` has this right to it.
    pub fn reach(&self, own: usize, name: &str, right: char) -> Result<&Mailbox, Lack> {
        let mailbox = self.named(own, name).ok_or(Lack::Missing)?;
        let rights = self.rights(own, mailbox);
        if rights.contains(right) {
            return Ok(mailbox);
        }
        Err(if rights.contains('l') {
            Lack::Right
        } else {
            Lack::Missing
        })
    }

    /// What a session has open: it is there, and may be read.
    pub fn open(&self, client: &Client) -> Option<&Mailbox> {
        let mailbox = self.find(client.selected.as_ref()?.mailbox)?;
        self.rights(client.own, mailbox)
            .contains('r')
            .then_some(mailbox)
    }

    /// All mailboxes that `own` may know of, by the names that it uses.
    pub fn visible(&self, own: usize) -> BTreeMap<String, &Mailbox> {
        let mut visible = BTreeMap::new();
        for (number, account) in self.accounts.iter().enumerate() {
            let seen = account.mailboxes.iter();
            let seen = seen.filter(|(_, mailbox)| self.rights(own, mailbox).contains('l'));
            visible.extend(seen.map(|(name, found)| (self.name_for(own, number, name), found)));
        }
        visible
    }

    pub fn learn_validity(&mut self, own: usize, name: &str, validity: u32) -> Result<(), String> {
        let (account, name) = self.locate(own, name).ok_or("a name of nobody")?;
        self.accounts[account].learn_validity(name, validity)
    }

    pub fn learn_object_id(&mut self, own: usize, name: &str, id: &str) -> Result<(), String> {
        let (account, name) = self.locate(own, name).ok_or("a name of nobody")?;
        self.accounts[account].learn_object_id(name, id)
    }
}
