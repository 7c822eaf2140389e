//! How a line of the log is written: time, level, target, text, fields.
//!
//! One line is written per message, so it is written by hand: no allocation, the date worked out
//! once a second. It looks as `tracing-subscriber` would write it without colours.
//! Does not know: spans, which this program has none of.

use std::cell::Cell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Bytes of `2026-11-22T14:20:07`.
const DATE_BYTES: usize = 19;

thread_local! {
    /// A second since 1970, and its text.
    static DATE: Cell<(u64, [u8; DATE_BYTES])> = const { Cell::new((u64::MAX, [0; DATE_BYTES])) };
}

/// The format.
pub(super) struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        write_time(&mut out, since.as_secs(), since.subsec_micros())?;
        let metadata = event.metadata();
        out.write_str(match *metadata.level() {
            tracing::Level::TRACE => " TRACE ",
            tracing::Level::DEBUG => " DEBUG ",
            tracing::Level::INFO => "  INFO ",
            tracing::Level::WARN => "  WARN ",
            tracing::Level::ERROR => " ERROR ",
        })?;
        out.write_str(metadata.target())?;
        out.write_char(':')?;
        let mut fields = Fields {
            out,
            result: Ok(()),
        };
        event.record(&mut fields);
        fields.result?;
        fields.out.write_char('\n')
    }
}

/// Writes ` name=value`, and the text without its name.
struct Fields<'a> {
    out: Writer<'a>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn named(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = self.name(field).and_then(|()| write(&mut self.out));
        }
    }

    fn name(&mut self, field: &Field) -> fmt::Result {
        self.out.write_char(' ')?;
        if field.name() == "message" {
            return Ok(());
        }
        self.out.write_str(field.name())?;
        self.out.write_char('=')
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.named(field, |out| write!(out, "{value:?}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.named(field, |out| write_number(out, value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let is_text = field.name() == "message";
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        self.named(field, |out| {
            if !value.bytes().all(is_plain) {
                return write!(out, "{value:?}");
            }
            if is_text {
                return out.write_str(value);
            }
            out.write_char('"')?;
            out.write_str(value)?;
            out.write_char('"')
        });
    }
}

fn write_number(out: &mut Writer<'_>, value: u64) -> fmt::Result {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    let mut rest = value;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.write_str(std::str::from_utf8(&digits[start..]).map_err(|_| fmt::Error)?)
}

/// RFC 3339, UTC, microseconds.
fn write_time(out: &mut Writer<'_>, second: u64, micros: u32) -> fmt::Result {
    let (known, mut date) = DATE.get();
    if known != second {
        date = date_of(second);
        DATE.set((second, date));
    }
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    text[..DATE_BYTES].copy_from_slice(&date);
    put(&mut text[DATE_BYTES + 1..DATE_BYTES + 7], u64::from(micros));
    out.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

/// The last digits of a number, with zeros in front.
fn put(into: &mut [u8], value: u64) {
    let mut rest = value;
    for place in into.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

fn date_of(second: u64) -> [u8; DATE_BYTES] {
    // Years that begin in March end with the leap day; 400 of them have 146,097 days.
    let days = second / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00";
    put(&mut text[0..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], second / 3600 % 24);
    put(&mut text[14..16], second / 60 % 60);
    put(&mut text[17..19], second % 60);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(second: u64) -> String {
        String::from_utf8(date_of(second).to_vec()).unwrap()
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(date(0), "1970-01-01T00:00:00");
        assert_eq!(date(951_782_399), "2000-02-28T23:59:59");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(date(951_868_800), "2000-03-01T00:00:00");
        assert_eq!(date(1_795_357_207), "2026-11-22T14:20:07");
        assert_eq!(date(4_107_542_400), "2100-03-01T00:00:00");
    }

    #[test]
    fn lines_look_as_they_always_did() {
        use std::sync::{Arc, Mutex};
        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        fn log(make: impl FnOnce(Sink) -> tracing::Dispatch) -> String {
            let sink = Sink::default();
            tracing::dispatcher::with_default(&make(sink.clone()), || {
                tracing::info!(target: "ringpost::mail", id = "AB", from = %"<a@b>", size = 40_960u64,
                    with = "a \"b\" \\ \u{7}", flag = true, less = -3i64);
                tracing::warn!(zero = 0u64, "so {} it is", 1);
                tracing::error!("plain text");
            });
            let bytes = sink.0.lock().unwrap().clone();
            let text = String::from_utf8(bytes).unwrap();
            let cut = |line: &str| line[DATE_BYTES + 8..].to_owned() + "\n";
            text.lines().map(cut).collect()
        }
        let ours = log(|sink| {
            let layer = tracing_subscriber::fmt().with_ansi(false);
            layer
                .event_format(Line)
                .with_writer(move || sink.clone())
                .finish()
                .into()
        });
        let theirs = log(|sink| {
            let layer = tracing_subscriber::fmt().with_ansi(false);
            layer.with_writer(move || sink.clone()).finish().into()
        });
        assert_eq!(ours, theirs);
        assert_eq!(ours.lines().count(), 3);
    }
}
