//! The core of the protocol, every schedule of it: a writer, recoveries and bookies small enough that all states can be
//! visited. The machines and the rules for the record are those that production runs; a state is their values, and what is
//! under way.
//!
//! **Why an explorer of our own** and not stateright: its actors would be a second version of the protocol, and what is
//! left of it then, a depth-first search with a set of digests, is the hundred lines of `explore`.
//!
//! What the model leaves out: bookies keep everything and answer at once, so an answer is delivered with its request; a
//! request whose asker has given up may still arrive at any later time, or never. How often askers give up is bounded.
//! Changing the record is one step: compare-and-set and reading again after an unknown outcome come to that.
//!
//! States that differ in names only are visited once. Recoveries are all alike. Bookies are where the ensemble is all of
//! them and every entry goes to each: then slot and bookie are one, nobody is ever replaced, and the machines look at slots
//! only as members of sets, whose sizes they compare. So renaming turns every schedule of a state into one of the renamed
//! state, and what must hold speaks of no name.

mod digest;
mod explore;
#[cfg(test)]
mod renaming;
mod state;
mod steps;

pub use explore::{Explored, explore};

use super::defect::Defect;

/// Names there are; a model may use fewer.
const BOOKIES_MAX: usize = 6;
const ENTRIES_MAX: usize = 6;
/// The writer and the recoveries.
const ASKERS_MAX: usize = 4;

/// The bounds within which every state is visited.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Ensemble size, write quorum and ack quorum.
    pub sizes: (u32, u32, u32),
    /// Bookies, at least as many as the ensemble has.
    pub bookies: usize,
    /// Entries that the writer appends.
    pub entries: u64,
    /// Entries that are not confirmed at once.
    pub pipeline: u64,
    /// Recoveries that run at the same time.
    pub recoveries: usize,
    /// Attempts that each of them has.
    pub attempts: u8,
    /// Requests that their askers give up, all together.
    pub losses: u8,
    /// A planted defect; those of bookies' disks mean nothing here.
    pub defect: Option<Defect>,
}

impl Model {
    /// Whether nothing but its name tells one bookie from another. See the module.
    fn bookies_are_interchangeable(&self) -> bool {
        let (ensemble, write, _) = self.sizes;
        ensemble == write && ensemble as usize == self.bookies
    }
}
