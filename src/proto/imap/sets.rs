//! Sequence sets (RFC 9051 §9 `sequence-set`): as written, and as numbers.
//!
//! Guarantees: however many ranges a set has and however wide they are, it costs what its text
//! costs; `1:4294967295` is one range.
//! Does not know: messages.

use crate::limits::{IMAP_SLICE_MESSAGES, OUTPUT_BYTES_MAX};

/// A set as it came: sorted and merged ranges, and what only the mailbox can tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    /// Ranges without `*`, ascending, not touching each other.
    ranges: Vec<(u32, u32)>,
    /// The lowest and the highest number that stand in a range with `*`; 0: there is none.
    to_last: (u32, u32),
    /// `*` by itself, or in a range.
    last: bool,
    /// `$`: what the last SEARCH saved (RFC 5182).
    saved: bool,
}

impl Set {
    /// Parses a set.
    ///
    /// ```text
    /// sequence-set   = (seq-number / seq-range) ["," sequence-set] / seq-last-command
    /// seq-range      = seq-number ":" seq-number
    /// seq-number     = nz-number / "*"
    /// seq-last-command = "$"
    /// ```
    pub fn parse(text: &[u8]) -> Option<Set> {
        if text == b"$" {
            return Some(Set {
                saved: true,
                ..Set::default()
            });
        }
        let mut set = Set::default();
        for part in text.split(|&byte| byte == b',') {
            let (low, high) = match memchr::memchr(b':', part) {
                Some(colon) => (number(&part[..colon])?, number(&part[colon + 1..])?),
                None => {
                    let number = number(part)?;
                    (number, number)
                }
            };
            match (low, high) {
                (0, 0) => set.last = true,
                (0, number) | (number, 0) => {
                    set.last = true;
                    let (low, high) = set.to_last;
                    let low = if low == 0 { number } else { low.min(number) };
                    set.to_last = (low, high.max(number));
                }
                (a, b) => set.ranges.push((a.min(b), a.max(b))),
            }
        }
        normalise(&mut set.ranges);
        Some(set)
    }

    /// A set of plain numbers, ranges ascending and not touching.
    pub fn of_ranges(ranges: Vec<(u32, u32)>) -> Set {
        Set {
            ranges,
            ..Set::default()
        }
    }

    /// It is `$`.
    pub fn is_saved(&self) -> bool {
        self.saved
    }

    /// It names `*`.
    pub fn has_last(&self) -> bool {
        self.last
    }

    /// The largest number that stands in it as such.
    pub fn highest(&self) -> u32 {
        let highest = self.ranges.last().map_or(0, |range| range.1);
        highest.max(self.to_last.1)
    }

    /// The ranges, where `last` is the number that `*` stands for; 0: there is none, and `*` stands
    /// for nothing.
    pub fn resolve(&self, last: u32) -> Vec<(u32, u32)> {
        let mut ranges = self.ranges.clone();
        if self.last && last > 0 {
            // Each range with `*` has `last` in it: together they are one.
            let (low, high) = self.to_last;
            let low = if low == 0 { last } else { low.min(last) };
            ranges.push((low, high.max(last)));
            normalise(&mut ranges);
        }
        ranges
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits == b"*" {
        return Some(0);
    }
    parse_number(digits).filter(|number| *number > 0)
}

/// A number of digits only; `None`: it is none, or does not fit.
pub fn parse_number(digits: &[u8]) -> Option<u32> {
    parse_number64(digits).and_then(|number| u32::try_from(number).ok())
}

/// The same, of 63 bits (RFC 9051 §9 `number64`).
pub fn parse_number64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    (number <= i64::MAX as u64).then_some(number)
}

/// Sorts and merges.
pub fn normalise(ranges: &mut Vec<(u32, u32)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let touches = next.0 <= kept.1.saturating_add(1);
        if touches {
            kept.1 = kept.1.max(next.1);
        }
        touches
    });
}

/// A number stands in ranges that are sorted.
pub fn contains(ranges: &[(u32, u32)], number: u32) -> bool {
    let at = ranges.partition_point(|range| range.1 < number);
    ranges.get(at).is_some_and(|range| range.0 <= number)
}

/// Numbers that are in both of sorted ranges. As long as both together at most.
pub fn intersect(one: &[(u32, u32)], other: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut both = Vec::new();
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let (low, high) = (a.0.max(b.0), a.1.min(b.1));
        if low <= high {
            both.push((low, high));
        }
        if a.1 < b.1 {
            left.next();
        } else {
            right.next();
        }
    }
    both
}

/// How many numbers ranges hold.
pub fn len(ranges: &[(u32, u32)]) -> u64 {
    ranges
        .iter()
        .map(|range| u64::from(range.1 - range.0) + 1)
        .sum()
}

/// The `from`-th to the `to`-th number of sorted ranges, from 1 on; from the end, and backwards, where
/// they are negative (RFC 9394 §3.1).
pub fn pick(numbers: &[(u32, u32)], from: i64, to: i64) -> Vec<(u32, u32)> {
    let count = len(numbers);
    let (low, high) = if from > 0 {
        (from.unsigned_abs(), to.unsigned_abs())
    } else {
        let from_end = |place: i64| (count + 1).saturating_sub(place.unsigned_abs());
        (from_end(to).max(1), from_end(from))
    };
    let mut part = Vec::new();
    let mut place: u64 = 1;
    for (first, last) in numbers {
        let length = u64::from(last - first) + 1;
        let start = low.max(place);
        let end = high.min(place + length - 1);
        if start <= end {
            // Both lie within the range.
            part.push((first + (start - place) as u32, first + (end - place) as u32));
        }
        place += length;
    }
    part
}

/// Writes sorted ranges as a set; nothing where there are none.
pub fn write(ranges: &[(u32, u32)], out: &mut Vec<u8>) {
    for (index, range) in ranges.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_range(*range, out);
    }
}

fn write_range((low, high): (u32, u32), out: &mut Vec<u8>) {
    super::write::number(low, out);
    if low < high {
        out.push(b':');
        super::write::number(high, out);
    }
}

/// A set that is written piece by piece, however long it is.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    left: std::vec::IntoIter<(u32, u32)>,
    begun: bool,
}

impl Writer {
    /// Of sorted ranges.
    pub fn new(ranges: Vec<(u32, u32)>) -> Writer {
        Writer {
            left: ranges.into_iter(),
            begun: false,
        }
    }

    /// Writes until `out` is at `limits::OUTPUT_BYTES_MAX`; `true`: that was all.
    pub fn write(&mut self, out: &mut Vec<u8>) -> bool {
        while out.len() < OUTPUT_BYTES_MAX {
            let Some(range) = self.left.next() else {
                return true;
            };
            if std::mem::replace(&mut self.begun, true) {
                out.push(b',');
            }
            write_range(range, out);
        }
        self.left.as_slice().is_empty()
    }

    /// Bytes of memory held beside itself.
    pub fn held_bytes(&self) -> usize {
        size_of_val(self.left.as_slice())
    }
}

/// Ranges that are worked off in slices, from the first number to the last.
#[derive(Debug, Default)]
pub struct Cursor {
    ranges: Vec<(u32, u32)>,
    /// The first of them that is not done.
    at: usize,
}

impl Cursor {
    /// All of these; sorted.
    pub fn new(ranges: Vec<(u32, u32)>) -> Cursor {
        Cursor { ranges, at: 0 }
    }

    /// Nothing is left.
    pub fn is_done(&self) -> bool {
        self.at >= self.ranges.len()
    }

    /// The next ranges: at most `limits::IMAP_SLICE_MESSAGES`, however many there are.
    pub fn slice(&self) -> Vec<(u32, u32)> {
        let end = self.ranges.len().min(self.at + IMAP_SLICE_MESSAGES);
        self.ranges.get(self.at..end).unwrap_or_default().to_vec()
    }

    /// Passes over the slice; where not all of it is done, over what is not above this number.
    pub fn pass(&mut self, last: Option<u32>) {
        let Some(last) = last else {
            self.at = self.ranges.len().min(self.at + IMAP_SLICE_MESSAGES);
            return;
        };
        let left = &mut self.ranges[self.at..];
        let done = left.partition_point(|range| range.1 <= last);
        if let Some(range) = left.get_mut(done) {
            // Below the end of this range, and so not the highest number there is.
            range.0 = range.0.max(last + 1);
        }
        self.at += done;
    }

    /// Bytes of memory held beside itself.
    pub fn held_bytes(&self) -> usize {
        self.ranges.capacity() * size_of::<(u32, u32)>()
    }
}

/// Adds a number above all that are there.
pub fn push(ranges: &mut Vec<(u32, u32)>, number: u32) {
    match ranges.last_mut() {
        Some(range) if range.1.checked_add(1) == Some(number) => range.1 = number,
        _ => ranges.push((number, number)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolve(text: &str, last: u32) -> Option<String> {
        let mut out = Vec::new();
        write(&Set::parse(text.as_bytes())?.resolve(last), &mut out);
        Some(String::from_utf8(out).expect("digits are ASCII"))
    }

    #[test]
    fn sets_of_the_rfc() {
        for (text, last, wanted) in [
            ("2,4:7,9,12:*", 15, "2,4:7,9,12:15"),
            ("*:4,5:7", 10, "4:10"),
            ("*", 7, "7"),
            ("*", 0, ""),
            ("9:*", 7, "7:9"),
            ("*:*", 3, "3"),
            ("5:2", 9, "2:5"),
            ("3,1,2,2", 9, "1:3"),
            ("1:4294967295", 9, "1:4294967295"),
            ("4294967295,4294967294", 9, "4294967294:4294967295"),
        ] {
            assert_eq!(resolve(text, last).as_deref(), Some(wanted), "{text}");
        }
        for text in [
            "",
            "0",
            "1,",
            ",1",
            "1:",
            ":",
            "a",
            "1:2:3",
            "4294967296",
            "+1",
            "$,1",
            "-",
        ] {
            assert_eq!(Set::parse(text.as_bytes()), None, "{text}");
        }
        assert!(Set::parse(b"$").is_some_and(|set| set.is_saved()));
    }

    #[test]
    fn places_from_both_ends() {
        let ranges = [(1, 3), (10, 12)];
        for (from, to, wanted) in [
            (1, 2, "1:2"),
            (3, 4, "3,10"),
            (5, 900, "11:12"),
            (7, 9, ""),
            (-1, -2, "11:12"),
            (-4, -900, "1:3"),
            (-7, -8, ""),
        ] {
            let mut out = Vec::new();
            write(&pick(&ranges, from, to), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), wanted, "{from}:{to}");
        }
        assert_eq!(len(&ranges), 6);
    }

    #[test]
    fn long_sets_in_pieces() {
        let ranges: Vec<(u32, u32)> = (0..30_000).map(|at| (at * 3 + 1, at * 3 + 2)).collect();
        let mut whole = Vec::new();
        write(&ranges, &mut whole);
        let (mut writer, mut written, mut pieces) = (Writer::new(ranges), Vec::new(), 0);
        loop {
            let mut out = Vec::new();
            let is_all = writer.write(&mut out);
            assert!(out.len() < OUTPUT_BYTES_MAX + 32);
            written.append(&mut out);
            pieces += 1;
            if is_all {
                break;
            }
        }
        assert_eq!(written, whole);
        assert_eq!(pieces, whole.len().div_ceil(OUTPUT_BYTES_MAX));
    }

    #[test]
    fn slices_of_many_ranges() {
        let ranges: Vec<(u32, u32)> = (1..=3000).map(|at| (at * 10, at * 10 + 4)).collect();
        let mut cursor = Cursor::new(ranges.clone());
        assert_eq!(cursor.slice(), ranges[..IMAP_SLICE_MESSAGES]);
        // Not all of the slice: up to the middle of a range, and to the end of one.
        cursor.pass(Some(21));
        assert_eq!(cursor.slice()[0], (22, 24));
        cursor.pass(Some(24));
        assert_eq!(cursor.slice()[0], (30, 34));
        let mut left = 2998;
        while !cursor.is_done() {
            assert_eq!(cursor.slice().len(), left.min(IMAP_SLICE_MESSAGES));
            left = left.saturating_sub(IMAP_SLICE_MESSAGES);
            cursor.pass(None);
        }
        assert!(cursor.slice().is_empty());
        let mut last = Cursor::new(vec![(5, u32::MAX)]);
        last.pass(Some(u32::MAX));
        assert!(last.is_done());
    }

    proptest! {
        #[test]
        fn as_many_numbers_as_were_said(
            parts in prop::collection::vec((0u32..20, 0u32..20), 1..6), last in 1u32..20,
        ) {
            let star = |number: u32| if number == 0 { "*".to_owned() } else { number.to_string() };
            let text: Vec<String> = parts
                .iter()
                .map(|(a, b)| format!("{}:{}", star(*a), star(*b)))
                .collect();
            let ranges = Set::parse(text.join(",").as_bytes()).expect("a set").resolve(last);
            for number in 1..25 {
                let wanted = parts.iter().any(|(a, b)| {
                    let (a, b) = (if *a == 0 { last } else { *a }, if *b == 0 { last } else { *b });
                    (a.min(b)..=a.max(b)).contains(&number)
                });
                prop_assert_eq!(contains(&ranges, number), wanted);
            }
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            let mut other: Vec<(u32, u32)> =
                parts.iter().map(|(a, b)| (a / 2, a / 2 + b / 3)).collect();
            normalise(&mut other);
            let both = intersect(&ranges, &other);
            for number in 0..30 {
                let wanted = contains(&ranges, number) && contains(&other, number);
                prop_assert_eq!(contains(&both, number), wanted);
            }
        }
    }
}
