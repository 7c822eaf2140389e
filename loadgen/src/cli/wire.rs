//! Flags of what is sent, to whom, and how the connection is secured.

use std::path::PathBuf;

use clap::Args;

use crate::choice::Weighted;
use crate::message::sizes::Sizes;
use crate::pool::Spread;

/// What the messages are.
#[derive(Debug, Args)]
pub struct Messages {
    /// Bytes of a message, header and body: one size (700, 4K, 1M), a list with weights
    /// (1K:40,4K:40,50K:20), or lognormal:MEDIAN,SIGMA[,MAX] as real mail is (lognormal:8K,1.2;
    /// SIGMA of the natural logarithm; draws beyond MAX, or 10M, become that)
    #[arg(long, default_value = "4K", value_name = "SIZES")]
    pub size: Sizes,
    /// Send real messages instead: a folder (a message to a file, folders in it too) or an mbox
    /// file, drawn uniformly. They go out as they are, with CRLF line ends and two fields in front
    /// for `verify`, which then checks their bodies
    #[arg(long, value_name = "PATH", conflicts_with = "size")]
    pub messages: Option<PathBuf>,
}

/// Who gets them.
#[derive(Debug, Args)]
pub struct Recipients {
    /// Recipients of a message: a number, or a list with weights (1:80,2:10,20:10); never the same
    /// twice in one message
    #[arg(long, default_value = "1", value_name = "N")]
    pub recipients: Weighted<u16>,
    /// How recipients are drawn: uniform; zipf:S, the first user most often, the n-th n^S times
    /// less; or domains, all recipients of a message in one domain
    #[arg(long, default_value = "uniform", value_name = "HOW")]
    pub spread: Spread,
}
