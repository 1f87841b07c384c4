//! Sizes and times as users write them: a whole number and a unit.
//!
//! Called by: flags, as their value parsers. Must never know: which flag.

use std::time::Duration;

/// A number of bytes: `4096`, `512KiB`, `64MiB`, `2GiB`, `1TiB`. Units are powers of 1024.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let units = [("", 0), ("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let shift = |unit: &str| units.iter().find(|(name, _)| *name == unit).map(|(_, shift)| *shift);
    let parsed = split(text).and_then(|(number, unit)| number.checked_mul(1 << shift(unit)?));
    parsed.ok_or_else(|| "use a whole number with B, KiB, MiB, GiB or TiB, as in 64MiB".to_owned())
}

/// A time: `500ms`, `30s`, `15m`, `12h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let millis = |unit: &str| units.iter().find(|(name, _)| *name == unit).map(|(_, millis)| *millis);
    let parsed = split(text).and_then(|(number, unit)| number.checked_mul(millis(unit)?));
    let parsed = parsed.map(Duration::from_millis);
    parsed.ok_or_else(|| "use a whole number with ms, s, m or h, as in 30s".to_owned())
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_need_a_whole_number_and_a_known_unit() {
        let good = [("0", 0), ("17B", 17), ("3KiB", 3072), ("64MiB", 64 << 20), ("2GiB", 2 << 30)];
        good.iter().for_each(|(text, expected)| assert_eq!(bytes(text), Ok(*expected), "{text}"));
        for text in ["", "MiB", "-1", "1.5GiB", "64MB", "64 MiB", "99999999999TiB", "1mib"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for text in ["", "30", "s", "1d", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
