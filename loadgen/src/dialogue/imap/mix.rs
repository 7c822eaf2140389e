//! Which commands a session sends, and how often: a weighted draw.

use std::str::FromStr;

use crate::recorder::Verb;

/// What a session can do with an open mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Flags of the newest messages.
    FetchFlags,
    /// Envelopes of the newest messages.
    FetchEnvelope,
    /// Envelopes and body structures of the newest messages.
    FetchStructure,
    /// The whole of one message.
    FetchBody,
    /// Sets or clears a flag of one message.
    Store,
    /// What is unseen.
    Search,
    /// Counts of the mailbox.
    Status,
    /// Puts a message into the mailbox.
    Append,
    /// Asks whether there is anything new.
    Noop,
    /// Opens the mailbox again.
    Select,
}

impl Operation {
    /// All, in the order of help texts.
    pub const ALL: [Operation; 10] = [
        Operation::FetchFlags,
        Operation::FetchEnvelope,
        Operation::FetchStructure,
        Operation::FetchBody,
        Operation::Store,
        Operation::Search,
        Operation::Status,
        Operation::Append,
        Operation::Noop,
        Operation::Select,
    ];

    /// As in `--mix`.
    pub fn name(self) -> &'static str {
        match self {
            Operation::FetchFlags => "fetch-flags",
            Operation::FetchEnvelope => "fetch-envelope",
            Operation::FetchStructure => "fetch-structure",
            Operation::FetchBody => "fetch-body",
            Operation::Store => "store",
            Operation::Search => "search",
            Operation::Status => "status",
            Operation::Append => "append",
            Operation::Noop => "noop",
            Operation::Select => "select",
        }
    }

    /// What it is timed as.
    pub fn verb(self) -> Verb {
        match self {
            Operation::FetchFlags => Verb::FetchFlags,
            Operation::FetchEnvelope => Verb::FetchEnvelope,
            Operation::FetchStructure => Verb::FetchStructure,
            Operation::FetchBody => Verb::FetchBody,
            Operation::Store => Verb::Store,
            Operation::Search => Verb::Search,
            Operation::Status => Verb::Status,
            Operation::Append => Verb::Append,
            Operation::Noop => Verb::Noop,
            Operation::Select => Verb::Select,
        }
    }

    /// It needs a message that is there.
    pub fn needs_message(self) -> bool {
        matches!(
            self,
            Operation::FetchFlags
                | Operation::FetchEnvelope
                | Operation::FetchStructure
                | Operation::FetchBody
                | Operation::Store
        )
    }
}

/// Weights of operations; at least one is not zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    weights: [u32; Operation::ALL.len()],
}

impl Mix {
    /// Draws one. With an empty mailbox, NOOP stands in for what needs a message.
    pub fn draw(&self, random: &mut fastrand::Rng, is_empty: bool) -> Operation {
        let total = self.weights.iter().sum();
        let mut left = random.u32(0..total);
        let drawn = Operation::ALL.into_iter().zip(self.weights);
        let drawn = drawn.into_iter().find(|(_, weight)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        match drawn {
            Some((operation, _)) if !(is_empty && operation.needs_message()) => operation,
            _ => Operation::Noop,
        }
    }

    /// The weight of an operation.
    pub fn weight(&self, operation: Operation) -> u32 {
        self.weights[operation as usize]
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let mut mix = Mix {
            weights: [0; Operation::ALL.len()],
        };
        for part in text.split(',') {
            let (name, weight) = part.split_once(':').unwrap_or((part, "1"));
            let known = Operation::ALL
                .iter()
                .find(|known| known.name() == name.trim());
            let weight = weight
                .trim()
                .parse::<u32>()
                .ok()
                .filter(|w| *w <= 1_000_000);
            let (Some(known), Some(weight)) = (known, weight) else {
                let names: Vec<_> = Operation::ALL.iter().map(|known| known.name()).collect();
                return Err(format!(
                    "'{part}': wanted is NAME:WEIGHT, the name one of {}, the weight 0 to 1000000",
                    names.join(", ")
                ));
            };
            mix.weights[*known as usize] = weight;
        }
        if mix.weights.iter().all(|weight| *weight == 0) {
            return Err("at least one weight has to be more than 0".to_owned());
        }
        Ok(mix)
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let used = Operation::ALL.into_iter().zip(self.weights);
        let used = used.filter(|(_, weight)| *weight > 0);
        let words: Vec<_> = used
            .map(|(operation, weight)| format!("{}:{weight}", operation.name()))
            .collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_by_weight() {
        let mix: Mix = "fetch-body:3, store:1,noop:0".parse().expect("a mix");
        assert_eq!(mix.to_string(), "fetch-body:3,store:1");
        let mut random = fastrand::Rng::with_seed(1);
        let mut counts = [0; Operation::ALL.len()];
        for _ in 0..4000 {
            counts[mix.draw(&mut random, false) as usize] += 1;
        }
        let bodies = counts[Operation::FetchBody as usize];
        assert_eq!(bodies + counts[Operation::Store as usize], 4000);
        assert!((2800..3200).contains(&bodies), "{bodies}");
        assert_eq!(mix.draw(&mut random, true), Operation::Noop);
    }

    #[test]
    fn wrong_mixes_say_what_is_allowed() {
        for wrong in ["", "fetch", "noop:x", "noop:0", "noop:-1", "store:1;noop:1"] {
            let error = wrong.parse::<Mix>().expect_err(wrong);
            assert!(error.contains("weight"), "{error}");
        }
    }
}
