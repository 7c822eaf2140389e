//! The command's side of the control socket: blocking, one request at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::wire::{Reply, Request, WireError};
use crate::limits;

/// Where the control socket of a data folder is.
pub fn control_path(data: &Path) -> PathBuf {
    data.join("control")
}

/// A connection to a running server.
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why a request got no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket is there, but cannot be used.
    #[error("{path}: cannot reach the running server: {source}", path = path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the server broke ({0}); whether the request was done is not known")]
    Broken(#[from] io::Error),
    /// The server went away before it replied.
    #[error("the server closed the connection; whether the request was done is not known")]
    Closed,
    /// A request or reply out of bounds, or of another version.
    #[error("{0}")]
    Wire(#[from] WireError),
}

impl Client {
    /// Connects to the server of this data folder; `None`: none is running.
    ///
    /// # Errors
    /// When the socket is there but cannot be used, for want of permission for example.
    pub fn connect(data: &Path) -> Result<Option<Client>, ClientError> {
        let path = control_path(data);
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Some(Client {
                stream: BufReader::new(stream),
            })),
            // Refused: the socket of a server that is gone.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(source) => Err(ClientError::Connect { path, source }),
        }
    }

    /// Sends a request and waits for its reply, however long that takes.
    ///
    /// # Errors
    /// Then it is not known whether the request was done, except where it could not be sent.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.stream.get_mut().write_all(&request.encode()?)?;
        let max = limits::ADMIN_REPLY_BYTES_MAX as u64;
        let mut line = Vec::new();
        let bytes = (&mut self.stream).take(max).read_until(b'\n', &mut line)?;
        match line.pop() {
            Some(b'\n') => Ok(Reply::decode(&line)?),
            Some(_) if bytes as u64 == max => Err(ClientError::Wire(WireError::TooLong {
                bytes,
                max: limits::ADMIN_REPLY_BYTES_MAX,
            })),
            _ => Err(ClientError::Closed),
        }
    }
}
