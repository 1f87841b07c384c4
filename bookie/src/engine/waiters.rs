//! Who waits for news of a ledger: that its LAC moves, that it is fenced, or that it is gone.
//!
//! The registry lies behind the engine's lock. As long as nobody waits, adds pay one comparison for it.

use std::collections::{BTreeMap, HashMap};

use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::sync::oneshot;

use super::{Engine, Turn};

/// See the module. No ledger has an empty list.
#[derive(Default)]
pub(super) struct Waiters {
    ledgers: HashMap<LedgerId, BTreeMap<u64, Waiter>>,
    next: u64,
}

struct Waiter {
    /// The LAC that is no news.
    after: Option<EntryId>,
    news: oneshot::Sender<News>,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The LAC is beyond the one that was known.
    LacMoved,
    /// The explicit LAC was written, or the ledger is fenced or gone.
    Changed,
}

/// A place in the registry: whoever has it must give it up with [`Engine::stop_waiting`], or see `news` resolve.
pub(crate) struct LacWait {
    pub(crate) ledger: LedgerId,
    number: u64,
    pub(crate) news: oneshot::Receiver<News>,
}

impl Waiters {
    fn add(&mut self, ledger: LedgerId, after: Option<EntryId>) -> LacWait {
        let (sender, news) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.ledgers.entry(ledger).or_default().insert(number, Waiter { after, news: sender });
        LacWait { ledger, number, news }
    }

    fn remove(&mut self, ledger: LedgerId, number: u64) {
        if let Some(waiting) = self.ledgers.get_mut(&ledger) {
            waiting.remove(&number);
            if waiting.is_empty() {
                self.ledgers.remove(&ledger);
            }
        }
    }

    /// The ledger's LAC is this one now.
    pub(super) fn advanced(&mut self, ledger: LedgerId, lac: Option<EntryId>) {
        if self.ledgers.is_empty() {
            return;
        }
        let Some(waiting) = self.ledgers.get_mut(&ledger) else { return };
        for (_, waiter) in waiting.extract_if(.., |_, waiter| waiter.after < lac) {
            // Who has given up meanwhile needs no news.
            let _ = waiter.news.send(News::LacMoved);
        }
        if waiting.is_empty() {
            self.ledgers.remove(&ledger);
        }
    }

    /// Something happened to the ledger that everybody should know.
    pub(super) fn changed(&mut self, ledger: LedgerId) {
        for (_, waiter) in self.ledgers.remove(&ledger).into_iter().flatten() {
            let _ = waiter.news.send(News::Changed);
        }
    }
}

impl<T: Send + 'static> Turn<'_, T> {
    /// A place to wait until the ledger's LAC is beyond `after`, its explicit LAC is written, it is fenced or deleted.
    /// `None` when there is nothing to wait for: the LAC is beyond, or the ledger is fenced or not known.
    pub(crate) fn wait_for_lac(&mut self, ledger: LedgerId, after: Option<EntryId>) -> Option<LacWait> {
        let known = self.state.ledgers.get(ledger)?;
        let waits =
            known.last_add_confirmed() <= after && known.fenced().is_none() && known.deleted_ms().is_none();
        waits.then(|| self.state.waiters.add(ledger, after))
    }
}

impl<T: Send + 'static> Engine<T> {
    /// Gives up a place. Must not be called during a turn of the same thread.
    pub(crate) fn stop_waiting(&self, wait: &LacWait) {
        self.lock().waiters.remove(wait.ledger, wait.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_are_woken_for_whom_it_is_news() {
        let mut waiters = Waiters::default();
        let (ledger, other) = (LedgerId(1), LedgerId(2));
        let mut none = waiters.add(ledger, None);
        let mut seven = waiters.add(ledger, Some(EntryId(7)));
        let mut elsewhere = waiters.add(other, None);
        waiters.advanced(ledger, Some(EntryId(7)));
        assert_eq!(none.news.try_recv(), Ok(News::LacMoved));
        assert!(seven.news.try_recv().is_err() && elsewhere.news.try_recv().is_err());
        waiters.changed(ledger);
        assert_eq!(seven.news.try_recv(), Ok(News::Changed));
        waiters.remove(other, elsewhere.number);
        assert!(waiters.ledgers.is_empty());
        waiters.remove(other, elsewhere.number);
    }
}
