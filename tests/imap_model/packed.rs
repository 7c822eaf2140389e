//! A stream that is compressed (RFC 4978) from some point on.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush};

/// Bytes that are read, or packed, at a time.
const PIECE: usize = 16 * 1024;

/// A stream, plain or packed both ways.
pub struct Packed {
    stream: TcpStream,
    packing: Option<Packing>,
}

struct Packing {
    packer: Box<CompressorOxide>,
    unpacker: Box<InflateState>,
    /// Read, and from here on not yet unpacked.
    input: Vec<u8>,
    taken: usize,
}

impl Packed {
    /// Plain.
    pub fn new(stream: TcpStream) -> Packed {
        Packed {
            stream,
            packing: None,
        }
    }

    /// From now on.
    pub fn start(&mut self) {
        // A negative window: no header and no trailer, as RFC 4978 §3 has it.
        let flags = create_comp_flags_from_zip_params(6, -15, 0);
        self.packing = Some(Packing {
            packer: Box::new(CompressorOxide::new(flags)),
            unpacker: InflateState::new_boxed(DataFormat::Raw),
            input: Vec::new(),
            taken: 0,
        });
    }

    pub fn is_packed(&self) -> bool {
        self.packing.is_some()
    }
}

impl Read for Packed {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let Some(packing) = &mut self.packing else {
            return self.stream.read(out);
        };
        loop {
            let input = &packing.input[packing.taken..];
            let done = inflate(&mut packing.unpacker, input, out, MZFlush::None);
            packing.taken += done.bytes_consumed;
            match done.status {
                _ if done.bytes_written > 0 => return Ok(done.bytes_written),
                Ok(_) | Err(MZError::Buf) => {}
                Err(error) => {
                    return Err(Error::new(ErrorKind::InvalidData, format!("{error:?}")));
                }
            }
            packing.input.drain(..packing.taken);
            packing.taken = 0;
            let mut piece = [0; PIECE];
            match self.stream.read(&mut piece)? {
                0 => return Ok(0),
                count => packing.input.extend_from_slice(&piece[..count]),
            }
        }
    }
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let Some(packing) = &mut self.packing else {
            return self.stream.write(bytes);
        };
        let mut left = bytes;
        let mut piece = [0; PIECE];
        loop {
            let done = deflate(&mut packing.packer, left, &mut piece, MZFlush::Sync);
            left = &left[done.bytes_consumed..];
            self.stream.write_all(&piece[..done.bytes_written])?;
            // All is out when there was room for more.
            if left.is_empty() && done.bytes_written < PIECE {
                return Ok(bytes.len());
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.flush()
    }
}
