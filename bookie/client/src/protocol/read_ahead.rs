//! What is read before it is asked for: the entries behind a read that went on where another one had ended.
//!
//! A ledger has several readers, each at its own place; so several places are remembered, the oldest given up first. What is
//! loaded is the shell's: `T` stands for it, loaded or still coming.

use magnetar_proto::ids::EntryId;
use std::collections::VecDeque;

/// Places remembered of one ledger.
const PLACES_MAX: usize = 4;

#[derive(Debug)]
struct Place<T> {
    /// Where a reader ended, so where it is likely to go on.
    next: EntryId,
    /// What lies there.
    loaded: Option<T>,
}

/// See the module.
#[derive(Debug)]
pub struct ReadAhead<T> {
    /// The one used last is last.
    places: VecDeque<Place<T>>,
}

/// What a read finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// It goes on where another one ended, and this was loaded for it.
    Loaded(T),
    /// It goes on where another one ended: what follows it is worth loading.
    Sequential,
    /// Nobody has ended here.
    Random,
}

impl<T> Default for ReadAhead<T> {
    fn default() -> Self {
        Self { places: VecDeque::new() }
    }
}

impl<T> ReadAhead<T> {
    /// A read of what begins at `first` begins. What was loaded for it is taken out.
    pub fn on_read(&mut self, first: EntryId) -> Found<T> {
        let Some(at) = self.places.iter().position(|place| place.next == first) else {
            return Found::Random;
        };
        match self.places.remove(at).and_then(|place| place.loaded) {
            Some(loaded) => Found::Loaded(loaded),
            None => Found::Sequential,
        }
    }

    /// A read ended before `next`; `loaded` is what lies there, if that is being loaded.
    pub fn on_end(&mut self, next: EntryId, loaded: Option<T>) {
        // Two readers at one place: one entry of the list serves both, with what either has loaded.
        let there = self.places.iter().position(|place| place.next == next);
        let before = there.and_then(|at| self.places.remove(at)).and_then(|place| place.loaded);
        self.places.push_back(Place { next, loaded: loaded.or(before) });
        if self.places.len() > PLACES_MAX {
            self.places.pop_front();
        }
    }

    /// Gives up what was loaded for `next`, if `is` says so: nobody came for it.
    pub fn forget(&mut self, next: EntryId, is: impl Fn(&T) -> bool) {
        for place in self.places.iter_mut().filter(|place| place.next == next) {
            if place.loaded.as_ref().is_some_and(&is) {
                place.loaded = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_read_that_goes_on_where_another_ended_is_worth_loading_for() {
        let mut ahead = ReadAhead::default();
        assert_eq!(ahead.on_read(EntryId(0)), Found::Random);
        ahead.on_end(EntryId(10), None);
        assert_eq!(ahead.on_read(EntryId(50)), Found::Random);
        assert_eq!(ahead.on_read(EntryId(10)), Found::<&str>::Sequential);
        ahead.on_end(EntryId(20), Some("20 to 30"));
        assert_eq!(ahead.on_read(EntryId(20)), Found::Loaded("20 to 30"));
        assert_eq!(ahead.on_read(EntryId(20)), Found::Random, "it was taken");
    }

    #[test]
    fn the_place_unused_for_longest_is_given_up() {
        let mut ahead = ReadAhead::default();
        for place in 0..6 {
            ahead.on_end(EntryId(place), Some(place));
        }
        assert_eq!(ahead.on_read(EntryId(1)), Found::Random);
        assert_eq!(ahead.on_read(EntryId(2)), Found::Loaded(2));
    }

    #[test]
    fn what_nobody_came_for_is_forgotten_unless_it_is_another_by_now() {
        let mut ahead = ReadAhead::default();
        ahead.on_end(EntryId(5), Some("old"));
        ahead.forget(EntryId(5), |loaded| *loaded == "older");
        ahead.forget(EntryId(6), |_| true);
        assert_eq!(ahead.on_read(EntryId(5)), Found::Loaded("old"));
        ahead.on_end(EntryId(5), Some("new"));
        ahead.forget(EntryId(5), |loaded| *loaded == "new");
        assert_eq!(ahead.on_read(EntryId(5)), Found::Sequential);
    }
}
