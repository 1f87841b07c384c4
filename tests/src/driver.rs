//! A client's test program beside a standalone: it may ask for the standalone to be restarted, or to be asked.

use crate::counters::{self, Known};
use crate::process::Standalone;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Bounds a shutdown within a suite, whatever the disk does; SIGTERM itself is tested in the chaos suite.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How much of what a failed program wrote last to its standard error stands in the error: a stack trace, or most of it.
const LAST_LINES: usize = 12;

/// Runs `program` to its end, which must be a success. Its lines `RESTART-TERM` and `RESTART-KILL` are answered with `done`
/// on its standard input when the standalone serves again; `DONE topic subscription`, when the counters of the topic say what
/// its log does, with everything acknowledged on its only subscription. The other ones are printed.
pub fn run(program: &mut Command, standalone: &mut Standalone) -> Result<()> {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", program.get_program().display()))?;
    let errors = child.stderr.take().context("piped stderr")?;
    let errors = std::thread::spawn(move || print_and_keep_last(errors));
    let done = serve(&mut child, standalone);
    if done.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    let errors = errors.join().ok().context("the thread of standard error")?.make_contiguous().join("\n");
    done.with_context(|| format!("it said last:\n{errors}"))?;
    if !status.success() {
        bail!("{status}\n{errors}\nlog of the process:\n{}", standalone.log().join("\n"));
    }
    Ok(())
}

fn print_and_keep_last(errors: impl Read) -> VecDeque<String> {
    let mut last = VecDeque::new();
    for line in BufReader::new(errors).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        eprintln!("{line}");
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    last
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
