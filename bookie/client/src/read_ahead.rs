//! Loading what is likely to be read next, in the background and within a budget of the whole client.

use crate::error::LedgerError;
use crate::fetching::{Source, Wanted};
use crate::protocol::read_ahead::{Found, ReadAhead};
use bytes::Bytes;
use magnetar_common::budget::Ticket;
use magnetar_common::clock::SharedClock;
use magnetar_proto::ids::EntryId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// What nobody has come for by then makes room for others.
const UNUSED_MAX: Duration = Duration::from_secs(5);
/// The most that is loaded for one reader.
const CHUNK_BYTES_MAX: usize = 1 << 20;

type Entries = Vec<(EntryId, Bytes)>;

/// What is loaded for the readers of one ledger. Shared by the clones of a reader.
#[derive(Default)]
pub(crate) struct Ahead {
    places: Mutex<ReadAhead<Chunk>>,
}

/// Entries that are being loaded, or are there.
struct Chunk {
    entries: oneshot::Receiver<Entries>,
    /// Of the task that loads them and, later, forgets them.
    task: AbortHandle,
    /// Its part of the budget.
    ticket: Option<Ticket>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ahead {
    /// As [`Source::read`]; a read that goes on where another one ended finds its entries loaded, and has the next ones
    /// loaded. Cancel-safe: at worst what was loaded is loaded again.
    pub(crate) async fn read(
        self: &Arc<Self>,
        source: &Source,
        wanted: Wanted,
    ) -> Result<Entries, LedgerError> {
        let found = self.places().on_read(wanted.first);
        let sequential = !matches!(found, Found::Random);
        let loaded = match found {
            Found::Loaded(chunk) => take(chunk, wanted).await,
            Found::Sequential | Found::Random => None,
        };
        let (entries, rest) = match loaded {
            Some((entries, rest)) => (entries, rest),
            None => (source.read(wanted).await?, None),
        };
        let next = entries.last().map_or(wanted.first, |(last, _)| last.next());
        let chunk = match rest {
            Some((rest, ticket)) => Some(self.hold(source, next, ticket, async { rest })),
            None if sequential => self.load(source, next, wanted),
            None => None,
        };
        self.places().on_end(next, chunk);
        Ok(entries)
    }

    /// Begins to load what follows, if there is anything and there is room.
    fn load(self: &Arc<Self>, source: &Source, next: EntryId, before: Wanted) -> Option<Chunk> {
        let last = source.view.last_entry().filter(|last| next <= *last)?;
        if source.client.config().read_ahead_bytes_max == 0 {
            return None;
        }
        let bytes = before.bytes.min(CHUNK_BYTES_MAX);
        let ticket = source.client.read_ahead().try_acquire(bytes)?;
        let last = last.min(EntryId(next.0.saturating_add(before.last.0.saturating_sub(before.first.0))));
        let wanted = Wanted { first: next, last, bytes };
        let reading = source.clone();
        // An error is met again, and told, by whoever comes for these entries.
        let entries = async move { reading.read(wanted).await.unwrap_or_default() };
        Some(self.hold(source, next, ticket, entries))
    }

    fn hold(
        self: &Arc<Self>,
        source: &Source,
        next: EntryId,
        ticket: Ticket,
        entries: impl Future<Output = Entries> + Send + 'static,
    ) -> Chunk {
        let (loaded, receiver) = oneshot::channel();
        let (ahead, clock) = (Arc::downgrade(self), source.client.env().clock.clone());
        let task = tokio::spawn(async move {
            let _ = loaded.send(entries.await);
            forget_unused(ahead, clock, next).await;
        });
        Chunk { entries: receiver, task: task.abort_handle(), ticket: Some(ticket) }
    }

    fn places(&self) -> MutexGuard<'_, ReadAhead<Chunk>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ended by the chunk when somebody takes it.
async fn forget_unused(ahead: Weak<Ahead>, clock: SharedClock, next: EntryId) {
    clock.sleep(UNUSED_MAX).await;
    let me = tokio::task::try_id();
    if let Some(ahead) = ahead.upgrade() {
        ahead.places().forget(next, |chunk| Some(chunk.task.id()) == me);
    }
}

/// What is wanted of a chunk, and the rest of it with its part of the budget; `None` when the chunk is of no use.
async fn take(mut chunk: Chunk, wanted: Wanted) -> Option<(Entries, Option<(Entries, Ticket)>)> {
    let mut entries = (&mut chunk.entries).await.ok()?;
    let fitting = fitting(&entries, wanted);
    if fitting == 0 {
        return None;
    }
    let rest = entries.split_off(fitting);
    let rest = chunk.ticket.take().filter(|_| !rest.is_empty()).map(|ticket| (rest, ticket));
    Some((entries, rest))
}

/// How many of the entries are wanted: at least one, if the first one is.
fn fitting(entries: &[(EntryId, Bytes)], wanted: Wanted) -> usize {
    let mut bytes = 0;
    let wants = |(number, (id, payload)): &(usize, &(EntryId, Bytes))| {
        bytes += payload.len();
        *id <= wanted.last && (*number == 0 || bytes <= wanted.bytes)
    };
    entries.iter().enumerate().take_while(wants).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_loaded_a_read_takes_what_it_would_have_read() {
        let entries: Entries = (5..10).map(|id| (EntryId(id), Bytes::from_static(b"1234"))).collect();
        let wanted = |last, bytes| Wanted { first: EntryId(5), last: EntryId(last), bytes };
        for (last, bytes, count) in [(9, 100, 5), (6, 100, 2), (9, 8, 2), (9, 9, 2), (9, 1, 1), (4, 100, 0)] {
            assert_eq!(fitting(&entries, wanted(last, bytes)), count, "{last} {bytes}");
        }
    }
}
