//! Repair of the journal: headers that the records prove. Lost records are only told.

use super::{Step, Work};
use crate::journal::reader::Reader;
use crate::journal::segment::SegmentHeader;
use crate::offline::OfflineError;
use crate::offline::walk::{Begin, Seen, walk};

impl Work<'_> {
    pub(super) fn journal(&mut self) -> Result<(), OfflineError> {
        let store = self.store;
        let dir = &store.dirs.journal_dir;
        let mut headless = Vec::new();
        let mut lost = Vec::new();
        walk(&store.storage, dir, store.instance, store.replay_from(), &mut |file, seen| match seen {
            Seen::Segment(Begin::Live { first, header_whole: false }) => headless.push((file.clone(), first)),
            seen => lost
                .extend(crate::offline::verify::segment_finding(file, seen).filter(|found| !found.harmless)),
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
            self.journal_lost = true;
            let reason = "the journal has lost records that had been acknowledged: start the bookie and stop it again: it names them and goes on read-only until the loss is accepted";
            self.refuse(&file, reason);
        }
        Ok(())
    }
}
