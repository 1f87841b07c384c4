//! Finding single entries, in memory or in ledgers.

use std::cmp::Ordering;

use magnetar_proto::ids::{EntryId, LedgerId, Position};

use super::actor::Topic;
use super::error::TopicError;
use super::reads::parse;
use super::tail_cache::{Entry, TailCache};
use crate::managed_ledger::{LedgerList, MlReader};

/// Looks at a topic without holding the whole of it.
pub(crate) struct Finder<'a> {
    list: &'a LedgerList,
    /// `None`: away from the topic's task, where the cache cannot be seen.
    cache: Option<&'a TailCache>,
    reader: MlReader,
}

impl Topic {
    pub(crate) fn finder(&self) -> Finder<'_> {
        Finder { list: self.ml.ledgers(), cache: Some(&self.cache), reader: self.ml.reader() }
    }
}

impl<'a> Finder<'a> {
    /// Over a picture of the topic's ledgers.
    pub(crate) fn beside(list: &'a LedgerList, reader: MlReader) -> Self {
        Finder { list, cache: None, reader }
    }

    /// One entry, from memory if it is there. `None`: there is none at or after `position` up to the last one.
    pub(crate) async fn read_at_or_after(&self, position: Position) -> Result<Option<Entry>, TopicError> {
        let Some(last) = self.list.last_confirmed().filter(|last| position <= *last) else {
            return Ok(None);
        };
        if let Some(entry) = self.cache.and_then(|cache| cache.at_or_after(position)) {
            return Ok(Some(entry.clone()));
        }
        let read = self.reader.read(position, 1, 1, last).await;
        let read = read.map_err(|error| TopicError::Persistence(error.to_string()))?;
        Ok(read.into_iter().next().map(|(position, bytes)| parse(position, bytes)))
    }

    /// The first entry published at or after `unix_ms`. Publish times are the producers' clocks: they are taken as
    /// ascending, as everywhere in Pulsar.
    pub(crate) async fn find_by_time(&self, unix_ms: u64) -> Result<Option<Position>, TopicError> {
        self.find_by_time_in(LedgerId(0), unix_ms).await
    }

    /// The same, in ledger `first` and those after it.
    pub(crate) async fn find_by_time_in(
        &self,
        first: LedgerId,
        unix_ms: u64,
    ) -> Result<Option<Position>, TopicError> {
        let list = self.list;
        let Some(last) = list.last_confirmed() else { return Ok(None) };
        for (ledger_id, info) in list.iter().filter(|(id, _)| *id >= first) {
            let entries = match ledger_id.cmp(&last.ledger_id) {
                Ordering::Less => info.entries().unwrap_or(0),
                Ordering::Equal => last.entry_id.0 + 1,
                Ordering::Greater => 0,
            };
            let at = |n: u64| Position { ledger_id, entry_id: EntryId(n) };
            if entries == 0 || self.is_older(at(entries - 1), unix_ms).await? {
                continue;
            }
            // Invariant: entries below `low` are older, the one at `high` is not.
            let (mut low, mut high) = (0, entries - 1);
            while low < high {
                let middle = low + (high - low) / 2;
                match self.is_older(at(middle), unix_ms).await? {
                    true => low = middle + 1,
                    false => high = middle,
                }
            }
            return Ok(Some(at(high)));
        }
        Ok(None)
    }

    async fn is_older(&self, position: Position, unix_ms: u64) -> Result<bool, TopicError> {
        let entry = self.read_at_or_after(position).await?;
        Ok(entry.is_none_or(|entry| entry.summary.publish_time < unix_ms))
    }
}
