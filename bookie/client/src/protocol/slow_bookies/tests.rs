//! In virtual time: windows of 250 ms.

use super::*;

const WINDOW: Duration = Duration::from_millis(250);
const MS: Duration = Duration::from_millis(1);

struct World {
    machine: SlowBookies<&'static str>,
    now: Duration,
    registered: Vec<&'static str>,
}

impl World {
    fn new(registered: &[&'static str]) -> Self {
        let machine = SlowBookies::new(SlowConfig::default());
        Self { machine, now: Duration::ZERO, registered: registered.to_vec() }
    }

    /// One window with these latencies in ms; gives what is to be done then.
    fn window(&mut self, latencies: &[(&'static str, u32)]) -> Vec<Verdict<&'static str>> {
        self.now += WINDOW;
        let samples: Vec<_> = latencies.iter().map(|(bookie, ms)| (*bookie, MS * *ms)).collect();
        self.machine.on_window(self.now, &samples, &self.registered);
        std::iter::from_fn(|| self.machine.poll(self.now)).collect()
    }

    /// Windows until something is to be done; gives that and how long it took.
    fn until_verdict(&mut self, latencies: &[(&'static str, u32)]) -> (Verdict<&'static str>, Duration) {
        let from = self.now;
        for _ in 0..1_000 {
            if let Some(verdict) = self.window(latencies).into_iter().next() {
                return (verdict, self.now - from);
            }
        }
        panic!("no verdict in 1,000 windows");
    }

    /// Probes of `bookie` that take so long, until it is taken back; gives how many there were, at most 100.
    fn probe_until_readmitted(&mut self, bookie: &'static str, took: Option<Duration>) -> usize {
        let mut probes = 0;
        while probes < 100 {
            for verdict in self.window(&[("a", 4), ("b", 5)]) {
                match verdict {
                    Verdict::Probe(probed) => {
                        assert_eq!(probed, bookie);
                        probes += 1;
                        self.machine.on_probe(self.now, &bookie, took);
                    }
                    Verdict::Readmitted(readmitted) => {
                        assert_eq!(readmitted, bookie);
                        return probes;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        probes
    }
}

#[test]
fn a_bookie_far_slower_than_its_peers_is_set_aside_within_about_a_second() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    let (verdict, took) = world.until_verdict(&[("a", 4), ("b", 6), ("c", 500)]);
    let (latency, peers) = (MS * 500, MS * 4);
    assert_eq!(verdict, Verdict::Quarantined { bookie: "c", latency, peers });
    assert!(took <= MS * 1_250, "{took:?}");
    assert!(world.machine.is_quarantined(&"c") && !world.machine.is_quarantined(&"a"));
}

#[test]
fn nobody_is_slow_when_all_are_or_when_it_is_a_matter_of_milliseconds() {
    let mut world = World::new(&["a", "b", "c"]);
    for _ in 0..100 {
        assert_eq!(world.window(&[("a", 500), ("b", 450), ("c", 900)]), []);
        assert_eq!(world.window(&[("a", 1), ("b", 1), ("c", 90)]), []);
        // One peer proves nothing: it may be the odd one.
        assert_eq!(world.window(&[("a", 1), ("c", 900)]), []);
    }
}

#[test]
fn a_hiccup_is_no_verdict() {
    let mut world = World::new(&["a", "b", "c"]);
    for _ in 0..50 {
        for _ in 0..3 {
            assert_eq!(world.window(&[("a", 4), ("b", 6), ("c", 500)]), []);
        }
        assert_eq!(world.window(&[("a", 4), ("b", 6), ("c", 5)]), []);
    }
}

#[test]
fn it_comes_back_after_three_quick_probes_in_a_row_and_not_before() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    world.until_verdict(&[("a", 4), ("b", 6), ("c", 500)]);
    assert_eq!(world.probe_until_readmitted("c", None), 100);
    assert_eq!(world.probe_until_readmitted("c", Some(MS * 400)), 100);
    let healed_at = world.now;
    assert_eq!(world.probe_until_readmitted("c", Some(MS * 5)), 3);
    assert!(world.now - healed_at <= Duration::from_secs(5), "{:?}", world.now - healed_at);
    assert!(!world.machine.any_quarantined());
}

#[test]
fn one_that_relapses_must_prove_itself_for_longer() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    for probes in [3, 6, 12] {
        world.now += Duration::from_secs(5);
        world.until_verdict(&[("a", 4), ("b", 6), ("c", 500)]);
        assert_eq!(world.probe_until_readmitted("c", Some(MS * 5)), probes);
    }
}

#[test]
fn at_most_a_third_is_set_aside_and_one_at_a_time() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut world = World::new(&names);
    let load: Vec<_> = names.iter().map(|name| (*name, if *name < "e" { 5 } else { 500 })).collect();
    world.until_verdict(&load);
    let (verdict, took) = world.until_verdict(&load);
    assert!(matches!(verdict, Verdict::Probe(_)), "{verdict:?}");
    assert!(took < SlowConfig::default().verdict_pause);
    let mut quarantined = 1;
    for _ in 0..400 {
        let verdicts = world.window(&load);
        quarantined +=
            verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Quarantined { .. })).count();
    }
    assert_eq!(quarantined, 2, "two of seven");
}

#[test]
fn one_that_is_no_longer_registered_is_forgotten() {
    let mut world = World::new(&["a", "b", "c"]);
    world.until_verdict(&[("a", 4), ("b", 6), ("c", 500)]);
    world.registered.retain(|name| *name != "c");
    assert_eq!(world.window(&[("a", 4), ("b", 6)]), []);
    assert!(!world.machine.any_quarantined());
}

#[test]
fn ledgers_replace_a_slow_bookie_at_a_pace() {
    let mut world = World::new(&["a", "b", "c"]);
    let leaves = (0..1_000).filter(|ms| world.machine.may_replace(MS * *ms)).count();
    assert_eq!(leaves, 50);
}
