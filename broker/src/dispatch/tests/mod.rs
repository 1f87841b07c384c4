//! Each behaviour of the dispatchers by itself, and all of them together against a model.

mod key_shared;
mod model;
mod shared;
mod single_active;

use std::time::Duration;

use magnetar_proto::ids::{EntryId, LedgerId, Position};

use super::*;

fn at(n: u64) -> Position {
    Position { ledger_id: LedgerId(1), entry_id: EntryId(n) }
}

fn entry(n: u64) -> EntryInfo {
    EntryInfo { position: at(n), messages: 1, tag: None, last_chunk: false }
}

fn keyed(n: u64, key: &str) -> EntryInfo {
    EntryInfo { tag: Some(key_hash(key.as_bytes())), ..entry(n) }
}

fn spec(id: u64, name: &str) -> ConsumerSpec {
    ConsumerSpec { id: ConsumerId(id), name: Arc::from(name), priority: 0, ranges: Vec::new() }
}

/// Joins with a hundred permits.
fn join(d: &mut Dispatcher, id: u64) {
    d.add(spec(id, &format!("c{id}")), Duration::ZERO).expect("may join");
    d.flow(ConsumerId(id), 100);
}

/// Who gets the entry; `None` when it is held or refused.
fn to(offer: Offer) -> Option<u64> {
    match offer {
        Offer::Send { consumer, .. } => Some(consumer.0),
        _ => None,
    }
}

fn give(d: &mut Dispatcher, entry: EntryInfo) -> Option<u64> {
    to(d.offer(&entry))
}
