//! Draws from choices of different weight, in constant time whatever their number.
//!
//! Walker's alias method as M. D. Vose made it linear ("A linear algorithm for generating random
//! numbers with a given distribution", 1991): each place holds a part of its own choice and is
//! filled up with one other, so a draw is a place and a side. Eight bytes a choice.

use std::str::FromStr;

/// Prepared for drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// By place: below this, of 2^32, the place itself is drawn; otherwise the other one.
    places: Vec<(u32, u32)>,
}

impl Choice {
    /// Draws number `i` with a probability in proportion to weight number `i`.
    ///
    /// # Errors
    /// When there are no weights or more than 2^32 - 1, one is negative or not finite, or all are 0.
    pub fn new(weights: &[f64]) -> Result<Choice, String> {
        let sum: f64 = weights.iter().sum();
        if weights.iter().any(|weight| *weight < 0.0) || !sum.is_finite() || sum <= 0.0 {
            return Err("weights are numbers of 0 or more, and not all of them 0".to_owned());
        }
        let count = u32::try_from(weights.len()).map_err(|_| "too many choices".to_owned())?;
        let mut parts: Vec<f64> = weights
            .iter()
            .map(|weight| weight / sum * f64::from(count))
            .collect();
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for (place, part) in (0u32..).zip(&parts) {
            if *part < 1.0 {
                small.push(place);
            } else {
                large.push(place);
            }
        }
        // Full places draw themselves on both sides.
        let mut places: Vec<(u32, u32)> = (0..count).map(|place| (u32::MAX, place)).collect();
        while let (Some(short), Some(&long)) = (small.pop(), large.last()) {
            let part = parts[short as usize];
            places[short as usize] = ((part * 4_294_967_296.0) as u32, long);
            parts[long as usize] -= 1.0 - part;
            if parts[long as usize] < 1.0 {
                large.pop();
                small.push(long);
            }
        }
        Ok(Choice { places })
    }

    /// The number of one choice.
    pub fn draw(&self, random: &mut fastrand::Rng) -> u32 {
        let place = random.u32(0..self.places.len() as u32);
        let (own_part, other) = self.places[place as usize];
        if random.u32(..) < own_part {
            place
        } else {
            other
        }
    }
}

/// Values of a flag with their weights: `1:80,2:10,20:10`, or one value alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighted<T> {
    /// Values and weights as given; at least one.
    pub values: Vec<(T, f64)>,
}

/// Values of one flag.
const VALUES_MAX: usize = 1000;

impl<T> Weighted<T> {
    /// One value.
    pub fn one(value: T) -> Weighted<T> {
        Weighted {
            values: vec![(value, 1.0)],
        }
    }

    /// Parses `VALUE:WEIGHT,VALUE:WEIGHT`; a weight left out is 1.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn parse(
        text: &str,
        value: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Weighted<T>, String> {
        let mut values = Vec::new();
        for part in text.split(',') {
            let (text, weight) = part.split_once(':').unwrap_or((part, "1"));
            let weight = weight
                .parse::<f64>()
                .ok()
                .filter(|weight| weight.is_finite() && *weight >= 0.0)
                .ok_or_else(|| format!("'{weight}' in '{part}' is not a weight"))?;
            values.push((
                value(text).map_err(|why| format!("'{text}': {why}"))?,
                weight,
            ));
        }
        if values.len() > VALUES_MAX {
            return Err(format!("at most {VALUES_MAX} values"));
        }
        if values.iter().all(|(_, weight)| *weight == 0.0) {
            return Err("all weights are 0".to_owned());
        }
        Ok(Weighted { values })
    }

    /// Draws their numbers; `None`: there is only one.
    pub fn choice(&self) -> Option<Choice> {
        let weights: Vec<f64> = self.values.iter().map(|(_, weight)| *weight).collect();
        // `parse` has seen to it that the weights are fine.
        (weights.len() > 1)
            .then(|| Choice::new(&weights).ok())
            .flatten()
    }
}

impl<T: std::fmt::Display> std::fmt::Display for Weighted<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [(value, _)] = &self.values[..] {
            return write!(f, "{value}");
        }
        for (index, (value, weight)) in self.values.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{value}:{weight}")?;
        }
        Ok(())
    }
}

/// Recipients of one message: the most that the tuning documents speak of [N15].
pub const RECIPIENTS_MAX: u32 = 100_000;

/// A number of recipients, 1 to [`RECIPIENTS_MAX`] (RFC 5321 §4.5.3.1.8 asks servers to take 100).
impl FromStr for Weighted<u32> {
    type Err = String;

    fn from_str(text: &str) -> Result<Weighted<u32>, String> {
        Weighted::parse(text, |text| {
            text.parse::<u32>()
                .ok()
                .filter(|count| (1..=RECIPIENTS_MAX).contains(count))
                .ok_or_else(|| {
                    format!(
                        "wanted is a number from 1 to {RECIPIENTS_MAX}, or a list as \
                         1:80,2:10,20:10 of numbers and how often each is to come"
                    )
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_come_in_proportion() {
        let weights = [80.0, 10.0, 0.0, 10.0, 0.5];
        let choice = Choice::new(&weights).expect("weights");
        let mut random = fastrand::Rng::with_seed(4);
        let mut seen = [0u32; 5];
        const DRAWS: u32 = 200_000;
        for _ in 0..DRAWS {
            seen[choice.draw(&mut random) as usize] += 1;
        }
        for (seen, weight) in seen.iter().zip(weights) {
            let wanted = weight / 100.5 * f64::from(DRAWS);
            // Five standard deviations.
            let spread = 5.0 * wanted.sqrt();
            assert!(
                (f64::from(*seen) - wanted).abs() <= spread,
                "{seen} of {wanted}"
            );
        }
        assert_eq!(seen[2], 0);
    }

    #[test]
    fn impossible_weights_are_refused() {
        for wrong in [
            &[][..],
            &[0.0, 0.0],
            &[1.0, -1.0],
            &[f64::NAN],
            &[f64::INFINITY],
        ] {
            assert!(Choice::new(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(Choice::new(&[3.0]).map(|choice| choice.places.len()), Ok(1));
    }

    #[test]
    fn lists_as_written() {
        let list: Weighted<u32> = "1:80,2:10.5,20".parse().expect("a list");
        assert_eq!(list.values, [(1, 80.0), (2, 10.5), (20, 1.0)]);
        assert_eq!(list.to_string(), "1:80,2:10.5,20:1");
        let one: Weighted<u32> = "7".parse().expect("a number");
        assert_eq!((one.to_string().as_str(), one.choice()), ("7", None));
        for wrong in [
            "", "0", "100001", "1:x", "1:-1", "1:0", "1,,2", "x:1", "1:inf",
        ] {
            assert!(wrong.parse::<Weighted<u32>>().is_err(), "{wrong}");
        }
    }
}
