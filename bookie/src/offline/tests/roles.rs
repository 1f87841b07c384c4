//! What each byte of the store means, found by walking the undamaged files.

use super::*;
use crate::checkpoint::Checkpoint;
use crate::entry_log::format::{self, ENTRY_HEADER_BYTES, FOOTER_BYTES, Footer};
use crate::journal::record::{self, Place, Record};
use crate::journal::segment;
use crate::offline::What;

/// What a byte belongs to, found by walking the undamaged bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A whole small file under one checksum, or compared with others.
    Whole(What),
    Entry {
        ledger: u64,
        entry: u64,
        offset: u64,
    },
    Slot,
    LogIndex,
    LogHeader,
    SegmentHeader,
    /// Of a file that was made ready for a segment.
    SegmentMark,
    Record {
        place: Place,
        entry: Option<(u64, u64)>,
        offset: u64,
        last_batch: bool,
        covered: bool,
    },
    Nothing,
}

impl Role {
    /// The sequence and offset of a journal record.
    pub(super) fn record(&self) -> Option<(u64, usize)> {
        match self {
            Role::Record { place, offset, .. } => Some((place.sequence, *offset as usize)),
            _ => None,
        }
    }
}

fn ids(body: &[u8]) -> (u64, u64) {
    let id = |at: usize| u64::from_be_bytes(body[at..at + 8].try_into().unwrap());
    (id(0), id(8))
}

fn roles_of_log(bytes: &[u8]) -> Vec<Role> {
    let footer_at = bytes.len() - FOOTER_BYTES;
    let footer = Footer::decode(&bytes[footer_at..]).unwrap();
    let slots_at = footer.runs_at as usize - (footer.entries as usize + 1) * 8;
    let mut roles = vec![Role::LogHeader; format::HEADER_BYTES];
    while roles.len() < slots_at {
        let offset = roles.len();
        let len = u32::from_be_bytes(bytes[offset + 4..offset + 8].try_into().unwrap()) as usize;
        let (ledger, entry) = ids(&bytes[offset + ENTRY_HEADER_BYTES..]);
        let role = Role::Entry { ledger, entry, offset: offset as u64 };
        roles.extend(vec![role; ENTRY_HEADER_BYTES + len]);
    }
    assert_eq!(roles.len(), slots_at);
    roles.resize(footer.runs_at as usize, Role::Slot);
    roles.resize(bytes.len(), Role::LogIndex);
    roles
}

fn roles_of_segment(id: u64, bytes: &[u8], last_batch: u64, covered: u64) -> Vec<Role> {
    if segment::SegmentHeader::is_mark(bytes, instance(), id) {
        let mut roles = vec![Role::SegmentMark; 48];
        roles.resize(bytes.len(), Role::Nothing);
        return roles;
    }
    let bytes = Bytes::copy_from_slice(bytes);
    let mut roles = vec![Role::SegmentHeader; 48];
    roles.resize(segment::HEADER_BYTES, Role::Nothing);
    while let Ok((place, record, len)) = record::decode(&bytes.slice(roles.len()..)) {
        if place.segment != id {
            break;
        }
        let entry = match record {
            Record::Entry(body) => Some(ids(&body)),
            _ => None,
        };
        let covered = place.sequence <= covered;
        let last_batch = place.durable_before() == last_batch;
        let role = Role::Record { place, entry, offset: roles.len() as u64, last_batch, covered };
        roles.extend(vec![role; len]);
    }
    roles.resize(bytes.len(), Role::Nothing);
    roles
}

/// The role of every byte of the store.
pub(super) fn roles(storage: &MemoryStorage) -> BTreeMap<PathBuf, Vec<Role>> {
    let files = files(storage);
    let checkpoint = files[&Path::new(LEDGERS[0]).join("checkpoint")].clone();
    let covered = Checkpoint::decode(&Bytes::from(checkpoint)).unwrap().sequence;
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let segments: Vec<_> = files
        .iter()
        .filter_map(|(path, bytes)| Some((path, segment::parse_file_name(&name(path))?, bytes)))
        .collect();
    let found = |id: u64, bytes: &[u8]| roles_of_segment(id, bytes, 0, 0);
    let firsts = segments.iter().flat_map(|(_, id, bytes)| found(*id, bytes));
    let last_batch = firsts.filter_map(|role| match role {
        Role::Record { place, .. } => Some(place.durable_before()),
        _ => None,
    });
    let last_batch = last_batch.max().unwrap();
    let role_of = |path: &PathBuf, bytes: &Vec<u8>| match name(path) {
        name if name == "checkpoint" => vec![Role::Whole(What::Checkpoint); bytes.len()],
        name if name.ends_with(".identity") => vec![Role::Whole(What::Identity); bytes.len()],
        name if name.ends_with(".elog") => roles_of_log(bytes),
        name => match segment::parse_file_name(&name) {
            Some(id) => roles_of_segment(id, bytes, last_batch, covered),
            None => vec![Role::Nothing; bytes.len()],
        },
    };
    files.iter().map(|(path, bytes)| (path.clone(), role_of(path, bytes))).collect()
}
