//! A server that is started for one run and ended with it, by its process id.
//!
//! Guarantees: what was started is ended, whatever happens in between (short of a kill of loadgen
//! itself); an answer at the place where the server is to listen is not taken for the server's when
//! another one listens there already.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::file::ServerFile;
use crate::target::Target;

/// A server has so long to take connections.
const READY_TIME_MAX: Duration = Duration::from_secs(120);
/// It has so long to end when told to; then it is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(60);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// One attempt to connect.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// Bytes of a server's output that are shown when it does not start.
const OUTPUT_SHOWN_MAX: usize = 2000;

/// A server at work.
#[derive(Debug)]
pub struct Server {
    child: Child,
    stop: Signal,
    output: PathBuf,
}

/// The shell with what commands of a file may use.
fn shell(script: &str, data: &Path, output: &Path) -> Result<Command, String> {
    let wrong = |e: io::Error| format!("{}: {e}", output.display());
    let file = File::options()
        .create(true)
        .append(true)
        .open(output)
        .map_err(wrong)?;
    let own = std::env::current_exe().map_err(|e| format!("where loadgen is: {e}"))?;
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .env("BIN", own.parent().unwrap_or(Path::new(".")))
        .env("DATA", data)
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(wrong)?)
        .stderr(file)
        // Ctrl-C is for the generator; the server is ended afterwards.
        .process_group(0);
    Ok(command)
}

fn listens(target: &Target) -> bool {
    match target {
        Target::Tcp(address) | Target::Host(_, address) => {
            TcpStream::connect_timeout(address, CONNECT_TIME_MAX).is_ok()
        }
        Target::Unix(path) => UnixStream::connect(path).is_ok(),
    }
}

impl Server {
    /// Starts a server with its data in `data`, what it prints in `output`, and waits until it is
    /// ready and set up; `over` tells when nobody wants it any more.
    ///
    /// # Errors
    /// When it does not come up, with what it printed.
    pub fn start(
        file: &ServerFile,
        data: &Path,
        output: &Path,
        over: &dyn Fn() -> bool,
    ) -> Result<Server, String> {
        if listens(&file.ready) {
            return Err(format!(
                "server.ready: something listens on {} already; end it, or choose another port",
                file.ready
            ));
        }
        // The shell makes room for the server, whose process id is known so.
        let mut command = shell(&format!("exec {}", file.start), data, output)?;
        let child = command
            .spawn()
            .map_err(|e| format!("server.start: sh: {e}"))?;
        let mut server = Server {
            child,
            stop: file.stop,
            output: output.to_owned(),
        };
        let began = Instant::now();
        while !listens(&file.ready) {
            let ended = server.child.try_wait().map_err(|e| e.to_string())?;
            if let Some(status) = ended {
                return Err(format!(
                    "server.start: it ended ({status}): {}",
                    server.printed()
                ));
            }
            if began.elapsed() > READY_TIME_MAX {
                return Err(format!(
                    "server.ready: nothing listens on {} after {READY_TIME_MAX:?}: {}",
                    file.ready,
                    server.printed()
                ));
            }
            if over() {
                return Err("interrupted while a server started".to_owned());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        if let Some(setup) = &file.setup {
            let mut command = shell(setup, data, output)?;
            let status = command
                .status()
                .map_err(|e| format!("server.setup: sh: {e}"))?;
            if !status.success() {
                return Err(format!("server.setup: {status}: {}", server.printed()));
            }
        }
        Ok(server)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it printed.
    fn printed(&self) -> String {
        let text = std::fs::read(&self.output).unwrap_or_default();
        let text = &text[text.len().saturating_sub(OUTPUT_SHOWN_MAX)..];
        format!(
            "{} ({})",
            String::from_utf8_lossy(text).trim(),
            self.output.display()
        )
    }

    /// Ends it and waits for its end; true: it ended when told to, and was not killed.
    fn end(&mut self) -> bool {
        let told = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let told = told.is_some_and(|pid| kill_process(pid, self.stop).is_ok());
        let began = Instant::now();
        while told && began.elapsed() < STOP_TIME_MAX {
            match self.child.try_wait() {
                Ok(Some(_)) => return true,
                Ok(None) => std::thread::sleep(LOOK_EVERY),
                Err(_) => break,
            }
        }
        // Nothing is left to do with a process that cannot even be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        false
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it had ended before, or had to be killed.
    pub fn stop(mut self) -> Result<(), String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!(
                "the server ended before its run did ({status}): {}",
                self.printed()
            ));
        }
        if self.end() {
            return Ok(());
        }
        Err(format!(
            "the server did not end within {STOP_TIME_MAX:?} and was killed: {}",
            self.printed()
        ))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(start: &str, ready: &str) -> ServerFile {
        ServerFile {
            start: start.to_owned(),
            ready: ready.parse().expect("a target"),
            setup: None,
            stop: Signal::TERM,
        }
    }

    fn start(file: &ServerFile) -> Result<Server, String> {
        let dir = tempfile::tempdir().expect("a folder");
        Server::start(file, dir.path(), &dir.path().join("log"), &|| false)
    }

    #[test]
    fn a_server_that_ends_tells_why() {
        let why =
            start(&file("sh -c 'echo no such flag; exit 3'", "127.0.0.1:1")).expect_err("ended");
        assert!(
            why.contains("exit status: 3") && why.contains("no such flag"),
            "{why}"
        );
    }

    #[test]
    fn another_server_is_not_taken_for_ours() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = other.local_addr().expect("an address").to_string();
        let why = start(&file("sleep 60", &address)).expect_err("taken");
        assert!(why.contains("already"), "{why}");
    }

    #[test]
    fn nobody_waits_for_a_server_when_interrupted() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = file("sleep 60", "127.0.0.1:1");
        let why = Server::start(&file, dir.path(), &dir.path().join("log"), &|| true);
        assert!(why.expect_err("interrupted").contains("interrupted"));
    }
}
