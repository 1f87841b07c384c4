//! Every bit flipped and every byte cut once: what is salvaged is true, what is not salvaged is named.

use std::path::PathBuf;

use bytes::Bytes;
use magnetar_common::storage::File;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::*;
use crate::entry_log::format::{FOOTER_BYTES, HEADER_BYTES, file_name};
use crate::entry_log::window::Window;
use crate::entry_log::{self, Found, Log};
use crate::testing::{body, content, instance, memory, overwrite};

const DIR: &str = "/ledgers";

struct Written {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    bytes: Vec<u8>,
    entries: Vec<Found>,
}

fn written(ids: &[(u64, u64)]) -> Written {
    let storage = memory(&[DIR]);
    let entries = ids.iter().map(|(l, e)| (LedgerId(*l), EntryId(*e), body(*l, *e)));
    entry_log::write(&storage, Path::new(DIR), instance(), 5, entries.clone()).unwrap();
    let path = Path::new(DIR).join(file_name(5));
    let bytes = content(&storage, &path);
    let mut offset = HEADER_BYTES as u64;
    let entries = entries.map(|(ledger, entry, body)| {
        let found = Found { ledger, entry, offset, body };
        offset = found.end();
        found
    });
    let entries = entries.collect();
    Written { storage, path, bytes, entries }
}

impl Written {
    fn salvaged(&self, bytes: &[u8]) -> Salvaged {
        overwrite(&self.storage, &self.path, bytes);
        salvage(&self.storage, &self.path, 5, instance()).unwrap()
    }

    /// Checks that everything salvaged is an entry as it was written; gives the ones that are missing.
    fn missing(&self, salvaged: &Salvaged) -> Vec<&Found> {
        let (_, begins) = salvaged.slots.split_last().unwrap();
        let mut offsets = begins.iter();
        for run in &salvaged.runs {
            for entry in run.first.0..=run.last().0 {
                let offset = *offsets.next().unwrap();
                let same = |f: &&Found| (f.ledger, f.entry, f.offset) == (run.ledger, EntryId(entry), offset);
                assert!(self.entries.iter().any(|found| same(&found)), "{}:{entry}", run.ledger.0);
            }
        }
        assert_eq!(offsets.next(), None, "one slot an entry, and the end");
        self.entries.iter().filter(|found| !begins.contains(&found.offset)).collect()
    }

    fn entries_end(&self) -> u64 {
        self.entries.last().unwrap().end()
    }
}

const IDS: [(u64, u64); 6] = [(1, 0), (1, 1), (1, 4), (2, 7), (9, 0), (9, 1)];

#[test]
fn a_sound_log_salvages_to_the_index_it_was_written_with() {
    let log = written(&IDS);
    let salvaged = log.salvaged(&log.bytes);
    let (_, runs) = Log::open(&log.storage, &log.path, 5, instance()).unwrap();
    let begin = log.entries_end();
    let moved: Vec<_> =
        salvaged.runs.iter().map(|run| Run { slots_at: begin + run.slots_at, ..*run }).collect();
    assert_eq!(moved, runs);
    let written: Vec<_> = log.entries.iter().map(|found| found.offset).chain([begin]).collect();
    assert_eq!(salvaged.slots, written);
    assert!(salvaged.complete && salvaged.unreadable.is_empty() && salvaged.failed.is_empty());
}

#[test]
fn a_flipped_bit_costs_the_entry_it_hits_and_no_other() {
    let log = written(&IDS);
    for bit in 0..log.bytes.len() * 8 {
        let at = (bit / 8) as u64;
        let mut bad = log.bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let salvaged = log.salvaged(&bad);
        let missing = log.missing(&salvaged);
        let hit: Vec<_> = log.entries.iter().filter(|f| (f.offset..f.end()).contains(&at)).collect();
        assert_eq!(missing, hit, "bit {bit}");
        let lost: Vec<_> = hit.iter().map(|found| found.offset..found.end()).collect();
        assert_eq!(salvaged.unreadable, lost, "bit {bit}");
        assert_eq!(salvaged.complete, hit.is_empty(), "bit {bit}");
    }
}

#[test]
fn an_entry_is_saved_between_damaged_ones_without_any_index() {
    let log = written(&IDS);
    for damaged in [vec![0], vec![1, 3], vec![0, 2, 5], vec![4, 5]] {
        // No footer, and a length that leads far astray.
        let mut bad = log.bytes[..log.bytes.len() - FOOTER_BYTES].to_vec();
        for at in &damaged {
            bad[log.entries[*at].offset as usize + 7] ^= 0xff;
        }
        let salvaged = log.salvaged(&bad);
        let expected: Vec<_> = damaged.iter().map(|at| &log.entries[*at]).collect();
        assert_eq!(log.missing(&salvaged), expected);
        assert!(!salvaged.complete);
    }
}

#[test]
fn a_cut_log_keeps_every_entry_before_the_cut() {
    let log = written(&IDS);
    for cut in 0..log.bytes.len() {
        let salvaged = log.salvaged(&log.bytes[..cut]);
        let missing = log.missing(&salvaged);
        let lost: Vec<_> = log.entries.iter().filter(|found| found.end() > cut as u64).collect();
        assert_eq!(missing, lost, "cut at {cut}");
        let slots_whole = cut as u64 >= log.entries_end() + 8 * (IDS.len() as u64 + 1);
        assert_eq!(salvaged.complete, slots_whole, "cut at {cut}");
    }
}

#[test]
fn a_log_of_garbage_salvages_to_nothing_in_bounded_time() {
    let log = written(&IDS);
    let mut state = 1u64;
    let mut garbage = Vec::new();
    // Every other word is a length that could be: the worst that a search can meet.
    for at in 0..1u32 << 16 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let word = if at % 2 == 0 { at } else { (state >> 33) as u32 };
        garbage.extend_from_slice(&word.to_be_bytes());
    }
    let salvaged = log.salvaged(&garbage);
    assert_eq!((salvaged.runs.len(), salvaged.complete), (0, false));
    assert_eq!(salvaged.unreadable, vec![HEADER_BYTES as u64..garbage.len() as u64]);
}

#[test]
fn a_log_of_another_bookie_or_number_is_refused() {
    let log = written(&IDS);
    let other = InstanceId::from_bytes([8; 16]);
    assert!(matches!(salvage(&log.storage, &log.path, 5, other), Err(OpenError::Foreign)));
    assert!(matches!(salvage(&log.storage, &log.path, 6, instance()), Err(OpenError::Foreign)));
}

/// A file with pages that the disk cannot read.
struct BadPages(Vec<u8>, Range<u64>);

impl File for BadPages {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        if offset < self.1.end && end > self.1.start {
            return Err(io::Error::other("EIO"));
        }
        buffer.copy_from_slice(&self.0[offset as usize..end as usize]);
        Ok(())
    }
    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        unreachable!("a window only reads")
    }
    fn sync_data(&self) -> io::Result<()> {
        unreachable!("a window only reads")
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        unreachable!("a window only reads")
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        unreachable!("a window only reads")
    }
}

#[test]
fn pages_that_the_disk_cannot_read_are_zeros_and_named() {
    let bytes: Vec<u8> = (0..5 * 4096 + 100).map(|at| (at % 251) as u8 + 1).collect();
    let file = Arc::new(BadPages(bytes.clone(), 4096..3 * 4096));
    let mut window = Window::new(file).unwrap();
    let mut expected = bytes.clone();
    expected[4096..3 * 4096].fill(0);
    assert_eq!(window.view(0, bytes.len()).unwrap(), Some(Bytes::from(expected)));
    assert_eq!(window.view(0, bytes.len() + 1).unwrap(), None);
    let failed: Vec<_> = window.take_failed().into_iter().map(|(range, _)| range).collect();
    assert_eq!(failed, vec![4096..3 * 4096]);
}
