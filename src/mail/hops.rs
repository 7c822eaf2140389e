//! Counts the hops a message has made: the `Received` fields of its header (RFC 5321 §6.3).
//!
//! Guarantees: the same count however the message is cut into pieces; a few bytes of state.
//! Does not know: MIME, folding (a folded line starts with a space and is never a field name).

/// The field name, with the colon that ends it.
const FIELD: &[u8] = b"received:";

/// Fed the message as stored, piece by piece, it counts until the header ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct HopCounter {
    count: u32,
    place: Place,
}

/// Where in the header the last piece ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// So many bytes of the line are read, all of them like [`FIELD`].
    Name(u8),
    /// The line so far is a lone CR: the next LF ends the header.
    EmptyLine,
    /// In a line that no longer matters.
    Line,
    /// Behind the header.
    Body,
}

impl Default for Place {
    fn default() -> Place {
        Place::Name(0)
    }
}

impl HopCounter {
    /// Looks through the next piece; cheap once the header has ended.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() {
            rest = match self.place {
                Place::Body => return,
                Place::Line => match memchr::memchr(b'\n', rest) {
                    None => return,
                    Some(index) => {
                        self.place = Place::Name(0);
                        &rest[index + 1..]
                    }
                },
                Place::EmptyLine => {
                    self.place = if rest[0] == b'\n' {
                        Place::Body
                    } else {
                        Place::Line
                    };
                    rest
                }
                Place::Name(matched) => self.feed_name(usize::from(matched), rest),
            }
        }
    }

    fn feed_name<'a>(&mut self, matched: usize, rest: &'a [u8]) -> &'a [u8] {
        let byte = rest[0];
        if matched == 0 && byte == b'\r' {
            self.place = Place::EmptyLine;
        } else if matched == 0 && byte == b'\n' {
            // Only a BINARYMIME message can have it; readers take it for an empty line.
            self.place = Place::Body;
        } else if byte.to_ascii_lowercase() != FIELD[matched] {
            self.place = Place::Line;
            return rest;
        } else if matched + 1 == FIELD.len() {
            self.count = self.count.saturating_add(1);
            self.place = Place::Line;
        } else {
            self.place = Place::Name(matched as u8 + 1);
        }
        &rest[1..]
    }

    /// `Received` fields seen so far.
    pub fn count(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(message: &[u8]) -> u32 {
        let mut whole = HopCounter::default();
        whole.feed(message);
        let mut bytewise = HopCounter::default();
        for byte in message {
            bytewise.feed(std::slice::from_ref(byte));
        }
        assert_eq!(whole.count(), bytewise.count());
        whole.count()
    }

    #[test]
    fn counts_fields_in_any_case() {
        assert_eq!(
            count(b"Received: a\r\nRECEIVED:b\r\nreceived: c\r\n\r\n"),
            3
        );
    }

    #[test]
    fn only_whole_names_at_the_start_of_a_line_count() {
        assert_eq!(
            count(b"X-Received: a\r\n Received: b\r\nReceived-SPF: c\r\nRec\r\nReceived :\r\n\r\n"),
            0
        );
    }

    #[test]
    fn the_body_does_not_count() {
        assert_eq!(count(b"Received: a\r\n\r\nReceived: b\r\n"), 1);
        assert_eq!(count(b"\r\nReceived: b\r\n"), 0);
        assert_eq!(count(b""), 0);
    }
}
