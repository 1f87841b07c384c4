//! What the exploration rests on: renamed states are states of the same schedule, and have the same digest.

use super::state::{Message, State};
use super::steps::Step;
use super::{Model, explore};
use magnetar_common::random::{Random, SeededRandom};

const MODEL: Model = Model {
    sizes: (3, 3, 2),
    bookies: 3,
    entries: 3,
    pipeline: 2,
    recoveries: 2,
    attempts: 2,
    losses: 2,
    defect: None,
};

/// By old name, the new one.
struct Names {
    bookies: [u8; 3],
    recoveries: [usize; 2],
}

impl Names {
    fn message(&self, message: &Message) -> Message {
        let renamed = |asker: u8| match asker {
            0 => 0,
            recovery => self.recoveries[usize::from(recovery) - 1] as u8 + 1,
        };
        let slot = match message.asker {
            Some(_) => self.bookies[usize::from(message.slot)],
            None => message.slot,
        };
        let bookie = self.bookies[usize::from(message.bookie)];
        Message { bookie, slot, asker: message.asker.map(renamed), ..*message }
    }

    /// The step of `to` that is this one of `from`.
    fn step(&self, from: &State, to: &State, step: Step) -> Step {
        let index = |index: usize| {
            let renamed = self.message(&from.messages[index]);
            to.messages.iter().position(|message| *message == renamed).expect("the same is under way")
        };
        match step {
            Step::Append | Step::Record => step,
            Step::Begin(recovery) => Step::Begin(self.recoveries[recovery]),
            Step::Close(recovery) => Step::Close(self.recoveries[recovery]),
            Step::Deliver(number) => Step::Deliver(index(number)),
            Step::GiveUp(number) => Step::GiveUp(index(number)),
        }
    }
}

#[test]
fn the_same_schedule_under_other_names_leads_to_states_of_the_same_digests() {
    let mut steps_taken = 0;
    for seed in 0..300 {
        let random: &dyn Random = &SeededRandom::new(seed);
        let mut names = Names { bookies: [0, 1, 2], recoveries: [0, 1] };
        random.shuffle(&mut names.bookies);
        random.shuffle(&mut names.recoveries);
        let (mut state, mut renamed) = (State::new(&MODEL), State::new(&MODEL));
        loop {
            assert_eq!(state.digest(&MODEL), renamed.digest(&MODEL), "seed {seed}");
            assert_eq!(state.violation(&MODEL), renamed.violation(&MODEL), "seed {seed}");
            let possible = state.possible(&MODEL);
            assert_eq!(possible.len(), renamed.possible(&MODEL).len(), "seed {seed}");
            if possible.is_empty() {
                break;
            }
            let step = possible[random.below(possible.len() as u64) as usize];
            let same = names.step(&state, &renamed, step);
            state.take(&MODEL, step);
            renamed.take(&MODEL, same);
            steps_taken += 1;
        }
    }
    assert!(steps_taken > 300 * 20, "{steps_taken} steps");
}

#[test]
fn what_is_found_does_not_depend_on_the_number_of_threads() {
    let model = Model { entries: 2, pipeline: 1, recoveries: 1, attempts: 1, losses: 1, ..MODEL };
    let alone = explore(&model, usize::MAX, 1);
    assert!(alone.exhausted && alone.states > 1_000, "{alone:?}");
    assert_eq!(explore(&model, usize::MAX, 3), alone);
}
