//! Flags of `knee`: the promise, and how to search.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::wire::{Lmtp, Smtp, Submission};
use super::{Pop3, duration, rate};
use crate::knee::promise::Limit;
use crate::knee::search::Limits;

/// `knee`.
#[derive(Debug, Args)]
pub struct Knee {
    /// What is run.
    #[command(subcommand)]
    pub of: KneeOf,
}

/// What is run.
#[derive(Debug, Subcommand)]
pub enum KneeOf {
    /// Messages over SMTP
    Smtp(Promised<Smtp>),
    /// Messages over LMTP
    Lmtp(Promised<Lmtp>),
    /// Messages as users hand them in
    Submission(Promised<Submission>),
    /// POP3 sessions
    Pop3(Promised<Pop3>),
}

/// A run, and what it has to keep.
#[derive(Debug, Args)]
pub struct Promised<T: Args> {
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Promise`")]
    pub promise: Promise,
    #[command(flatten)]
    #[allow(missing_docs, reason = "the run's own")]
    pub run: T,
}

/// The promise, and how to search.
#[derive(Debug, Args)]
#[command(next_help_heading = "Search")]
pub struct Promise {
    #[command(flatten)]
    #[allow(missing_docs, reason = "see `Percentiles`")]
    pub percentiles: Percentiles,
    /// The first rate to try; doubled while it holds
    #[arg(help_heading = "Search", long, default_value = "100", value_parser = rate, value_name = "PER_SECOND")]
    pub start_rate: f64,
    /// Try no higher rate
    #[arg(help_heading = "Search", long, default_value = "1000k", value_parser = rate, value_name = "PER_SECOND")]
    pub max_rate: f64,
    /// The gap between what holds and what fails that is narrow enough, in percent
    #[arg(help_heading = "Search", long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "PERCENT")]
    pub precision: u32,
    /// Runs at the highest rate that holds and at the lowest that fails
    #[arg(help_heading = "Search", long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "N")]
    pub repeats: u32,
    /// Runs in all
    #[arg(help_heading = "Search", long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    pub runs_max: u32,
}

/// What has to be kept; at least one.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
#[command(next_help_heading = "Promise")]
pub struct Percentiles {
    /// Half of all operations within so long, from when they were due
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub p50: Option<Duration>,
    /// 90 % of them
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub p90: Option<Duration>,
    /// 99 % of them
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub p99: Option<Duration>,
    /// 99.9 % of them
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub p999: Option<Duration>,
}

impl Promise {
    /// What has to be kept.
    pub fn limits(&self) -> Vec<Limit> {
        let percentiles = &self.percentiles;
        [
            ("p50", 0.5, percentiles.p50),
            ("p90", 0.9, percentiles.p90),
            ("p99", 0.99, percentiles.p99),
            ("p99.9", 0.999, percentiles.p999),
        ]
        .into_iter()
        .filter_map(|(name, quantile, time)| {
            time.map(|time| Limit {
                name,
                quantile,
                time,
            })
        })
        .collect()
    }

    /// How to search.
    pub fn search(&self) -> Limits {
        Limits {
            start: self.start_rate,
            max: self.max_rate,
            precision: f64::from(self.precision) / 100.0,
            repeats: self.repeats as usize,
            trials_max: self.runs_max as usize,
        }
    }
}
