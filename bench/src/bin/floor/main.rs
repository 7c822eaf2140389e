//! The floor: what a mail server on io_uring costs when it does nothing but move the bytes.
//!
//! Bare io_uring on one pinned thread, fixed replies, no parsing beyond line ends and the dot that
//! ends a message, no mailboxes. It appends the message bytes to a file that was preallocated and
//! filled with zeros, and acknowledges a message when the batch that holds it is synced: one batch
//! in flight per file, all that waited meanwhile in the next, each on a block boundary, exactly as
//! the server does it. The server is measured against this, by the same load generator.

mod dialogue;
mod log;
mod server;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ringpost::config::SyncLevel;

use dialogue::Protocol;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bare io_uring mail server for comparison: same dialogue, same bytes, same syncs, nothing else.
///
/// Speaks SMTP unless --lmtp or --pop3 is given. Mail goes to files in --dir that are made anew at
/// every start, wrap round at their end and hold nothing worth reading. Stops on SIGTERM or SIGINT
/// and prints what it has done and the CPU time of all its threads since it began to listen.
#[derive(Debug, Parser)]
#[command(name = "floor", version)]
struct Flags {
    /// Where to listen.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:2625")]
    listen: SocketAddr,
    /// Share the address with other floor servers that share it too: the kernel gives each its part
    /// of the connections, so that there may be more than one process can have.
    #[arg(long)]
    share_address: bool,
    /// CPU to run on, io workers included; not bound unless given.
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Speak LMTP: one reply per recipient.
    #[arg(long, conflicts_with = "pop3")]
    lmtp: bool,
    /// Speak POP3: any user and password, every maildrop holds the same messages from memory.
    #[arg(long)]
    pop3: bool,
    /// Messages in every POP3 maildrop.
    #[arg(long, value_name = "N", default_value_t = 5, requires = "pop3")]
    messages: u32,
    /// Bytes of each POP3 message.
    #[arg(long, value_name = "BYTES", default_value_t = 4096, requires = "pop3")]
    message_bytes: usize,
    /// Folder for the files; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "floor-data")]
    dir: PathBuf,
    /// Files; connections take them in turns.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    files: u32,
    /// MiB of each file: filled with zeros before listening, used round and round.
    #[arg(long, value_name = "MIB", default_value_t = 256,
          value_parser = clap::value_parser!(u64).range(4..=65536))]
    file_mib: u64,
    /// Before a message is acknowledged: 0 written, 1 fdatasync, 2 fsync.
    #[arg(long, value_name = "LEVEL", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(0..=2))]
    sync_level: u8,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("floor: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<(), String> {
    if let Some(cpu) = flags.cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
    {
        return Err(format!("--cpu {cpu}: this CPU is not there or not allowed"));
    }
    let protocol = match (flags.lmtp, flags.pop3) {
        (true, _) => Protocol::Lmtp,
        (_, true) => Protocol::Pop3(dialogue::Maildrop::new(flags.messages, flags.message_bytes)),
        _ => Protocol::Smtp,
    };
    let level = match flags.sync_level {
        0 => SyncLevel::None,
        1 => SyncLevel::Fdatasync,
        _ => SyncLevel::Fsync,
    };
    let stop = server::stop_signals().map_err(|error| format!("signals: {error}"))?;
    let logs = if flags.pop3 {
        Vec::new()
    } else {
        log::create(&flags.dir, flags.files, flags.file_mib << 20, level)?
    };
    let name = protocol.name();
    let listener = server::listen(flags.listen, flags.share_address)?;
    let mut server = server::Server::new(listener, flags.cpu, protocol, logs, stop)?;
    println!("{name} floor listens on {}", server.address());
    let before = cpu_seconds();
    server
        .run()
        .map_err(|error| format!("the ring failed: {error}"))?;
    let text = server.report().text(cpu_seconds().saturating_sub(before));
    // Whoever started us may have gone: nobody is left to be told of an error.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// CPU time of this process, all threads and io workers.
fn cpu_seconds() -> Duration {
    // SAFETY: `rusage` is plain numbers, for which zero is a value, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let time = |value: libc::timeval| {
        Duration::from_secs(value.tv_sec as u64) + Duration::from_micros(value.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}
