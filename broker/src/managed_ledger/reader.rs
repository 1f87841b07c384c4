//! Reads entries across the ledgers of a topic.

use super::error::MlError;
use super::ledger_list::LedgerList;
use bytes::Bytes;
use magnetar_ledger::{Client, Reader};
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Closed ledgers whose metadata is kept at hand: as many as a topic has subscriptions at different places, usually.
/// One costs a few hundred bytes.
const MAX_CACHED_READERS: usize = 16;

/// Reads confirmed entries. Cheap to clone, and valid as long as the managed ledger is, over rollovers and trims.
#[derive(Clone)]
pub struct MlReader {
    shared: Arc<Shared>,
}

/// What the owner tells its readers, and what they remember. The locks are held for a look-up, never across an await.
pub(super) struct Shared {
    client: Client,
    password: Bytes,
    view: Mutex<View>,
    /// Least recently used first.
    cache: Mutex<Vec<Reader>>,
}

struct View {
    list: Arc<LedgerList>,
    /// Readers of the ledgers that are still written: they know the newest confirmed entry without asking.
    open: Vec<Reader>,
}

impl Shared {
    pub(super) fn new(client: Client, password: Bytes, list: LedgerList) -> Arc<Self> {
        let view = View { list: Arc::new(list), open: Vec::new() };
        Arc::new(Self { client, password, view: Mutex::new(view), cache: Mutex::default() })
    }

    /// Tells the readers of a changed list. Called when ledgers come, close or go, not for each entry.
    pub(super) fn set_view(&self, list: LedgerList, open: Vec<Reader>) {
        self.cache().retain(|reader| list.get(reader.id()).is_some());
        *self.view() = View { list: Arc::new(list), open };
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self, id: LedgerId) -> Option<Reader> {
        if let Some(open) = self.view().open.iter().find(|reader| reader.id() == id) {
            return Some(open.clone());
        }
        let mut cache = self.cache();
        let at = cache.iter().position(|reader| reader.id() == id)?;
        let reader = cache.remove(at);
        cache.push(reader.clone());
        Some(reader)
    }

    async fn reader_of(&self, id: LedgerId) -> Result<Reader, MlError> {
        if let Some(reader) = self.cached(id) {
            return Ok(reader);
        }
        let reader = self.client.open(id, &self.password).await?;
        let mut cache = self.cache();
        if cache.len() >= MAX_CACHED_READERS {
            cache.remove(0);
        }
        cache.push(reader.clone());
        Ok(reader)
    }

    fn forget(&self, id: LedgerId) {
        self.cache().retain(|reader| reader.id() != id);
    }
}

impl MlReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Entries in order, from the first one at or after `from` (which may lie in a ledger that is gone, or past a
    /// ledger's end) up to and including `up_to`, which must be confirmed. Stops after `max_entries` or once `max_bytes`
    /// are exceeded; at least one entry is given unless there is none. Positions given are consecutive valid ones.
    ///
    /// # Errors
    /// When not even the first entry can be read. Reading again later is safe. Cancel-safe.
    pub async fn read(
        &self,
        from: Position,
        max_entries: usize,
        max_bytes: usize,
        up_to: Position,
    ) -> Result<Vec<(Position, Bytes)>, MlError> {
        let (mut entries, mut bytes, mut next) = (Vec::new(), 0, from);
        while entries.len() < max_entries && (entries.is_empty() || bytes < max_bytes) {
            let Some((ledger, first, last)) = self.range_at(next, max_entries - entries.len(), up_to) else {
                break;
            };
            match self.read_ledger(ledger, first, last, max_bytes.saturating_sub(bytes).max(1)).await {
                Ok(batch) => {
                    let Some((end, _)) = batch.last() else { break };
                    next = Position::new(ledger, end.next());
                    bytes += batch.iter().map(|(_, payload)| payload.len()).sum::<usize>();
                    entries
                        .extend(batch.into_iter().map(|(id, payload)| (Position::new(ledger, id), payload)));
                }
                // What has been read already is good; the next read meets the error.
                Err(_) if !entries.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    /// Bytes of the ledger up to and including the entry, which must be confirmed. Cancel-safe.
    pub async fn length_at(&self, position: Position) -> Result<u64, MlError> {
        let reader = self.shared.reader_of(position.ledger_id).await?;
        reader.length_at(position.entry_id).await.map_err(|error| {
            self.shared.forget(position.ledger_id);
            error.into()
        })
    }

    /// The entries of one ledger to be read next.
    fn range_at(&self, from: Position, max: usize, up_to: Position) -> Option<(LedgerId, EntryId, EntryId)> {
        let list = self.shared.view().list.clone();
        let first = list.valid_from(from);
        if first > up_to || max == 0 {
            return None;
        }
        let end = if first.ledger_id == up_to.ledger_id {
            up_to.entry_id
        } else {
            EntryId(list.get(first.ledger_id)?.entries()?.checked_sub(1)?)
        };
        let last = end.0.min(first.entry_id.0.saturating_add(max as u64 - 1));
        Some((first.ledger_id, first.entry_id, EntryId(last)))
    }

    async fn read_ledger(
        &self,
        id: LedgerId,
        first: EntryId,
        last: EntryId,
        max_bytes: usize,
    ) -> Result<Vec<(EntryId, Bytes)>, MlError> {
        let reader = self.shared.reader_of(id).await?;
        reader.read(first, last, max_bytes).await.map_err(|error| {
            // The metadata behind the reader may be out of date: re-replication moves entries to other bookies.
            self.shared.forget(id);
            error.into()
        })
    }
}
