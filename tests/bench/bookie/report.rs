//! The tables, printed line by line as figures come in, ready for the README.
//!
//! Called by: the bench's main. Must never know: how a figure was measured.

use std::path::Path;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use super::adds::{Load, Outcome};
use super::cold::{Reading, Written};
use super::overload;
use super::process::Cores;
use super::unloaded::{self, Waiting};

/// What the figures are compared with, and which table is being printed.
pub(super) struct Report {
    table: &'static str,
    raw_read: f64,
    /// Bytes a second by block size.
    durable: [(usize, f64); 2],
}

impl Report {
    /// Prints what the machine is.
    pub(super) fn begin(scratch: &Path) -> Result<Self> {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let cores = std::thread::available_parallelism()?;
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let scratch = scratch.canonicalize()?;
        let mount = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .filter(|mount| mount.len() > 2 && scratch.starts_with(mount[1]))
            .max_by_key(|mount| mount[1].len())
            .context("the mount of the data directory")?;
        println!(
            "{cores} cores, Linux {}, {}; load average before: {}",
            release.trim(),
            mount[2],
            load.split(' ').next().unwrap_or_default()
        );
        Ok(Report { table: "", raw_read: 0.0, durable: [(0, 0.0); 2] })
    }

    pub(super) fn disk(
        &mut self,
        tool: &str,
        sync_us: Histogram<u64>,
        raw_read: f64,
        raw_write: f64,
        durable: [(usize, f64); 2],
    ) {
        self.header("the disk alone", "| the disk alone | |\n|---|---|");
        let (p50, p99) = (sync_us.value_at_quantile(0.5), sync_us.value_at_quantile(0.99));
        println!("| fdatasync of an overwritten 4 KiB, p50 / p99 | {p50} / {p99} µs |");
        println!("| sequential read, O_DIRECT, 1 MiB ({tool}) | {:.0} MB/s |", raw_read / 1e6);
        println!("| sequential write, O_DIRECT, 1 MiB ({tool}) | {:.0} MB/s |", raw_write / 1e6);
        for (block, rate) in durable {
            println!(
                "| sequential write + fdatasync, {} ({tool}) | {:.1} MB/s, {:.0}/s |",
                size(block),
                rate / 1e6,
                rate / block as f64
            );
        }
        (self.raw_read, self.durable) = (raw_read, durable);
    }

    pub(super) fn adds(&mut self, load: &Load, outcome: &Outcome) {
        self.header(
            "adds",
            "| durable adds | connections × window | adds/s | MB/s | of write + fdatasync | p50 / p99 / p99.9 ms | bookie \
             CPU-s per 10^6 |\n|---|---|---|---|---|---|---|",
        );
        let cores = match load.cores {
            Cores::Shared => "",
            Cores::OneEach => ", one core",
        };
        let alone = self.durable.iter().find(|(block, _)| *block == load.payload_bytes);
        let ratio = alone.map_or(f64::NAN, |(_, rate)| outcome.megabytes_per_second * 1e6 / rate);
        let quantile = |q| outcome.latency_us.value_at_quantile(q) as f64 / 1e3;
        println!(
            "| {}{cores} | {} × {} | {:.0} | {:.1} | {ratio:.2} | {:.3} / {:.3} / {:.3} | {:.2} |",
            size(load.payload_bytes),
            load.connections,
            load.window,
            outcome.adds_per_second,
            outcome.megabytes_per_second,
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            outcome.cpu_seconds_per_million,
        );
    }

    pub(super) fn unloaded(&mut self, payload_bytes: usize, waiting: Waiting, outcome: &unloaded::Outcome) {
        self.header(
            "unloaded",
            "| one at a time, in turns | fdatasync p50 / p99 µs | add p50 / p99 µs | ratio | bookie CPU-µs |\n|---|---|---|---|---|",
        );
        let [sync, add] = [&outcome.syncs, &outcome.adds]
            .map(|took| [0.5, 0.99].map(|quantile| took.value_at_quantile(quantile)));
        println!(
            "| {}, a client that {} | {} / {} | {} / {} | {:.2} / {:.2} | {:.0} |",
            size(payload_bytes),
            match waiting {
                Waiting::Sleeps => "sleeps",
                Waiting::Spins => "spins",
            },
            sync[0],
            sync[1],
            add[0],
            add[1],
            add[0] as f64 / sync[0] as f64,
            add[1] as f64 / sync[1] as f64,
            outcome.cpu_us_per_add,
        );
    }

    pub(super) fn written(&mut self, payload_bytes: usize, written: &Written) {
        self.header("written", "| written: 1 ledger between 63 others, then a clean stop | entries, GB | device bytes per byte | the bookie's bytes per byte |\n|---|---|---|---|");
        println!(
            "| entries of {} | {:.2} | {:.2} | {:.2} |",
            size(payload_bytes),
            written.bytes as f64 / 1e9,
            written.amplification,
            written.amplification_of_process
        );
    }

    pub(super) fn reading(&mut self, payload_bytes: usize, batches: bool, reading: &Reading) {
        self.header("reading", "| cold read of that ledger | MB/s | of the raw read | read from disk per byte | bookie CPU-s per GB |\n|---|---|---|---|---|");
        println!(
            "| {}, {} | {:.0} | {:.2} | {:.2} | {:.2} |",
            size(payload_bytes),
            if batches { "BATCH_READ" } else { "READ, pipelined" },
            reading.bytes_per_second / 1e6,
            reading.bytes_per_second / self.raw_read,
            reading.from_disk,
            reading.cpu_seconds_per_gigabyte,
        );
    }

    pub(super) fn overload(&mut self, outcome: &overload::Outcome) {
        self.header(
            "memory",
            "| overload: 48 writers with 12 GiB unanswered, 16 clients that never read | |\n|---|---|",
        );
        let [first, second, third, fourth] = outcome.quarters;
        println!("| resident memory before | {:.0} MB |", outcome.idle);
        println!(
            "| highest in each quarter of the time | {first:.0} / {second:.0} / {third:.0} / {fourth:.0} MB |"
        );
        println!("| highest of all, 3 s afterwards | {:.0} MB, {:.0} MB |", outcome.peak, outcome.after);
        println!("| added meanwhile | {:.1} GB |", outcome.gigabytes_added);
    }

    pub(super) fn start(&mut self, start: &overload::Start) {
        println!(
            "| start after a kill, {:.1} GB of logs, {:.2} GB of journal | {:.0} ms |",
            start.logs_gigabytes,
            start.journal_gigabytes,
            start.ready.as_secs_f64() * 1e3
        );
    }

    /// Prints the head of a table unless it is the one being printed.
    fn header(&mut self, table: &'static str, head: &str) {
        if self.table != table {
            println!("\n{head}");
            self.table = table;
        }
    }
}

fn size(bytes: usize) -> String {
    format!("{} KiB", bytes >> 10)
}
