//! Which message of each key is the newest: what the first reading finds out and the second one goes by.

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use magnetar_proto::ids::Position;

use super::content::{Batch, Content, Single};

/// What a key costs in the table beside its bytes.
const KEY_OVERHEAD_BYTES: usize = 96;

/// Where the newest message of a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Entry(Position),
    InBatch(Position, u32),
    /// In several entries; see `Chunk::whole`.
    Chunks(Box<[u8]>),
}

/// What stays of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Nothing,
    Whole,
    /// Some messages of a batch.
    Part(Bytes),
}

/// There are more keys than fit into the memory that they may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the topic has more than {keys} keys, which take more than the {} MiB that compaction may use for them; spread \
     them over (more) partitions",
    .bytes_max >> 20
)]
pub(super) struct TooManyKeys {
    pub(super) keys: usize,
    pub(super) bytes_max: usize,
}

/// A message without a key is dropped, as Pulsar does since 3.2. What cannot be looked into is kept, and so is every
/// tombstone behind it: the key that it deletes may be in there.
pub(super) struct Newest {
    places: HashMap<Box<[u8]>, Place>,
    /// Messages in chunks of which the last has not been seen.
    unfinished: HashSet<Box<[u8]>>,
    bytes: usize,
    bytes_max: usize,
    opaque_seen: bool,
}

impl Newest {
    /// Keeps to `bytes_max` for keys.
    pub(super) fn new(bytes_max: usize) -> Self {
        Newest { places: HashMap::new(), unfinished: HashSet::new(), bytes: 0, bytes_max, opaque_seen: false }
    }

    /// The first reading: every entry once, in order.
    pub(super) fn see(&mut self, position: Position, content: &Content) -> Result<(), TooManyKeys> {
        match content {
            Content::Marker => {}
            Content::Opaque => self.opaque_seen = true,
            Content::Single(single) => self.see_single(position, single)?,
            Content::Batch(batch) => {
                for (message, index) in batch.messages.iter().zip(0..).filter(|(m, _)| !m.is_gone()) {
                    if let Some(key) = message.key() {
                        self.message(key, message.is_tombstone(), Place::InBatch(position, index))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn see_single(&mut self, position: Position, single: &Single) -> Result<(), TooManyKeys> {
        let Some(key) = single.key.as_deref() else { return Ok(()) };
        match &single.chunk {
            None => self.message(key, single.is_tombstone, Place::Entry(position)),
            Some(chunk) if chunk.is_last => {
                if self.unfinished.remove(&chunk.whole) {
                    self.bytes -= cost(&chunk.whole);
                }
                self.put(key, Place::Chunks(chunk.whole.clone()))
            }
            Some(chunk) => {
                if !self.unfinished.contains(&chunk.whole) {
                    self.take_room(cost(&chunk.whole))?;
                    self.unfinished.insert(chunk.whole.clone());
                }
                Ok(())
            }
        }
    }

    fn message(&mut self, key: &str, is_tombstone: bool, place: Place) -> Result<(), TooManyKeys> {
        if !is_tombstone || self.opaque_seen {
            return self.put(key, place);
        }
        if let Some(former) = self.places.remove(key.as_bytes()) {
            self.bytes -= cost(key.as_bytes()) + chunks_cost(&former);
        }
        Ok(())
    }

    fn put(&mut self, key: &str, place: Place) -> Result<(), TooManyKeys> {
        let added = chunks_cost(&place);
        match self.places.get_mut(key.as_bytes()) {
            Some(known) => {
                self.bytes -= chunks_cost(known);
                *known = place;
                self.take_room(added)
            }
            None => {
                self.take_room(added + cost(key.as_bytes()))?;
                self.places.insert(key.as_bytes().into(), place);
                Ok(())
            }
        }
    }

    fn take_room(&mut self, bytes: usize) -> Result<(), TooManyKeys> {
        if self.bytes + bytes > self.bytes_max {
            return Err(TooManyKeys { keys: self.places.len(), bytes_max: self.bytes_max });
        }
        self.bytes += bytes;
        Ok(())
    }

    /// The second reading: the same entries again. Also tells how many messages go.
    pub(super) fn keep(&self, position: Position, content: Content) -> (Kept, u64) {
        match content {
            Content::Marker => (Kept::Nothing, 0),
            Content::Opaque => (Kept::Whole, 0),
            Content::Single(single) if self.keeps_single(position, &single) => (Kept::Whole, 0),
            Content::Single(_) => (Kept::Nothing, 1),
            Content::Batch(batch) => self.keep_batch(position, batch),
        }
    }

    fn keeps_single(&self, position: Position, single: &Single) -> bool {
        let Some(key) = single.key.as_deref() else { return false };
        let newest = self.places.get(key.as_bytes());
        match &single.chunk {
            None => newest == Some(&Place::Entry(position)),
            Some(chunk) => {
                self.unfinished.contains(&chunk.whole)
                    || matches!(newest, Some(Place::Chunks(whole)) if *whole == chunk.whole)
            }
        }
    }

    fn keep_batch(&self, position: Position, batch: Batch) -> (Kept, u64) {
        let left = batch.messages.iter().zip(0..).filter(|(message, _)| !message.is_gone());
        let (mut kept, mut gone) = (Vec::new(), 0);
        for (message, index) in left {
            let place = Place::InBatch(position, index);
            match message.key().and_then(|key| self.places.get(key.as_bytes())) {
                Some(newest) if *newest == place => kept.push(index),
                _ => gone += 1,
            }
        }
        match (kept.is_empty(), gone) {
            (true, _) => (Kept::Nothing, gone),
            (false, 0) => (Kept::Whole, 0),
            (false, _) => match batch.with_only(&kept) {
                Some(part) => (Kept::Part(part), gone),
                None => (Kept::Whole, 0),
            },
        }
    }
}

fn cost(bytes: &[u8]) -> usize {
    KEY_OVERHEAD_BYTES + bytes.len()
}

fn chunks_cost(place: &Place) -> usize {
    match place {
        Place::Chunks(whole) => whole.len(),
        Place::Entry(_) | Place::InBatch(..) => 0,
    }
}
