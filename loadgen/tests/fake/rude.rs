//! Servers that behave up to a certain point.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::peer::{Doors, Peer};
use super::serve;

/// Whose replies are given while the server still behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Smtp,
    Lmtp,
    Pop3,
}

/// What it does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Neither reads nor says anything any more.
    Hangs,
    /// Resets the connection.
    Resets,
    /// Closes it.
    Closes,
    /// Says this, and then nothing.
    Says(&'static [u8]),
    /// Says this again and again.
    Endless(&'static [u8]),
}

/// A server that goes wrong at a command; at `""`, instead of greeting; at `BODY`, when it has sent
/// 354 and the body is due.
pub fn rude(speaks: Speaks, stage: &'static str, manner: Manner) -> SocketAddr {
    serve(move |stream| {
        // A client that goes away is what is to be seen.
        let _ = session(&stream, speaks, stage, manner);
    })
}

fn session(
    stream: &TcpStream,
    speaks: Speaks,
    stage: &'static str,
    manner: Manner,
) -> std::io::Result<()> {
    let mut peer = Peer::new(stream, &Doors::default())?;
    if stage.is_empty() {
        return misbehave(stream, &mut peer, manner);
    }
    let pop3 = speaks == Speaks::Pop3;
    peer.say(if pop3 { "+OK fake" } else { "220 fake" })?;
    while let Some(line) = peer.line()? {
        let verb = line.split(' ').next().unwrap_or_default();
        if verb == stage {
            return misbehave(stream, &mut peer, manner);
        }
        peer.say(match verb {
            "CAPA" => "+OK\r\nUSER\r\n.",
            "STAT" => "+OK 3 900",
            "LIST" | "UIDL" => "+OK\r\n1 300\r\n.",
            "RETR" => "+OK\r\nSubject: x\r\n\r\nx\r\n.",
            "EHLO" | "LHLO" => "250-fake\r\n250 8BITMIME",
            "DATA" => "354 go",
            "QUIT" if !pop3 => "221 bye",
            _ if pop3 => "+OK",
            _ => "250 ok",
        })?;
        if verb == "DATA" && stage == "BODY" {
            return misbehave(stream, &mut peer, manner);
        }
        if verb == "DATA" {
            while peer.bytes()? != b".\r\n" {}
            peer.say("250 done")?;
        }
    }
    Ok(())
}

fn misbehave(stream: &TcpStream, peer: &mut Peer, manner: Manner) -> std::io::Result<()> {
    match manner {
        Manner::Hangs => {}
        Manner::Closes => return Ok(()),
        Manner::Resets => {
            return Ok(rustix::net::sockopt::set_socket_linger(
                stream,
                Some(Duration::ZERO),
            )?);
        }
        Manner::Says(text) => peer.send(text)?,
        Manner::Endless(text) => {
            let text = text.repeat(65_536 / text.len());
            loop {
                peer.send(&text)?;
            }
        }
    }
    // Longer than any test waits.
    std::thread::sleep(Duration::from_secs(120));
    Ok(())
}
