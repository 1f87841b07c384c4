//! Makes a cursor durable: snapshots go to the cursor's ledger, of which the newest record is the state; which ledger
//! that is stands in the cursor's head in the metadata store.

use super::codec;
use super::error::CursorError;
use super::head::Head;
use super::record::{self, Piece};
use super::snapshot::Snapshot;
use crate::managed_ledger::{MlConfig, MlEnv, put_checked};
use bytes::Bytes;
use magnetar_common::metadata::{Expect, MetadataError, Value, Version};
use magnetar_common::{layout, topic_name};
use magnetar_ledger::{Event, LedgerError, Reader, Writer};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// After so many records a new ledger is begun: recovery reads only the last one, but bookies keep them all.
const MAX_RECORDS: u64 = 50_000;
/// Or after so many bytes.
const MAX_LEDGER_BYTES: u64 = 64 << 20;
/// Some millions of acknowledged ranges or partly acknowledged batches; a subscription with more has other troubles.
const MAX_RECORD_BYTES: usize = 128 << 20;
/// A state up to this size is folded into the head when the cursor is closed or taken over; a larger one stays in its
/// ledger, for a metadata store is no place for it.
const MAX_INLINE_BYTES: usize = 32 << 10;

/// A cursor as a listing shows it.
#[derive(Clone, Debug)]
pub struct StoredCursor {
    pub name: String,
    pub(super) head: Value,
}

/// The durable side of one cursor. Only one owner's store succeeds in writing: recovery fences the ledger and changes the
/// head, on which every new ledger of an older owner depends.
///
/// One operation at a time. An operation that is dropped early may or may not have happened, and the next one is sound.
pub struct CursorStore {
    env: MlEnv,
    config: MlConfig,
    managed_ledger: String,
    pub(super) name: String,
    key: String,
    /// Of the head.
    version: Version,
    /// The ledger that the head names.
    ledger: Option<LedgerId>,
    /// Its writer, if it takes records: most cursors have none. It is always that of `ledger`.
    writer: Exclusive<Option<Box<Writer>>>,
    pub(super) properties: BTreeMap<String, String>,
}

impl CursorStore {
    /// Creates a cursor; durable when this returns. No ledger is made before the first [`Self::persist`].
    pub async fn create(
        env: &MlEnv,
        config: &MlConfig,
        managed_ledger: &str,
        name: &str,
        snapshot: Snapshot,
        properties: BTreeMap<String, String>,
    ) -> Result<Self, CursorError> {
        let mut store = Self::at(env, config, managed_ledger, name);
        store.properties = properties;
        let head = store.head(None, snapshot);
        store.version = env.metadata.put(&store.key, head.encode(), Expect::Missing).await.map_err(
            |error| match error {
                MetadataError::Conflict { .. } => CursorError::Exists(name.to_owned()),
                error => error.into(),
            },
        )?;
        Ok(store)
    }

    /// A managed ledger's durable cursors, in the order of their names as stored.
    pub async fn list(env: &MlEnv, managed_ledger: &str) -> Result<Vec<StoredCursor>, CursorError> {
        let prefix = format!("{}/", layout::managed_ledger(managed_ledger));
        let found = env.metadata.scan(&prefix, None, usize::MAX).await?;
        let decode = |(key, head): (String, Value)| {
            let child = &key[prefix.len()..];
            let reason = "its name is not encoded as it should be".to_owned();
            let name = topic_name::decode(child);
            let name = name.ok_or_else(|| CursorError::Corrupt { name: child.to_owned(), reason })?;
            Ok(StoredCursor { name, head })
        };
        found.into_iter().map(decode).collect()
    }

    /// Makes the snapshot durable, which replaces all earlier ones. Gives the bytes written.
    ///
    /// # Errors
    /// See [`CursorError::is_final`]; if it is not, an earlier snapshot or this one is durable, and it may be tried again.
    pub async fn persist(&mut self, snapshot: Snapshot) -> Result<usize, CursorError> {
        let record = codec::encode(&snapshot);
        let bytes = record.len();
        if record.len() > MAX_RECORD_BYTES {
            return Err(CursorError::TooLarge { name: self.name.clone(), bytes: record.len() });
        }
        if let Some(writer) = self.writer.get_mut().as_mut().filter(|writer| !is_full(writer)) {
            match append(writer, record.clone()).await {
                Ok(()) => return Ok(bytes),
                // Whoever has fenced it has changed the head as well: writing the next one tells.
                Err(error) => {
                    tracing::warn!(managed_ledger = self.managed_ledger, cursor = self.name, %error, "write a cursor");
                    *self.writer.get_mut() = None;
                }
            }
        }
        self.begin_ledger(snapshot, record).await?;
        Ok(bytes)
    }

    /// Makes the snapshot durable where the next owner finds it quickest: in the head, if it is not too large.
    pub async fn close(mut self, snapshot: Snapshot) -> Result<(), CursorError> {
        if self.fits_head(&snapshot) {
            return self.write_last(snapshot).await;
        }
        self.persist(snapshot).await?;
        if let Some(writer) = self.writer.get_mut().take() {
            writer.close().await?;
        }
        Ok(())
    }

    /// Deletes the cursor; durable when this returns. After an error that is not final it may be there or not, and this may be
    /// tried again; any other operation goes on where it is there, and ends with a final error where it is not.
    pub async fn delete(&mut self) -> Result<(), CursorError> {
        *self.writer.get_mut() = None;
        match self.env.metadata.delete(&self.key, Expect::Version(self.version)).await {
            Ok(()) | Err(MetadataError::NotFound { .. }) => {}
            // Gone is gone: by this try or an earlier one, whose answer was lost, or by somebody else's.
            Err(error) => match (self.env.metadata.get(&self.key).await, error) {
                (Ok(None), _) => {}
                (Ok(Some(_)), MetadataError::Conflict { .. }) => {
                    return Err(CursorError::Fenced(self.name.clone()));
                }
                (_, error) => return Err(error.into()),
            },
        }
        if let Some(ledger) = self.ledger.take() {
            self.delete_ledger(ledger).await;
        }
        Ok(())
    }

    /// Deletes a cursor that nobody has open, whatever its state. A missing one is no error.
    pub async fn remove(
        env: &MlEnv,
        config: &MlConfig,
        managed_ledger: &str,
        name: &str,
    ) -> Result<(), CursorError> {
        let mut store = Self::at(env, config, managed_ledger, name);
        match store.load_head().await {
            Ok(head) => store.ledger = head.ledger,
            Err(CursorError::NotFound(_)) => return Ok(()),
            // Its ledger, if there is one, is an orphan then.
            Err(CursorError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        store.delete().await
    }

    pub(super) fn at(env: &MlEnv, config: &MlConfig, managed_ledger: &str, name: &str) -> Self {
        Self {
            env: env.clone(),
            config: config.clone(),
            managed_ledger: managed_ledger.to_owned(),
            name: name.to_owned(),
            key: layout::cursor(managed_ledger, name),
            version: Version(0),
            ledger: None,
            writer: Exclusive::default(),
            properties: BTreeMap::new(),
        }
    }

    pub(super) async fn load_head(&mut self) -> Result<Head, CursorError> {
        let found = self.env.metadata.get(&self.key).await?;
        self.take_head(found.ok_or_else(|| CursorError::NotFound(self.name.clone()))?)
    }

    pub(super) fn take_head(&mut self, value: Value) -> Result<Head, CursorError> {
        self.version = value.version;
        Head::decode(&value.bytes).map_err(|reason| self.corrupt(reason))
    }

    pub(super) async fn recover_snapshot(&mut self, head: Head) -> Result<Snapshot, CursorError> {
        self.properties = head.properties;
        self.ledger = head.ledger;
        let recorded = match head.ledger {
            None => None,
            Some(id) => self.last_record(id).await?,
        };
        recorded.or(head.snapshot).ok_or_else(|| self.corrupt("there is no position".into()))
    }

    /// `None` if the ledger has no records or is gone: then the head's position, which is older, must do. Messages
    /// acknowledged since are delivered again.
    async fn last_record(&self, id: LedgerId) -> Result<Option<Snapshot>, CursorError> {
        let reader = match self.env.ledgers.recover(id, &self.config.password).await {
            Ok(reader) => reader,
            Err(LedgerError::NoSuchLedger(_)) => {
                tracing::warn!(cursor = self.name, ledger = %id, "a cursor's ledger is gone: falling back");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        match self.newest_record(&reader).await? {
            Some(record) => codec::decode(&record).map(Some).map_err(|reason| self.corrupt(reason)),
            None => Ok(None),
        }
    }

    /// The newest record that is complete: one that a crash cut short was never confirmed to anybody.
    async fn newest_record(&self, reader: &Reader) -> Result<Option<Bytes>, CursorError> {
        let mut end = reader.last_entry();
        while let Some(last) = end {
            let (index, complete) = match self.pieces(reader, last, last).await?.pop() {
                Some(Piece::Whole(record)) => return Ok(Some(record)),
                Some(Piece::Part { index, count, .. }) => (u64::from(index), index + 1 == count),
                None => return Err(self.corrupt("its last record is missing".into())),
            };
            let first = last.0.checked_sub(index).map(EntryId);
            let first = first.ok_or_else(|| self.corrupt("a record has no beginning".into()))?;
            if complete {
                let record = record::join(self.pieces(reader, first, last).await?);
                return record.map(Some).map_err(|reason| self.corrupt(reason));
            }
            end = first.prev();
        }
        Ok(None)
    }

    async fn pieces(
        &self,
        reader: &Reader,
        first: EntryId,
        last: EntryId,
    ) -> Result<Vec<Piece>, CursorError> {
        let entries = reader.read(first, last, usize::MAX).await?;
        let pieces = entries.into_iter().map(|(_, entry)| record::parse(entry));
        pieces.collect::<Result<_, _>>().map_err(|reason| self.corrupt(reason))
    }

    /// Writes the head, with the state in it if it fits, and lets go of the ledger then. The head is written even if
    /// nothing has changed: its new version keeps an older owner from writing it.
    pub(super) async fn write_last(&mut self, snapshot: Snapshot) -> Result<(), CursorError> {
        let fits = self.fits_head(&snapshot);
        let ledger = self.ledger.filter(|_| !fits);
        self.put_head(ledger, snapshot).await?;
        if fits {
            *self.writer.get_mut() = None;
        }
        Ok(())
    }

    /// The record is in the new ledger before the head names that ledger: there is always a state to be found.
    async fn begin_ledger(&mut self, snapshot: Snapshot, record: Bytes) -> Result<(), CursorError> {
        let options = self.config.ledger_options(&self.managed_ledger, Some(&self.name));
        let mut writer = self.env.ledgers.create(options).await?;
        let id = writer.id();
        let named = match append(&mut writer, record).await {
            Ok(()) => self.put_head(Some(id), snapshot).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = named {
            // When it is unknown whether the head names the ledger, the ledger must stay.
            if !matches!(error, CursorError::Metadata(_)) {
                self.delete_ledger(id).await;
            }
            return Err(error);
        }
        *self.writer.get_mut() = Some(Box::new(writer));
        Ok(())
    }

    /// Has the head name this ledger. The one that it named until now is deleted with that.
    async fn put_head(&mut self, ledger: Option<LedgerId>, snapshot: Snapshot) -> Result<(), CursorError> {
        let head = self.head(ledger, snapshot).encode();
        let (metadata, clock) = (self.env.metadata.clone(), self.env.clock.clone());
        let (name, key) = (self.name.clone(), self.key.clone());
        let dropped = self.ledger.filter(|_| self.ledger != ledger);
        self.version = put_checked(metadata, clock, name, key, head, self.version, dropped).await?;
        self.ledger = ledger;
        Ok(())
    }

    async fn delete_ledger(&self, id: LedgerId) {
        match self.env.ledgers.delete(id).await {
            Ok(()) | Err(LedgerError::NoSuchLedger(_)) => {}
            Err(error) => {
                tracing::warn!(cursor = self.name, ledger = %id, %error, "delete a cursor's ledger: it stays as an orphan");
            }
        }
    }

    fn head(&self, ledger: Option<LedgerId>, snapshot: Snapshot) -> Head {
        Head {
            ledger,
            snapshot: Some(snapshot),
            properties: self.properties.clone(),
            last_active_ms: self.env.clock.unix_ms(),
        }
    }

    /// The head knows only the longer form of ranges, so it is measured itself, unless the shorter one is too long. Partly
    /// acknowledged batches never fit: Pulsar's broker writes them there and does not read them.
    fn fits_head(&self, snapshot: &Snapshot) -> bool {
        snapshot.batches.is_empty()
            && codec::encode(snapshot).len() <= MAX_INLINE_BYTES
            && self.head(None, snapshot.clone()).encode().len() <= MAX_INLINE_BYTES
    }

    /// Writes all parts of a large record but the last one, as a crash would leave it.
    #[cfg(test)]
    pub(super) async fn append_torn(&mut self, snapshot: Snapshot) {
        let mut parts = record::split(codec::encode(&snapshot));
        parts.pop().expect("a record has a part");
        let writer = self.writer.get_mut().as_mut().expect("a ledger is open");
        for part in parts {
            append_entry(writer, part).await.expect("appended");
        }
    }

    fn corrupt(&self, reason: String) -> CursorError {
        CursorError::Corrupt { name: self.name.clone(), reason }
    }
}

/// What only its owner reaches, so that a reference to the whole may go to another thread. Never locked.
#[derive(Default)]
struct Exclusive<T>(Mutex<T>);

impl<T> Exclusive<T> {
    fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_full(writer: &Writer) -> bool {
    writer.last_add_pushed().is_some_and(|last| last.0 + 1 >= MAX_RECORDS)
        || writer.length() >= MAX_LEDGER_BYTES
}

/// Returns when the record is durable. One part is under way at a time: the writer does not bound what is.
async fn append(writer: &mut Writer, record: Bytes) -> Result<(), LedgerError> {
    for entry in record::split(record) {
        append_entry(writer, entry).await?;
    }
    Ok(())
}

async fn append_entry(writer: &mut Writer, entry: Bytes) -> Result<(), LedgerError> {
    let id = writer.append(entry).map_err(|refused| refused.error)?;
    while writer.last_add_confirmed().is_none_or(|last| last < id) {
        if let Event::Failed(error) = writer.next().await {
            return Err(error);
        }
    }
    Ok(())
}
