//! Whether a bookie may be asked for many entries with one request. Apache's bookies know that request since 4.17; older
//! ones close the connection on it.

use std::time::Duration;

/// A bookie that refused is tried again after this: it may have been replaced by a newer one meanwhile. What a mistaken
/// verdict costs for so long is only speed.
const REFUSAL: Duration = Duration::from_secs(60);

/// What is known of one bookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchSupport {
    /// Never asked.
    #[default]
    Unknown,
    /// It has answered such a request.
    Known,
    /// It has refused, or gone silent on the first such request. Not to be asked before then.
    RefusedUntil(Duration),
}

impl BatchSupport {
    /// Whether to ask it.
    pub fn may_ask(self, now: Duration) -> bool {
        match self {
            Self::Unknown | Self::Known => true,
            Self::RefusedUntil(until) => now >= until,
        }
    }

    /// It answered in kind, whatever the answer's code but for a refusal.
    pub fn on_answer(&mut self) {
        *self = Self::Known;
    }

    /// It said that it does not know the request.
    pub fn on_refusal(&mut self, now: Duration) {
        *self = Self::RefusedUntil(now + REFUSAL);
    }

    /// No answer came. Of a bookie that has answered before this says nothing: it may have died.
    pub fn on_silence(&mut self, now: Duration) {
        if *self != Self::Known {
            self.on_refusal(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn a_bookie_that_goes_silent_on_its_first_batch_is_asked_one_by_one_for_a_while() {
        let mut bookie = BatchSupport::default();
        assert!(bookie.may_ask(NOW));
        bookie.on_silence(NOW);
        assert!(!bookie.may_ask(NOW) && !bookie.may_ask(NOW + REFUSAL / 2));
        assert!(bookie.may_ask(NOW + REFUSAL));
    }

    #[test]
    fn one_that_has_answered_is_not_doubted_when_it_dies() {
        let mut bookie = BatchSupport::default();
        bookie.on_answer();
        bookie.on_silence(NOW);
        assert!(bookie.may_ask(NOW));
        bookie.on_refusal(NOW);
        assert!(!bookie.may_ask(NOW), "but believed when it says so itself");
    }
}
