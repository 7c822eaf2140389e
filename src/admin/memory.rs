//! For tests: a backend in memory, and a control socket with one behind it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::*;
use crate::directory::{Change, Site};
use crate::mail::Address;
use crate::proto::{Session as _, Step};
use crate::store::{Account, AccountChange, Reclaimed};

/// What every account in memory uses.
pub(super) const USED_BYTES: u64 = 12_345;

/// Accounts and site in memory; nothing ever waits.
#[derive(Default, Clone)]
pub(crate) struct Memory(pub(super) Rc<RefCell<State>>);

#[derive(Default)]
pub(super) struct State {
    pub(super) site: Arc<Site>,
    accounts: BTreeMap<Address, Account>,
    administrators: BTreeSet<Address>,
    telemetry: BTreeSet<Address>,
    /// The next change of the site fails.
    pub(super) broken: bool,
}

impl Memory {
    pub(crate) fn accounts(&self) -> Vec<Account> {
        self.0.borrow().accounts.values().cloned().collect()
    }
}

impl Backend for Memory {
    fn site(&self) -> Arc<Site> {
        Arc::clone(&self.0.borrow().site)
    }

    async fn change_site(&self, changes: Vec<Change>) -> Result<(), BackendError> {
        let mut state = self.0.borrow_mut();
        if state.broken {
            return Err(BackendError::Failed("the disk is on fire".to_owned()));
        }
        let mut site = Site::clone(&state.site);
        for change in changes {
            site.apply(&change.key, change.value.as_deref())
                .map_err(|error| BackendError::Failed(error.to_string()))?;
        }
        state.site = Arc::new(site);
        Ok(())
    }

    async fn create_accounts(&self, accounts: Vec<Account>) -> Vec<Result<(), BackendError>> {
        let mut state = self.0.borrow_mut();
        accounts
            .into_iter()
            .map(|account| {
                if state.accounts.contains_key(&account.address) {
                    return Err(BackendError::Exists);
                }
                state.accounts.insert(account.address.clone(), account);
                Ok(())
            })
            .collect()
    }

    async fn update_account(
        &self,
        address: &Address,
        change: AccountChange,
    ) -> Result<Account, BackendError> {
        let mut state = self.0.borrow_mut();
        let account = state.accounts.get_mut(address);
        let account = account.ok_or(BackendError::Missing)?;
        change.apply_to(account);
        Ok(account.clone())
    }

    async fn telemetry(
        &self,
        address: &Address,
        on: Option<bool>,
    ) -> Result<(bool, PathBuf), BackendError> {
        let mut state = self.0.borrow_mut();
        if !state.accounts.contains_key(address) {
            return Err(BackendError::Missing);
        }
        match on {
            Some(true) => state.telemetry.insert(address.clone()),
            Some(false) => state.telemetry.remove(address),
            None => false,
        };
        let folder = PathBuf::from("/data/telemetry");
        Ok((state.telemetry.contains(address), folder))
    }

    async fn remove_account(&self, address: &Address) -> Result<(), BackendError> {
        let gone = self.0.borrow_mut().accounts.remove(address);
        gone.map(|_| ()).ok_or(BackendError::Missing)
    }

    async fn account(&self, address: &Address) -> Result<Option<Account>, BackendError> {
        Ok(self.0.borrow().accounts.get(address).cloned())
    }

    async fn list_accounts(&self, query: AccountQuery) -> Result<Vec<AccountEntry>, BackendError> {
        let mut listing = Listing::new(query);
        // In another order than they should come out.
        for account in self.0.borrow().accounts.values().rev() {
            listing.offer(account);
        }
        let administrators = &self.0.borrow().administrators;
        Ok(listing.finish(|address| (USED_BYTES, administrators.contains(address))))
    }

    async fn used_bytes(&self, _address: &Address) -> Result<u64, BackendError> {
        Ok(USED_BYTES)
    }

    async fn is_administrator(&self, address: &Address) -> Result<bool, BackendError> {
        Ok(self.0.borrow().administrators.contains(address))
    }

    async fn set_administrator(&self, address: &Address, on: bool) -> Result<(), BackendError> {
        let mut state = self.0.borrow_mut();
        if !state.accounts.contains_key(address) {
            return Err(BackendError::Missing);
        }
        if on {
            state.administrators.insert(address.clone());
        } else {
            state.administrators.remove(address);
        }
        Ok(())
    }

    async fn expire_now(&self) -> Result<Reclaimed, BackendError> {
        Ok(Reclaimed {
            freed_bytes: 4096,
            returned_bytes: 0,
        })
    }

    fn place(&self, _address: &Address) -> Place {
        Place {
            partition: 7,
            shard: Some((1, 3)),
            path: PathBuf::from("/data/store/p007"),
        }
    }

    async fn status(&self) -> Result<Option<Status>, BackendError> {
        Ok(None)
    }
}

/// The memory is never pending: one poll is enough.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a backend in memory does not wait"),
    }
}

/// What comes of a request.
pub(super) fn ask(memory: &Memory, request: Request) -> Reply {
    now(execute(memory, request))
}

/// Serves a control socket until the returned sender is dropped; then sends the accounts.
pub(crate) fn serve_control(data: &Path) -> (Sender<()>, Receiver<Vec<Account>>) {
    let listener = UnixListener::bind(control_path(data)).expect("bound");
    let (stop, stopped) = channel();
    let (give, take) = channel();
    listener.set_nonblocking(true).expect("set");
    std::thread::spawn(move || {
        let memory = Memory::default();
        loop {
            match listener.accept() {
                Ok((stream, _)) => serve_connection(&memory, stream),
                Err(_)
                    if stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) =>
                {
                    break;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        // Whoever has the accounts finds nobody listening any more.
        drop(listener);
        let _ = give.send(memory.accounts());
    });
    (stop, take)
}

fn serve_connection(memory: &Memory, mut stream: UnixStream) {
    let mut session = Session::new();
    let mut out = Vec::new();
    let mut input = Vec::new();
    let mut step = session.greet(Instant::now(), &mut out);
    let mut buffer = [0; 100];
    loop {
        match step {
            Step::Ask(request) => {
                let reply = ask(memory, request);
                step = session.answer(reply, Instant::now(), &mut out);
                continue;
            }
            Step::NeedInput | Step::Drain => {}
            Step::Close => {
                let _ = stream.write_all(&out);
                return;
            }
        }
        stream.write_all(&out).expect("sent");
        out.clear();
        if matches!(step, Step::NeedInput) && input.is_empty() {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(n) => input.extend_from_slice(&buffer[..n]),
            }
        }
        let (consumed, next) = session.feed(&input, Instant::now(), &mut out);
        input.drain(..consumed);
        step = next;
    }
}
