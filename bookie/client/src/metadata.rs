//! A ledger's record in the metadata store, with the version it was read at.

use crate::error::LedgerError;
use magnetar_common::metadata::{Expect, MetadataError, SharedMetadata, Version};
use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
use magnetar_proto::bookkeeper::paths::ledger_path;
use magnetar_proto::ids::LedgerId;

/// What was read, or written.
#[derive(Clone, Debug)]
pub(crate) struct Versioned {
    pub(crate) metadata: LedgerMetadata,
    pub(crate) version: Version,
}

/// Reads a ledger's record.
pub(crate) async fn read(store: &SharedMetadata, ledger: LedgerId) -> Result<Versioned, LedgerError> {
    let value = store.get(&ledger_path(ledger)).await?.ok_or(LedgerError::NoSuchLedger(ledger))?;
    let metadata = LedgerMetadata::decode(&value.bytes)
        .map_err(|error| LedgerError::DamagedMetadata { ledger, reason: error.to_string() })?;
    Ok(Versioned { metadata, version: value.version })
}

/// Changes a ledger's record by compare-and-set, starting from `current`. On a conflict, and when the outcome of the
/// write is unknown, the record is read again and `change` decides anew: it gives the record to write, or `None` when
/// there is nothing (more) to do. Gives the record as it then is.
pub(crate) async fn update(
    store: &SharedMetadata,
    ledger: LedgerId,
    mut current: Versioned,
    change: impl Fn(&LedgerMetadata) -> Result<Option<LedgerMetadata>, LedgerError>,
) -> Result<Versioned, LedgerError> {
    /// More conflicts in a row than owners can cause; then something is wrong with the store.
    const ATTEMPTS: usize = 20;
    for _ in 0..ATTEMPTS {
        let Some(wanted) = change(&current.metadata)? else { return Ok(current) };
        match store.put(&ledger_path(ledger), wanted.encode(), Expect::Version(current.version)).await {
            Ok(version) => return Ok(Versioned { metadata: wanted, version }),
            // Of a write whose outcome is unknown the record itself tells: reading it again may fail, guessing would.
            Err(MetadataError::Conflict { .. } | MetadataError::Unavailable(_)) => {
                current = read(store, ledger).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(LedgerError::Metadata(MetadataError::Unavailable(format!("too many conflicts on ledger {ledger}"))))
}
