//! The checkpoint: one small file, replaced whole, that says what need not be replayed and which logs are alive.
//! The flush thread replaces it after the logs it names are durable; the start reads it first.
//! It must never name a log that is not durable, or a journal record that neither a log nor a ledger row contains.

pub(crate) mod format;

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
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

/// Replaces the checkpoint in `dir`; durable when this returns. Blocks.
pub(crate) fn replace(storage: &Arc<dyn Storage>, dir: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let temporary = dir.join(TEMPORARY_NAME);
    let file = create_afresh(&**storage, &temporary)?;
    file.write_all_at(&checkpoint.encode(), 0)?;
    file.sync_data()?;
    storage.rename(&temporary, &dir.join(NAME))?;
    storage.sync_dir(dir)
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
