//! What the on-disk formats share.

use std::io;
use std::path::Path;
use std::sync::Arc;

use magnetar_common::storage::{File, Storage};

/// Creates a temporary file, in place of one that a crash left.
pub(crate) fn create_afresh(storage: &dyn Storage, path: &Path) -> io::Result<Arc<dyn File>> {
    match storage.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            storage.remove(path)?;
            storage.create(path)
        }
        created => created,
    }
}
