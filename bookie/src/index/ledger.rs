//! What is known of one ledger.

use bytes::Bytes;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::keys::KeyId;
use super::runs::Runs;

/// A ledger's state; facts only ever accumulate. Kept small: see the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(super) id: LedgerId,
    pub(super) runs: Runs,
    /// See [`Ledger::fenced`]; [`NOT_FENCED`] when it is not.
    fenced: u64,
    /// One more than the highest entry id accepted here, 0 when there is none.
    entries_end: u64,
    /// One more than the highest LAC heard of, 0 when there is none.
    confirmed_end: u64,
    rare: Option<Box<Rare>>,
    /// Fixed by the first add or fence.
    key: Option<KeyId>,
    /// No checkpoint says yet what the fields that belong into one say.
    changed: bool,
}

/// What few ledgers have.
#[derive(Debug, Default)]
struct Rare {
    explicit_lac: Option<Bytes>,
    deleted_ms: Option<u64>,
}

const NOT_FENCED: u64 = u64::MAX;

// The figures of the module's comment.
const _: () = assert!(size_of::<Ledger>() == 72 && size_of::<super::Part>() == 24);

impl Ledger {
    pub(super) fn new(id: LedgerId) -> Self {
        Ledger {
            id,
            runs: Runs::default(),
            fenced: NOT_FENCED,
            entries_end: 0,
            confirmed_end: 0,
            rare: None,
            key: None,
            changed: true,
        }
    }

    /// Whether something that a checkpoint must say has changed since the last [`recorded`](Self::recorded).
    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }

    /// A checkpoint says all of it now.
    pub(super) fn recorded(&mut self) {
        self.changed = false;
    }

    /// No checkpoint says all of it after all.
    pub(super) fn mark_changed(&mut self) {
        self.changed = true;
    }

    pub(super) fn key(&self) -> Option<KeyId> {
        self.key
    }

    pub(super) fn set_key(&mut self, key: Option<KeyId>) {
        self.changed |= self.key != key;
        self.key = key;
    }

    pub(crate) fn id(&self) -> LedgerId {
        self.id
    }

    pub(crate) fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Journal sequence of the fence record (0: durable before this start); a fenced ledger takes no ordinary adds.
    pub(crate) fn fenced(&self) -> Option<u64> {
        (self.fenced != NOT_FENCED).then_some(self.fenced)
    }

    pub(crate) fn fence(&mut self, sequence: u64) {
        self.changed |= self.fenced == NOT_FENCED;
        self.fenced = sequence;
    }

    /// Highest entry id accepted here.
    pub(crate) fn last_entry(&self) -> Option<EntryId> {
        self.entries_end.checked_sub(1).map(EntryId)
    }

    /// An entry was accepted.
    pub(crate) fn note_entry(&mut self, entry: EntryId) {
        self.entries_end = self.entries_end.max(entry.0.saturating_add(1));
    }

    /// Highest LAC that any add carried or that was written explicitly.
    pub(crate) fn last_add_confirmed(&self) -> Option<EntryId> {
        self.confirmed_end.checked_sub(1).map(EntryId)
    }

    /// An add carried this LAC.
    pub(crate) fn note_last_add_confirmed(&mut self, lac: Option<EntryId>) {
        let end = lac.map_or(0, |lac| lac.0.saturating_add(1));
        self.changed |= end > self.confirmed_end;
        self.confirmed_end = self.confirmed_end.max(end);
    }

    pub(crate) fn explicit_lac(&self) -> Option<&Bytes> {
        self.rare.as_ref()?.explicit_lac.as_ref()
    }

    pub(crate) fn set_explicit_lac(&mut self, body: Bytes) {
        self.changed = true;
        self.rare.get_or_insert_default().explicit_lac = Some(body);
    }

    /// When a fenced ledger was deleted (Unix time, ms): it has no entries, and is remembered only to refuse adds.
    pub(crate) fn deleted_ms(&self) -> Option<u64> {
        self.rare.as_ref()?.deleted_ms
    }

    pub(super) fn set_deleted_ms(&mut self, ms: u64) {
        self.changed = true;
        self.rare.get_or_insert_default().deleted_ms = Some(ms);
    }
}
