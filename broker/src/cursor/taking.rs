//! Takes a cursor over from its last owner.

use super::error::CursorError;
use super::snapshot::Snapshot;
use super::state::Cursor;
use super::store::{CursorStore, StoredCursor};
use crate::managed_ledger::{LedgerList, MlConfig, MlEnv};
use std::collections::BTreeMap;

/// Each lost attempt to take a cursor over means that an older owner has begun a ledger: it does so once, or two owners
/// fight.
const TAKE_OVER_ATTEMPTS: usize = 8;

/// A cursor that nobody else has any more, as it was left.
pub struct TakenOver {
    store: CursorStore,
    snapshot: Snapshot,
}

impl TakenOver {
    pub fn name(&self) -> &str {
        &self.store.name
    }

    /// Its store, its state fitted to the ledgers as they are, and the properties it was created with.
    pub fn restore(self, ledgers: &LedgerList) -> (CursorStore, Cursor, BTreeMap<String, String>) {
        let properties = self.store.properties.clone();
        (self.store, Cursor::restore(&self.snapshot, ledgers), properties)
    }
}

impl CursorStore {
    /// Takes a cursor over from whoever had it, and gives its state, fitted to the ledgers as they are, with the
    /// properties it was created with. An older owner can make nothing durable any more. `found` saves a read of what a
    /// listing has just shown.
    pub async fn recover(
        env: &MlEnv,
        config: &MlConfig,
        managed_ledger: &str,
        name: &str,
        found: Option<StoredCursor>,
        ledgers: &LedgerList,
    ) -> Result<(Self, Cursor, BTreeMap<String, String>), CursorError> {
        Ok(Self::take_over(env, config, managed_ledger, name, found).await?.restore(ledgers))
    }

    /// [`recover`](Self::recover) up to where the ledgers must be known: it can go beside the taking over of these. Whichever
    /// comes first, an older owner that loses one of the two has to stop.
    pub async fn take_over(
        env: &MlEnv,
        config: &MlConfig,
        managed_ledger: &str,
        name: &str,
        mut found: Option<StoredCursor>,
    ) -> Result<TakenOver, CursorError> {
        let mut attempt = 1;
        loop {
            let mut store = Self::at(env, config, managed_ledger, name);
            let head = match found.take() {
                Some(found) => store.take_head(found.head)?,
                None => store.load_head().await?,
            };
            let snapshot = store.recover_snapshot(head).await?;
            match store.write_last(snapshot.clone()).await {
                Ok(()) => return Ok(TakenOver { store, snapshot }),
                // An owner that does not know of its end has begun a new ledger meanwhile: there may be more to recover.
                Err(CursorError::Fenced(_)) if attempt < TAKE_OVER_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }
}
