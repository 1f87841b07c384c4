//! Repair of entry logs.

use std::path::{Path, PathBuf};

use super::{Step, Work};
use crate::entry_log::format;
use crate::offline::OfflineError;
use crate::offline::log_check::LogCheck;
use crate::offline::report::{Finding, Verified, What};
use crate::offline::rewrite::rewrite;
use crate::offline::store::LogFile;

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
    pub(super) fn logs(&mut self) -> Result<(), OfflineError> {
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
            if self.how.accept_loss {
                self.step(Step::DropLog { file: file.path.clone() });
                self.dropped.insert((file.log, file.dir));
                return Ok(());
            }
            self.refuse(&file.path, "the log does not exist: re-replicate its ledgers from other bookies first, then use --accept-loss");
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
        LogCheck { store: self.store, file, verified: &mut verified, find: &mut find }.run();
        diagnosis
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
