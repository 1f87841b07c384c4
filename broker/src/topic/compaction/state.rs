//! What a topic knows of its compaction.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use magnetar_proto::ids::{LedgerId, Position};
use serde::Serialize;
use tokio::sync::oneshot;

use super::compacted::Compacted;
use crate::cursor::Cursor;
use crate::topic::durability::Durability;
use crate::topic::stats::CompactionStats;

/// Pulsar's name of the cursor (`Compactor.COMPACTION_SUBSCRIPTION`).
pub(crate) const CURSOR: &str = "__compaction";

/// Property of the cursor's position: the ledger that stands for everything up to it (Pulsar's).
const COMPACTED: &str = "CompactedTopicLedger";

/// Properties of the cursor's position, with the ledger's number behind: a ledger that was begun, or that another one has
/// replaced. Whoever finds it deletes it. Pulsar passes it over.
const LEFTOVER: &str = "magnetar.LeftoverLedger.";

/// Pulsar's `LongRunningProcessStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CompactionStatus {
    pub status: CompactionState,
    /// Why the last one failed; empty if it did not.
    pub last_error: String,
}

/// In order of how much they are worth knowing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CompactionState {
    /// Not since the topic was loaded.
    NotRun,
    Success,
    Error,
    Running,
}

impl Default for CompactionStatus {
    fn default() -> Self {
        CompactionStatus { status: CompactionState::NotRun, last_error: String::new() }
    }
}

impl CompactionStatus {
    pub(super) fn succeeded() -> Self {
        CompactionStatus { status: CompactionState::Success, ..Default::default() }
    }
}

/// There from the first compaction on, or while a policy asks for them.
pub(crate) struct Compaction {
    /// Nothing behind it may be trimmed.
    pub(super) cursor: Cursor,
    pub(super) durability: Durability,
    /// What readers get. The durable cursor names it.
    pub(super) compacted: Option<Compacted>,
    /// Ledgers that nobody needs any more, and the one that is being written. At most three.
    pub(super) leftovers: Vec<LedgerId>,
    pub(super) running: Option<Running>,
    pub(super) next_serial: u64,
    pub(super) last: CompactionStatus,
    pub(super) counts: CompactionStats,
}

pub(super) struct Running {
    /// Events of an earlier job are void.
    pub(super) serial: u64,
    /// Tells it that nobody wants its outcome any more; it deletes what it has written.
    pub(super) stop: Arc<AtomicBool>,
    pub(super) stage: Stage,
}

/// How far a compaction is. A version is that of the cursor which must be durable before it goes on.
pub(super) enum Stage {
    Reading,
    Recording { version: u64, go: oneshot::Sender<()> },
    Writing,
    Publishing { version: u64, next: Compacted },
}

impl Compaction {
    pub(super) fn new(cursor: Cursor, durability: Durability) -> Self {
        Compaction {
            cursor,
            durability,
            compacted: None,
            leftovers: Vec::new(),
            running: None,
            next_serial: 0,
            last: CompactionStatus::default(),
            counts: CompactionStats::default(),
        }
    }

    pub(super) fn status(&self) -> CompactionStatus {
        match &self.running {
            Some(_) => CompactionStatus { status: CompactionState::Running, ..self.last.clone() },
            None => self.last.clone(),
        }
    }

    /// What the cursor's properties name: the compacted ledger, and leftovers.
    pub(super) fn named(cursor: &Cursor) -> (Option<LedgerId>, Vec<LedgerId>) {
        let ids = |wanted: fn(&str) -> bool| {
            let named = cursor.properties().iter().filter(move |(key, _)| wanted(key));
            named.filter_map(|(_, id)| LedgerId::from_wire(*id))
        };
        (ids(|key| key == COMPACTED).next(), ids(|key| key.starts_with(LEFTOVER)).collect())
    }

    /// Has the cursor name these; answers the version that says so.
    pub(super) fn name(&mut self, compacted: Option<LedgerId>, now: std::time::Duration) -> u64 {
        let leftovers = self.leftovers.iter().map(|id| (format!("{LEFTOVER}{id}"), id.to_wire()));
        let compacted = compacted.map(|id| (COMPACTED.to_owned(), id.to_wire()));
        self.cursor.set_properties(compacted.into_iter().chain(leftovers).collect());
        self.durability.changed_now(now)
    }

    pub(super) fn at(&mut self, stage: Stage) {
        if let Some(running) = &mut self.running {
            running.stage = stage;
        }
    }

    /// Where the compaction stands; `None` before the first one.
    pub(super) fn horizon(&self) -> Option<Position> {
        self.compacted.as_ref().map(Compacted::horizon)
    }
}
