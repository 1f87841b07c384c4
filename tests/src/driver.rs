//! A client's test program beside a standalone: it may ask for the standalone to be restarted, or to be asked.

use crate::counters::{self, Known};
use crate::process::Standalone;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Bounds a shutdown within a suite; SIGTERM itself is tested in the chaos suite.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Runs `program` to its end. Its lines `RESTART-TERM` and `RESTART-KILL` are answered with `done` on its standard input
/// when the standalone serves again; `DONE topic subscription`, when the counters of the topic say what its log does, with
/// everything acknowledged on its only subscription. The other ones are printed.
pub fn run(program: &mut Command, standalone: &mut Standalone) -> Result<ExitStatus> {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", program.get_program().display()))?;
    let done = serve(&mut child, standalone);
    if done.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    done.map(|()| status)
}

fn serve(child: &mut Child, standalone: &mut Standalone) -> Result<()> {
    let mut answers = child.stdin.take().context("piped stdin")?;
    for line in BufReader::new(child.stdout.take().context("piped stdout")?).lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["RESTART-TERM"] => {
                standalone.terminate(STOP_LIMIT)?;
                standalone.restart()?;
            }
            ["RESTART-KILL"] => {
                standalone.kill()?;
                standalone.restart()?;
            }
            ["DONE", topic, subscription] => {
                let (address, http_url) = (standalone.broker_address(), standalone.http_url());
                counters::check_blocking(&address, &http_url, topic, &[Known::done(subscription)])?;
            }
            _ => {
                println!("{line}");
                continue;
            }
        }
        writeln!(answers, "done")?;
    }
    Ok(())
}
