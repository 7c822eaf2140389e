//! The operator's requests, carried out on the shards: [`admin::Backend`] through the mesh.
//!
//! The same code serves a command while no server runs: then there is one shard without listeners
//! that owns every partition (see [`super::with_store`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use super::telemetry;
use super::wait::Slot;
use crate::admin::{
    AccountEntry, AccountQuery, Backend, BackendError, FirstRun, Listing, Place, Status,
};
use crate::directory::{Change, SITE_PREFIX, Site};
use crate::limits;
use crate::mail::Address;
use crate::store::{Account, AccountChange, Health, Reclaimed, StoreError};

/// Accounts sent to another shard in one job.
const ACCOUNTS_PER_JOB: usize = 256;

/// The shards as an operator's request sees them.
#[derive(Clone)]
pub struct Shards(pub(in crate::shard) Rc<Shard>);

/// Reads the site log at shard 0, makes the first accounts in a store that is new, checks that
/// there is a postmaster [N9], and gives every shard the snapshot.
pub(super) async fn open_site(shard: &Rc<Shard>) -> Result<Option<FirstRun>, String> {
    read_site(shard).await?;
    let backend = Shards(Rc::clone(shard));
    let first = FirstRun::provision(&backend, &shard.config.domain).await?;
    let site = shard.site();
    let account = match site.postmaster() {
        Some(postmaster) => backend
            .account(postmaster)
            .await
            .map_err(|error| error.to_string())?,
        None => None,
    };
    site.check_postmaster(|_| account.is_some())
        .map_err(|error| error.to_string())?;
    Ok(first)
}

/// Reads the site log and gives every shard the snapshot.
pub(super) async fn read_site(shard: &Rc<Shard>) -> Result<(), String> {
    let log = shard.site_log.get().ok_or("the site log is not open")?;
    let mut entries = Vec::new();
    log.for_each_key(SITE_PREFIX, |key, value| {
        entries.push((key.to_vec(), value.to_vec()));
    });
    let site = Site::load(entries).map_err(|error| error.to_string())?;
    publish(shard, site.with_configured(&shard.config.domain)).await;
    Ok(())
}

/// Gives every shard a snapshot; returns when all have it.
async fn publish(shard: &Rc<Shard>, site: Site) {
    let site = Arc::new(site);
    for id in 0..shard.mesh.shards() {
        let copy = Arc::clone(&site);
        shard
            .mesh
            .call(shard, id, async move |there| there.set_site(copy))
            .await;
    }
}

/// Applies changes to the site log at shard 0, in one batch, then gives every shard the snapshot.
async fn change_site(shard: &Rc<Shard>, changes: Vec<Change>) -> Result<(), BackendError> {
    let log = shard.site_log.get().ok_or(StoreError::Closing)?;
    let mut site = Site::clone(&shard.site());
    for change in &changes {
        site.apply(&change.key, change.value.as_deref())
            .map_err(|error| BackendError::Failed(error.to_string()))?;
    }
    log.put_all(
        changes
            .into_iter()
            .map(|change| (change.key, change.value))
            .collect(),
    )
    .await?;
    publish(shard, site).await;
    Ok(())
}

impl Shards {
    /// Changes which accounts share with anyone: one such change at a time, as an operator's
    /// requests are.
    pub(super) async fn change_sharing(&self, change: Change) -> Result<(), BackendError> {
        self.0
            .mesh
            .call(&self.0, 0, async move |keeper| {
                // Calls that wait for others to end must stay few.
                if keeper.control.waiting() >= limits::SHARING_WAITING_MAX {
                    let text = "too much is being changed at once, try again later";
                    return Err(BackendError::Failed(text.to_owned()));
                }
                let _turn = keeper.control.acquire().await;
                change_site(&keeper, vec![change]).await
            })
            .await
    }

    /// Forgets on every shard what was remembered of an account.
    async fn forget(&self, address: &Address) {
        for id in 0..self.0.mesh.shards() {
            let gone = address.clone();
            self.0
                .mesh
                .call(&self.0, id, async move |there| {
                    there.recipients.forget(&gone);
                    there.auth_cache.borrow_mut().invalidate(&gone);
                })
                .await;
        }
    }
}

impl Backend for Shards {
    fn site(&self) -> Arc<Site> {
        self.0.site()
    }

    async fn change_site(&self, changes: Vec<Change>) -> Result<(), BackendError> {
        self.0
            .mesh
            .call(&self.0, 0, async move |keeper| {
                change_site(&keeper, changes).await
            })
            .await
    }

    async fn create_accounts(&self, accounts: Vec<Account>) -> Vec<Result<(), BackendError>> {
        let count = accounts.len();
        let mut per_partition: BTreeMap<u16, Vec<(usize, Account)>> = BTreeMap::new();
        for (index, account) in accounts.into_iter().enumerate() {
            let number = self.0.partition_of(&account.address);
            per_partition
                .entry(number)
                .or_default()
                .push((index, account));
        }
        let mut results: Vec<Option<Result<(), BackendError>>> = vec![None; count];
        for (number, mut wanted) in per_partition {
            while !wanted.is_empty() {
                let rest = wanted.split_off(wanted.len().min(ACCOUNTS_PER_JOB));
                let (places, job): (Vec<usize>, Vec<Account>) = wanted.into_iter().unzip();
                wanted = rest;
                let asked = job.len();
                let done = self
                    .0
                    .on_partition(number, async move |partition| {
                        Ok(create_together(&partition, job).await)
                    })
                    .await
                    .unwrap_or_else(|error| vec![Err(error.into()); asked]);
                for (place, result) in places.into_iter().zip(done) {
                    results[place] = Some(result);
                }
            }
        }
        let missing = || Err(BackendError::Failed("no answer".to_owned()));
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(missing))
            .collect()
    }

    async fn update_account(
        &self,
        address: &Address,
        change: AccountChange,
    ) -> Result<Account, BackendError> {
        let changed = address.clone();
        let account = self
            .0
            .on_partition(self.0.partition_of(address), async move |partition| {
                partition.update_account(&changed, change).await
            })
            .await?;
        self.forget(address).await;
        Ok(account)
    }

    async fn telemetry(
        &self,
        address: &Address,
        on: Option<bool>,
    ) -> Result<(bool, PathBuf), BackendError> {
        let folder = telemetry::folder_of(&self.0.config.data, address);
        let wanted = address.clone();
        let owner = self.0.owner_of(self.0.partition_of(address));
        let is_on = self
            .0
            .mesh
            .call(&self.0, owner, async move |there| {
                record_user(&there, &wanted, on).await
            })
            .await?;
        Ok((is_on, folder))
    }

    async fn remove_account(&self, address: &Address) -> Result<(), BackendError> {
        let gone = address.clone();
        let number = self.0.partition_of(address);
        self.0
            .on_partition(number, async move |partition| {
                partition.remove_account(&gone).await
            })
            .await?;
        let gone = address.clone();
        let owner = self.0.owner_of(number);
        self.0
            .mesh
            .call(&self.0, owner, async move |there| {
                there.connections.end_removed(&there, &gone);
            })
            .await;
        if let Ok(Some(change)) = self.0.site().share(address, false) {
            self.change_site(vec![change]).await?;
        }
        self.forget(address).await;
        Ok(())
    }

    async fn account(&self, address: &Address) -> Result<Option<Account>, BackendError> {
        let wanted = address.clone();
        let found = self
            .0
            .on_partition(self.0.partition_of(address), async move |partition| {
                Ok(partition.account(&wanted))
            })
            .await?;
        Ok(found)
    }

    async fn used_bytes(&self, address: &Address) -> Result<u64, BackendError> {
        let wanted = address.clone();
        let used = self
            .0
            .on_partition(self.0.partition_of(address), async move |partition| {
                Ok(partition.used_bytes(&wanted))
            })
            .await?;
        Ok(used)
    }

    async fn is_administrator(&self, address: &Address) -> Result<bool, BackendError> {
        let wanted = address.clone();
        let found = self
            .0
            .on_partition(self.0.partition_of(address), async move |partition| {
                Ok(partition.is_administrator(&wanted))
            })
            .await?;
        Ok(found)
    }

    async fn set_administrator(&self, address: &Address, on: bool) -> Result<(), BackendError> {
        let changed = address.clone();
        self.0
            .on_partition(self.0.partition_of(address), async move |partition| {
                partition.set_administrator(&changed, on).await
            })
            .await?;
        Ok(())
    }

    async fn list_accounts(&self, query: AccountQuery) -> Result<Vec<AccountEntry>, BackendError> {
        let mut parts = Vec::new();
        for id in 0..self.0.mesh.shards() {
            let wanted = query.clone();
            let part = self
                .0
                .mesh
                .call(&self.0, id, async move |owner| {
                    let mut listing = Listing::new(wanted);
                    for (_, partition) in owner.own_partitions() {
                        partition.for_each_account(|account| listing.offer(account));
                    }
                    listing.finish(|address| {
                        let partition = owner.partition(owner.partition_of(address));
                        partition.map_or((0, false), |partition| {
                            (
                                partition.used_bytes(address),
                                partition.is_administrator(address),
                            )
                        })
                    })
                })
                .await;
            parts.push(part);
        }
        Ok(Listing::join(parts, query.max))
    }

    async fn expire_now(&self) -> Result<Reclaimed, BackendError> {
        let mut total = Reclaimed::default();
        let mut todo: Vec<u16> = (0..self.0.layout.partitions()).collect();
        loop {
            let before = total;
            let mut failed = Vec::new();
            for number in todo {
                let done = self
                    .0
                    .on_partition(number, async move |partition| partition.expire_now().await)
                    .await;
                match done {
                    Ok(reclaimed) => total += reclaimed,
                    Err(error) => failed.push((number, error)),
                }
            }
            // On a full disk what one gives back may be what another needs to begin.
            match failed.first() {
                None => return Ok(total),
                Some((number, error)) if total == before => {
                    let text = format!("partition {number}: {error}");
                    return Err(BackendError::Failed(text));
                }
                Some(_) => todo = failed.into_iter().map(|(number, _)| number).collect(),
            }
        }
    }

    fn place(&self, address: &Address) -> Place {
        let partition = self.0.partition_of(address);
        let owner = self.0.owner_of(partition);
        Place {
            partition,
            shard: self.0.running.as_ref().map(|run| (owner, run.cpus[owner])),
            path: self.0.layout.partition_dir(partition),
        }
    }

    async fn status(&self) -> Result<Option<Status>, BackendError> {
        let Some(run) = &self.0.running else {
            return Ok(None);
        };
        let unwell = super::services::health(&self.0)
            .await
            .into_iter()
            .filter(|(_, _, health)| *health != Health::Good)
            .map(|(name, _, health)| format!("{name}: {health}"))
            .collect();
        Ok(Some(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: run.started.elapsed().as_secs(),
            processors: run.cpus.clone(),
            partitions: self.0.layout.partitions(),
            listeners: run.listeners.clone(),
            unwell,
        }))
    }
}

/// Notes with an account whether its connections are written down, and sees to those that are open.
async fn record_user(
    owner: &Rc<Shard>,
    address: &Address,
    on: Option<bool>,
) -> Result<bool, BackendError> {
    let partition = owner
        .partition(owner.partition_of(address))
        .ok_or(StoreError::Closing)?;
    if partition.account(address).is_none() {
        return Err(BackendError::Missing);
    }
    if let Some(on) = on {
        let value = on.then(Vec::new);
        partition
            .put_value(address, None, telemetry::VALUE, value)
            .await?;
        owner.connections.record_user(owner, address);
    }
    Ok(owner.wants_telemetry(address))
}

/// Makes accounts of one partition, all of them in flight at once, so that they share batches.
async fn create_together(
    partition: &Rc<super::LocalPartition>,
    accounts: Vec<Account>,
) -> Vec<Result<(), BackendError>> {
    let mut slots = Vec::with_capacity(accounts.len());
    for account in accounts {
        let slot = Slot::new();
        slots.push(Rc::clone(&slot));
        let partition = Rc::clone(partition);
        super::spawn(async move {
            slot.fill(partition.create_account(account).await);
        });
    }
    let mut results = Vec::with_capacity(slots.len());
    for slot in slots {
        results.push(slot.take().await.map_err(BackendError::from));
    }
    results
}

/// What a running server shows of itself.
pub(super) struct Running {
    /// Processor of each shard.
    pub(super) cpus: Vec<usize>,
    /// As printed at start.
    pub(super) listeners: Vec<String>,
    pub(super) started: std::time::Instant,
}
