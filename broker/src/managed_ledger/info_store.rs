//! Keeps a managed ledger's record durable: one conditional write in flight, the newest state next.

use super::error::MlError;
use super::info::Record;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use magnetar_common::clock::SharedClock;
use magnetar_common::metadata::{Expect, MetadataError, Op, SharedMetadata, Version, version_of_put};
use magnetar_ledger::Client;
use magnetar_proto::ids::LedgerId;
use std::time::Duration;

/// How often a write is tried while the store cannot be reached, before the topic gives up and is opened anew.
/// While it tries, appends go on in the ledgers that are open; an attempt itself takes seconds while nobody answers, so this
/// outlives outages of minutes.
const ATTEMPTS: u32 = 120;
/// For so long a deletion is tried: somebody waits for it.
const DELETE_MAX: Duration = Duration::from_secs(15);
/// Between two attempts.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The record and its write-behind. `durable <= generation`; both only grow.
pub(super) struct InfoStore {
    metadata: SharedMetadata,
    clock: SharedClock,
    name: String,
    key: String,
    record: Record,
    /// Of the value in the store: what the next write is conditional on. Another owner changes it.
    version: Version,
    /// Changes made.
    generation: u64,
    /// Changes that are in the store.
    durable: u64,
    write: Option<Write>,
}

struct Write {
    generation: u64,
    future: BoxFuture<'static, Result<Version, MlError>>,
}

impl InfoStore {
    pub(super) fn new(
        metadata: SharedMetadata,
        clock: SharedClock,
        name: &str,
        record: Record,
        version: Version,
    ) -> Self {
        let key = magnetar_common::layout::managed_ledger(name);
        Self {
            metadata,
            clock,
            name: name.to_owned(),
            key,
            record,
            version,
            generation: 0,
            durable: 0,
            write: None,
        }
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// For what is kept in memory only: the confirmed position and sealed ends.
    pub(super) fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    /// Changes the record and has it written; gives the number that [`Self::next`] reports once it is durable.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Record)) -> u64 {
        change(&mut self.record);
        self.generation += 1;
        self.generation
    }

    /// Waits until more changes are durable and gives the newest that is. Pending while there is nothing to write.
    /// Cancel-safe. An error is final: the record may belong to somebody else now.
    pub(super) async fn next(&mut self) -> Result<u64, MlError> {
        if self.write.is_none() && self.durable < self.generation {
            let future = put_checked(
                self.metadata.clone(),
                self.clock.clone(),
                self.name.clone(),
                self.key.clone(),
                self.record.encode(),
                self.version,
                None,
            );
            self.write = Some(Write { generation: self.generation, future: future.boxed() });
        }
        let Some(write) = &mut self.write else { return std::future::pending().await };
        let result = (&mut write.future).await;
        let generation = write.generation;
        self.write = None;
        self.version = result?;
        self.durable = generation;
        Ok(generation)
    }

    /// Whether all changes are durable.
    pub(super) fn is_settled(&self) -> bool {
        self.durable == self.generation
    }

    /// Whether this change is durable.
    pub(super) fn is_durable(&self, generation: u64) -> bool {
        generation <= self.durable
    }

    /// The write of the record as `change` leaves it, for a transaction that is the last thing done to it. All changes must be
    /// settled.
    pub(super) fn last_put(&self, change: impl FnOnce(&mut Record)) -> Op {
        let mut record = self.record.clone();
        change(&mut record);
        let (key, expect) = (self.key.clone(), Expect::Version(self.version));
        Op::Put { key, value: record.encode(), expect, lease: None }
    }

    /// Whether nobody else has changed the record. All changes must be settled.
    pub(super) async fn check_owner(&mut self) -> Result<(), MlError> {
        match self.metadata.get(&self.key).await? {
            Some(found) if found.version == self.version => Ok(()),
            _ => Err(MlError::Fenced(self.name.clone())),
        }
    }

    /// Removes the record if nobody else has changed it. All changes must be settled. When the outcome is unknown, the store
    /// is asked: the ledgers are only known as long as this owner lives.
    pub(super) async fn delete(&mut self) -> Result<(), MlError> {
        let give_up = self.clock.now() + DELETE_MAX;
        loop {
            let error = match self.metadata.delete(&self.key, Expect::Version(self.version)).await {
                Ok(()) | Err(MetadataError::NotFound { .. }) => return Ok(()),
                Err(error @ (MetadataError::Conflict { .. } | MetadataError::Unavailable(_))) => error,
                Err(error) => return Err(error.into()),
            };
            let is_gone = self.metadata.get(&self.key).await.map(|found| found.is_none());
            match (is_gone, error) {
                (Ok(true), _) => return Ok(()),
                (Ok(false), MetadataError::Conflict { .. }) => {
                    return Err(MlError::Fenced(self.name.clone()));
                }
                (_, error) if self.clock.now() >= give_up => return Err(error.into()),
                (_, error) => {
                    tracing::warn!(managed_ledger = self.name, %error, "delete the list of ledgers: trying again");
                    self.clock.sleep(RETRY_DELAY).await;
                }
            }
        }
    }
}

/// Puts the value if the key still has `version`, and deletes in the same step the ledger that it names no longer: so there is
/// no moment at which a crash leaves a ledger that nobody knows of. When the outcome of a try is unknown, the store is asked:
/// the put may have happened. The value must be one that no other owner writes, as a managed ledger's record is by its owner's
/// number, and a cursor's head by the time at which it was written.
pub(crate) async fn put_checked(
    metadata: SharedMetadata,
    clock: SharedClock,
    name: String,
    key: String,
    value: Bytes,
    version: Version,
    mut dropped: Option<LedgerId>,
) -> Result<Version, MlError> {
    let (mut attempt, mut may_have_happened) = (0, false);
    loop {
        attempt += 1;
        let expect = Expect::Version(version);
        let put = Op::Put { key: key.clone(), value: value.clone(), expect, lease: None };
        let ops = [put].into_iter().chain(dropped.map(Client::deletion));
        match metadata.transact(ops.collect()).await {
            Ok(versions) => return Ok(version_of_put(versions.first())?),
            // The ledger is gone already. The put is looked at first, so it would have been in order.
            Err(MetadataError::NotFound { .. }) if dropped.is_some() => dropped = None,
            Err(MetadataError::Conflict { .. } | MetadataError::NotFound { .. }) if !may_have_happened => {
                return Err(MlError::Fenced(name));
            }
            Err(MetadataError::Conflict { .. }) => {
                return match metadata.get(&key).await? {
                    Some(found) if found.bytes == value && found.version != version => Ok(found.version),
                    _ => Err(MlError::Fenced(name)),
                };
            }
            Err(MetadataError::Unavailable(reason)) if attempt < ATTEMPTS => {
                tracing::warn!(managed_ledger = name, reason, "write the list of ledgers: trying again");
                may_have_happened = true;
                clock.sleep(RETRY_DELAY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
