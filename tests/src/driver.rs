//! A client's test program beside a standalone: it may ask for the standalone to be restarted.

use crate::process::Standalone;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// Bounds a shutdown within a suite; SIGTERM itself is tested in the chaos suite.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Runs `program` to its end. Its lines `RESTART-TERM` and `RESTART-KILL` are answered with `done` on its standard input
/// when the standalone serves again; the other ones are printed.
pub fn run(program: &mut Command, standalone: &mut Standalone) -> Result<ExitStatus> {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", program.get_program().display()))?;
    let mut answers = child.stdin.take().context("piped stdin")?;
    for line in BufReader::new(child.stdout.take().context("piped stdout")?).lines() {
        let line = line?;
        match line.as_str() {
            "RESTART-TERM" => {
                standalone.terminate(STOP_LIMIT)?;
            }
            "RESTART-KILL" => standalone.kill()?,
            _ => {
                println!("{line}");
                continue;
            }
        }
        standalone.restart()?;
        writeln!(answers, "done")?;
    }
    Ok(child.wait()?)
}
