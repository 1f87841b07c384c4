//! Every dispatcher against a model of a subscription: a million seeded steps each of joins, departures, permits, acks,
//! negative acks, skips, seeks and slow connections.
//!
//! The model knows which messages exist, who was given which, and what was acknowledged; it never looks into a
//! dispatcher but through what the topic sees. [`oracle`] says what must hold after every step. A failure names its seed;
//! `MAGNETAR_MODEL_SEED=N cargo test -p magnetar-broker model::` runs only that one again.

mod oracle;
mod random;
mod step;
mod world;

use magnetar_common::clock::{Clock, SystemClock};
use world::{Kind, Tally, World};

/// Steps of one schedule: long enough for several generations of consumers and a dozen seeks.
const STEPS: u64 = 1_000;

/// Schedules of each kind that are the same in every run, and those that nobody has seen before.
const FIXED: u64 = 800;
const FRESH: u64 = 200;

/// Runs schedules over one kind of subscription. Seeds differ between kinds, so that no two run the same schedule.
fn run(kind: Kind) {
    if let Ok(told) = std::env::var("MAGNETAR_MODEL_SEED") {
        schedule(kind, told.parse().expect("MAGNETAR_MODEL_SEED is a number"));
        return;
    }
    let fixed = kind as u64 * FIXED;
    let fresh = (SystemClock::default().unix_ms() << 8 | kind as u64) << 16;
    let mut all = Tally::default();
    for seed in (fixed..fixed + FIXED).chain(fresh..fresh + FRESH) {
        all += schedule(kind, seed);
    }
    println!("{kind:?}: {} steps, {all:?}", STEPS * (FIXED + FRESH));
    assert!(all.is_complete(kind), "{kind:?}: something never happened: {all:?}");
}

fn schedule(kind: Kind, seed: u64) -> Tally {
    let mut world = World::new(seed, kind);
    for _ in 0..STEPS {
        world.step();
        world.dispatch();
        world.check();
    }
    world.finish();
    world.tally
}

#[test]
fn exclusive_holds_to_the_model() {
    run(Kind::Exclusive);
}

#[test]
fn failover_of_a_partition_holds_to_the_model() {
    run(Kind::FailoverPartition);
}

#[test]
fn failover_of_a_topic_holds_to_the_model() {
    run(Kind::FailoverTopic);
}

#[test]
fn shared_holds_to_the_model() {
    run(Kind::Shared);
}

#[test]
fn key_shared_holds_to_the_model() {
    run(Kind::KeyShared);
}

#[test]
fn sticky_key_shared_holds_to_the_model() {
    run(Kind::Sticky);
}

#[test]
fn key_shared_out_of_order_holds_to_the_model() {
    run(Kind::OutOfOrder);
}
