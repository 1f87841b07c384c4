//! Master keys, each kept once: all of Pulsar's ledgers have the same one.

use std::collections::HashMap;
use std::num::NonZeroU32;

/// A key's place in [`Keys`], counted from 1: a ledger without a key takes no more room for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyId(NonZeroU32);

impl KeyId {
    fn of(place: usize) -> Self {
        let place = u32::try_from(place + 1).expect("memory ends before 2^32 keys");
        KeyId(NonZeroU32::new(place).expect("one was added"))
    }

    fn place(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[derive(Debug)]
struct Held {
    key: [u8; 20],
    ledgers: u32,
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    held: Vec<Held>,
    ids: HashMap<[u8; 20], KeyId>,
    /// Places that no ledger uses any more.
    free: Vec<KeyId>,
}

impl Keys {
    pub(super) fn get(&self, id: KeyId) -> &[u8; 20] {
        &self.held[id.place()].key
    }

    /// One more ledger has this key.
    pub(super) fn hold(&mut self, key: &[u8; 20]) -> KeyId {
        if let Some(id) = self.ids.get(key) {
            self.held[id.place()].ledgers += 1;
            return *id;
        }
        let held = Held { key: *key, ledgers: 1 };
        let id = match self.free.pop() {
            Some(id) => {
                self.held[id.place()] = held;
                id
            }
            None => {
                self.held.push(held);
                KeyId::of(self.held.len() - 1)
            }
        };
        self.ids.insert(*key, id);
        id
    }

    /// One ledger fewer has it.
    pub(super) fn release(&mut self, id: KeyId) {
        let held = &mut self.held[id.place()];
        held.ledgers -= 1;
        if held.ledgers == 0 {
            self.ids.remove(&held.key);
            self.free.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_once_and_only_while_a_ledger_has_it() {
        let mut keys = Keys::default();
        let (a, b) = (keys.hold(&[1; 20]), keys.hold(&[2; 20]));
        assert_eq!(keys.hold(&[1; 20]), a);
        assert_ne!(a, b);
        keys.release(a);
        assert_eq!(keys.get(a), &[1; 20]);
        keys.release(a);
        let c = keys.hold(&[3; 20]);
        assert_eq!((keys.get(c), keys.get(b)), (&[3; 20], &[2; 20]));
        assert_eq!((keys.held.len(), keys.ids.len()), (2, 2));
    }
}
