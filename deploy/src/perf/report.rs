//! Gathers what the workers record, prints a line a second, and the summary at the end.
//!
//! Called by: both sides of perf.
//! Must never know: what the workers do.

use std::time::Duration;

use magnetar_common::clock::SharedClock;
use tokio::task::JoinSet;

use super::stats::{Figures, Recorder, Shared};
use super::{Limits, Target};
use crate::standalone::StopSignals;

const INTERVAL: Duration = Duration::from_secs(1);

/// Lets `workers` run to their end, to the time limit, or to a signal, and gives the figures of what they recorded after
/// the warm-up. The first worker's failure ends all of them.
pub(super) async fn run(
    mut workers: JoinSet<anyhow::Result<()>>,
    recorders: &[Shared],
    clock: &SharedClock,
    target: &Target,
    limits: Limits,
) -> anyhow::Result<Figures> {
    let mut total = Recorder::new();
    let mut warm = limits.warmup.is_zero();
    let mut measured_from = clock.now();
    let started = measured_from;
    let mut line_from = measured_from;
    let mut signals = StopSignals::install()?;
    let mut running = true;
    while running {
        let now = clock.now();
        let mut next = line_from + INTERVAL;
        if !warm {
            next = next.min(started + limits.warmup);
        } else if let Some(duration) = limits.duration {
            next = next.min(measured_from + duration);
        }
        tokio::select! {
            () = clock.sleep(next.saturating_sub(now)) => {}
            done = workers.join_next() => match done {
                None => running = false,
                Some(outcome) => {
                    outcome??;
                    // The rest may go on; only the last one ends the run.
                    running = !workers.is_empty();
                }
            },
            () = signals.received() => running = false,
        }
        let now = clock.now();
        let ends_warmup = !warm && now >= started + limits.warmup;
        if warm && limits.duration.is_some_and(|duration| now >= measured_from + duration) {
            running = false;
        }
        if running && !ends_warmup && now < line_from + INTERVAL {
            continue;
        }
        let mut span = Recorder::new();
        recorders.iter().for_each(|recorder| recorder.drain_into(&mut span));
        if running {
            print_line(target, &span.figures(now - line_from), warm);
        }
        line_from = now;
        if warm {
            total.merge(&span);
        } else if ends_warmup {
            (warm, measured_from) = (true, now);
        }
    }
    Ok(total.figures(clock.now() - measured_from))
}

fn print_line(target: &Target, figures: &Figures, warm: bool) {
    let note = if warm { "" } else { " (warm-up)" };
    if target.json {
        eprintln!("{figures}{note}");
    } else {
        println!("{figures}{note}");
    }
}

/// Prints the last word on a run.
pub(super) fn print_summary(target: &Target, what: &str, figures: &Figures) -> anyhow::Result<()> {
    if target.json {
        let mut summary = serde_json::to_value(figures)?;
        summary["command"] = what.into();
        println!("{summary}");
    } else {
        println!("total {what}: {figures}");
    }
    Ok(())
}
