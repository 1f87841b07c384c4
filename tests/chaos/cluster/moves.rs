//! Bundles are unloaded and split while everybody publishes.

use super::failover::{nobody_dies, unload};
use super::{Run, rounds};
use anyhow::{Context, Result, ensure};
use magnetar_tests::http;
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_move_and_split_under_load() -> Result<()> {
    let Some(mut run) = Run::start_as("moves", &nobody_dies(), 20).await? else { return Ok(()) };
    for round in 0..rounds(6) {
        let from = run.now();
        let brokers = &run.cluster.brokers;
        let (mut here, mut there) = (&brokers[round % 2], &brokers[(round + 1) % 2]);
        if here.bundles()?.is_empty() {
            (here, there) = (there, here);
        }
        let bundles = here.bundles()?;
        let bundle = bundles.get(round % bundles.len()).context("a bundle")?;
        // One split for five unloads, as the figures have it.
        if round % 6 == 5 {
            // The widest one: a narrow one can be cut in two only so often.
            let bundle = bundles.iter().max_by_key(|bundle| width(bundle)).context("a bundle")?;
            let split = format!("{}/admin/v2/namespaces/{bundle}/split", here.http);
            let algorithm =
                if round % 12 == 5 { "range_equally_divide" } else { "topic_count_equally_divide" };
            let answer = http::put(&format!("{split}?splitAlgorithmName={algorithm}"), None)?;
            ensure!(answer.status < 300, "split {bundle}: {} {}", answer.status, answer.body);
        } else {
            unload(here, bundle, there)?;
        }
        run.all_publish(10).await;
        run.record_gaps(from)?;
        let all = run.cluster.brokers.iter().map(|broker| broker.bundles());
        let all: Vec<String> = all.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let distinct: BTreeSet<&String> = all.iter().collect();
        ensure!(distinct.len() == all.len(), "a bundle is served by two brokers: {all:?}");
    }
    run.finish().await.map(drop)
}

/// How many hashes a bundle `tenant/namespace/0xLOW_0xHIGH` has.
fn width(bundle: &str) -> u32 {
    let hash = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let (low, high) = bundle.rsplit('/').next().and_then(|range| range.split_once('_')).unwrap_or_default();
    hash(high).zip(hash(low)).map_or(0, |(high, low)| high - low)
}
