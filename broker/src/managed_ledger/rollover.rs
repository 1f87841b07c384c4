//! When a topic goes on to a new ledger.

use super::config::MlConfig;
use std::time::Duration;

/// The ledger that takes appends, as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling {
    /// Entries appended.
    pub(super) entries: u64,
    /// Bytes appended.
    pub(super) bytes: u64,
    /// Time since it was opened.
    pub(super) age: Duration,
}

/// Whether the ledger is full, or old enough, to be closed. An empty one never is: it would only litter the list.
pub(super) fn is_due(filling: Filling, config: &MlConfig) -> bool {
    filling.entries > 0
        && (filling.entries >= config.max_entries_per_ledger
            || filling.bytes >= config.max_bytes_per_ledger
            || filling.age >= config.max_ledger_age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_rolls_over_by_entries_bytes_or_age_but_never_empty() {
        let config = MlConfig {
            max_entries_per_ledger: 10,
            max_bytes_per_ledger: 100,
            max_ledger_age: Duration::from_secs(5),
            ..MlConfig::default()
        };
        let cases = [
            (0, 0, 0, false),
            (0, 0, 9, false),
            (9, 99, 4, false),
            (10, 1, 0, true),
            (1, 100, 0, true),
            (1, 1, 5, true),
        ];
        for (entries, bytes, seconds, expected) in cases {
            let filling = Filling { entries, bytes, age: Duration::from_secs(seconds) };
            assert_eq!(is_due(filling, &config), expected, "{filling:?}");
        }
    }
}
