//! The official Go client against a real standalone; each subject is a function of the Go program beside this file.
//!
//! `tests/run` builds the program and names it in MAGNETAR_GO; without it the suite is skipped with a printed reason.

use anyhow::{Context, Result};
use magnetar_tests::driver;
use magnetar_tests::process::Standalone;
use std::process::Command;

#[test]
fn subscriptions_positions_redelivery_and_churn() -> Result<()> {
    let Some(program) = std::env::var_os("MAGNETAR_GO") else {
        println!("SKIPPED interop go: MAGNETAR_GO names no built program (run tests/run)");
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let mut standalone = Standalone::start(dir.path())?;
    let mut program = Command::new(program);
    program.args([standalone.service_url(), standalone.http_url()]);
    program.args(["subscriptions", "delivery", "positions", "churn"]);
    driver::run(&mut program, &mut standalone).context("go")?;
    println!("RAN interop go: subscriptions delivery positions churn");
    Ok(())
}
