//! The end of the log: the ledger that takes appends, and the change from one to the next.
//!
//! ```text
//! Idle ──> Writing ──> Draining ──> Closing ──> Writing (the next ledger) | Idle (stopped)
//!               └──────────┴───────────┴──────> Failed
//! ```

use super::error::Refusal;
use super::queue::AppendQueue;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use magnetar_ledger::{AppendError, ClosedLedger, Event, LedgerError, Reader, Writer};
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use std::time::Duration;

/// Where appends go.
pub(super) enum Tail {
    /// No ledger takes appends.
    Idle,
    /// Appends go to this ledger.
    Writing { writer: Writer, opened_at: Duration },
    /// Nothing more goes to `old`; what follows waits until all of `old` is confirmed, for entries of the new ledger
    /// must not survive a crash that those of the old one do not.
    Draining { old: Writer, next: Option<Next> },
    /// All of the old ledger is confirmed and its end is being written down.
    Closing {
        old: Reader,
        closing: BoxFuture<'static, Result<ClosedLedger, LedgerError>>,
        next: Option<Next>,
    },
    /// A ledger failed: nothing is taken or confirmed any more.
    Failed,
}

/// The ledger that follows, and what waits for it.
pub(super) struct Next {
    pub(super) writer: Writer,
    pub(super) queue: AppendQueue,
}

/// What happens at the tail.
pub(super) enum TailEvent {
    /// Everything up to here is durable.
    Confirmed(Position),
    /// The old ledger is closed.
    Closed(LedgerId, ClosedLedger),
    /// The ledger takes no more.
    Failed(LedgerError),
}

impl Tail {
    pub(super) fn append(&mut self, entry: Bytes) -> Result<Position, (Refusal, Bytes)> {
        match self {
            Self::Writing { writer, .. } => match writer.append(entry) {
                Ok(id) => Ok(Position::new(writer.id(), id)),
                Err(AppendError { error: LedgerError::Busy { .. }, payload }) => {
                    Err((Refusal::QueueFull, payload))
                }
                Err(refused) => Err((Refusal::Failed, refused.payload)),
            },
            Self::Draining { next: Some(next), .. } | Self::Closing { next: Some(next), .. } => next
                .queue
                .push(entry)
                .map(|index| Position::new(next.writer.id(), EntryId(index)))
                .map_err(|entry| (Refusal::QueueFull, entry)),
            Self::Failed => Err((Refusal::Failed, entry)),
            Self::Idle | Self::Draining { next: None, .. } | Self::Closing { next: None, .. } => {
                Err((Refusal::NotWritable, entry))
            }
        }
    }

    /// The next event; pending when nothing can happen. Cancel-safe.
    pub(super) async fn next(&mut self) -> TailEvent {
        self.start_closing();
        match self {
            Self::Idle | Self::Failed => std::future::pending().await,
            Self::Writing { writer, .. } | Self::Draining { old: writer, .. } => match writer.next().await {
                Event::Confirmed { last } => TailEvent::Confirmed(Position::new(writer.id(), last)),
                Event::Failed(error) => TailEvent::Failed(error),
            },
            Self::Closing { old, closing, .. } => match closing.await {
                Ok(closed) => TailEvent::Closed(old.id(), closed),
                Err(error) => TailEvent::Failed(error),
            },
        }
    }

    /// From `Writing` to `Draining`; any other state stays. Gives the number of entries of the ledger that is left.
    pub(super) fn seal(&mut self, next: Option<Next>) -> Option<(LedgerId, u64)> {
        match std::mem::replace(self, Self::Failed) {
            Self::Writing { writer, .. } => {
                let sealed = (writer.id(), entries_of(&writer));
                *self = Self::Draining { old: writer, next };
                Some(sealed)
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// Once the old ledger is closed: takes the next one out of `Closing` and leaves `Idle`.
    pub(super) fn take_next(&mut self) -> Option<Next> {
        match std::mem::replace(self, Self::Idle) {
            Self::Closing { next, .. } => next,
            other => {
                *self = other;
                None
            }
        }
    }

    /// Whether appends are taken, at once or into the queue.
    pub(super) fn is_writable(&self) -> bool {
        matches!(
            self,
            Self::Writing { .. } | Self::Draining { next: Some(_), .. } | Self::Closing { next: Some(_), .. }
        )
    }

    /// Readers of the ledgers that are open now.
    pub(super) fn readers(&self) -> Vec<Reader> {
        match self {
            Self::Writing { writer, .. } => vec![writer.reader()],
            Self::Draining { old, next } => {
                let next = next.iter().map(|next| next.writer.reader());
                std::iter::once(old.reader()).chain(next).collect()
            }
            // Its record does not tell its end yet, so a reader opened now might not see all of it.
            Self::Closing { old, next, .. } => {
                let next = next.iter().map(|next| next.writer.reader());
                std::iter::once(old.clone()).chain(next).collect()
            }
            Self::Idle | Self::Failed => Vec::new(),
        }
    }

    /// Bytes in the ledgers that are not closed yet, with what waits.
    pub(super) fn open_bytes(&self) -> u64 {
        match self {
            Self::Writing { writer, .. } => writer.length(),
            Self::Draining { old, next } => old.length() + queued_bytes(next),
            Self::Closing { old, next, .. } => old.length() + queued_bytes(next),
            Self::Idle | Self::Failed => 0,
        }
    }

    /// Entries that wait for the next ledger, and their bytes.
    pub(super) fn queued(&self) -> (usize, usize) {
        match self {
            Self::Draining { next: Some(next), .. } | Self::Closing { next: Some(next), .. } => {
                (next.queue.len(), next.queue.bytes())
            }
            _ => (0, 0),
        }
    }

    /// The name of the state, for statistics.
    pub(super) fn state_name(&self) -> &'static str {
        match self {
            Self::Idle => "NoLedgerOpened",
            Self::Writing { .. } => "LedgerOpened",
            Self::Draining { .. } | Self::Closing { .. } => "ClosingLedger",
            Self::Failed => "WriteFailed",
        }
    }

    fn start_closing(&mut self) {
        let drained =
            matches!(self, Self::Draining { old, .. } if old.last_add_confirmed() == old.last_add_pushed());
        if !drained {
            return;
        }
        if let Self::Draining { old, next } = std::mem::replace(self, Self::Failed) {
            *self = Self::Closing { old: old.reader(), closing: old.close().boxed(), next };
        }
    }
}

/// Entries appended to a ledger.
pub(super) fn entries_of(writer: &Writer) -> u64 {
    writer.last_add_pushed().map_or(0, |last| last.0 + 1)
}

fn queued_bytes(next: &Option<Next>) -> u64 {
    next.as_ref().map_or(0, |next| next.queue.bytes() as u64)
}
