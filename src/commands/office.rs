//! Where a command's requests are done: by the running server, or on the store itself.

use std::io::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use super::Failure;
use crate::admin::{self, Client, Reply, Request};
use crate::config::{Config, Effective, Origin};
use crate::shard::{self, Shards};

/// Does requests, one after the other.
pub(super) enum Office {
    /// A server runs on the data folder.
    Live(Client),
    /// None does: the store is ours, and its lock.
    Own(Shards),
}

impl Office {
    /// Does a request. A [`Reply::Error`] is an error here.
    pub(super) async fn ask(&mut self, request: Request) -> Result<Reply, Failure> {
        let reply = match self {
            Office::Live(client) => client.ask(&request).map_err(Failure::new)?,
            Office::Own(shards) => admin::execute(shards, request).await,
        };
        match reply {
            Reply::Error { message } => Err(Failure::Failed(message)),
            reply => Ok(reply),
        }
    }
}

/// The reply is of another kind than the request asks for: another version's server.
pub(super) fn unexpected() -> Failure {
    Failure::Failed(
        "the running server does not understand this command; is it of another version?".to_owned(),
    )
}

/// Runs `work` on the office of this data folder.
pub(super) fn run<F, W>(effective: Effective, work: W) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
    W: FnOnce(Office) -> F + Send + 'static,
{
    if let Some(client) = Client::connect(&effective.config.data).map_err(Failure::new)? {
        return block_on(work(Office::Live(client)));
    }
    log_warnings(&effective);
    shard::with_store(effective.config, move |shards| work(Office::Own(shards)))
        .map_err(Failure::new)?
}

/// Says what runs on the data folder.
pub(super) fn status(config: &Config) -> Result<(), Failure> {
    let Some(mut client) = Client::connect(&config.data).map_err(Failure::new)? else {
        return Err(Failure::Failed(format!(
            "no server runs on {}",
            config.data.display()
        )));
    };
    let status = match client.ask(&Request::Status).map_err(Failure::new)? {
        Reply::Status(status) => status,
        Reply::Error { message } => return Err(Failure::Failed(message)),
        _ => return Err(unexpected()),
    };
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "Ringpost {}, process {}, up for {} s",
        status.version, status.pid, status.uptime_s
    )?;
    writeln!(
        out,
        "{} shards on processors {:?}, {} partitions",
        status.processors.len(),
        status.processors,
        status.partitions
    )?;
    for listener in &status.listeners {
        writeln!(out, "  {listener}")?;
    }
    for partition in &status.unwell {
        writeln!(out, "  {partition}")?;
    }
    Ok(())
}

/// What recovery has to say is said here, too; the rest only when `--log` asks for it.
fn log_warnings(effective: &Effective) {
    let filter = match effective.origin("log") {
        Some(Origin::Default) | None => "warn",
        Some(_) => &effective.config.log,
    };
    // A second command in one process (in tests) finds it set.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

/// Runs a future on this thread: with a live server its requests block, so it never waits long.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
