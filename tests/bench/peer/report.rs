//! The table of `bench peer`, as README.md shows it.
//!
//! Called by: the runner, once. Must never hide a spread: each figure is a median with its least and greatest.

use super::client::{Load, Outcome};

/// Prints a row a server, and the CPU time of the first as a part of each other's.
pub(super) fn print(load: &Load, servers: &[&str], rounds: &[(&str, Outcome)]) {
    println!(
        "| {} B adds, {} in flight, {} of the protocol: median (least-greatest) of {} rounds | adds/s | p50 ms | p99 ms | \
         server CPU-s per 10^6 adds | resident MB |",
        load.payload_bytes,
        load.in_flight,
        load.version,
        rounds.len() / servers.len()
    );
    println!("|---|---|---|---|---|---|");
    let mut cpu = Vec::new();
    for server in servers {
        let of = |figure: fn(&Outcome) -> f64| {
            let mut figures = rounds
                .iter()
                .filter(|round| round.0 == *server)
                .map(|round| figure(&round.1))
                .collect::<Vec<_>>();
            figures.sort_by(f64::total_cmp);
            figures
        };
        let cpu_seconds = of(|outcome| outcome.cpu_seconds_per_million);
        println!(
            "| {server} | {} | {} | {} | {} | {} |",
            shown(&of(|outcome| outcome.adds_per_second), 0),
            shown(&of(|outcome| outcome.p50_ms), 2),
            shown(&of(|outcome| outcome.p99_ms), 2),
            shown(&cpu_seconds, 2),
            shown(&of(|outcome| outcome.rss_mb), 0),
        );
        cpu.push(median(&cpu_seconds));
    }
    println!();
    for (server, theirs) in servers.iter().zip(&cpu).skip(1) {
        println!("CPU time an add, {} / {server}: {:.2}", servers[0], cpu[0] / theirs);
    }
}

fn shown(sorted: &[f64], digits: usize) -> String {
    let (least, greatest) = (sorted[0], sorted[sorted.len() - 1]);
    format!("{:.digits$} ({least:.digits$}-{greatest:.digits$})", median(sorted))
}

/// Of an even number, the mean of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}
