//! Master keys, each kept once: all of Pulsar's ledgers have the same one.

use std::collections::HashMap;

/// A key's place in [`Keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyId(u32);

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
        &self.held[id.0 as usize].key
    }

    /// One more ledger has this key.
    pub(super) fn hold(&mut self, key: &[u8; 20]) -> KeyId {
        if let Some(id) = self.ids.get(key) {
            self.held[id.0 as usize].ledgers += 1;
            return *id;
        }
        let held = Held { key: *key, ledgers: 1 };
        let id = match self.free.pop() {
            Some(id) => {
                self.held[id.0 as usize] = held;
                id
            }
            None => {
                self.held.push(held);
                KeyId(u32::try_from(self.held.len() - 1).expect("memory ends before 2^32 keys"))
            }
        };
        self.ids.insert(*key, id);
        id
    }

    /// One ledger fewer has it.
    pub(super) fn release(&mut self, id: KeyId) {
        let held = &mut self.held[id.0 as usize];
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
