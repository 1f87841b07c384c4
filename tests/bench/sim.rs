//! `bench sim`: many seeds of the simulation, and wider bounds of the model than a test has time for.
//!
//! `bench sim [--seeds N] [--from S] [--minutes M] [--threads T]` ends with an error when a seed shows a violation, having
//! told which and how to see it again. `bench sim model` visits every state of each model. It must never go on quietly
//! after a violation.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_tests::sim::{Campaign, Model, explore};

const SEEDS: u64 = 20_000;
const THREADS: usize = 2;

/// Memory for so many states is there on a small machine.
const STATES_MAX: usize = 40_000_000;

/// All copies on all bookies; two copies and a spare bookie; one entry on two of three bookies.
const SIZES: [(u32, u32, u32); 3] = [(3, 3, 2), (2, 2, 2), (3, 2, 2)];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.first().is_some_and(|first| first == "model") {
        return models();
    }
    let (mut seeds, mut from, mut minutes, mut threads) = (SEEDS, 0, None, THREADS);
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(name) = rest.next() {
        let value: u64 = rest.next().and_then(|value| value.parse().ok()).with_context(usage)?;
        match name {
            "--seeds" => seeds = value,
            "--from" => from = value,
            "--minutes" => minutes = Some(Duration::from_secs(60 * value)),
            "--threads" => threads = usize::try_from(value)?,
            _ => bail!(usage()),
        }
    }
    let clock = SystemClock::default();
    let until = from.checked_add(seeds).context("the last seed is too large")?;
    let campaign = Campaign::run(from..until, threads, || minutes.is_some_and(|most| clock.now() >= most));
    let seconds = clock.now().as_secs_f64();
    println!("{}", campaign.summary());
    println!("{seconds:.1} s on {threads} threads, {:.1} seeds/s", campaign.runs as f64 / seconds);
    print!("{}", campaign.report());
    match campaign.violations.len() {
        0 => Ok(()),
        count => bail!("{count} of {} seeds violate what must hold", campaign.runs),
    }
}

fn models() -> Result<()> {
    let clock = SystemClock::default();
    for sizes in SIZES {
        for (entries, pipeline, recoveries, losses) in
            [(3, 2, 1, 1), (3, 1, 1, 2), (3, 3, 1, 1), (2, 1, 2, 1)]
        {
            let model =
                Model { sizes, bookies: 3, attempts: 1, defect: None, entries, pipeline, recoveries, losses };
            let begun = clock.now();
            let explored = explore(&model, STATES_MAX, THREADS);
            let seconds = (clock.now() - begun).as_secs_f64();
            let extent = if explored.exhausted { "all" } else { "the first" };
            println!(
                "{model:?}: {extent} {} states, {} steps, {seconds:.1} s",
                explored.states, explored.steps
            );
            if let Some((violation, steps)) = explored.violation {
                bail!("{violation}, after\n  {}", steps.join("\n  "));
            }
        }
    }
    Ok(())
}

fn usage() -> String {
    "usage: bench sim [--seeds N] [--from S] [--minutes M] [--threads T] | bench sim model".to_owned()
}
