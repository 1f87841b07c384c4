//! Many seeds, on as many threads as wanted; each run has a thread for itself.

use super::defect::Defect;
use super::world::{Outcome, Tally, run};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The runs of a range of seeds.
#[derive(Debug, Default)]
pub struct Campaign {
    /// Runs done.
    pub runs: u64,
    /// All of them together.
    pub tally: Tally,
    /// The seeds of violations, and what was violated.
    pub violations: Vec<(u64, String)>,
}

impl Campaign {
    /// Runs the seeds without a defect, until all are done or `stop` says so between two runs.
    pub fn run(seeds: Range<u64>, threads: usize, stop: impl Fn() -> bool + Sync) -> Self {
        let (next, total) = (AtomicU64::new(seeds.start), Mutex::new(Self::default()));
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    while !stop() {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        let outcome = run(seed, None);
                        total.lock().unwrap_or_else(PoisonError::into_inner).add(seed, outcome);
                    }
                });
            }
        });
        let mut total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
        total.violations.sort();
        total
    }

    /// Runs seeds with a defect until it is caught; gives the first seed (by number) of those that caught it.
    pub fn first_catch(seeds: Range<u64>, defect: Defect) -> Option<(u64, String)> {
        seeds.into_iter().find_map(|seed| Some((seed, run(seed, Some(defect)).violation?)))
    }

    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.runs += 1;
        let (sum, one) = (&mut self.tally, outcome.tally);
        sum.events += one.events;
        sum.acknowledged += one.acknowledged;
        sum.read += one.read;
        sum.second_reads += one.second_reads;
        sum.segments += one.segments;
        sum.recovered_segments += one.recovered_segments;
        sum.faults += one.faults;
        sum.crashes += one.crashes;
        sum.recoveries += one.recoveries;
        sum.settled_us_max = sum.settled_us_max.max(one.settled_us_max);
        if let Some(violation) = outcome.violation {
            self.violations.push((seed, violation));
        }
    }

    /// What happened, in one line.
    pub fn summary(&self) -> String {
        let tally = self.tally;
        format!(
            "{} seeds, {} violations: {} events, {} faults, {} bookie crashes, {} entries acknowledged, {} read ({} second \
             replicas asked), {} ensembles added ({} by recoveries), {} recoveries begun; settled within {} ms of the last fault",
            self.runs,
            self.violations.len(),
            tally.events,
            tally.faults,
            tally.crashes,
            tally.acknowledged,
            tally.read,
            tally.second_reads,
            tally.segments,
            tally.recovered_segments,
            tally.recoveries,
            tally.settled_us_max / 1000,
        )
    }

    /// Every violation with its seed, the commit, and the command that replays it. Empty when there is none.
    pub fn report(&self) -> String {
        self.violations.iter().map(|(seed, violation)| replay_line(*seed, violation)).collect()
    }
}

/// A violation with what is needed to see it again.
pub fn replay_line(seed: u64, violation: &str) -> String {
    format!("seed {seed} at commit {}: {violation}\n  replay: {}\n", commit(), replay_command(seed))
}

/// Runs one seed again.
pub fn replay_command(seed: u64) -> String {
    format!("cargo run --release -p magnetar-tests --bin bench -- sim --from {seed} --seeds 1")
}

/// The commit of the working tree, and whether it has been changed since.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into());
    let changed = git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty());
    if changed { format!("{commit} with local changes") } else { commit }
}
