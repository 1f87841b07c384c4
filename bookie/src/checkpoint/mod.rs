//! The checkpoint: one small file, replaced whole, that says what need not be replayed and which logs are alive. Every
//! data directory has a copy, so that rot or the loss of a disk takes none of the ledgers' keys and fences.
//! The flush thread replaces it after the logs it names are durable; the start reads it first.
//! It must never name a log that is not durable, or a journal record that neither a log nor a ledger row contains.

pub(crate) mod format;

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use magnetar_common::storage::Storage;

use crate::files::create_afresh;

pub use self::format::FormatError;
pub(crate) use self::format::{Checkpoint, LedgerRow, LogRow};

pub(crate) const NAME: &str = "checkpoint";
const TEMPORARY_NAME: &str = "checkpoint.tmp";

/// Why the checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read the checkpoint file: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Format(#[from] FormatError),
}

/// Whether a file of this name is a checkpoint, or one that is being written.
pub(crate) fn is_file_name(name: &str) -> bool {
    [NAME, TEMPORARY_NAME].contains(&name)
}

/// Replaces the checkpoint in `dir`; durable when this returns. Blocks.
pub(crate) fn replace(storage: &Arc<dyn Storage>, dir: &Path, encoded: &Bytes) -> io::Result<()> {
    let temporary = dir.join(TEMPORARY_NAME);
    let write = || {
        let file = create_afresh(&**storage, &temporary)?;
        file.write_all_at(encoded, 0)?;
        file.sync_data()?;
        storage.rename(&temporary, &dir.join(NAME))?;
        storage.sync_dir(dir)
    };
    write().inspect_err(|_| {
        // A full disk must not be kept full by half a checkpoint. What stays is replaced by the next one.
        let _ = storage.remove(&temporary);
    })
}

/// The checkpoint in `dir`; `None` when there never was one. Blocks.
pub(crate) fn read(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Option<Checkpoint>, ReadError> {
    let path = dir.join(NAME);
    if !storage.exists(&path)? {
        return Ok(None);
    }
    let file = storage.open(&path)?;
    let mut bytes = BytesMut::zeroed(file.len()? as usize);
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(Checkpoint::decode(&bytes.freeze())?))
}

/// The newest of the copies in `dirs`; `None` when there never was one. A damaged or unreadable copy is passed over
/// and reported as long as another one can be read: copies are written one after the other, so the newest that is
/// whole names only logs that are durable, and journal segments are freed after all copies were written. Blocks.
pub(crate) fn newest<'a>(
    storage: &Arc<dyn Storage>,
    dirs: impl Iterator<Item = &'a Path>,
) -> Result<Option<Checkpoint>, ReadError> {
    let mut newest: Option<Checkpoint> = None;
    let mut failed = None;
    for dir in dirs {
        match read(storage, dir) {
            Ok(Some(copy)) => {
                if newest.as_ref().is_none_or(|other| other.number < copy.number) {
                    newest = Some(copy);
                }
            }
            Ok(None) => {}
            Err(error @ ReadError::Format(FormatError::Newer { .. })) => return Err(error),
            Err(error) => {
                tracing::error!(dir = %dir.display(), %error, "a copy of the checkpoint cannot be read");
                failed.get_or_insert(error);
            }
        }
    }
    match (newest, failed) {
        (None, Some(error)) => Err(error),
        (newest, _) => Ok(newest),
    }
}
