//! What the on-disk formats share.

use std::io;
use std::path::Path;
use std::sync::Arc;

use magnetar_common::storage::{File, Storage};

/// Creates a temporary file, in place of one that a crash left.
pub(crate) fn create_afresh(storage: &dyn Storage, path: &Path) -> io::Result<Arc<dyn File>> {
    in_place_of(storage, path, || storage.create(path))
}

/// Like [`create_afresh`], for direct writes: see [`Storage::create_direct`].
pub(crate) fn create_direct_afresh(storage: &dyn Storage, path: &Path) -> io::Result<Arc<dyn File>> {
    in_place_of(storage, path, || storage.create_direct(path))
}

fn in_place_of(
    storage: &dyn Storage,
    path: &Path,
    create: impl Fn() -> io::Result<Arc<dyn File>>,
) -> io::Result<Arc<dyn File>> {
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            storage.remove(path)?;
            create()
        }
        created => created,
    }
}
