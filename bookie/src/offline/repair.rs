//! Makes a damaged bookie's files usable again without inventing or hiding anything.
//!
//! What it does: an entry log with a damaged index, slot or header is written anew from its whole entries, and the
//! damaged file is kept beside it; a damaged segment header is written anew when the records prove what it said; a
//! damaged stamp is written anew when the others prove whose directory it is.
//!
//! It must never turn an unreadable entry into an absent one: an entry that is lost but known by its ids stays in the
//! index with a record that cannot be read. Where ids are lost too, it goes on only with the operator's consent.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magnetar_common::storage::Storage;
use serde::Serialize;

use super::report::{Finding, Verified, What};
use super::rewrite::rewrite;
use super::store::{LogFile, Store};
use super::walk::{Begin, Seen, walk};
use super::{Dirs, OfflineError};
use crate::checkpoint;
use crate::entry_log::format;
use crate::identity::{self, IdentityError};
use crate::journal::reader::Reader;
use crate::journal::segment::SegmentHeader;

/// What may be done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repair {
    /// Without it nothing is written: only what would be done is told.
    pub write: bool,
    /// Logs may be written anew although entries whose ids are not known are lost with it: they become absent.
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
    let mut work = Work { store: &store, writable: storage, how, tell, repaired, sizes: HashMap::new() };
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
    /// New sizes of logs written anew.
    sizes: HashMap<(u64, u32), u64>,
}

/// What a check found about one log.
#[derive(Default)]
struct Diagnosis {
    /// No entry can be served, or the log's own facts are wrong.
    index: bool,
    /// Whole entries cannot be served, or the header is damaged: writing the log anew mends it.
    mendable: bool,
    /// Entries that are lost and whose ids are not known for sure.
    nameless: bool,
    foreign: Option<String>,
    /// Lost entries that the index names, ascending.
    lost: Vec<(u64, u64)>,
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

    fn journal(&mut self) -> Result<(), OfflineError> {
        let store = self.store;
        let dir = &store.dirs.journal_dir;
        let mut headless = Vec::new();
        let mut lost = Vec::new();
        walk(&store.storage, dir, store.instance, store.replay_from(), &mut |file, seen| match seen {
            Seen::Segment(Begin::Live { first, header_whole: false }) => headless.push((file.clone(), first)),
            seen => lost.extend(super::verify::segment_finding(file, seen).filter(|found| !found.harmless)),
        })
        .map_err(OfflineError::io(dir))?;
        for (file, first_sequence) in headless {
            let handle = store.storage.open(&file.path).map_err(OfflineError::io(&file.path))?;
            let first = Reader::new(handle).and_then(|mut reader| reader.peek());
            let first = first.map_err(OfflineError::io(&file.path))?;
            // The first record stands right behind the header, unless it is damaged too.
            if !first.is_ok_and(|(place, _, _)| place.sequence == first_sequence && place.batch_offset == 0) {
                self.refuse(
                    &file.path,
                    "the header and the first record are damaged: nothing tells where it begins",
                );
                continue;
            }
            self.step(Step::RewriteSegmentHeader { file: file.path.clone(), first_sequence });
            if self.how.write {
                let header = SegmentHeader { instance: store.instance, segment: file.id, first_sequence };
                let write = || {
                    let handle = self.writable.open(&file.path)?;
                    handle.write_all_at(&header.encode(), 0)?;
                    handle.sync_data()
                };
                write().map_err(OfflineError::io(&file.path))?;
            }
        }
        if let Some(first) = lost.first() {
            let file = first.file.clone();
            lost.into_iter().for_each(|finding| self.step(Step::Unsaved(finding)));
            self.refuse(&file, "the journal has lost records that had been acknowledged");
        }
        Ok(())
    }

    fn logs(&mut self) -> Result<(), OfflineError> {
        for file in &self.store.logs {
            // What no checkpoint names goes with the next start.
            if file.row.is_some() || self.store.checkpoint.is_err() {
                self.log(file)?;
            }
        }
        Ok(())
    }

    fn log(&mut self, file: &LogFile) -> Result<(), OfflineError> {
        let Some(source) = self.source(file)? else {
            self.refuse(&file.path, "the log does not exist: only other bookies can have its entries");
            return Ok(());
        };
        let resumed = source != file.path;
        let source = LogFile { path: source, exists: true, ..*file };
        let mut unsaved = Vec::new();
        let diagnosis = self.diagnose(&source, &mut unsaved);
        unsaved.into_iter().for_each(|finding| self.step(Step::Unsaved(finding)));
        if let Some(reason) = diagnosis.foreign {
            self.refuse(&source.path, reason);
            return Ok(());
        }
        if !(diagnosis.index || diagnosis.mendable || resumed) {
            return Ok(());
        }
        if diagnosis.nameless && !self.how.accept_loss {
            let reason = "entries are lost whose ids are not known; written anew the log would say that they never existed: re-replicate its ledgers from other bookies first, then use --accept-loss";
            self.refuse(&source.path, reason);
            return Ok(());
        }
        let new = rewrite(self.store, self.writable, &source, &diagnosis.lost, self.how.write);
        let new = new.map_err(OfflineError::io(&source.path))?;
        let kept = if resumed { source.path.clone() } else { self.free_name(&file.path)? };
        self.step(Step::RewriteLog {
            file: file.path.clone(),
            damaged_kept_as: kept.clone(),
            entries: new.entries,
            unreadable: diagnosis.lost.len() as u64,
        });
        let Some(written) = new.written else { return Ok(()) };
        let rename = || {
            if !resumed {
                self.writable.rename(&file.path, &kept)?;
            }
            self.writable.rename(&written.path, &file.path)?;
            self.writable.sync_dir(&self.store.dirs.ledger_dirs[file.dir as usize])
        };
        rename().map_err(OfflineError::io(&file.path))?;
        self.sizes.insert((file.log, file.dir), written.bytes);
        Ok(())
    }

    /// Where the log's bytes are: under its name, or aside, where a repair that was cut short has put them.
    fn source(&self, file: &LogFile) -> Result<Option<PathBuf>, OfflineError> {
        if file.exists {
            return Ok(Some(file.path.clone()));
        }
        if file.dir as usize >= self.store.dirs.ledger_dirs.len() {
            return Ok(None);
        }
        let aside = damaged_name(&file.path, 0);
        let exists = self.store.storage.exists(&aside).map_err(OfflineError::io(&aside))?;
        Ok(exists.then_some(aside))
    }

    fn free_name(&self, path: &Path) -> Result<PathBuf, OfflineError> {
        for number in 0.. {
            let name = damaged_name(path, number);
            if !self.store.storage.exists(&name).map_err(OfflineError::io(&name))? {
                return Ok(name);
            }
        }
        unreachable!("there are fewer files than numbers")
    }

    fn diagnose(&self, file: &LogFile, unsaved: &mut Vec<Finding>) -> Diagnosis {
        let mut diagnosis = Diagnosis::default();
        let mut verified = Verified::default();
        let mut find = |finding: Finding| match finding.what {
            What::LogIndex => diagnosis.index = true,
            What::Slot | What::LogHeader => diagnosis.mendable = true,
            What::Foreign => diagnosis.foreign = Some(finding.detail),
            What::Entry if finding.ids_certain => {
                diagnosis.lost.extend(finding.ledger.zip(finding.entry));
                unsaved.push(finding);
            }
            What::Stretch if finding.harmless => {}
            What::Entry | What::Stretch | What::LogEnd => {
                diagnosis.nameless = true;
                unsaved.push(finding);
            }
            _ => {}
        };
        super::log_check::LogCheck { store: self.store, file, verified: &mut verified, find: &mut find }
            .run();
        diagnosis
    }

    /// The checkpoint says how long each log is.
    fn checkpoint(&mut self) -> Result<(), OfflineError> {
        let store = self.store;
        match &store.checkpoint {
            Ok(Some(found)) if !self.sizes.is_empty() => {
                let mut new = found.clone();
                for row in &mut new.logs {
                    row.bytes = self.sizes.get(&(row.log, row.dir)).copied().unwrap_or(row.bytes);
                }
                new.number += 1;
                let encoded = new.encode();
                for dir in store.dirs.all() {
                    let replaced = checkpoint::replace(self.writable, dir, &encoded);
                    replaced.map_err(OfflineError::io(dir.join(checkpoint::NAME)))?;
                }
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => {
                let reason = format!(
                    "{error}: what it said of fences and master keys is nowhere else; give the bookie up and re-replicate its ledgers from other bookies"
                );
                self.refuse(&store.checkpoint_path(), reason);
                Ok(())
            }
        }
    }
}

fn damaged_name(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    if number > 0 {
        name.push(format!(".{number}"));
    }
    debug_assert!(format::parse_file_name(&name.to_string_lossy()).is_none(), "no start takes it for a log");
    name.into()
}
