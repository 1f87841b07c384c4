//! Why a dispatcher hands out nothing: for people, so it may cost more than dispatch does.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{ConsumerId, Dispatcher};

/// A consumer, as far as it decides whether it can take something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberState {
    #[serde(skip)]
    pub id: ConsumerId,
    pub name: String,
    pub permits: i64,
    pub unacked: u32,
    /// It holds too many unacknowledged messages.
    pub blocked: bool,
    /// Its connection takes more bytes.
    pub writable: bool,
}

impl MemberState {
    pub fn is_available(&self) -> bool {
        self.permits > 0 && !self.blocked && self.writable
    }
}

/// What an entry in the replay set waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitsFor {
    /// No connected consumer covers its key's hash (STICKY ranges with a gap).
    Owner,
    /// Its key's former consumer still holds earlier messages of the key.
    Draining(ConsumerId),
    /// The consumer that must have it can take nothing now.
    Consumer(ConsumerId),
    /// Nothing: it goes out next.
    Nothing,
}

impl Dispatcher {
    pub fn member_states(&self) -> Vec<MemberState> {
        let members = match self {
            Dispatcher::SingleActive(d) => d.members(),
            Dispatcher::Shared(d) => d.members(),
            Dispatcher::KeyShared(d) => d.members(),
        };
        let state = |m: &super::members::Member| MemberState {
            id: m.id,
            name: m.name.to_string(),
            permits: m.permits,
            unacked: m.unacked,
            blocked: m.blocked,
            writable: m.writable,
        };
        members.as_slice().iter().map(state).collect()
    }

    /// How many entries of the replay set wait for what.
    pub fn waiting(&self) -> BTreeMap<WaitsFor, u64> {
        let mut waiting = BTreeMap::new();
        let mut count = |what| *waiting.entry(what).or_default() += 1;
        match self {
            Dispatcher::SingleActive(_) => {}
            Dispatcher::Shared(d) => d.pool.replay.iter().for_each(|(_, tag)| {
                count(match d.chosen(tag) {
                    Some(chosen) if !d.pool.members.available(chosen) => WaitsFor::Consumer(chosen),
                    _ => WaitsFor::Nothing,
                });
            }),
            Dispatcher::KeyShared(d) => {
                d.pool.replay.iter().for_each(|(_, slot)| count(d.waits_for(slot.unwrap_or(0))));
            }
        }
        waiting
    }

    /// Entries are held back in such number that no new ones are looked at.
    pub fn look_ahead_is_full(&self) -> bool {
        match self {
            Dispatcher::SingleActive(_) => false,
            Dispatcher::Shared(d) => !d.pool.may_look_ahead(),
            Dispatcher::KeyShared(d) => !d.pool.may_look_ahead(),
        }
    }
}
