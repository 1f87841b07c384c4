//! Every dispatcher against a model of a subscription: a million seeded steps of joins, departures, permits, acks,
//! negative acks, skips, seeks and slow connections.
//!
//! The model knows which messages exist, who was given which, and what was acknowledged; it never looks into a
//! dispatcher but through what the topic sees. [`oracle`] says what must hold after every step.

mod oracle;
mod random;
mod step;
mod world;

use world::{Kind, World};

/// Steps of one schedule: long enough for several generations of consumers and a dozen seeks.
const STEPS: usize = 1_000;

/// Runs schedules over one kind of subscription. Seeds differ between kinds, so that no two run the same schedule.
fn run(kind: Kind, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut world = World::new(seed, kind);
        for _ in 0..STEPS {
            world.step();
            world.dispatch();
            world.check();
        }
        world.finish();
    }
}

#[test]
fn exclusive_holds_to_the_model() {
    run(Kind::Exclusive, 0..100);
}

#[test]
fn failover_of_a_partition_holds_to_the_model() {
    run(Kind::FailoverPartition, 1_000..1_150);
}

#[test]
fn failover_of_a_topic_holds_to_the_model() {
    run(Kind::FailoverTopic, 2_000..2_150);
}

#[test]
fn shared_holds_to_the_model() {
    run(Kind::Shared, 3_000..3_200);
}

#[test]
fn key_shared_holds_to_the_model() {
    run(Kind::KeyShared, 4_000..4_300);
}

#[test]
fn sticky_key_shared_holds_to_the_model() {
    run(Kind::Sticky, 5_000..5_100);
}

#[test]
fn key_shared_out_of_order_holds_to_the_model() {
    run(Kind::OutOfOrder, 6_000..6_100);
}
