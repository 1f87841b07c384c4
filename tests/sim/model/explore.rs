//! Visits every state that can be reached, each once, depth first.

use super::Model;
use super::state::State;
use super::steps::Step;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// What an exploration came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explored {
    /// States visited.
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

/// A state on the way to the one looked at, and how many of its steps have been taken.
struct Visited {
    state: State,
    steps: Vec<Step>,
    taken: usize,
}

/// Explores the model, as long as it has at most so many states. States are told apart by 128 bits of their digest.
pub fn explore(model: &Model, states_max: usize) -> Explored {
    let mut seen: HashSet<u128, BuildHasherDefault<AsIs>> = HashSet::default();
    let mut explored = Explored { states: 0, steps: 0, exhausted: true, violation: None };
    let mut path: Vec<Visited> = Vec::new();
    let mut found = Some(State::new(model));
    loop {
        if let Some(state) = found.take()
            && seen.insert(state.digest())
        {
            explored.states += 1;
            if let Some(violation) = state.violation(model) {
                let steps = path.iter().map(|from| from.state.tell(from.steps[from.taken - 1]));
                let violation = Some((violation, steps.collect()));
                return Explored { violation, exhausted: false, ..explored };
            }
            if explored.states >= states_max {
                return Explored { exhausted: false, ..explored };
            }
            path.push(Visited { steps: state.possible(model), state, taken: 0 });
        }
        let Some(last) = path.last_mut() else { return explored };
        let Some(step) = last.steps.get(last.taken) else {
            path.pop();
            continue;
        };
        let mut state = last.state.clone();
        state.take(model, *step);
        last.taken += 1;
        explored.steps += 1;
        found = Some(state);
    }
}
