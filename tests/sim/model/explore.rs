//! Visits every state that can be reached, each once, depth first, on some threads.

use super::Model;
use super::state::State;
use super::steps::Step;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Digests are kept in so many sets, each with a lock: two threads rarely want the same one.
const SHARDS: usize = 256;

/// A thread with more steps than this before it gives some away when another one has none.
const STEPS_TO_SHARE: usize = 16;

/// What an exploration came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explored {
    /// States visited. Those that differ only in the names of bookies or recoveries count once.
    pub states: usize,
    /// Steps taken between them.
    pub steps: u64,
    /// Whether there are no others; with a violation the search ends early.
    pub exhausted: bool,
    /// What must hold and does not, with the steps that lead there.
    pub violation: Option<(String, Vec<String>)>,
}

/// Digests are random already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_ne_bytes(word);
        }
    }
}

type Digests = HashSet<u128, BuildHasherDefault<AsIs>>;

/// A state that was reached, and how.
struct Visited {
    state: State,
    /// None: the first state.
    by: Option<(Arc<Visited>, Step)>,
}

impl Visited {
    /// The steps from the first state to this one.
    fn told(&self) -> Vec<String> {
        let (mut steps, mut at) = (Vec::new(), self);
        while let Some((from, step)) = &at.by {
            steps.push(from.state.tell(*step));
            at = from;
        }
        steps.reverse();
        steps
    }
}

/// A step that is yet to be taken.
type Open = (Arc<Visited>, Step);

/// What the threads have in common.
struct Search<'a> {
    model: &'a Model,
    states_max: usize,
    seen: Vec<Mutex<Digests>>,
    states: AtomicUsize,
    steps: AtomicU64,
    /// Ended early.
    stopped: AtomicBool,
    violation: Mutex<Option<(String, Vec<String>)>>,
    given: Mutex<Given>,
    changed: Condvar,
    /// Threads that wait for steps.
    idle: AtomicUsize,
    threads: usize,
}

/// Steps that a thread left to others.
#[derive(Default)]
struct Given {
    open: Vec<Open>,
    done: bool,
}

/// Explores the model on so many threads, as long as it has at most so many states. States are told apart by 128 bits of
/// their digest.
pub fn explore(model: &Model, states_max: usize, threads: usize) -> Explored {
    let threads = threads.max(1);
    let search = Search {
        model,
        states_max,
        seen: (0..SHARDS).map(|_| Mutex::default()).collect(),
        states: AtomicUsize::new(0),
        steps: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        violation: Mutex::default(),
        given: Mutex::default(),
        changed: Condvar::new(),
        idle: AtomicUsize::new(0),
        threads,
    };
    let mut open = Vec::new();
    search.visit(State::new(model), None, &mut open);
    lock(&search.given).open = open;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| search.work());
        }
    });
    Explored {
        states: search.states.into_inner(),
        steps: search.steps.into_inner(),
        exhausted: !search.stopped.into_inner(),
        violation: search.violation.into_inner().unwrap_or_else(PoisonError::into_inner),
    }
}

impl Search<'_> {
    /// Takes steps until nobody has any.
    fn work(&self) {
        let mut steps = 0;
        while let Some(mut open) = self.receive() {
            while let Some((from, step)) = open.pop() {
                if self.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let mut state = from.state.clone();
                state.take(self.model, step);
                steps += 1;
                self.visit(state, Some((from, step)), &mut open);
                if open.len() > STEPS_TO_SHARE && self.idle.load(Ordering::Relaxed) > 0 {
                    self.share(&mut open);
                }
            }
        }
        self.steps.fetch_add(steps, Ordering::Relaxed);
    }

    /// Notes a state that was not seen before, with the steps that are possible in it.
    fn visit(&self, state: State, by: Option<Open>, open: &mut Vec<Open>) {
        let digest = state.digest(self.model);
        // Other bits than those by which the set finds its place.
        let shard = (digest >> 96) as usize % SHARDS;
        if !lock(&self.seen[shard]).insert(digest) {
            return;
        }
        let violation = state.violation(self.model);
        let visited = Arc::new(Visited { state, by });
        if let Some(violation) = violation {
            lock(&self.violation).get_or_insert_with(|| (violation, visited.told()));
            self.stopped.store(true, Ordering::Relaxed);
        }
        if self.states.fetch_add(1, Ordering::Relaxed) + 1 >= self.states_max {
            self.stopped.store(true, Ordering::Relaxed);
        }
        open.extend(visited.state.possible(self.model).into_iter().map(|step| (visited.clone(), step)));
    }

    /// Leaves the older half, from which most is to be reached, to others.
    fn share(&self, open: &mut Vec<Open>) {
        let mut given = lock(&self.given);
        if given.open.is_empty() {
            given.open.extend(open.drain(..open.len() / 2));
            self.changed.notify_one();
        }
    }

    /// Steps that somebody left. `None`: all threads have come to the end.
    fn receive(&self) -> Option<Vec<Open>> {
        let mut given = lock(&self.given);
        self.idle.fetch_add(1, Ordering::Relaxed);
        loop {
            if !given.open.is_empty() {
                self.idle.fetch_sub(1, Ordering::Relaxed);
                return Some(std::mem::take(&mut given.open));
            }
            if given.done || self.idle.load(Ordering::Relaxed) == self.threads {
                given.done = true;
                self.changed.notify_all();
                return None;
            }
            given = self.changed.wait(given).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
