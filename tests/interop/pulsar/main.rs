//! The official Java client against a real standalone: a test a group of subjects; each is a class in `magnetar.pulsar`.
//!
//! `tests/run` builds the Java program in `interop/java` and names the directory in MAGNETAR_JAVA; without it the suites
//! are skipped with a printed reason.

use anyhow::{Context, Result};
use magnetar_tests::process::Standalone;
use magnetar_tests::{driver, java};

fn run(subjects: &[&str]) -> Result<()> {
    let built = match java::built() {
        Ok(built) => built,
        Err(reason) => {
            println!("SKIPPED interop java/pulsar-client {}: {reason}", subjects.join(" "));
            return Ok(());
        }
    };
    let dir = tempfile::tempdir()?;
    let mut standalone = Standalone::start(dir.path())?;
    let mut program = java::command(&built, "-Xmx512m");
    program.arg("magnetar.pulsar.Main");
    program.args([standalone.service_url(), standalone.http_url()]).args(subjects);
    driver::run(&mut program, &mut standalone).with_context(|| format!("java {subjects:?}"))?;
    println!("RAN interop java/pulsar-client {}", subjects.join(" "));
    Ok(())
}

#[test]
fn messages_come_once_acknowledged_and_again_if_not() -> Result<()> {
    run(&["redelivery", "dead_letters", "batch_index", "delays"])
}

#[test]
fn keys_stay_in_order_at_one_consumer() -> Result<()> {
    run(&["key_shared"])
}

#[test]
fn several_topics_are_consumed_as_one() -> Result<()> {
    run(&["patterns", "partitions"])
}

#[test]
fn readers_and_consumers_go_where_they_are_told() -> Result<()> {
    run(&["positions"])
}

#[test]
fn producers_share_a_topic_as_they_asked_for() -> Result<()> {
    run(&["access_modes", "transactions"])
}

#[test]
fn large_and_encrypted_messages_come_back_whole() -> Result<()> {
    run(&["chunks", "encryption"])
}

#[test]
fn schemas_evolve_as_far_as_readers_and_writers_agree() -> Result<()> {
    run(&["schemas", "values"])
}

#[test]
fn a_compacted_topic_shows_the_newest_of_each_key() -> Result<()> {
    run(&["compaction"])
}

#[test]
fn consumers_come_and_go_and_nothing_is_lost_stuck_or_reordered() -> Result<()> {
    run(&["churn"])
}
