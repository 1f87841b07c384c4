//! What each device makes of the same load. Run by hand, in a release build, with the disk to measure as `TMPDIR`:
//! `cargo test --release -p magnetar-bookie --lib journal::measure -- --ignored --nocapture`.

use std::sync::mpsc;
use std::time::Duration;

use magnetar_common::clock::{Clock, SystemClock};
use magnetar_common::storage::{ALIGNMENT, AlignedBuffer, RealStorage};

use super::record::Record;
use super::*;
use crate::testing::instance;

const SECONDS: u64 = 3;

/// Processor time of this process, in seconds.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn share(sorted: &[Duration], share: f64) -> u128 {
    sorted[((sorted.len() - 1) as f64 * share) as usize].as_micros()
}

/// One write and one sync at a time, on blocks written before: what a single record can hope for.
fn one_sync(dir: &Path, clock: &SystemClock) {
    let file = RealStorage.create(&dir.join("sync")).unwrap();
    let mut block = AlignedBuffer::with_capacity(ALIGNMENT);
    block.extend_from_slice(&[7; ALIGNMENT]);
    (0..1000).for_each(|n| file.write_all_at(&block, n * ALIGNMENT as u64).unwrap());
    file.sync_data().unwrap();
    let mut times: Vec<_> = (0..20_000)
        .map(|n| {
            file.write_all_at(&block, n % 1000 * ALIGNMENT as u64).unwrap();
            let before = clock.now();
            file.sync_data().unwrap();
            clock.now() - before
        })
        .collect();
    times.sort_unstable();
    println!("one fdatasync: p50 {} µs, p99 {} µs", share(&times, 0.5), share(&times, 0.99));
    std::fs::remove_file(dir.join("sync")).unwrap();
}

/// A submission of one of the submitters that wait for it.
struct Token {
    at: Duration,
}

struct Load {
    journal: Journal<Token>,
    done: mpsc::Receiver<Duration>,
    clock: Arc<SystemClock>,
}

impl Load {
    fn start(dir: &Path, device: JournalDevice) -> Load {
        let storage: Arc<dyn Storage> = Arc::new(RealStorage);
        let nothing = ReplayFrom { floor: None, sequence: 0 };
        let ignore = &mut |_, _| Ok::<(), ReplayError>(());
        let replayed = replay(&storage, dir, instance(), nothing, ignore).unwrap();
        let clock = Arc::new(SystemClock::default());
        let (send, done) = mpsc::channel();
        let timing = clock.clone();
        let hooks = Hooks {
            complete: Box::new(move |tokens: &mut Vec<Token>| {
                let now = timing.now();
                tokens.drain(..).for_each(|token| _ = send.send(now - token.at));
            }),
            failed: Box::new(|error| panic!("{error}")),
            metrics: crate::testing::metrics(),
        };
        let options =
            Options { segment_bytes: 64 << 20, device: DeviceOptions { device, unsafe_no_sync: false } };
        let journal = Journal::start(storage, dir, instance(), options, replayed, hooks).unwrap();
        Load { journal, done, clock }
    }

    /// `submitters` that each wait for their record before the next, all on one thread; returns times, sorted.
    fn run(&self, body: &bytes::Bytes, submitters: usize, seconds: u64) -> Vec<Duration> {
        let submit = || {
            let token = Some(Token { at: self.clock.now() });
            self.journal.submit(Submission { records: vec![Record::Entry(body.clone())], token });
        };
        let start = self.clock.now();
        let mut times = Vec::new();
        (0..submitters).for_each(|_| submit());
        while self.clock.now() - start < Duration::from_secs(seconds) {
            times.push(self.done.recv().unwrap());
            submit();
            while let Ok(time) = self.done.try_recv() {
                times.push(time);
                submit();
            }
            let floor = self.journal.floor(self.journal.durable());
            self.journal.free_below(floor).unwrap();
        }
        (0..submitters).for_each(|_| _ = self.done.recv().unwrap());
        times.sort_unstable();
        times
    }
}

#[test]
#[ignore = "a measurement, for an otherwise idle machine"]
fn devices_under_closed_loops_of_submitters() {
    let dir = tempfile::tempdir().unwrap();
    one_sync(dir.path(), &SystemClock::default());
    println!("device | record | submitters | records/s | MB/s | p50 µs | p99 µs | CPU s/million");
    for device in [JournalDevice::Buffered, JournalDevice::Direct, JournalDevice::Uring] {
        let dir = tempfile::tempdir().unwrap();
        let load = Load::start(dir.path(), device);
        // Until segments are recycled.
        load.run(&vec![5; 64 << 10].into(), 16, SECONDS);
        for bytes in [1 << 10, 64 << 10] {
            let body = bytes::Bytes::from(vec![5; bytes]);
            for submitters in [1, 4, 16, 64] {
                let before = processor_seconds();
                let times = load.run(&body, submitters, SECONDS);
                let processor = (processor_seconds() - before) / (times.len() as f64 / 1e6);
                let rate = times.len() as f64 / SECONDS as f64;
                println!(
                    "{device} | {bytes} | {submitters} | {rate:.0} | {:.0} | {} | {} | {processor:.1}",
                    rate * bytes as f64 / 1e6,
                    share(&times, 0.5),
                    share(&times, 0.99),
                );
            }
        }
        load.journal.stop();
    }
}
