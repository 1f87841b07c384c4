use std::sync::Arc;

use bytes::Bytes;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::{Found, Key, ReadCache, Span};

const LEDGER: LedgerId = LedgerId(7);
const LOG: u64 = 3;
const KIB: usize = 1 << 10;

fn key(first: u64) -> Key {
    Key { ledger: LEDGER, log: LOG, first: EntryId(first) }
}

/// A log of entries of 1 KiB each, read through a cache.
struct World {
    cache: Arc<ReadCache>,
    /// Sizes of the reads that were not ahead of anybody; 0 for single entries.
    misses: Vec<usize>,
    /// Ranges read ahead.
    aheads: Vec<(u64, u64)>,
    /// Entries from here on are not on disk.
    end: u64,
}

impl World {
    fn new(bytes_max: usize) -> Self {
        World { cache: Arc::new(ReadCache::new(bytes_max)), misses: vec![], aheads: vec![], end: 1 << 20 }
    }

    fn bodies(first: u64, count: u64) -> Vec<Bytes> {
        (first..first + count).map(|entry| Bytes::from(vec![entry as u8; 4])).collect()
    }

    /// Reads an entry as the engine does, and everything that is then read ahead.
    fn read(&mut self, entry: u64, reads_on: bool) {
        let body = match self.cache.find(LEDGER, LOG, EntryId(entry), reads_on) {
            Found::Span(span) => span.body(LEDGER, EntryId(entry)),
            Found::Missing { window: 0 } => {
                self.misses.push(0);
                return;
            }
            Found::Missing { window } => {
                self.misses.push(window);
                let count = (window / KIB) as u64;
                let filling = self.cache.keep(Span::new(key(entry), count, window));
                let span = filling.span().clone();
                filling.fill(Self::bodies(entry, count));
                span.body(LEDGER, EntryId(entry))
            }
        };
        assert_eq!(body.expect("filled")[0], entry as u8);
        while let Some(mut ahead) = self.cache.ahead(LEDGER, EntryId(entry)) {
            let first = ahead.first().0;
            if first >= self.end || ahead.is_present(LOG) {
                continue;
            }
            let count = ((ahead.window() / KIB) as u64).min(self.end - first);
            let filling = ahead.keep(Span::new(key(first), count, count as usize * KIB));
            filling.fill(Self::bodies(first, count));
            self.aheads.push((first, count));
        }
    }

    fn bytes_ahead(&self) -> usize {
        self.aheads.iter().map(|(_, count)| *count as usize * KIB).sum()
    }
}

#[test]
fn a_reader_of_single_entries_is_read_ahead_for_once_it_goes_in_order() {
    let mut world = World::new(64 << 20);
    for entry in 0..10_000 {
        world.read(entry, false);
    }
    assert_eq!(world.misses, [0, 64 * KIB], "everything after the second entry was there in time");
    let mut next = 1 + 64;
    for (first, count) in &world.aheads {
        assert_eq!(*first, next, "nothing is read twice or left out");
        next = first + count;
    }
    let ahead = next - 10_000;
    assert!((3 * 1024..=5 * 1024).contains(&ahead), "{ahead} entries ahead of the reader");
}

#[test]
fn reads_in_no_order_read_nothing_but_what_is_asked() {
    let mut world = World::new(64 << 20);
    for n in 0..5000 {
        world.read(n * 7919 % 100_000 * 2, false);
    }
    assert!(world.misses.iter().all(|window| *window == 0));
    assert_eq!(world.bytes_ahead(), 0);
    assert_eq!(world.cache.bytes(), 0);
}

#[test]
fn a_pipelining_reader_is_read_ahead_for_at_once() {
    let mut world = World::new(64 << 20);
    world.read(0, true);
    assert_eq!(world.misses, [512 * KIB]);
    assert!(world.bytes_ahead() >= 1 << 20, "{} bytes ahead", world.bytes_ahead());
}

#[test]
fn the_cache_stays_within_its_bytes_and_everyone_gets_the_right_entries() {
    let mut world = World::new(8 << 20);
    // Three readers of one ledger, far apart.
    for entry in 0..20_000 {
        for start in [0, 100_000, 200_000] {
            world.read(start + entry, false);
        }
        assert!(world.cache.bytes() <= 8 << 20);
    }
    let misses = world.misses.len();
    assert!(misses < 100, "{misses} misses: what is read ahead is thrown out before it is used");
}

#[test]
fn nothing_is_read_ahead_past_the_end_until_there_is_more() {
    let mut world = World::new(64 << 20);
    world.end = 1000;
    for entry in 0..1000 {
        world.read(entry, true);
    }
    assert_eq!(world.aheads.iter().map(|(first, count)| first + count).max(), Some(1000));
    world.end = 5000;
    let before = world.bytes_ahead();
    for entry in 1000..5000 {
        world.read(entry, true);
    }
    assert!(world.bytes_ahead() > before);
}

#[test]
fn a_cache_of_no_bytes_keeps_nothing() {
    let mut world = World::new(0);
    for entry in 0..100 {
        world.read(entry, true);
    }
    assert!(world.misses.iter().all(|window| *window == 0));
    assert_eq!((world.misses.len(), world.cache.bytes()), (100, 0));
}

#[test]
fn who_waits_for_a_span_or_a_plan_that_fails_is_let_go() {
    let mut world = World::new(64 << 20);
    world.end = 513;
    world.read(0, true);
    let ahead = world.cache.ahead(LEDGER, EntryId(0));
    assert!(ahead.is_none(), "the end was seen");

    let waiting = World::new(64 << 20);
    let Found::Missing { window } = waiting.cache.find(LEDGER, LOG, EntryId(0), true) else { panic!() };
    let filling = waiting.cache.keep(Span::new(key(0), (window / KIB) as u64, window));
    let span = filling.span().clone();
    let ahead = waiting.cache.ahead(LEDGER, EntryId(0)).expect("more to read");
    let next = ahead.first();
    std::thread::scope(|scope| {
        let body = scope.spawn(|| span.body(LEDGER, EntryId(0)));
        let found = scope.spawn(|| waiting.cache.find(LEDGER, LOG, next, false));
        drop(filling);
        drop(ahead);
        assert_eq!(body.join().unwrap(), None);
        assert!(matches!(found.join().unwrap(), Found::Missing { .. }));
    });
}
