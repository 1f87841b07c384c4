//! Whether ordinary adds are taken.
//! Fences, reads and recovery adds go on in read-only mode; the registration follows it.

use std::fmt;

use super::{Engine, State};

/// Why a bookie takes no ordinary adds. Several may hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnlyReason {
    /// The journal's disk, or every ledger directory's, has less free space than the reserve. Ends by itself.
    LowSpace,
    /// An operator asked for it.
    Operator,
    /// Acknowledged journal records are missing: a fence may be among them.
    Incomplete,
    /// It is being emptied: its copies are made elsewhere.
    Draining,
}

impl ReadOnlyReason {
    const ALL: [ReadOnlyReason; 4] = [
        ReadOnlyReason::LowSpace,
        ReadOnlyReason::Operator,
        ReadOnlyReason::Incomplete,
        ReadOnlyReason::Draining,
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for ReadOnlyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadOnlyReason::LowSpace => "low disk space",
            ReadOnlyReason::Operator => "an operator's wish",
            ReadOnlyReason::Incomplete => "missing journal records",
            ReadOnlyReason::Draining => "being emptied",
        })
    }
}

/// The reasons that hold now; empty: writable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    reasons: u8,
    /// So little space is left that recovery adds are refused too.
    pub(super) exhausted: bool,
}

impl Mode {
    /// Whether ordinary adds are refused.
    pub fn is_read_only(self) -> bool {
        self.reasons != 0
    }

    /// Whether every add is refused, those of recovery and re-replication too.
    pub fn is_exhausted(self) -> bool {
        self.exhausted
    }

    /// Why; none when writable.
    pub fn reasons(self) -> impl Iterator<Item = ReadOnlyReason> {
        ReadOnlyReason::ALL.into_iter().filter(move |reason| self.reasons & reason.bit() != 0)
    }

    /// This mode with a reason added or taken away.
    pub(super) fn with(mut self, reason: ReadOnlyReason, holds: bool) -> Self {
        self.reasons = if holds { self.reasons | reason.bit() } else { self.reasons & !reason.bit() };
        self
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, reason) in self.reasons().enumerate() {
            write!(f, "{}{reason}", if at == 0 { "read-only because of " } else { " and " })?;
        }
        if self.is_read_only() { Ok(()) } else { f.write_str("writable") }
    }
}

impl<T: Send + 'static> Engine<T> {
    /// The mode, to look at or to wait for a change of.
    pub(crate) fn mode(&self) -> tokio::sync::watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    /// Makes a reason hold or no longer hold. Adds that were accepted before stay accepted.
    pub(crate) fn set_read_only(&self, reason: ReadOnlyReason, holds: bool) {
        let mut state = self.lock();
        let mode = state.mode.with(reason, holds);
        self.change_mode(&mut state, mode);
    }

    /// Under the lock, so that the watchers see changes in the order in which they took effect.
    pub(super) fn change_mode(&self, state: &mut State, mode: Mode) {
        if state.mode == mode {
            return;
        }
        if mode.is_read_only() {
            tracing::warn!(%mode, exhausted = mode.exhausted, "taking no ordinary adds");
        } else {
            tracing::info!("taking adds again");
        }
        state.mode = mode;
        self.mode.send_replace(mode);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_read_only_as_long_as_one_reason_holds() {
        let mode = Mode::default().with(ReadOnlyReason::LowSpace, true).with(ReadOnlyReason::Operator, true);
        assert_eq!(mode.to_string(), "read-only because of low disk space and an operator's wish");
        let mode = mode.with(ReadOnlyReason::LowSpace, false);
        assert!(mode.is_read_only());
        let mode = mode.with(ReadOnlyReason::Operator, false);
        assert!(!mode.is_read_only());
        assert_eq!(mode.to_string(), "writable");
    }
}
