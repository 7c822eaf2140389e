//! Made messages: a text with places for ids and the checksum, sent whole or cut to a size.

use std::ops::Range;

use super::{Framing, MESSAGE_BYTES_MAX, MessageId, Shape, hex_into};

/// Bytes of body between two copies of the id.
const MARK_EVERY_BYTES: usize = 1024;
/// Bytes of text of a line, CRLF not counted.
const LINE_BYTES_MAX: usize = 76;
/// What the last line of a cut message is filled with.
const FILLING: [u8; LINE_BYTES_MAX + 3] = [b'='; LINE_BYTES_MAX + 3];
/// Ends [`Framing::Dots`].
const DOT_END: &[u8] = b".\r\n";

/// A message without its ids and its checksum.
#[derive(Debug)]
pub(super) struct Template {
    /// As sent, with the final dot only where it is not cut; zeros stand for ids and checksum.
    wire: Vec<u8>,
    id_offsets: Vec<usize>,
    sum_offset: usize,
    /// The body, without the dots that stuffing adds.
    body: Vec<Range<usize>>,
    /// Bytes of the smallest message: the header and one line.
    bytes_min: usize,
    /// Bytes before stuffing.
    bytes: usize,
    framing: Framing,
    /// Where it can be cut: ends of header and lines, before stuffing and in `wire`. Empty where it
    /// is sent whole only.
    ends: Vec<(usize, usize)>,
}

impl Template {
    /// Of `bytes`, before stuffing.
    ///
    /// # Errors
    /// When that is too small for the header and a line, or absurdly large.
    pub fn new(
        shape: &Shape,
        bytes: usize,
        cuttable: bool,
        date: &str,
        random: &mut fastrand::Rng,
    ) -> Result<Template, String> {
        let mut template = Template {
            wire: Vec::with_capacity(bytes.min(MESSAGE_BYTES_MAX) + bytes / 64 + 1024),
            id_offsets: Vec::new(),
            sum_offset: 0,
            body: Vec::new(),
            bytes_min: 0,
            bytes,
            framing: shape.framing,
            ends: Vec::new(),
        };
        template.header(shape, date);
        template.bytes_min = template.wire.len() + LINE_BYTES_MAX + 2;
        template.allows(bytes)?;
        template.fill(cuttable, random);
        if !cuttable && shape.framing == Framing::Dots {
            template.wire.extend_from_slice(DOT_END);
        }
        Ok(template)
    }

    /// Smallest and largest message, in bytes before stuffing.
    pub fn bytes_range(&self) -> (usize, usize) {
        (self.bytes_min, self.bytes)
    }

    /// # Errors
    /// When a message of so many bytes cannot be made.
    pub fn allows(&self, bytes: usize) -> Result<(), String> {
        if (self.bytes_min..=MESSAGE_BYTES_MAX).contains(&bytes) {
            return Ok(());
        }
        Err(format!(
            "a message of {bytes} bytes cannot be made: allowed are {} (the header and one line) \
             to {MESSAGE_BYTES_MAX}",
            self.bytes_min
        ))
    }

    /// Appends the whole of it, as it goes over the wire.
    pub fn build(&self, id: MessageId, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.wire);
        let message = &mut out[start..];
        let text = id.text();
        for &offset in &self.id_offsets {
            message[offset..offset + text.len()].copy_from_slice(&text);
        }
        let mut sum = crc32c::crc32c(&text);
        for range in &self.body {
            sum = crc32c::crc32c_append(sum, &message[range.clone()]);
        }
        let sum_at = self.sum_offset;
        hex_into(u64::from(sum), &mut message[sum_at..sum_at + 8]);
    }

    /// Appends the beginning of it and one line of filling, `bytes` in all before stuffing, as that
    /// goes over the wire. `bytes` are within [`Template::bytes_range`].
    pub fn build_cut(&self, bytes: usize, id: MessageId, out: &mut Vec<u8>) {
        // The last end with nothing behind it, or with room for a line end at least.
        let mut last = self.ends.partition_point(|(end, _)| *end <= bytes);
        if last > 1 && self.ends[last - 1].0 + 1 == bytes {
            last -= 1;
        }
        let (end, wire_end) = self.ends[last.saturating_sub(1)];
        let start = out.len();
        out.extend_from_slice(&self.wire[..wire_end]);
        let message = &mut out[start..];
        let text = id.text();
        for &offset in &self.id_offsets {
            if offset >= wire_end {
                break;
            }
            message[offset..offset + text.len()].copy_from_slice(&text);
        }
        let mut sum = crc32c::crc32c(&text);
        for range in &self.body {
            if range.start >= wire_end {
                break;
            }
            let part = range.start..range.end.min(wire_end);
            sum = crc32c::crc32c_append(sum, &message[part]);
        }
        let filling_at = out.len();
        if end < bytes {
            // 2 to 81 bytes are left.
            out.extend_from_slice(&FILLING[..bytes - end - 2]);
            out.extend_from_slice(b"\r\n");
        }
        sum = crc32c::crc32c_append(sum, &out[filling_at..]);
        let sum_at = start + self.sum_offset;
        hex_into(u64::from(sum), &mut out[sum_at..sum_at + 8]);
        if self.framing == Framing::Dots {
            out.extend_from_slice(DOT_END);
        }
    }

    fn id(&mut self) {
        self.id_offsets.push(self.wire.len());
        self.wire.extend_from_slice(&[b'0'; MessageId::TEXT_BYTES]);
    }

    fn header(&mut self, shape: &Shape, date: &str) {
        let text = format!(
            "From: <{}>\r\nTo: recipients@{}\r\nDate: {date}\r\nSubject: loadgen ",
            shape.sender, shape.domain
        );
        self.wire.extend_from_slice(text.as_bytes());
        self.id();
        self.wire.extend_from_slice(b"\r\nMessage-ID: <");
        self.id();
        self.wire.extend_from_slice(b"@loadgen.invalid>\r\n");
        self.wire.extend_from_slice(b"X-Loadgen-Id: ");
        self.id();
        self.wire.extend_from_slice(b"\r\nX-Loadgen-Sum: ");
        self.sum_offset = self.wire.len();
        self.wire.extend_from_slice(b"00000000\r\n\r\n");
    }

    /// Fills up to its size with lines of text.
    fn fill(&mut self, cuttable: bool, random: &mut fastrand::Rng) {
        let mut left = self.bytes - self.wire.len();
        if cuttable {
            self.ends.push((self.wire.len(), self.wire.len()));
        }
        let mut range_start = self.wire.len();
        let mut since_mark = MARK_EVERY_BYTES;
        let mut since_dot = 0;
        while left > 0 {
            let line_start = self.wire.len();
            // The last two lines share what is left, so that none is shorter than its CRLF.
            let room = match left {
                0..=78 => left - 2,
                79..=160 => left / 2 - 2,
                _ => random.usize(0..=LINE_BYTES_MAX),
            };
            if since_mark >= MARK_EVERY_BYTES && room >= MessageId::TEXT_BYTES {
                self.id();
                since_mark = 0;
            } else if since_dot >= 2 * MARK_EVERY_BYTES && room >= 2 {
                // "." alone, "..", ".text": the three ways to get dot-stuffing wrong.
                if self.framing == Framing::Dots {
                    self.body.push(range_start..self.wire.len());
                    self.wire.push(b'.');
                    range_start = self.wire.len();
                }
                self.wire.push(b'.');
                since_dot = random.usize(0..512);
                match random.u8(0..3) {
                    0 if left > 160 => {
                        self.wire.extend_from_slice(b"\r\n");
                        left -= 3;
                        since_mark += 3;
                        self.line_ended(cuttable, left);
                        continue;
                    }
                    1 => self.wire.push(b'.'),
                    _ => {}
                }
            }
            let stuffing = usize::from(range_start > line_start);
            while self.wire.len() - line_start - stuffing < room {
                self.wire.push(
                    b"eeeettaaooiinnsshhrrddlu     ETAOIN0123456789,;:!?=-+*/()<>"
                        [random.usize(0..58)],
                );
            }
            self.wire.extend_from_slice(b"\r\n");
            left -= room + 2;
            since_mark += room + 2;
            since_dot += room + 2;
            self.line_ended(cuttable, left);
        }
        self.body.push(range_start..self.wire.len());
    }

    fn line_ended(&mut self, cuttable: bool, left: usize) {
        if cuttable {
            self.ends.push((self.bytes - left, self.wire.len()));
        }
    }
}
