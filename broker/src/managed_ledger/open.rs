//! Takes a managed ledger over: what an older owner left open is fenced and its end found.

use super::config::{MlConfig, MlEnv};
use super::error::MlError;
use super::info::Record;
use super::info_store::InfoStore;
use super::ledger_list::LedgerState;
use super::shell::ManagedLedger;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError, SharedMetadata, Value, Version};
use magnetar_proto::ids::LedgerId;

/// Owners that take over from each other at the same time make each other start again; more than this many in a row
/// means that something else is wrong.
const ATTEMPTS: usize = 8;

/// Whether the managed ledger exists.
pub async fn exists(metadata: &SharedMetadata, name: &str) -> Result<bool, MlError> {
    Ok(metadata.get(&layout::managed_ledger(name)).await?.is_some())
}

/// A managed ledger's record as it was at some moment, if there was one.
#[derive(Debug)]
pub struct Found(Option<Value>);

impl ManagedLedger {
    /// Opens the managed ledger, and makes it if it does not exist. Every entry that was ever confirmed to anybody is
    /// there afterwards, and an older owner gets nothing confirmed any more: its ledgers are fenced, and its list of
    /// ledgers cannot be changed. No ledger is opened for appends: see [`Self::make_writable`].
    pub async fn open(env: MlEnv, name: &str, config: MlConfig) -> Result<Self, MlError> {
        let found = Self::look(&env, name).await?;
        Self::open_found(env, name, config, found).await
    }

    /// What [`open_found`](Self::open_found) begins with: a read that can go beside others. Changes nothing.
    pub async fn look(env: &MlEnv, name: &str) -> Result<Found, MlError> {
        Ok(Found(env.metadata.get(&layout::managed_ledger(name)).await?))
    }

    /// [`open`](Self::open), after a look at it. What has changed since is read again.
    pub async fn open_found(env: MlEnv, name: &str, config: MlConfig, found: Found) -> Result<Self, MlError> {
        let (info, empty) = take_over(&env, name, &config, found).await?;
        let mut opened = Self::from_parts(env, name, config, info);
        if !empty.is_empty() {
            opened.start_deleting(empty);
        }
        Ok(opened)
    }

    /// Opens it anew after [`super::MlEvent::Failed`]. Everything that was not confirmed before may or may not be there.
    /// Readers taken before must be taken again. On an error it stays failed; try again later.
    pub async fn reopen(&mut self) -> Result<(), MlError> {
        *self = Self::open(self.env.clone(), &self.name, self.config.clone()).await?;
        Ok(())
    }
}

/// Gives the record and the ledgers that are no longer in it because they are empty.
async fn take_over(
    env: &MlEnv,
    name: &str,
    config: &MlConfig,
    found: Found,
) -> Result<(InfoStore, Vec<LedgerId>), MlError> {
    let key = layout::managed_ledger(name);
    let mut seen = Some(found.0);
    for _ in 0..ATTEMPTS {
        let found = match seen.take() {
            Some(found) => found,
            None => env.metadata.get(&key).await?,
        };
        let (mut record, expect) = match &found {
            None => (Record::default(), Expect::Missing),
            Some(value) => (Record::decode(name, &value.bytes)?, Expect::Version(value.version)),
        };
        let empty = recover_open_ledgers(env, config, &mut record).await?;
        // Written even when nothing has changed: the new version keeps an older owner from adding a ledger that we would
        // not know of.
        match env.metadata.put(&key, record.encode(), expect).await {
            Ok(version) => return Ok((store(env, name, record, version), empty)),
            Err(MetadataError::Conflict { .. } | MetadataError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(MlError::Fenced(name.to_owned()))
}

/// In order, oldest first. An owner that is gone may have left two: the one it was leaving and the one to follow.
async fn recover_open_ledgers(
    env: &MlEnv,
    config: &MlConfig,
    record: &mut Record,
) -> Result<Vec<LedgerId>, MlError> {
    let open: Vec<LedgerId> =
        record.list.iter().filter(|(_, info)| info.state == LedgerState::Open).map(|(id, _)| id).collect();
    let mut empty = Vec::new();
    for id in open {
        let reader = env.ledgers.recover(id, &config.password).await?;
        match reader.last_entry() {
            None => {
                record.list.remove(id);
                empty.push(id);
            }
            Some(last) => {
                let state = LedgerState::Closed {
                    entries: last.0 + 1,
                    size: reader.length(),
                    closed_at_ms: env.clock.unix_ms(),
                };
                record.list.set_state(id, state);
                record.list.confirm(magnetar_proto::ids::Position::new(id, last));
            }
        }
    }
    Ok(empty)
}

fn store(env: &MlEnv, name: &str, record: Record, version: Version) -> InfoStore {
    InfoStore::new(env.metadata.clone(), env.clock.clone(), name, record, version)
}
