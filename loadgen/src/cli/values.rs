//! Values as they are written in flags: times, rates, lists of CPUs.

use std::time::Duration;

use crate::schedule::Curve;
use crate::task::Task;

/// `500ms`, `10s`, `5m`, `1h`; a bare number is seconds.
///
/// # Errors
/// Says what is wanted.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let unit = match &text[split..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    text[..split]
        .parse::<f64>()
        .ok()
        .map(|number| number * unit)
        // A year is more than anybody waits.
        .filter(|seconds| (0.0..=31_536_000.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "wanted is a time, as 500ms, 10s, 5m or 1h, at most a year".to_owned())
}

/// What a process that `--processes` has started is to do.
pub(super) fn share(text: &str) -> Result<Task, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

/// `0s:10,30s:50`: when which rate.
pub(super) fn curve(text: &str) -> Result<Curve, String> {
    let wanted = || {
        format!(
            "'{text}': wanted is TIME:PER_SECOND,... with growing times, the first 0s, and a rate \
             above 0 somewhere, as 0s:10,30s:50"
        )
    };
    let points: Option<Vec<_>> = text
        .split(',')
        .map(|point| {
            let (at, rate) = point.split_once(':')?;
            Some((duration(at).ok()?, rate_or_none(rate).ok()?))
        })
        .collect();
    let points = points.ok_or_else(wanted)?;
    let grows = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let begins = points.first().is_some_and(|(at, _)| at.is_zero());
    let some = points.iter().any(|(_, rate)| *rate > 0.0);
    if grows && begins && some {
        Ok(Curve::through(points))
    } else {
        Err(wanted())
    }
}

/// `500`, `2.5k`: operations per second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    rate_or_none(text)
        .ok()
        .filter(|rate| *rate > 0.0)
        .ok_or_else(|| "wanted is a number per second above 0, as 0.5, 500 or 2.5k".to_owned())
}

/// The same, or `0`.
pub(super) fn rate_or_none(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1000.0),
        None => (text, 1.0),
    };
    number
        .parse::<f64>()
        .ok()
        .map(|number| number * factor)
        // More than any machine can be asked for.
        .filter(|rate| (0.0..=1e8).contains(rate))
        .ok_or_else(|| "wanted is a number per second, as 0, 0.5, 500 or 2.5k".to_owned())
}

/// The CPUs that `text` names, of those that are `allowed`.
///
/// # Errors
/// Says what is wrong and which CPUs there are.
pub fn processors(text: &str, allowed: &[usize]) -> Result<Vec<usize>, String> {
    let wrong = |why: String| {
        format!(
            "--processors {text}: {why}; wanted is all, a LIST as 0 or 0-3,6, or count:N, of the \
             CPUs this process may use: {allowed:?}"
        )
    };
    if text == "all" {
        return Ok(allowed.to_vec());
    }
    if let Some(count) = text.strip_prefix("count:") {
        return match count.parse::<usize>() {
            Ok(count) if (1..=allowed.len()).contains(&count) => Ok(allowed[..count].to_vec()),
            Ok(count) => Err(wrong(format!("there are {}, not {count}", allowed.len()))),
            Err(_) => Err(wrong(format!("'{count}' is not a number"))),
        };
    }
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.parse::<usize>()
                .map_err(|_| wrong(format!("'{part}' is not a CPU or a range")))
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last > 100_000 {
            return Err(wrong(format!("'{part}' is not a range")));
        }
        for cpu in first..=last {
            if !allowed.contains(&cpu) {
                return Err(wrong(format!("CPU {cpu} does not exist or is not allowed")));
            }
            if cpus.contains(&cpu) {
                return Err(wrong(format!("CPU {cpu} is named twice")));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_written() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        for wrong in ["", "s", "1y", "1d", "-1s", "1e99h", "..s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates() {
        assert_eq!(rate("500"), Ok(500.0));
        assert_eq!(rate("2.5k"), Ok(2500.0));
        assert_eq!(rate_or_none("0"), Ok(0.0));
        let half = curve("0s:10,10s:0").expect("a curve");
        assert_eq!(half.rate(Duration::from_secs(5)), 5.0);
        for wrong in ["", "10", "1s:10", "0s:1,0s:2", "0s:0", "0s:-1"] {
            assert!(curve(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "0", "-1", "k", "inf", "nan", "1e9", "5/s"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn processor_lists() {
        let allowed = [0, 1, 2, 5];
        assert_eq!(processors("all", &allowed), Ok(vec![0, 1, 2, 5]));
        assert_eq!(processors("count:2", &allowed), Ok(vec![0, 1]));
        assert_eq!(processors("5,0-1", &allowed), Ok(vec![5, 0, 1]));
        for wrong in [
            "", "3", "0-3", "x", "1,1", "2-1", "count:0", "count:5", "count:x", "0-",
        ] {
            let error = processors(wrong, &allowed).expect_err(wrong);
            assert!(error.contains("[0, 1, 2, 5]"), "{error}");
        }
    }
}
