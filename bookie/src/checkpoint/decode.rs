//! Reads what `format` describes, as far as it is whole.

use std::collections::{BTreeMap, HashMap};

use bytes::{Buf, Bytes};
use magnetar_proto::checksum::crc32c;
use magnetar_proto::ids::LedgerId;

use super::format::{
    BASE, BLOCK_BYTES, CHUNK_HEADER_BYTES, CHUNK_MARKER, Checkpoint, Decoded, FormatError, HEADER_BYTES,
    INCOMPLETE, LAST, MAGIC, VERSION, item,
};
use super::rows::{LedgerRow, LogRow};
use super::whole;
use crate::identity::InstanceId;

/// Reads a file of any version, as far as it is whole.
pub(crate) fn decode(bytes: &Bytes) -> Result<Decoded, FormatError> {
    let Some(version) = version(bytes) else {
        let checkpoint = whole::decode(bytes)?;
        return Ok(Decoded { checkpoint, ends: None, unread: None, is_cut: false });
    };
    if version != VERSION {
        return Err(FormatError::Newer { version });
    }
    let base = Change::read(bytes, HEADER_BYTES, None).map_err(|_| FormatError::Damaged)?;
    let mut building = Building::new(InstanceId::from_bytes(bytes[12..28].try_into().expect("16 bytes")));
    let (mut end, mut number, mut padded) = (base.end, base.number, base.padded);
    let base_end = base.end;
    building.apply(base, true).ok_or(FormatError::Damaged)?;
    let mut is_cut = false;
    while padded && end < bytes.len() {
        match Change::read(bytes, end, Some(number.saturating_add(1))) {
            Ok(change) => {
                (end, number, padded) = (change.end, change.number, change.padded);
                building.apply(change, false).ok_or(FormatError::Damaged)?;
            }
            Err(unreadable) => {
                is_cut = unreadable == Unreadable::Cut;
                break;
            }
        }
    }
    let whole = padded && end == bytes.len();
    Ok(Decoded {
        checkpoint: building.finish(),
        ends: whole.then_some((base_end as u64, end as u64)),
        unread: (!whole).then_some(end.min(bytes.len()) as u64),
        is_cut: is_cut || bytes.len() < end,
    })
}

/// The version in a whole header of the kind that [`VERSION`] has; `None` for anything else.
fn version(bytes: &[u8]) -> Option<u32> {
    let header = bytes.get(..HEADER_BYTES)?;
    let (checked, mut crc) = header.split_at(HEADER_BYTES - 4);
    let version = (&checked[8..12]).get_u32();
    (checked[..8] == MAGIC && crc32c(checked) == crc.get_u32() && version >= VERSION).then_some(version)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unreadable {
    /// The bytes end before it does.
    Cut,
    Damaged,
}

/// A base or a change whose chunks are all whole.
struct Change {
    number: u64,
    bodies: Vec<Bytes>,
    /// With the zeros behind it; may lie behind the end of the file.
    end: usize,
    /// The zeros are there.
    padded: bool,
}

impl Change {
    /// Reads the base at `at`, or the change of this number.
    fn read(bytes: &Bytes, mut at: usize, number: Option<u64>) -> Result<Change, Unreadable> {
        let (mut bodies, mut expected) = (Vec::new(), number);
        loop {
            let mut header = bytes.get(at..at + CHUNK_HEADER_BYTES).ok_or(Unreadable::Cut)?;
            let (marker, len) = (header.get_u32(), header.get_u32() as usize);
            let (found, index, flags) = (header.get_u64(), header.get_u32(), header.get_u8());
            if marker != CHUNK_MARKER {
                return Err(Unreadable::Damaged);
            }
            let body_at = at + CHUNK_HEADER_BYTES;
            let crc_at = body_at.checked_add(len).ok_or(Unreadable::Cut)?;
            let mut crc = bytes.get(crc_at..crc_at + 4).ok_or(Unreadable::Cut)?;
            let follows = *expected.get_or_insert(found) == found && index as usize == bodies.len();
            let kind = if number.is_none() { BASE } else { 0 };
            if crc32c(&bytes[at..crc_at]) != crc.get_u32() || !follows || flags & !LAST != kind {
                return Err(Unreadable::Damaged);
            }
            bodies.push(bytes.slice(body_at..crc_at));
            at = crc_at + 4;
            if flags & LAST != 0 {
                let end = at.next_multiple_of(BLOCK_BYTES);
                let padded = bytes.get(at..end).is_some_and(|zeros| zeros.iter().all(|byte| *byte == 0));
                return Ok(Change { number: found, bodies, end, padded });
            }
        }
    }
}

/// A checkpoint that comes together from its base and changes.
struct Building {
    checkpoint: Checkpoint,
    logs: BTreeMap<(u64, u32), LogRow>,
    /// `None` where a ledger is gone.
    ledgers: Vec<Option<LedgerRow>>,
    /// Where each ledger is; empty until the first change, as a base names each only once.
    places: HashMap<LedgerId, usize>,
}

impl Building {
    fn new(instance: InstanceId) -> Self {
        let checkpoint = Checkpoint {
            instance,
            sequence: 0,
            floor: 0,
            next_log: 0,
            number: 0,
            incomplete: false,
            logs: Vec::new(),
            ledgers: Vec::new(),
        };
        Building { checkpoint, logs: BTreeMap::new(), ledgers: Vec::new(), places: HashMap::new() }
    }

    /// `None` when the checksums are right and the meaning is not.
    fn apply(&mut self, change: Change, is_base: bool) -> Option<()> {
        if !is_base && self.places.is_empty() {
            let ledgers = self.ledgers.iter().enumerate();
            self.places = ledgers.filter_map(|(at, row)| Some((row.as_ref()?.ledger, at))).collect();
        }
        let mut bodies = change.bodies.into_iter();
        let mut first = bodies.next()?;
        self.checkpoint.sequence = first.try_get_u64().ok()?;
        self.checkpoint.floor = first.try_get_u64().ok()?;
        self.checkpoint.next_log = first.try_get_u64().ok()?;
        let state = first.try_get_u32().ok()?;
        if state & !INCOMPLETE != 0 {
            return None;
        }
        self.checkpoint.incomplete = state & INCOMPLETE != 0;
        self.checkpoint.number = change.number;
        for mut body in std::iter::once(first).chain(bodies) {
            while body.has_remaining() {
                self.item(&mut body, is_base)?;
            }
        }
        Some(())
    }

    fn item(&mut self, body: &mut Bytes, is_base: bool) -> Option<()> {
        match body.try_get_u8().ok()? {
            item::LOG => {
                let row = LogRow::decode(body)?;
                self.logs.insert((row.log, row.dir), row);
            }
            item::LOG_GONE => {
                let log = (body.try_get_u64().ok()?, body.try_get_u32().ok()?);
                self.logs.remove(&log);
            }
            item::LEDGER => {
                let row = LedgerRow::decode(body)?;
                if is_base {
                    self.ledgers.push(Some(row));
                } else if let Some(at) = self.places.get(&row.ledger) {
                    self.ledgers[*at] = Some(row);
                } else {
                    self.places.insert(row.ledger, self.ledgers.len());
                    self.ledgers.push(Some(row));
                }
            }
            item::LEDGER_GONE => {
                let ledger = LedgerId(body.try_get_u64().ok()?);
                if let Some(at) = self.places.remove(&ledger) {
                    self.ledgers[at] = None;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn finish(self) -> Checkpoint {
        let logs = self.logs.into_values().collect();
        let ledgers = self.ledgers.into_iter().flatten().collect();
        Checkpoint { logs, ledgers, ..self.checkpoint }
    }
}
