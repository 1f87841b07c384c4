//! Deduplication of a topic: the table of sequence numbers, and the cursor that it survives in.
//!
//! The cursor's mark-delete is the place up to which its properties count; what lies behind is read again at the next
//! load. So it holds back the ledgers that this needs, and no more entries than one interval's.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::actor::Topic;
use super::durability::Durability;
use super::error::TopicError;
use super::reads::parse;
use super::request::Name;
use super::sequences::{Numbered, Sequences};
use crate::cursor::{Cursor, CursorError, CursorStore};
use crate::managed_ledger::{LedgerList, MarkDelete};
use magnetar_proto::ids::Position;
use magnetar_proto::pulsar::message::Summary;

/// Pulsar's name of the cursor.
pub(crate) const CURSOR: &str = "pulsar.dedup";

/// A snapshot is taken after so many entries …
const ENTRIES_PER_SNAPSHOT: u64 = 1_000;

/// … or this long after the first of them.
const SNAPSHOT_AFTER: Duration = Duration::from_secs(120);

/// Entries read at a time when the table is rebuilt, and their bytes.
const REPLAY_ENTRIES: usize = 1_000;
const REPLAY_BYTES: usize = 4 << 20;

/// Only there while deduplication is on.
pub(crate) struct Deduplication {
    sequences: Sequences,
    cursor: Cursor,
    durability: Durability,
    /// Entries that became durable since the last snapshot, and when the next one is due for the first of them.
    entries: u64,
    snapshot_at: Option<Duration>,
    /// The table says everything up to here. The ledger may be ahead of it by what it has not reported yet.
    up_to: Option<Position>,
}

impl Deduplication {
    /// What must not be trimmed.
    pub(crate) fn durable_mark_delete(&self) -> MarkDelete {
        self.durability.durable_mark_delete()
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        [self.snapshot_at, self.durability.deadline()].into_iter().flatten().min()
    }

    pub(crate) fn is_new(&self, producer: &str, highest: u64, entry: &Summary) -> bool {
        self.sequences.is_new(producer, highest, entry)
    }

    pub(crate) fn push(&mut self, producer: &Name, highest: u64, entry: &Summary, now_ms: u64) -> Numbered {
        self.sequences.push(producer, highest, entry, now_ms)
    }

    pub(crate) fn confirm(&mut self, producer: &Name, numbered: Numbered, now: Duration) {
        self.sequences.confirm(producer, numbered);
        self.entries += 1;
        self.snapshot_at.get_or_insert(now + SNAPSHOT_AFTER);
    }

    /// Everything up to here was confirmed to the table.
    pub(crate) fn confirmed(&mut self, up_to: Position) {
        self.up_to = Some(up_to);
    }

    pub(crate) fn stored(&self, producer: &str) -> Option<u64> {
        self.sequences.stored(producer)
    }

    /// Deletes the cursor; durable when this returns. After an error it may be there still, and this be tried again.
    pub(crate) async fn delete(&mut self) -> Result<(), TopicError> {
        self.durability.delete().await
    }

    pub(crate) fn durability_mut(&mut self) -> &mut Durability {
        &mut self.durability
    }

    fn take_snapshot(&mut self, list: &LedgerList) {
        let Some(up_to) = self.up_to else { return };
        (self.entries, self.snapshot_at) = (0, None);
        self.cursor.set_properties(self.sequences.snapshot());
        self.cursor.ack_cumulative(up_to, None, list);
    }
}

impl Topic {
    /// Takes the cursor that an earlier owner left, and rebuilds the table; or drops it if deduplication is off by now.
    pub(crate) async fn recover_deduplication(
        &mut self,
        store: CursorStore,
        cursor: Cursor,
    ) -> Result<(), TopicError> {
        let mut durability = Durability::new(store, cursor.mark_delete());
        if !self.policies.deduplication {
            return durability.delete().await;
        }
        let now_ms = self.env.environment.clock.unix_ms();
        let mut sequences = Sequences::default();
        for (producer, highest) in cursor.properties() {
            if let Ok(highest) = u64::try_from(*highest) {
                sequences.restore(producer.as_str().into(), highest, now_ms);
            }
        }
        let list = self.ml.ledgers();
        let (reader, mut from) = (self.ml.reader(), list.next_after(cursor.mark_delete()));
        let mut entries = 0;
        while let Some(last) = list.last_confirmed().filter(|last| from <= *last) {
            let read = reader.read(from, REPLAY_ENTRIES, REPLAY_BYTES, last).await;
            let read =
                read.map_err(|error| TopicError::NotReady(format!("rebuild deduplication: {error}")))?;
            let Some((end, _)) = read.last() else { break };
            from = list.next_valid(*end);
            entries += read.len() as u64;
            for (position, stored) in read {
                sequences.replay(&parse(position, stored).summary, now_ms);
            }
        }
        let snapshot_at = (entries > 0).then(|| self.env.environment.clock.now() + SNAPSHOT_AFTER);
        let up_to = list.last_confirmed();
        self.deduplication =
            Some(Deduplication { sequences, cursor, durability, entries, snapshot_at, up_to });
        Ok(())
    }

    /// Makes what the policies say true before the next producer is let in.
    pub(crate) async fn settle_deduplication(&mut self) -> Result<(), TopicError> {
        match (self.policies.deduplication, self.deduplication.take()) {
            (true, Some(running)) => self.deduplication = Some(running),
            (true, None) => {
                // What is under way was not counted: begin after it.
                self.finish_appends().await;
                let cursor = Cursor::new(self.ml.ledgers().latest());
                let (env, config) = (&self.env.managed_ledgers, &self.env.config);
                let (snapshot, mark) = (cursor.snapshot(), cursor.mark_delete());
                let failed = |error: CursorError| TopicError::Metadata(error.to_string());
                let name = self.ml.name();
                let store = CursorStore::create(env, config, name, CURSOR, snapshot, Default::default());
                let store = match store.await {
                    Err(CursorError::Exists(_)) => {
                        let (store, cursor, _) = self.take_up_cursor(CURSOR).await?;
                        return self.recover_deduplication(store, cursor).await;
                    }
                    created => created.map_err(failed)?,
                };
                self.deduplication = Some(Deduplication {
                    sequences: Sequences::default(),
                    cursor,
                    durability: Durability::new(store, mark),
                    entries: 0,
                    snapshot_at: None,
                    up_to: None,
                });
            }
            (false, Some(mut running)) => {
                if let Err(error) = running.delete().await {
                    self.deduplication = Some(running);
                    return Err(error);
                }
                self.trim_due = true;
            }
            (false, None) => {}
        }
        Ok(())
    }

    /// Takes a snapshot if one is due, and begins its write.
    pub(crate) fn keep_deduplication(&mut self) {
        let clock = &self.env.environment.clock;
        let (now, now_ms) = (clock.now(), clock.unix_ms());
        let Some(deduplication) = &mut self.deduplication else { return };
        let due = deduplication.entries >= ENTRIES_PER_SNAPSHOT
            || deduplication.snapshot_at.is_some_and(|at| at <= now);
        if due {
            let producers = &self.producers;
            deduplication.sequences.forget_silent(now_ms, |name| producers.is_connected(name));
            deduplication.take_snapshot(self.ml.ledgers());
            deduplication.durability.changed(None, now);
        }
        let name = Name::from(CURSOR);
        deduplication.durability.write_if_due(&deduplication.cursor, &name, &self.events, now);
    }

    /// Takes the last snapshot, so that the next load has nothing to read. What is given writes it.
    pub(crate) fn close_deduplication(
        deduplication: Option<Deduplication>,
        list: &LedgerList,
    ) -> BoxFuture<'static, Result<(), TopicError>> {
        let Some(mut deduplication) = deduplication else { return std::future::ready(Ok(())).boxed() };
        deduplication.take_snapshot(list);
        async move { deduplication.durability.close(&deduplication.cursor).await }.boxed()
    }
}
