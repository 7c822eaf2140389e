//! Axes: where a value stands, which ticks there are, and how numbers are written.

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows, with the unit.
    pub title: String,
    /// Values that have a line and a label.
    pub ticks: Vec<(f64, String)>,
    from: f64,
    to: f64,
    log: bool,
}

/// Ticks of a linear axis, about.
const TICKS: f64 = 5.0;

impl Axis {
    /// Even steps from `from` to `to` or a bit beyond; `label` writes numbers.
    pub fn linear(title: &str, from: f64, to: f64, label: impl Fn(f64) -> String) -> Axis {
        let to = if to > from { to } else { from + 1.0 };
        let step = nice_step((to - from) / TICKS);
        let last = (to / step).ceil() * step;
        let count = ((last - from) / step).round() as u32;
        let ticks = (0..=count).map(|index| from + f64::from(index) * step);
        Axis {
            title: title.to_owned(),
            ticks: ticks.map(|value| (value, label(value))).collect(),
            from,
            to: last,
            log: false,
        }
    }

    /// The same, but it ends where the values end: for time.
    pub fn time(title: &str, to: f64) -> Axis {
        // Twice the ticks: there is room across.
        let to = to.max(f64::MIN_POSITIVE);
        let mut axis = Axis::linear(title, 0.0, to, |value| number(value, 3));
        let step = nice_step(to / (2.0 * TICKS));
        let ticks = (0..=(to / step) as u32).map(|index| f64::from(index) * step);
        axis.ticks = ticks.map(|value| (value, number(value, 3))).collect();
        axis.to = to;
        axis
    }

    /// Powers of ten around `from` to `to`, with the steps between where there are few.
    pub fn log(title: &str, from: f64, to: f64, label: impl Fn(f64) -> String) -> Axis {
        let from = if from > 0.0 { from } else { 1.0 };
        let to = if to > from { to } else { from * 10.0 };
        let few = (to / from).log10() < 2.5;
        let steps: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let decades = from.log10().floor() as i32..=to.log10().ceil() as i32;
        let all: Vec<f64> = decades
            .flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)))
            .collect();
        // Ends on a tick below and one above. The tolerance is for powers that are not exact.
        let low = all.iter().rev().find(|value| **value <= from * 1.0001);
        let high = all.iter().find(|value| **value >= to * 0.9999);
        let (low, high) = (*low.unwrap_or(&from), *high.unwrap_or(&to));
        let ticks = all.iter().filter(|value| (low..=high).contains(*value));
        Axis {
            title: format!("{title}, logarithmic"),
            ticks: ticks.map(|value| (*value, label(*value))).collect(),
            from: low,
            to: high,
            log: true,
        }
    }

    /// Quantiles as 1/(1-q), so that each further nine has the same room; as far as `count` values
    /// can tell anything.
    pub fn quantiles(count: u64) -> Axis {
        let to = (count.max(20) as f64).min(1e9);
        let nines = |value: f64| format!("{}%", number(100.0 - 100.0 / value, 8));
        let mut ticks = vec![(1.0, "0%".to_owned()), (2.0, "50%".to_owned())];
        ticks.extend(
            (1..=9)
                .map(|power| 10f64.powi(power))
                .map(|value| (value, nines(value))),
        );
        ticks.retain(|(value, _)| *value <= to);
        Axis {
            title: "percentile; each nine has the same room".to_owned(),
            ticks,
            from: 1.0,
            to,
            log: true,
        }
    }

    /// Where `value` is, from 0 to 1; what lies beyond an end stands at it.
    pub fn place(&self, value: f64) -> f64 {
        let place = if self.log {
            (value.max(self.from).ln() - self.from.ln()) / (self.to.ln() - self.from.ln())
        } else {
            (value - self.from) / (self.to - self.from)
        };
        place.clamp(0.0, 1.0)
    }

    /// The lowest and the highest value.
    pub fn ends(&self) -> (f64, f64) {
        (self.from, self.to)
    }
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors
        .into_iter()
        .find(|factor| factor * power >= step * 0.9999);
    factor.unwrap_or(10.0) * power
}

/// A number with `digits` digits at most behind the point, and commas between thousands.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let part = part.trim_end_matches('0');
    let (sign, whole) = match whole.strip_prefix('-') {
        Some("0") if part.is_empty() => ("", "0"),
        Some(whole) => ("-", whole),
        None => ("", whole),
    };
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let point = if part.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{part}")
}

/// A number of three digits or more, so many as it has before the point.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v if v >= 0.1 => 3,
        _ => 4,
    };
    number(value, digits)
}

/// Nanoseconds in the unit that fits.
pub fn time(ns: f64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")];
    let fits = units.into_iter().find(|(unit, _)| ns >= unit * 0.9995);
    let (unit, name) = fits.unwrap_or((1.0, "ns"));
    format!("{} {name}", short(ns / unit))
}

/// Bytes in the unit that fits.
pub fn bytes(value: f64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = units
        .into_iter()
        .find(|(power, _)| value >= f64::powi(2.0, *power));
    let (power, name) = fits.unwrap_or((0, "B"));
    format!("{} {name}", short(value / f64::powi(2.0, power)))
}

/// A part as a percentage.
pub fn percent(part: f64) -> String {
    let percent = part * 100.0;
    number(percent, if percent.abs() >= 10.0 { 0 } else { 1 }) + "%"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(number(1_234_567.0, 2), "1,234,567");
        assert_eq!(number(-1234.5, 2), "-1,234.5");
        assert_eq!(number(-0.001, 1), "0");
        assert_eq!(short(29_823.4), "29,823");
        assert_eq!(short(2.894), "2.89");
        assert_eq!(time(2_890_000.0), "2.89 ms");
        assert_eq!(time(999_900.0), "1 ms");
        assert_eq!(time(391_000.0), "391 µs");
        assert_eq!(bytes(173.0 * 1_048_576.0), "173 MiB");
        assert_eq!(percent(0.042), "4.2%");
    }

    #[test]
    fn linear_axes_end_on_a_tick() {
        let axis = Axis::linear("x", 0.0, 37.0, |value| number(value, 0));
        let labels: Vec<_> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["0", "10", "20", "30", "40"]);
        assert_eq!(
            (axis.place(0.0), axis.place(20.0), axis.place(99.0)),
            (0.0, 0.5, 1.0)
        );
        // Nothing but zeros still makes an axis.
        assert!(Axis::linear("x", 0.0, 0.0, short).ticks.len() > 1);
    }

    #[test]
    fn logarithmic_axes_hold_their_values() {
        let axis = Axis::log("x", 300_000.0, 45e6, time);
        let (from, to) = axis.ends();
        assert_eq!(
            (time(from), time(to)),
            ("200 µs".to_owned(), "50 ms".to_owned())
        );
        assert!(axis.ticks.len() >= 4, "{axis:?}");
        let axis = Axis::quantiles(5000);
        let labels: Vec<_> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["0%", "50%", "90%", "99%", "99.9%"]);
    }
}
