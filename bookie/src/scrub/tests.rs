use std::time::Duration;

use magnetar_common::clock::{Clock, ManualClock};
use magnetar_common::storage::{MemoryStorage, Storage};
use magnetar_proto::ids::{EntryId, LedgerId};

use super::*;
use crate::background::Background;
use crate::testing::{JOURNAL, LEDGERS, Store, content, files};

#[tokio::test]
async fn each_damaged_entry_is_found_and_named_once_at_the_allowed_rate() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    for dir in [JOURNAL, LEDGERS] {
        storage.create_dir_all(dir.as_ref()).unwrap();
    }
    let store = Store::open(&storage);
    for ledger in 1..=3 {
        store.add(ledger, 0..50);
    }
    store.flush();
    let path = files(&storage, LEDGERS, ".elog").remove(0);
    let whole = content(&storage, &path);
    let file = storage.open(&path).unwrap();
    for text in [&b"payload of 2:13"[..], b"payload of 3:49", b"payload of 1:7"] {
        let at = whole.windows(text.len()).position(|bytes| bytes == text).unwrap();
        file.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
    }
    store.engine.forget(&[LedgerId(1)], 1);

    let clock = ManualClock::new();
    let mut background = Background::new();
    let (engine, stop) = (store.engine.clone(), background.stop());
    let scrubber = Scrubber { engine, clock: clock.clone(), bytes_per_second: 20_000, stop };
    background.spawn(scrubber.run());
    while clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    clock.advance(FIRST_AFTER);
    for pass in 1..=2 {
        while store.engine.findings.counts().scrub_passes < pass {
            while clock.sleepers() == 0 {
                tokio::task::yield_now().await;
            }
            clock.advance(Duration::from_millis(100));
        }
        if pass == 1 {
            let took = clock.now() - FIRST_AFTER;
            assert!((4..7).contains(&took.as_secs()), "100 kB at 20 kB a second took {took:?}");
            clock.advance(PASS_EVERY);
        }
    }
    let damaged = [(LedgerId(2), EntryId(13), 1), (LedgerId(3), EntryId(49), 1)];
    assert_eq!(store.engine.findings.damaged(), damaged);
    let counts = store.engine.findings.counts();
    assert_eq!((counts.damaged_entries, counts.scrubbed_entries), (2, 200));
    background.end().await;
}
