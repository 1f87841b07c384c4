//! The official Python client (the C++ core beneath it) against a real standalone: one test a suite beside this file.
//!
//! `tests/run` makes the virtual environment and names its interpreter in MAGNETAR_PYTHON; without it the suites are
//! skipped with a printed reason.

use anyhow::{Context, Result, bail};
use magnetar_tests::driver;
use magnetar_tests::process::Standalone;
use std::process::Command;

fn run(suite: &str) -> Result<()> {
    let Some(python) = std::env::var_os("MAGNETAR_PYTHON") else {
        println!("SKIPPED interop python/{suite}: MAGNETAR_PYTHON names no interpreter (run tests/run)");
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let mut process = Standalone::start(dir.path())?;
    let mut program = Command::new(python);
    program
        .args(["-u", "-m", "unittest", "-v", suite])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/interop/python"))
        .env("MAGNETAR_SERVICE_URL", process.service_url())
        .env("MAGNETAR_HTTP_URL", process.http_url())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    driver::run(&mut program, &mut process).with_context(|| format!("python suite {suite}"))?;
    println!("RAN interop python/{suite}");
    Ok(())
}

#[test]
fn the_example_of_the_readme_works_when_pasted() -> Result<()> {
    let Some(python) = std::env::var_os("MAGNETAR_PYTHON") else {
        println!("SKIPPED interop python/readme: MAGNETAR_PYTHON names no interpreter (run tests/run)");
        return Ok(());
    };
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))?;
    let (_, rest) = readme.split_once("```python\n").context("README.md has a Python example")?;
    let (example, _) = rest.split_once("```").context("the example ends")?;
    let dir = tempfile::tempdir()?;
    let process = Standalone::start(dir.path())?;
    let example = example.replace("pulsar://127.0.0.1:6650", &process.service_url());
    let output = Command::new(python).args(["-c", &example]).output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !printed.contains("hello, magnetar") {
        bail!("{}: {printed}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    println!("RAN interop python/readme");
    Ok(())
}

#[test]
fn subscriptions() -> Result<()> {
    run("test_subscriptions")
}

#[test]
fn delivery() -> Result<()> {
    run("test_delivery")
}

#[test]
fn positions() -> Result<()> {
    run("test_positions")
}

#[test]
fn payloads() -> Result<()> {
    run("test_payloads")
}

#[test]
fn reconnect() -> Result<()> {
    run("test_reconnect")
}

#[test]
fn churn() -> Result<()> {
    run("test_churn")
}

#[test]
fn compaction() -> Result<()> {
    run("test_compaction")
}

#[test]
fn dead_letters() -> Result<()> {
    run("test_dead_letters")
}

#[test]
fn entry_filters() -> Result<()> {
    run("test_entry_filters")
}
