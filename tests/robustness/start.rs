//! Surroundings in which a start must fail: one clear line, and an exit code that is not 0.

use anyhow::{Context, Result, ensure};
use magnetar_tests::process::{self, Standalone};
use std::path::Path;
use std::process::Command;

/// Runs standalone, which must end by itself, and gives what it said.
fn refused(data_dir: &Path, more: &[&str]) -> Result<String> {
    let output = Command::new(process::binary())
        .args(["standalone", "--http-port", "0", "--data-dir"])
        .arg(data_dir)
        .args(more)
        .output()?;
    let text = String::from_utf8(output.stderr).context("UTF-8")?;
    ensure!(output.status.code() == Some(1), "{}: {text}", output.status);
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("magnetar: ")).collect();
    ensure!(lines.len() == 1, "not one line: {text}");
    Ok(lines[0].to_owned())
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let dir = tempfile::tempdir()?;
    let line = refused(dir.path(), &["--broker-port", &port])?;
    ensure!(line.contains(&port), "{line}");
    Ok(())
}

#[test]
fn a_data_directory_in_use_by_another_process_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let _running = Standalone::start(dir.path())?;
    let line = refused(dir.path(), &["--broker-port", "0"])?;
    ensure!(line.contains(&dir.path().display().to_string()), "{line}");
    Ok(())
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() -> Result<()> {
    // A file where the directory should be stands for a missing permission too: these tests may run as root, whom no
    // permission stops.
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("data");
    std::fs::write(&path, "a file")?;
    let line = refused(&path, &["--broker-port", "0"])?;
    ensure!(line.contains(&path.display().to_string()), "{line}");
    let line = refused(Path::new("/proc/magnetar"), &["--broker-port", "0"])?;
    ensure!(line.contains("/proc/magnetar"), "{line}");
    Ok(())
}

#[test]
fn a_data_directory_of_a_newer_format_is_left_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    drop(Standalone::start(dir.path())?);
    let version = dir.path().join("VERSION");
    let text = std::fs::read_to_string(&version)?;
    let newer = regex::Regex::new(r"\d+")?.replace(&text, "999").into_owned();
    std::fs::write(&version, &newer)?;
    let line = refused(dir.path(), &["--broker-port", "0"])?;
    ensure!(line.contains("999"), "{line}");
    ensure!(std::fs::read_to_string(&version)? == newer, "the file was touched");
    Ok(())
}
