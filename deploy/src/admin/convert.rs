//! Values as operators write them: durations with a unit, sizes with a unit, lists.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::verb::Values;

/// "90s", "5m", "3h", "2d", "1w", "1y", or a bare number of seconds; -1 stays what it is (without end).
pub(super) fn seconds(text: &str) -> Result<i64> {
    let unit = |last: char| match last {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86_400),
        'w' => Some(7 * 86_400),
        'y' => Some(365 * 86_400),
        _ => None,
    };
    scaled(text, unit).with_context(|| format!("'{text}' is no time: e.g. 90s, 5m, 3h, 2d or -1"))
}

/// "512K", "10M", "1G", "1T", or a bare number of bytes; -1 stays what it is (without limit).
pub(super) fn bytes(text: &str) -> Result<i64> {
    let unit = |last: char| match last.to_ascii_uppercase() {
        'K' => Some(1 << 10),
        'M' => Some(1 << 20),
        'G' => Some(1 << 30),
        'T' => Some(1 << 40),
        _ => None,
    };
    scaled(text, unit).with_context(|| format!("'{text}' is no size: e.g. 512K, 10M, 1G or -1"))
}

fn scaled(text: &str, unit: impl Fn(char) -> Option<i64>) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let (digits, factor) = match text.chars().last().and_then(|last| Some((last, unit(last)?))) {
        Some((last, factor)) => (&text[..text.len() - last.len_utf8()], factor),
        None => (text, 1),
    };
    let number: i64 = digits.parse()?;
    ensure!(number >= 0, "less than nothing");
    number.checked_mul(factor).context("too large")
}

/// Milliseconds since 1970 of the moment so long ago as the argument `time` says. `now` (milliseconds) stands in for the
/// clock where one must not be asked.
#[expect(clippy::disallowed_methods, reason = "a command line of one request has the machine's clock")]
pub(super) fn time_ago(values: &Values) -> Result<i64> {
    let now = match values.find("now") {
        Some(_) => values.count("now")?,
        None => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis().try_into()?,
    };
    let ago = seconds(values.get("time")?)?;
    ensure!(ago >= 0, "--time says how long ago");
    Ok(now - ago * 1000)
}

/// "ledger:entry", with "latest" and "earliest", as the REST takes it.
pub(super) fn message_id(text: &str) -> Result<Value> {
    let (ledger, entry) = match text {
        "latest" => (i64::MAX, i64::MAX),
        "earliest" => (-1, -1),
        _ => {
            let wrong = || format!("'{text}' is no message: e.g. 12:0, earliest or latest");
            let (ledger, entry) = text.split_once(':').with_context(wrong)?;
            (ledger.parse().with_context(wrong)?, entry.parse().with_context(wrong)?)
        }
    };
    Ok(json!({"ledgerId": ledger, "entryId": entry, "partitionIndex": -1}))
}

/// A whole number, as a body.
pub(super) fn number(text: &str) -> Result<Value> {
    let number: i64 = text.parse().with_context(|| format!("'{text}' is no whole number"))?;
    Ok(json!(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood_and_nonsense_is_not() {
        assert_eq!(
            ["30", "2m", "3h", "1d", "-1"].map(|text| seconds(text).unwrap()),
            [30, 120, 10_800, 86_400, -1]
        );
        assert_eq!(
            ["7", "2k", "1M", "1T", "-1"].map(|text| bytes(text).unwrap()),
            [7, 2048, 1 << 20, 1 << 40, -1]
        );
        for nonsense in ["", "m", "1x", "-5", "-5m", "999999999999y", "é"] {
            assert!(seconds(nonsense).is_err(), "{nonsense}");
            assert!(bytes(nonsense).is_err(), "{nonsense}");
        }
    }
}
