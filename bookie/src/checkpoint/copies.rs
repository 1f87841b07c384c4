//! The copies of one bookie's checkpoint, and what each needs to come up to date: a change, or a new base.
//! It must never append to a file of which it does not know that it ends with the number before.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use magnetar_common::storage::Storage;

use super::{Checkpoint, NAME, ReadError, newest_with, replace};

/// Changes may grow to the size of the base, or to this where the base is small: what is written comes to twice the
/// changes at most, what lies on the disk to twice the base, and a small file is not replaced every few flushes.
const CHANGES_BYTES: u64 = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Copies(Vec<Copy>);

/// One directory's copy.
#[derive(Debug)]
pub(crate) struct Copy {
    path: PathBuf,
    /// `None` where there is no file that a change can be appended to.
    file: Option<Known>,
}

/// What is known of a file that ends with a whole change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    number: u64,
    base_end: u64,
    end: u64,
}

/// Why a copy is not up to date.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Failed {
    pub(crate) error: io::Error,
    /// The file is as it was: the same change may be appended once more.
    pub(crate) untouched: bool,
}

impl Copies {
    /// Reads the copies in `dirs`, the journal's first. The newest is durable when this returns, so that what no copy names
    /// may be removed; of several ledger directories one may fail to make it so. Blocks.
    pub(crate) fn open<'a>(
        storage: &Arc<dyn Storage>,
        dirs: impl Iterator<Item = &'a Path> + Clone,
    ) -> Result<(Copies, Option<Checkpoint>), ReadError> {
        let (mut copies, mut numbers) = (Copies::unknown(dirs.clone()), Vec::new());
        let newest = newest_with(storage, dirs, |dir, decoded| {
            let number = decoded.checkpoint.number;
            numbers.push((dir, number));
            copies.of(dir).file = decoded.ends.map(|(base_end, end)| Known { number, base_end, end });
        })?;
        let newest_number = newest.as_ref().map(|newest| newest.number);
        let (several, mut durable) = (copies.0.len() > 2, newest.is_none());
        let newest_in = numbers.into_iter().filter(|(_, number)| Some(*number) == newest_number);
        for (at, (dir, _)) in newest_in.enumerate() {
            let sync = || storage.open(&dir.join(NAME))?.sync_data().and_then(|()| storage.sync_dir(dir));
            match sync() {
                Ok(()) => durable = true,
                Err(error) if several && (durable || at > 0 || copies.0[0].path != dir) => {
                    tracing::error!(dir = %dir.display(), %error, "a copy of the checkpoint cannot be synced");
                    copies.of(dir).file = None;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if !durable {
            return Err(io::Error::other("no copy of the checkpoint can be synced").into());
        }
        Ok((copies, newest))
    }

    /// The copies of these directories, to be written anew whatever they are.
    pub(crate) fn unknown<'a>(dirs: impl Iterator<Item = &'a Path>) -> Copies {
        let mut copies: Vec<Copy> = Vec::new();
        for dir in dirs {
            if copies.iter().all(|copy| copy.path != dir) {
                copies.push(Copy { path: dir.to_owned(), file: None });
            }
        }
        Copies(copies)
    }

    /// The copy in a directory.
    pub(crate) fn of(&mut self, dir: &Path) -> &mut Copy {
        self.0.iter_mut().find(|copy| copy.path == dir).expect("every data directory has a copy")
    }
}

impl Copy {
    /// Whether a change of this number will not do. Blocks.
    pub(crate) fn needs_base(&self, storage: &Arc<dyn Storage>, number: u64) -> bool {
        let is_long = |file: &Known| file.end - file.base_end > file.base_end.max(CHANGES_BYTES);
        // Two directories may turn out to be one.
        let is_ours = |file: &Known| {
            let found = storage.open(&self.path.join(NAME)).and_then(|found| found.len());
            found.is_ok_and(|len| len == file.end)
        };
        self.file.is_none_or(|file| file.number + 1 != number || is_long(&file) || !is_ours(&file))
    }

    /// Replaces the file by a new base; durable when this returns. Blocks.
    pub(crate) fn replace(
        &mut self,
        storage: &Arc<dyn Storage>,
        number: u64,
        base: &Bytes,
    ) -> Result<(), Failed> {
        self.file = None;
        replace(storage, &self.path, base).map_err(|error| Failed { error, untouched: false })?;
        let end = base.len() as u64;
        self.file = Some(Known { number, base_end: end, end });
        Ok(())
    }

    /// Appends a change to a file that does not need a base; durable when this returns. After a failed sync the file is
    /// never appended to again. Blocks.
    pub(crate) fn append(
        &mut self,
        storage: &Arc<dyn Storage>,
        number: u64,
        change: &Bytes,
    ) -> Result<(), Failed> {
        let known = self.file.take().expect("asked whether it needs a base");
        let failed = |error, untouched| Failed { error, untouched };
        let file = storage.open(&self.path.join(NAME)).map_err(|error| failed(error, false))?;
        if let Err(error) = file.write_all_at(change, known.end) {
            // A full disk must not be kept full by half a change.
            let untouched = file.truncate(known.end).is_ok();
            self.file = untouched.then_some(known);
            return Err(failed(error, untouched));
        }
        file.sync_data().map_err(|error| failed(error, false))?;
        self.file = Some(Known { number, end: known.end + change.len() as u64, ..known });
        Ok(())
    }
}
