//! Who gets a message: how many recipients, and which.
//!
//! Guarantees: no recipient twice in one message; a draw costs the same whatever the size of the
//! pool, unless a message goes to more than half of it.
//! Does not know: addresses beyond their domains.

use std::str::FromStr;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Pool;
use crate::choice::{Choice, Weighted};

/// How recipients are drawn from the pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spread {
    /// All are as likely.
    Uniform,
    /// The first address is the most likely; number `n` has a weight of `n` to the power of minus
    /// this, above 0 and at most 10 (G. K. Zipf, 1949).
    Zipf(f64),
    /// All are as likely, but all recipients of one message are in one domain.
    Domains,
}

impl FromStr for Spread {
    type Err = String;

    fn from_str(text: &str) -> Result<Spread, String> {
        let exponent = |text: &str| text.parse().ok().filter(|s| *s > 0.0 && *s <= 10.0);
        match (text, text.strip_prefix("zipf:").map(exponent)) {
            ("uniform", _) => Ok(Spread::Uniform),
            ("domains", _) => Ok(Spread::Domains),
            (_, Some(Some(exponent))) => Ok(Spread::Zipf(exponent)),
            _ => Err(
                "wanted is uniform, domains, or zipf:S with S above 0 and at most 10, as in \
                      zipf:1.1"
                    .to_owned(),
            ),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Spread::Uniform => f.write_str("uniform"),
            Spread::Zipf(exponent) => write!(f, "zipf:{exponent}"),
            Spread::Domains => f.write_str("domains"),
        }
    }
}

/// Draws the recipients of messages; shared by all threads.
#[derive(Debug)]
pub struct Recipients {
    counts: Vec<u32>,
    /// Which of them; `None`: there is only one.
    count: Option<Choice>,
    users: u32,
    by: By,
}

#[derive(Debug)]
enum By {
    Uniform,
    Zipf(Choice),
    Domains(Domains),
}

/// The pool by domains.
#[derive(Debug)]
struct Domains {
    /// Numbers of addresses, those of a domain side by side.
    members: Vec<u32>,
    /// By number of address: where its domain begins and ends in `members`.
    ranges: Vec<(u32, u32)>,
    /// By number of address: which of `ranges`.
    domain: Vec<u32>,
}

/// Draws in a row that hit a recipient already taken, before the rest is filled up in order.
const REPEATS_MAX: u32 = 100;

impl Recipients {
    /// Draws from `pool`.
    ///
    /// # Errors
    /// When a message could have more recipients than there are.
    pub fn new(pool: &Pool, counts: &Weighted<u32>, spread: Spread) -> Result<Recipients, String> {
        let most = counts
            .values
            .iter()
            .fold(0, |most, (count, _)| most.max(*count));
        if pool.len() < most as usize {
            return Err(format!(
                "--recipients {counts}: there are only {} users",
                pool.len()
            ));
        }
        let by = match spread {
            Spread::Uniform => By::Uniform,
            Spread::Zipf(exponent) => {
                let weights: Vec<f64> = (1..=pool.len())
                    .map(|rank| (rank as f64).powf(-exponent))
                    .collect();
                By::Zipf(Choice::new(&weights).map_err(|why| format!("--spread: {why}"))?)
            }
            Spread::Domains => By::Domains(Domains::of(pool, most)?),
        };
        Ok(Recipients {
            counts: counts.values.iter().map(|(count, _)| *count).collect(),
            count: counts.choice(),
            // A pool has at most ten millions.
            users: pool.len() as u32,
            by,
        })
    }

    /// Fills `picks` with the recipients of one message.
    pub fn draw(&self, random: &mut fastrand::Rng, picks: &mut Vec<u32>) {
        picks.clear();
        let which = self.count.as_ref().map_or(0, |count| count.draw(random));
        let count = self.counts[which as usize] as usize;
        match &self.by {
            By::Uniform => uniform(count, 0..self.users, random, picks),
            By::Zipf(ranks) => {
                let mut taken = Taken::new(count);
                let mut repeats = 0;
                while picks.len() < count && repeats < REPEATS_MAX {
                    let pick = ranks.draw(random);
                    repeats = if taken.take(pick, picks) {
                        0
                    } else {
                        repeats + 1
                    };
                }
                // Nearly all of the weight is taken: the next in rank follow.
                let mut rank = 0;
                while picks.len() < count {
                    taken.take(rank, picks);
                    rank += 1;
                }
            }
            By::Domains(domains) => {
                let first = random.u32(0..self.users);
                let (start, end) = domains.ranges[domains.domain[first as usize] as usize];
                uniform(count, start..end, random, picks);
                for pick in picks {
                    *pick = domains.members[*pick as usize];
                }
            }
        }
    }
}

/// Different numbers of `range`, which holds at least `count`.
fn uniform(
    count: usize,
    range: std::ops::Range<u32>,
    random: &mut fastrand::Rng,
    picks: &mut Vec<u32>,
) {
    if count * 2 > range.len() {
        picks.extend(range);
        random.shuffle(picks);
        picks.truncate(count);
        return;
    }
    let mut taken = Taken::new(count);
    while picks.len() < count {
        let pick = random.u32(range.clone());
        taken.take(pick, picks);
    }
}

/// So many recipients are looked through one by one.
const FEW: usize = 64;

/// Which recipients a message has already, where they are many.
struct Taken(Option<FxHashSet<u32>>);

impl Taken {
    fn new(count: usize) -> Taken {
        Taken((count > FEW).then(FxHashSet::default))
    }

    /// Adds `pick` to the end of `picks`, unless it is there already; whether it was added.
    fn take(&mut self, pick: u32, picks: &mut Vec<u32>) -> bool {
        let fresh = match &mut self.0 {
            Some(taken) => taken.insert(pick),
            None => !picks.contains(&pick),
        };
        if fresh {
            picks.push(pick);
        }
        fresh
    }
}

impl Domains {
    fn of(pool: &Pool, recipients_max: u32) -> Result<Domains, String> {
        let mut numbers: FxHashMap<&str, u32> = FxHashMap::default();
        let mut sizes: Vec<u32> = Vec::new();
        let mut domain = Vec::with_capacity(pool.len());
        let addresses = (0..pool.len() as u32).map(|index| pool.get(index));
        for address in addresses {
            let name = address.rsplit_once('@').map_or("", |(_, domain)| domain);
            let number = *numbers.entry(name).or_insert(sizes.len() as u32);
            if number as usize == sizes.len() {
                sizes.push(0);
            }
            sizes[number as usize] += 1;
            domain.push(number);
        }
        for (name, number) in numbers {
            let size = sizes[number as usize];
            if size < recipients_max {
                return Err(format!(
                    "--spread domains: a message may have {recipients_max} recipients, and {name} \
                     has only {size} users"
                ));
            }
        }
        let mut end = 0;
        let ranges: Vec<(u32, u32)> = sizes
            .iter()
            .map(|size| {
                end += size;
                (end - size, end)
            })
            .collect();
        let mut next: Vec<u32> = ranges.iter().map(|(start, _)| *start).collect();
        let mut members = vec![0; pool.len()];
        for (address, number) in (0u32..).zip(&domain) {
            let place = &mut next[*number as usize];
            members[*place as usize] = address;
            *place += 1;
        }
        Ok(Domains {
            members,
            ranges,
            domain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(pool: &Pool, counts: &str, spread: &str, times: usize) -> Vec<Vec<u32>> {
        let counts = counts.parse().expect("counts");
        let spread = spread.parse().expect("a spread");
        let recipients = Recipients::new(pool, &counts, spread).expect("they fit");
        let mut random = fastrand::Rng::with_seed(1);
        let mut picks = Vec::new();
        let draw = |_| {
            recipients.draw(&mut random, &mut picks);
            let mut sorted = picks.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), picks.len(), "a recipient twice: {picks:?}");
            picks.clone()
        };
        (0..times).map(draw).collect()
    }

    fn pool(users: usize, domains: &[&str]) -> Pool {
        Pool::generate("u", users, domains).expect("a pool")
    }

    #[test]
    fn uniform_draws_cover_all_alike() {
        let pool = pool(10, &["x"]);
        // As many as are looked up in a set, of more than twice as many.
        for picks in draws(
            &super::super::Pool::generate("u", 2000, &["x"]).expect("a pool"),
            "900",
            "uniform",
            5,
        ) {
            assert_eq!(picks.len(), 900);
        }
        for count in ["1", "3", "8", "10"] {
            let mut seen = [0; 10];
            let drawn = draws(&pool, count, "uniform", 1000);
            drawn
                .iter()
                .flatten()
                .for_each(|&pick| seen[pick as usize] += 1);
            let each = drawn.iter().map(Vec::len).sum::<usize>() / 10;
            assert!(
                seen.iter().all(|seen| (each / 2..each * 2).contains(seen)),
                "{seen:?}"
            );
        }
    }

    #[test]
    fn zipf_follows_the_ranks() {
        let pool = pool(100_000, &["x"]);
        let drawn = draws(&pool, "1", "zipf:1", 200_000);
        let seen = |rank: u32| drawn.iter().filter(|picks| picks[0] == rank).count() as f64;
        // The harmonic number of 100,000 is 12.09: the first gets 1 of 12.09, the second half of it.
        for (rank, part) in [(0, 1.0), (1, 0.5), (9, 0.1)] {
            let wanted = 200_000.0 * part / 12.0901;
            assert!((seen(rank) - wanted).abs() < 6.0 * wanted.sqrt(), "{rank}");
        }
        // More than the skew lets through: filled up, and never twice.
        let all = draws(
            &super::super::Pool::generate("u", 20, &["x"]).expect("a pool"),
            "20",
            "zipf:8",
            20,
        );
        assert!(all.iter().all(|picks| picks.len() == 20));
    }

    #[test]
    fn recipients_of_one_message_share_a_domain() {
        let pool = pool(90, &["a", "b", "c"]);
        let mut seen = FxHashMap::<String, usize>::default();
        for picks in draws(&pool, "1:1,5:1,30:1", "domains", 600) {
            let domain = |pick: &u32| pool.get(*pick).split_once('@').expect("an address").1;
            let first = domain(&picks[0]).to_owned();
            assert!(picks.iter().all(|pick| domain(pick) == first));
            *seen.entry(first).or_default() += 1;
        }
        assert!(
            seen.len() == 3 && seen.values().all(|count| (140..260).contains(count)),
            "{seen:?}"
        );
    }

    #[test]
    fn counts_come_by_weight() {
        let drawn = draws(&pool(50, &["x"]), "1:80,2:10,20:10", "uniform", 10_000);
        let of = |count| drawn.iter().filter(|picks| picks.len() == count).count();
        assert!((7800..8200).contains(&of(1)) && (850..1150).contains(&of(2)));
        assert_eq!(of(1) + of(2) + of(20), 10_000);
    }

    #[test]
    fn impossible_spreads_are_refused() {
        for wrong in ["", "zipf", "zipf:0", "zipf:x", "zipf:11", "normal"] {
            let error = wrong.parse::<Spread>().expect_err(wrong);
            assert!(error.contains("uniform, domains"), "{error}");
        }
        let counts = "1:1,9:1".parse().expect("counts");
        for (pool, spread, wanted) in [
            (pool(8, &["x"]), Spread::Uniform, "only 8 users"),
            (pool(17, &["x", "y"]), Spread::Domains, "y has only 8"),
        ] {
            let error = Recipients::new(&pool, &counts, spread).expect_err("too few");
            assert!(error.contains(wanted), "{error}");
        }
    }
}
