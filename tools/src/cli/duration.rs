//! Durations as people write them: `30`, `30s`, `5m`, `2h`, `7d`.

use std::str::FromStr;

use serde::Serialize;

/// Whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct Seconds(pub(crate) u64);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "" | "s" => Some(1),
            "m" => Some(60),
            "h" => Some(60 * 60),
            "d" => Some(24 * 60 * 60),
            _ => None,
        };
        unit.zip(digits.parse::<u64>().ok())
            .and_then(|(unit, count)| count.checked_mul(unit))
            .map(Seconds)
            .ok_or_else(|| {
                "give whole seconds (30), or a number and a unit (30s, 5m, 2h, 7d)".into()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_seconds_and_a_unit_multiplies() {
        let seconds = |text: &str| text.parse::<Seconds>().map(|seconds| seconds.0);
        assert_eq!(seconds("30"), Ok(30));
        assert_eq!(seconds("30s"), Ok(30));
        assert_eq!(seconds("5m"), Ok(300));
        assert_eq!(seconds("2h"), Ok(7200));
        assert_eq!(seconds("7d"), Ok(604_800));
    }

    #[test]
    fn what_is_not_a_duration_is_turned_down() {
        for text in [
            "",
            "s",
            "-1",
            "1.5h",
            "5 m",
            "5x",
            "5ms",
            "1h30m",
            "99999999999999999999",
            "999999999999999999d",
        ] {
            assert!(text.parse::<Seconds>().is_err(), "{text:?}");
        }
    }
}
