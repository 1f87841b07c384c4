//! Makes a damaged bookie's files usable again without inventing or hiding anything.
//!
//! What it does: an entry log with a damaged index, slot or header is written anew from its whole entries, and the
//! damaged file is kept beside it; a damaged segment header is written anew when the records prove what it said; a
//! damaged stamp is written anew when the others prove whose directory it is.
//!
//! It must never turn an unreadable entry into an absent one: an entry that is lost but known by its ids stays in the
//! index with a record that cannot be read. Where ids are lost too, it goes on only with the operator's consent.

mod journal;
mod logs;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magnetar_common::storage::Storage;
use serde::Serialize;

use super::report::Finding;
use super::store::Store;
use super::{Dirs, OfflineError};
use crate::checkpoint::{self, Checkpoint, ReadError};
use crate::identity::{self, IdentityError};

/// What may be done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repair {
    /// Without it nothing is written: only what would be done is told.
    pub write: bool,
    /// What is lost and cannot be named becomes absent: logs are written anew without it, missing logs and the mark of
    /// a damaged journal are forgotten.
    pub accept_loss: bool,
}

/// One thing that a repair does, would do, or cannot do.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// The log is written anew; `unreadable` entries stay in its index as such.
    RewriteLog {
        file: PathBuf,
        damaged_kept_as: PathBuf,
        entries: u64,
        unreadable: u64,
    },
    RewriteSegmentHeader {
        file: PathBuf,
        first_sequence: u64,
    },
    RewriteStamp {
        file: PathBuf,
    },
    /// A copy of the checkpoint that is damaged, from one that is whole.
    RewriteCheckpoint {
        file: PathBuf,
    },
    /// The log does not exist, and the checkpoint names it no more.
    DropLog {
        file: PathBuf,
    },
    /// The mark that acknowledged journal records are missing is taken out of the checkpoint.
    AcceptLoss {
        file: PathBuf,
    },
    /// Something that no repair brings back.
    Unsaved(Finding),
    /// What is needed before this file can be repaired, or why it cannot be.
    Refused {
        file: PathBuf,
        reason: String,
    },
}

/// How a repair went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Files written anew, or that would be.
    pub files: u64,
    pub unsaved: u64,
    pub refused: u64,
    pub written: bool,
}

/// Repairs what can be repaired and tells each step to `tell` before it is taken. Holds the directories' locks while
/// it works. Safe to run again after a crash. Blocks.
pub fn repair(
    storage: &Arc<dyn Storage>,
    dirs: &Dirs,
    how: Repair,
    tell: &mut dyn FnMut(Step),
) -> Result<Repaired, OfflineError> {
    let store = if how.write { Store::lock(storage, dirs)? } else { Store::open(storage, dirs)? };
    if let Some(path) = store.in_use.clone() {
        return Err(OfflineError::InUse { path });
    }
    let repaired = Repaired { written: how.write, ..Repaired::default() };
    let mut work = Work {
        store: &store,
        writable: storage,
        how,
        tell,
        repaired,
        sizes: HashMap::new(),
        dropped: HashSet::new(),
        journal_lost: false,
    };
    work.stamps()?;
    work.journal()?;
    work.logs()?;
    work.checkpoint()?;
    Ok(work.repaired)
}

struct Work<'a> {
    store: &'a Store,
    /// The storage behind the store's read-only one.
    writable: &'a Arc<dyn Storage>,
    how: Repair,
    tell: &'a mut dyn FnMut(Step),
    repaired: Repaired,
    /// New sizes of logs written anew, by log and directory.
    sizes: HashMap<(u64, u32), u64>,
    /// Logs that the checkpoint is to name no more.
    dropped: HashSet<(u64, u32)>,
    /// The journal itself has holes, of which no start has made a mark yet.
    journal_lost: bool,
}

impl Work<'_> {
    fn step(&mut self, step: Step) {
        match &step {
            Step::Unsaved(_) => self.repaired.unsaved += 1,
            Step::Refused { .. } => self.repaired.refused += 1,
            _ => self.repaired.files += 1,
        }
        (self.tell)(step);
    }

    fn refuse(&mut self, file: &Path, reason: impl Into<String>) {
        self.step(Step::Refused { file: file.to_owned(), reason: reason.into() });
    }

    fn stamps(&mut self) -> Result<(), OfflineError> {
        let store = self.store;
        let whole = store.stamps.iter().find(|stamp| stamp.exact);
        let whole = whole.and_then(|stamp| stamp.found.as_ref().ok()?.as_ref());
        let whole = whole.filter(|identity| identity.instance == store.instance);
        let dirs = identity::data_dirs(&store.dirs.journal_dir, &store.dirs.ledger_dirs);
        for (stamp, dir) in store.stamps.iter().zip(&dirs) {
            let damaged = match &stamp.found {
                Ok(Some(found)) => !stamp.exact && whole == Some(found),
                Err(IdentityError::Damaged { .. }) => true,
                _ => false,
            };
            match whole {
                Some(identity) if damaged => {
                    self.step(Step::RewriteStamp { file: stamp.path.clone() });
                    if self.how.write {
                        dir.write_stamp(&**self.writable, identity).map_err(OfflineError::io(&stamp.path))?;
                    }
                }
                _ if damaged => self.refuse(&stamp.path, "no other directory proves whose it is"),
                _ if matches!(&stamp.found, Ok(found) if found.as_ref() != whole || whole.is_none()) => {
                    let reason =
                        "its stamp is missing or names another bookie: put the right directory in its place";
                    self.refuse(&stamp.path, reason);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes every copy of the checkpoint anew when a copy is damaged, or when something that it says has changed.
    fn checkpoint(&mut self) -> Result<(), OfflineError> {
        let store = self.store;
        let path = store.checkpoint_path();
        let found = match &store.checkpoint {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(error) => {
                let reason = format!(
                    "{error}: what it said of fences and master keys is nowhere else; give the bookie up and re-replicate its ledgers from other bookies"
                );
                self.refuse(&path, reason);
                return Ok(());
            }
        };
        let mut new = found.clone();
        new.logs.retain(|row| !self.dropped.contains(&(row.log, row.dir)));
        for row in &mut new.logs {
            row.bytes = self.sizes.get(&(row.log, row.dir)).copied().unwrap_or(row.bytes);
        }
        if found.incomplete {
            self.incomplete(&path, &mut new);
        }
        let damaged = |dir: &&Path| match checkpoint::read(&store.storage, dir) {
            Ok(copy) => copy.is_some_and(|copy| copy.unread.is_some()),
            Err(error) => matches!(error, ReadError::Format(_)),
        };
        for dir in store.dirs.all().filter(damaged) {
            self.step(Step::RewriteCheckpoint { file: dir.join(checkpoint::NAME) });
        }
        let some_damaged = store.dirs.all().any(|dir| damaged(&dir));
        if !self.how.write || (new == *found && !some_damaged) {
            return Ok(());
        }
        new.number += 1;
        let encoded = new.encode();
        for dir in store.dirs.all() {
            let replaced = checkpoint::replace(self.writable, dir, &encoded);
            replaced.map_err(OfflineError::io(dir.join(checkpoint::NAME)))?;
        }
        Ok(())
    }

    /// The mark that a start has left which found acknowledged journal records missing.
    fn incomplete(&mut self, path: &Path, new: &mut Checkpoint) {
        let reason = "an earlier start found acknowledged journal records missing, and named them in its log: the bookie takes no adds and calls nothing absent. Re-replicate its ledgers from other bookies first, then use --accept-loss";
        if self.journal_lost {
            // The next start would set the mark again.
            return;
        }
        if self.how.accept_loss {
            self.step(Step::AcceptLoss { file: path.to_owned() });
            new.incomplete = false;
        } else {
            self.refuse(path, reason);
        }
    }
}
