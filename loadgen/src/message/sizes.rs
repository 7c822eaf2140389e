//! How large messages are: one size, a weighted list, or log-normal as real mail is.

use std::str::FromStr;

use crate::choice::{Choice, Weighted};

use super::MESSAGE_BYTES_MAX;

/// Bytes of messages, header and body, before dot-stuffing.
#[derive(Debug, Clone, PartialEq)]
pub enum Sizes {
    /// All of the same size.
    Fixed(usize),
    /// Drawn from a list.
    List(Weighted<usize>),
    /// The logarithm is distributed normally. Draws below the smallest possible message become
    /// that, draws above `max` become `max`.
    LogNormal {
        /// Half of the messages are smaller.
        median: usize,
        /// Standard deviation of the natural logarithm, 0 to 5.
        sigma: f64,
        /// No message is larger.
        max: usize,
    },
}

/// The largest message of a log-normal distribution that names no bound.
const LOG_NORMAL_MAX: usize = 10 << 20;

impl Sizes {
    /// The largest size that may be drawn.
    pub fn bytes_max(&self) -> usize {
        match self {
            Sizes::Fixed(bytes) => *bytes,
            Sizes::List(list) => list
                .values
                .iter()
                .fold(0, |max, (bytes, _)| max.max(*bytes)),
            Sizes::LogNormal { max, .. } => *max,
        }
    }

    /// What a message must have room for at least: the smallest size of a list, the median of a
    /// distribution.
    pub fn bytes_min(&self) -> usize {
        match self {
            Sizes::Fixed(bytes) => *bytes,
            Sizes::List(list) => {
                let sizes = list.values.iter().map(|(bytes, _)| *bytes);
                sizes.fold(usize::MAX, usize::min)
            }
            Sizes::LogNormal { median, .. } => *median,
        }
    }

    /// Prepares drawing.
    pub fn draws(&self) -> Draws {
        match self {
            Sizes::Fixed(bytes) => Draws::Fixed(*bytes),
            Sizes::List(list) => {
                let sizes: Vec<usize> = list.values.iter().map(|(bytes, _)| *bytes).collect();
                match list.choice() {
                    Some(choice) => Draws::List(sizes, choice),
                    None => Draws::Fixed(sizes[0]),
                }
            }
            Sizes::LogNormal { median, sigma, max } => Draws::LogNormal {
                median: *median as f64,
                sigma: *sigma,
                max: *max as f64,
            },
        }
    }
}

/// Draws sizes.
#[derive(Debug, Clone)]
pub enum Draws {
    /// Always this one.
    Fixed(usize),
    /// Sizes, and which of them.
    List(Vec<usize>, Choice),
    /// See [`Sizes::LogNormal`].
    LogNormal {
        /// In bytes.
        median: f64,
        /// Of the natural logarithm.
        sigma: f64,
        /// In bytes.
        max: f64,
    },
}

impl Draws {
    /// One size, which may be smaller than a message can be.
    pub fn draw(&self, random: &mut fastrand::Rng) -> usize {
        match self {
            Draws::Fixed(bytes) => *bytes,
            Draws::List(sizes, choice) => sizes[choice.draw(random) as usize],
            Draws::LogNormal { median, sigma, max } => {
                (median * (sigma * normal(random)).exp()).min(*max) as usize
            }
        }
    }
}

/// A number of the standard normal distribution (G. E. P. Box and M. E. Muller, 1958).
fn normal(random: &mut fastrand::Rng) -> f64 {
    // From (0, 1]: the logarithm of 0 is none.
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

/// `4096`, `4K`, `50K`, `1M`.
///
/// # Errors
/// Says what is allowed.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let factor = match &text[split..] {
        "" | "B" => 1,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "m" | "MiB" => 1 << 20,
        _ => 0,
    };
    text[..split]
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|bytes| (1..=MESSAGE_BYTES_MAX).contains(bytes))
        .ok_or_else(|| {
            "wanted is a number of bytes, as 700, 4K (4096) or 1M (1048576), at most 1024M"
                .to_owned()
        })
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        if let Some(text) = text.strip_prefix("lognormal:") {
            return log_normal(text).ok_or_else(|| {
                "wanted is lognormal:MEDIAN,SIGMA or lognormal:MEDIAN,SIGMA,MAX, as in \
                 lognormal:8K,1.2,5M: the median and the largest size (10M if left out) in bytes, \
                 the standard deviation of the natural logarithm from 0 to 5"
                    .to_owned()
            });
        }
        let list = Weighted::parse(text, parse_size).map_err(|why| {
            format!(
                "{why}; wanted is one size, a list with weights as 1K:40,4K:40,50K:20, or \
                 lognormal:MEDIAN,SIGMA"
            )
        })?;
        Ok(match list.values[..] {
            [(bytes, _)] => Sizes::Fixed(bytes),
            _ => Sizes::List(list),
        })
    }
}

fn log_normal(text: &str) -> Option<Sizes> {
    let mut parts = text.split(',');
    let median = parse_size(parts.next()?).ok()?;
    let sigma: f64 = parts.next()?.parse().ok()?;
    let max = match parts.next() {
        Some(max) => parse_size(max).ok()?,
        None => LOG_NORMAL_MAX.max(median),
    };
    let fine = parts.next().is_none() && (0.0..=5.0).contains(&sigma) && median <= max;
    fine.then_some(Sizes::LogNormal { median, sigma, max })
}

impl std::fmt::Display for Sizes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sizes::Fixed(bytes) => write!(f, "{bytes} bytes"),
            Sizes::List(list) => write!(f, "{list} bytes"),
            Sizes::LogNormal { median, sigma, max } => {
                write!(
                    f,
                    "log-normal sizes (median {median}, sigma {sigma}, at most {max} bytes)"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_written() {
        assert_eq!("4K".parse(), Ok(Sizes::Fixed(4096)));
        assert_eq!("50KiB:3".parse(), Ok(Sizes::Fixed(50 << 10)));
        let list: Sizes = "1K:40,4K:40,50K:20".parse().expect("a list");
        assert_eq!((list.bytes_min(), list.bytes_max()), (1024, 50 << 10));
        assert_eq!(
            "lognormal:8K,1.2".parse(),
            Ok(Sizes::LogNormal {
                median: 8192,
                sigma: 1.2,
                max: 10 << 20
            })
        );
        for wrong in [
            "",
            "0",
            "4X",
            "4K:",
            "4K,",
            "lognormal",
            "lognormal:",
            "lognormal:8K",
            "2000M",
            "lognormal:8K,x",
            "lognormal:8K,6",
            "lognormal:8K,1,4K",
            "lognormal:8K,1,9K,1",
        ] {
            let error = wrong.parse::<Sizes>().expect_err(wrong);
            assert!(error.contains("wanted"), "{wrong}: {error}");
        }
    }

    #[test]
    fn log_normal_has_its_median_and_its_quartiles() {
        let sizes: Sizes = "lognormal:10000,1.0,100000"
            .parse()
            .expect("a distribution");
        let draws = sizes.draws();
        let mut random = fastrand::Rng::with_seed(6);
        let mut drawn: Vec<usize> = (0..40_001).map(|_| draws.draw(&mut random)).collect();
        drawn.sort_unstable();
        // The quartiles of the normal distribution are 0.6745 from its middle.
        for (at, wanted) in [
            (10_000, 10_000.0 * (-0.6745f64).exp()),
            (20_000, 10_000.0),
            (30_000, 10_000.0 * 0.6745f64.exp()),
        ] {
            let found = drawn[at] as f64;
            assert!((found / wanted - 1.0).abs() < 0.04, "{found} for {wanted}");
        }
        assert_eq!(drawn[40_000], 100_000, "1 of 93 is beyond the bound");
    }
}
