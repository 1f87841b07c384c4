use std::collections::BTreeMap;
use std::time::Duration;

use magnetar_common::clock::ManualClock;

use super::*;

fn gauges() -> Gauges {
    let dir = |path: &str, writable| DirGauges { path: path.into(), writable, space: Some((25, 100)) };
    Gauges {
        status: ServerStatus::ReadOnly,
        ledgers: 3,
        entries: 4,
        write_cache_bytes: 5,
        write_cache_entries: 6,
        read_cache_bytes: 12,
        scrubbed: crate::ScrubCounts { scrubbed_entries: 13, scrubbed_bytes: 14, ..Default::default() },
        logs: 7,
        log_bytes: 8,
        damaged_logs: 9,
        journal_queue: 10,
        journal_bytes: 11,
        dirs: vec![dir("/data/ledgers-0", true), dir("/data/ledgers-1", false)],
    }
}

/// Samples by name and labels.
fn parse(text: &str) -> BTreeMap<&str, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name, value.parse().expect("a number"))
        })
        .collect()
}

/// Dashboards and alerts are built on these: a name may be added, never renamed or dropped.
#[test]
fn the_names_are_the_promised_ones() {
    let text = Metrics::new(ManualClock::new()).render(&gauges());
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let found: String = types.map(|line| format!("{line}\n")).collect();
    assert_eq!(found, include_str!("../../tests/golden/metrics-v1.txt"));
    let helps = text.lines().filter(|line| line.starts_with("# HELP ")).count();
    assert_eq!(helps, found.lines().count());
}

#[test]
fn times_are_told_in_milliseconds_and_by_success() {
    let metrics = Metrics::new(ManualClock::new());
    let mut counts = Counts::default();
    (0..3).for_each(|_| counts.add(Asked::Add));
    metrics.server.succeeded(&counts, Duration::from_micros(1500));
    metrics.server.ended(Asked::Add, false, Duration::from_millis(1));
    metrics.server.write_bytes.add(77);
    metrics.journal.synced(5, 4096, Duration::from_millis(2), true);
    let text = metrics.render(&gauges());
    let samples = parse(&text);
    let add = "bookkeeper_server_ADD_ENTRY_REQUEST";
    assert_eq!(samples[&*format!("{add}_count{{success=\"true\"}}")], 3.0);
    assert_eq!(samples[&*format!("{add}_sum{{success=\"true\"}}")], 4.5);
    assert_eq!(samples[&*format!("{add}_count{{success=\"false\"}}")], 1.0);
    let median = samples[&*format!("{add}{{success=\"true\",quantile=\"0.5\"}}")];
    assert!((1.5..1.7).contains(&median), "{median}");
    assert!(samples["bookkeeper_server_READ_ENTRY_REQUEST{success=\"true\",quantile=\"1.0\"}"].is_nan());
    assert_eq!(samples["bookie_WRITE_BYTES"], 77.0);
    let batch = "bookie_journal_JOURNAL_FORCE_WRITE_BATCH_ENTRIES_sum{success=\"true\",journalIndex=\"0\"}";
    assert_eq!(samples[batch], 5.0);
    assert_eq!(samples["bookie_SERVER_STATUS"], 0.0);
    assert_eq!((samples["bookie_ledger_writable_dirs"], samples["bookie_ledger_num_dirs"]), (1.0, 2.0));
    assert_eq!(samples["bookie_ledger_dir__data_ledgers_1_usage"], 75.0);
    assert_eq!((samples["bookie_read_cache_size"], samples["magnetar_bookie_scrubbed_bytes"]), (12.0, 14.0));
}
