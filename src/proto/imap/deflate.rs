//! Raw DEFLATE (RFC 1951) for connections that are idle most of their time: COMPRESS (RFC 4978).
//!
//! Guarantees: input is unpacked in pieces of at most `limits::INFLATE_PIECE_BYTES` and
//! `limits::INFLATE_PIECE_BLOCKS`, whatever it stands for; between turns an [`Inflater`] holds what the peer may still refer to, at most
//! `limits::INFLATE_WINDOW_BYTES` and never more than the peer has sent, and [`pack`] holds nothing:
//! each turn's output refers to nothing before it, so one compressor serves all connections of a
//! thread. That costs some of the ratio of short responses; those to FETCH and SEARCH, which are
//! worth it, are long enough.
//! Does not know: commands, connections.
//! On failure: says that the input is damaged; from there nothing can be read.

use std::cell::RefCell;

use miniz_oxide::DataFormat;
use miniz_oxide::deflate::core::{
    CompressionStrategy, CompressorOxide, TDEFLFlush, compress_to_output,
};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
    TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{BlockBoundaryState, DecompressorOxide, decompress};

use crate::limits::{
    INFLATE_BLOCK_BYTES, INFLATE_PIECE_BLOCKS, INFLATE_PIECE_BYTES, INFLATE_WINDOW_BYTES,
};

/// Level of compression, 0 to 10: mail is not worth more time.
const LEVEL: u8 = 4;
const FLAGS: u32 = TINFL_FLAG_HAS_MORE_INPUT
    | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY
    | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;

/// Bytes of a command line and its like.
const TEXT_BYTES: usize = 512;

thread_local! {
    static PRESS: RefCell<Option<Press>> = const { RefCell::new(None) };
}

/// What packs the output of all connections of a thread.
struct Press {
    compressor: Box<CompressorOxide>,
    plain: Vec<u8>,
}

/// Compressed input is damaged, or goes on behind its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

/// What one call of [`Inflater::unpack`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// Bytes of input taken.
    pub(super) used: usize,
    /// Bytes that came out.
    pub(super) given: usize,
    /// Blocks that ended.
    pub(super) blocks: usize,
}

impl Unpacked {
    /// What it counts in a turn ([`crate::limits::INFLATE_TURN_BYTES`]), in bytes.
    pub(super) fn turn_bytes(self) -> usize {
        self.given + self.blocks * INFLATE_BLOCK_BYTES
    }
}

/// Unpacks one direction of one connection.
#[derive(Default)]
pub(super) struct Inflater {
    /// What was unpacked: first what the peer may still refer to, then what is not taken yet.
    plain: Vec<u8>,
    taken: usize,
    state: State,
    /// There may be more without another byte of input.
    is_full: bool,
}

enum State {
    /// Between two blocks: this is all there is to know.
    Between(BlockBoundaryState),
    Within(Box<DecompressorOxide>),
    /// The peer has ended the stream.
    Ended,
}

impl Default for State {
    fn default() -> State {
        State::Between(BlockBoundaryState::default())
    }
}

impl Inflater {
    /// Unpacked and not taken yet.
    pub(super) fn pending(&self) -> &[u8] {
        &self.plain[self.taken..]
    }

    /// Takes so many bytes of [`Inflater::pending`].
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken = (self.taken + bytes).min(self.plain.len());
    }

    /// More can be unpacked without another byte of input.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Bytes of memory held.
    pub(super) fn held_bytes(&self) -> usize {
        let state = match &self.state {
            State::Within(_) => size_of::<DecompressorOxide>(),
            State::Between(_) | State::Ended => 0,
        };
        self.plain.capacity() + state
    }

    /// Unpacks at most [`INFLATE_PIECE_BYTES`] and [`INFLATE_PIECE_BLOCKS`] more. There may be more to
    /// do while `input` is not used up, or [`Inflater::is_full`].
    ///
    /// # Errors
    /// See [`Damaged`].
    pub(super) fn unpack(&mut self, input: &[u8]) -> Result<Unpacked, Damaged> {
        let mut state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Between(state) => Box::new(DecompressorOxide::from_block_boundary_state(&state)),
            State::Within(state) => state,
            State::Ended if input.is_empty() => {
                self.is_full = false;
                return Ok(Unpacked {
                    used: 0,
                    given: 0,
                    blocks: 0,
                });
            }
            State::Ended => return Err(Damaged),
        };
        self.forget(INFLATE_PIECE_BYTES);
        let start = self.plain.len();
        let end = start + INFLATE_PIECE_BYTES;
        // A command seldom unpacks to more; more room is made when it does.
        self.plain
            .resize(end.min(start + TEXT_BYTES.max(4 * input.len())), 0);
        let (mut used, mut position, mut blocks) = (0, start, 0);
        let result = loop {
            let (status, taken, given) =
                decompress(&mut state, &input[used..], &mut self.plain, position, FLAGS);
            used += taken;
            position += given;
            blocks += usize::from(status == TINFLStatus::BlockBoundary);
            match status {
                // Each has its tables built, whether anything is in it or not.
                TINFLStatus::BlockBoundary
                    if used < input.len() && blocks < INFLATE_PIECE_BLOCKS => {}
                TINFLStatus::HasMoreOutput if self.plain.len() < end => {
                    self.plain.resize(end, 0);
                }
                status => break status,
            }
        };
        self.plain.truncate(position);
        self.is_full = result == TINFLStatus::HasMoreOutput;
        self.state = match result {
            TINFLStatus::HasMoreOutput | TINFLStatus::NeedsMoreInput => State::Within(state),
            TINFLStatus::BlockBoundary => match state.block_boundary_state() {
                Some(between) => State::Between(between),
                None => State::Within(state),
            },
            TINFLStatus::Done => State::Ended,
            _ => return Err(Damaged),
        };
        Ok(Unpacked {
            used,
            given: position - start,
            blocks,
        })
    }

    /// Gives memory back; what the peer may still refer to stays.
    pub(super) fn rest(&mut self) {
        self.forget(0);
        self.plain.shrink_to_fit();
    }

    /// Forgets what nothing can refer to any more, if that is more than so many bytes.
    fn forget(&mut self, slack: usize) {
        let old = self.taken.saturating_sub(INFLATE_WINDOW_BYTES);
        if old > slack {
            self.plain.drain(..old);
            self.taken -= old;
        }
    }
}

/// Packs `out[start..]` in place, up to a byte's end (a sync flush), so that the peer can unpack all of
/// it. Nothing becomes nothing.
pub(super) fn pack(out: &mut Vec<u8>, start: usize) {
    if out.len() <= start {
        return;
    }
    PRESS.with_borrow_mut(|press| {
        let press = press.get_or_insert_with(Press::new);
        press.plain.clear();
        press.plain.extend_from_slice(&out[start..]);
        out.truncate(start);
        press.compressor.reset();
        // Fails only where the callback says so.
        compress_to_output(
            &mut press.compressor,
            &press.plain,
            TDEFLFlush::Sync,
            |bytes| {
                out.extend_from_slice(bytes);
                true
            },
        );
    });
}

impl Press {
    fn new() -> Press {
        let compressor =
            CompressorOxide::with_params(DataFormat::Raw, LEVEL, CompressionStrategy::Default, 15);
        Press {
            compressor: Box::new(compressor),
            plain: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a client would that keeps its window: one stream, flushed behind each text.
    fn packed(texts: &[Vec<u8>]) -> Vec<u8> {
        let mut press = Press::new();
        let mut out = Vec::new();
        for text in texts {
            compress_to_output(&mut press.compressor, text, TDEFLFlush::Sync, |bytes| {
                out.extend_from_slice(bytes);
                true
            });
        }
        out
    }

    /// All that comes out, unpacked from pieces.
    fn unpacked(input: &[u8], piece_bytes: usize) -> Result<Vec<u8>, Damaged> {
        let mut inflater = Inflater::default();
        let mut plain = Vec::new();
        for mut piece in input.chunks(piece_bytes) {
            while !piece.is_empty() || inflater.is_full() {
                let unpacked = inflater.unpack(piece)?;
                let (used, given) = (unpacked.used, unpacked.given);
                assert!(given <= INFLATE_PIECE_BYTES && unpacked.blocks <= INFLATE_PIECE_BLOCKS);
                assert_eq!(inflater.pending().len(), given);
                plain.extend_from_slice(inflater.pending());
                inflater.take(given);
                piece = &piece[used..];
                let held = inflater.plain.capacity();
                assert!(
                    held <= 2 * (INFLATE_WINDOW_BYTES + 2 * INFLATE_PIECE_BYTES),
                    "{held}"
                );
            }
            inflater.rest();
            assert!(inflater.plain.capacity() <= INFLATE_WINDOW_BYTES.min(plain.len()));
        }
        Ok(plain)
    }

    fn text(seed: u32, bytes: usize) -> Vec<u8> {
        let mut state = seed;
        let mut text = Vec::new();
        while text.len() < bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let word =
                ["FETCH ", "(FLAGS) ", "UID ", "1:*", "\r\n", "x"][(state >> 24) as usize % 6];
            text.extend_from_slice(word.as_bytes());
            text.push(b'0' + (state >> 20) as u8 % 10);
        }
        text.truncate(bytes);
        text
    }

    #[test]
    fn far_references_and_all_pieces() {
        let texts: Vec<Vec<u8>> = (0..40).map(|round| text(round % 7, 20_000)).collect();
        let input = packed(&texts);
        assert!(input.len() < 400_000);
        for piece_bytes in [1, 7, 1000, usize::MAX] {
            assert_eq!(
                unpacked(&input, piece_bytes),
                Ok(texts.concat()),
                "{piece_bytes}"
            );
        }
    }

    #[test]
    fn between_turns_only_the_window_is_held() {
        let mut inflater = Inflater::default();
        let input = packed(&[b"a NOOP\r\n".to_vec()]);
        let unpacked = inflater.unpack(&input).unwrap();
        assert_eq!((unpacked.used, unpacked.given), (input.len(), 8));
        inflater.take(8);
        inflater.rest();
        assert_eq!(inflater.held_bytes(), 8);
    }

    #[test]
    fn a_bomb_comes_in_pieces() {
        let input = packed(&[vec![b' '; 50_000_000]]);
        assert!(input.len() < 100_000);
        assert_eq!(
            unpacked(&input, 8192).map(|plain| plain.len()),
            Ok(50_000_000)
        );
    }

    #[test]
    fn behind_the_end_nothing_may_come() {
        // One block of stored bytes, the last one: RFC 1951 §3.2.4.
        let ended = b"\x01\x02\x00\xfd\xffhi";
        assert_eq!(unpacked(ended, 3), Ok(b"hi".to_vec()));
        assert_eq!(unpacked(&[&ended[..], b"\0"].concat(), 100), Err(Damaged));
        assert_eq!(unpacked(b"\x07", 1), Err(Damaged));
    }

    #[test]
    fn turns_refer_to_nothing_before_them() {
        let texts = [text(1, 100), text(1, 100), text(2, 100_000)];
        let mut out = b"plain".to_vec();
        for text in &texts {
            let start = out.len();
            out.extend_from_slice(text);
            pack(&mut out, start);
        }
        let before = out.len();
        pack(&mut out, before);
        assert_eq!(out.len(), before);
        assert!(before < 40_000, "{before} bytes");
        assert_eq!(unpacked(&out[5..], usize::MAX), Ok(texts.concat()));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces(input in prop::collection::vec(any::<u8>(), 1..200), piece in 1usize..9) {
            prop_assert_eq!(unpacked(&input, piece).is_ok(), unpacked(&input, usize::MAX).is_ok());
        }
    }
}
