//! Takes a managed ledger over: what an older owner left open is fenced and its end found.

use super::config::{MlConfig, MlEnv};
use super::error::MlError;
use super::info::Record;
use super::info_store::InfoStore;
use super::ledger_list::LedgerState;
use super::shell::ManagedLedger;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError, Op, SharedMetadata, Value, Version, version_of_put};
use magnetar_ledger::{Client, Draft, LedgerError};
use magnetar_proto::ids::LedgerId;

/// Owners that take over from each other at the same time make each other start again; more than this many in a row
/// means that something else is wrong.
const ATTEMPTS: usize = 8;

/// Whether the managed ledger exists.
pub async fn exists(metadata: &SharedMetadata, name: &str) -> Result<bool, MlError> {
    Ok(metadata.get(&layout::managed_ledger(name)).await?.is_some())
}

/// A managed ledger's record as it was at some moment, if there was one, and what was fetched for its next ledger.
#[derive(Debug)]
pub struct Found {
    record: Option<Value>,
    id: Option<LedgerId>,
}

impl ManagedLedger {
    /// Opens the managed ledger, and makes it if it does not exist. Every entry that was ever confirmed to anybody is
    /// there afterwards, and an older owner gets nothing confirmed any more: its ledgers are fenced, and its list of
    /// ledgers cannot be changed. No ledger is opened for appends: see [`Self::make_writable`].
    pub async fn open(env: MlEnv, name: &str, config: MlConfig) -> Result<Self, MlError> {
        let found = Self::look(&env, name, false).await?;
        Self::open_found(env, name, config, found).await
    }

    /// What [`open_found`](Self::open_found) begins with: it can go beside other reads, and changes nothing. When it is
    /// `for_writing`, a ledger for appends will be made in the step that takes the managed ledger over; unless it is
    /// terminated or bookies are missing, and then that is left to [`Self::make_writable`].
    pub async fn look(env: &MlEnv, name: &str, for_writing: bool) -> Result<Found, MlError> {
        let record = env.metadata.get(&layout::managed_ledger(name)).await?;
        // The id is given out after the list was read, and is used only if nobody has changed the list since. So it is
        // above that of every ledger that was ever in the list, the deleted ones included: a cursor may stand behind one
        // of these, and would take the entries of a ledger with a lower id for consumed.
        let id = match for_writing {
            true => env.ledgers.new_id().await.inspect_err(|error| not_writable(name, error)).ok(),
            false => None,
        };
        Ok(Found { record, id })
    }

    /// [`open`](Self::open), after a look at it. What has changed since is read again.
    pub async fn open_found(env: MlEnv, name: &str, config: MlConfig, found: Found) -> Result<Self, MlError> {
        let (info, draft) = take_over(&env, name, &config, found).await?;
        let mut opened = Self::from_parts(env, name, config, info);
        if let Some((draft, version)) = draft {
            let writer = opened.env.ledgers.begin(draft, version);
            opened.start_using(writer);
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

/// Gives the record, and the ledger that was made for appends with its record's version.
///
/// All of it is one transaction: the ledger found empty is gone when the list does not name it any more, and a new one is
/// there when the list does. So whatever crashes, no ledger is left that nobody knows of, and none is listed that is not
/// there.
async fn take_over(
    env: &MlEnv,
    name: &str,
    config: &MlConfig,
    mut found: Found,
) -> Result<(InfoStore, Option<(Draft, Version)>), MlError> {
    let key = layout::managed_ledger(name);
    for _ in 0..ATTEMPTS {
        let (mut record, expect) = match &found.record {
            None => (Record::default(), Expect::Missing),
            Some(value) => (Record::decode(name, &value.bytes)?, Expect::Version(value.version)),
        };
        let empty = match recover_open_ledgers(env, config, &mut record).await {
            Ok(empty) => empty,
            // An empty ledger goes together with its place in the list: unless that is as it was, this was the old owner's
            // last write, and there is another look to take.
            Err(error @ MlError::Ledger(LedgerError::NoSuchLedger(_))) => {
                let version = |found: &Found| found.record.as_ref().map(|value| value.version);
                let again = ManagedLedger::look(env, name, found.id.is_some()).await?;
                if version(&again) == version(&found) {
                    return Err(error);
                }
                found = again;
                continue;
            }
            Err(error) => return Err(error),
        };
        let draft = found.id.and_then(|id| draft(env, name, config, &record, id));
        if let Some(draft) = &draft {
            record.list.push_open(draft.id());
        }
        // Written even when nothing else has changed: the new version keeps an older owner from adding a ledger that we would
        // not know of, and nobody can take this for a write of its own whose answer was lost.
        record.owner = env.random.next_u64();
        let put = Op::Put { key: key.clone(), value: record.encode(), expect, lease: None };
        let deletions = empty.into_iter().map(Client::deletion);
        let ops = [put].into_iter().chain(deletions).chain(draft.as_ref().map(Draft::put));
        match env.metadata.transact(ops.collect()).await {
            Ok(versions) => {
                // The list's put is the first one, the ledger's the last.
                let info = store(env, name, record, version_of_put(versions.first())?);
                let draft = match draft {
                    Some(draft) => Some((draft, version_of_put(versions.last())?)),
                    None => None,
                };
                return Ok((info, draft));
            }
            Err(MetadataError::Conflict { .. } | MetadataError::NotFound { .. }) => {
                found = ManagedLedger::look(env, name, found.id.is_some()).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(MlError::Fenced(name.to_owned()))
}

/// `None`: no ledger can be opened for appends now.
fn draft(env: &MlEnv, name: &str, config: &MlConfig, record: &Record, id: LedgerId) -> Option<Draft> {
    let in_order = record.list.iter().next_back().is_none_or(|(last, _)| last < id);
    if record.terminated.is_some() || !in_order {
        return None;
    }
    let drafted = env.ledgers.draft(id, config.ledger_options(name, None));
    drafted.inspect_err(|error| not_writable(name, error)).ok()
}

fn not_writable(managed_ledger: &str, error: &LedgerError) {
    tracing::debug!(managed_ledger, %error, "open it to write at once");
}

/// In order, oldest first. An owner that is gone may have left two: the one it was leaving and the one to follow. Gives those
/// that are no longer in the list because they are empty.
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
