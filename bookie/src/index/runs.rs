//! Where one ledger's flushed entries lie.

use magnetar_proto::ids::EntryId;

use crate::entry_log::Run;

/// A run and the log that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunIn {
    pub(crate) log: u64,
    pub(crate) run: Run,
}

/// The runs of one ledger, oldest flush first.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: Vec<RunIn>,
    /// Some run begins at or before the end of an earlier one: re-written entries, or late ones.
    overlapping: bool,
}

impl Runs {
    /// Adds a run of a newer flush, or a later run of the same flush.
    pub(crate) fn push(&mut self, log: u64, run: Run) {
        let after_last = self.runs.last().is_none_or(|last| last.run.last() < run.first);
        self.overlapping |= !after_last;
        self.runs.push(RunIn { log, run });
    }

    /// The newest run that holds `entry`.
    pub(crate) fn find(&self, entry: EntryId) -> Option<&RunIn> {
        if self.overlapping {
            return self.runs.iter().rev().find(|at| at.run.slot_of(entry).is_some());
        }
        let after = self.runs.partition_point(|at| at.run.first <= entry);
        self.runs[..after].last().filter(|at| at.run.slot_of(entry).is_some())
    }

    /// How many entries from `entry` on can be read from the run `at` without passing one that a newer run holds too.
    pub(crate) fn stretch(&self, at: &RunIn, entry: EntryId) -> u64 {
        if self.overlapping { 1 } else { at.run.last().0 - entry.0 + 1 }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &RunIn> {
        self.runs.iter()
    }
}

#[cfg(test)]
mod tests {
    use magnetar_proto::ids::LedgerId;

    use super::*;

    fn run(first: u64, count: u64) -> Run {
        Run { ledger: LedgerId(1), first: EntryId(first), count, slots_at: first * 8 }
    }

    fn runs(list: &[(u64, u64, u64)]) -> Runs {
        let mut runs = Runs::default();
        for (log, first, count) in list {
            runs.push(*log, run(*first, *count));
        }
        runs
    }

    #[test]
    fn an_entry_is_found_in_its_run_or_not_at_all() {
        let runs = runs(&[(1, 0, 3), (1, 5, 2), (2, 7, 10)]);
        let log = |entry| runs.find(EntryId(entry)).map(|at| (at.log, at.run.first.0));
        assert_eq!([log(0), log(2), log(3), log(4)], [Some((1, 0)), Some((1, 0)), None, None]);
        assert_eq!([log(6), log(7), log(16), log(17)], [Some((1, 5)), Some((2, 7)), Some((2, 7)), None]);
    }

    #[test]
    fn the_newest_run_wins_where_runs_overlap() {
        let runs = runs(&[(1, 0, 10), (2, 3, 2), (3, 20, 1)]);
        let log = |entry| runs.find(EntryId(entry)).map(|at| at.log);
        assert_eq!(
            [log(2), log(3), log(4), log(5), log(20), log(11)],
            [Some(1), Some(2), Some(2), Some(1), Some(3), None]
        );
    }
}
