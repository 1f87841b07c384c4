//! What happens to a managed ledger besides appends and reads: trim, properties, termination, deletion.

use super::error::MlError;
use super::ledger_list::LedgerState;
use super::mark::MarkDelete;
use super::shell::ManagedLedger;
use super::tail::{Tail, entries_of};
use super::{config::Retention, trim};
use futures_util::future::FutureExt;
use magnetar_ledger::LedgerError;
use magnetar_ledger::placement::Isolation;
use magnetar_proto::ids::{LedgerId, Position};
use std::time::Duration;

/// A picture of a managed ledger, for statistics.
#[derive(Clone, Debug)]
pub struct MlStats {
    /// Its name.
    pub name: String,
    /// Upstream's name of the state, e.g. `LedgerOpened`.
    pub state: &'static str,
    /// Entries confirmed and not trimmed.
    pub entries: u64,
    /// Bytes not trimmed.
    pub size_bytes: u64,
    /// Entries that wait for a rollover, and their bytes.
    pub queued: (usize, usize),
    /// The newest durable entry.
    pub last_confirmed: Option<Position>,
    /// Where the topic ends, if it is terminated.
    pub terminated: Option<MarkDelete>,
    /// Each ledger: its id, entries (0 while open), bytes and time of closing in ms.
    pub ledgers: Vec<(LedgerId, u64, u64, u64)>,
}

impl ManagedLedger {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of all entries that are kept, those not yet confirmed included.
    pub fn size_bytes(&self) -> u64 {
        self.ledgers().iter().map(|(_, info)| info.closed_size()).sum::<u64>() + self.tail.open_bytes()
    }

    /// Changes how long consumed entries are kept, from the next trim on.
    pub fn set_retention(&mut self, retention: Retention) {
        self.config.retention = retention;
    }

    /// Ledgers that are made from now on lie on these bookies.
    pub fn set_isolation(&mut self, isolation: Isolation) {
        self.config.isolation = isolation;
    }

    /// How long consumed entries are kept.
    pub fn retention(&self) -> Retention {
        self.config.retention
    }

    /// Lets go of the ledgers that nobody needs, and rolls the current one over if it is old. `slowest` is the lowest
    /// **durable** mark-delete of all durable cursors, `None` when there are none. Gives how many ledgers leave; they are
    /// deleted by [`Self::next`] once the list without them is durable, so a crash may leave an orphan but never a
    /// listed ledger without data.
    pub fn trim(&mut self, slowest: Option<MarkDelete>) -> usize {
        self.roll_over_if_due();
        let now_ms = self.env.clock.unix_ms();
        let gone = trim::trimmable(self.ledgers(), slowest, self.config.retention, now_ms);
        self.let_go(gone)
    }

    /// Lets go of the ledgers up to the one that `last` is in, whatever retention says, as soon as every durable cursor
    /// has passed them. The ledger in use is left for a new one, but for the last one of a terminated topic.
    pub fn trim_up_to(&mut self, slowest: Option<MarkDelete>, last: Position) -> usize {
        let in_use = self.ledgers().iter().next_back().is_some_and(|(id, _)| id <= last.ledger_id);
        if in_use && self.terminated().is_none() {
            match self.tail {
                Tail::Idle => self.start_writing(),
                _ => self.roll_over(),
            }
        }
        let mut gone = trim::trimmable(self.ledgers(), slowest, Retention::NONE, self.env.clock.unix_ms());
        gone.retain(|id| *id <= last.ledger_id);
        self.let_go(gone)
    }

    /// When [`Self::trim`] may have something to do for no other reason than time: the ledger in use is old, or retention
    /// of the first one ends.
    pub fn tidy_deadline(&self, slowest: Option<MarkDelete>) -> Option<Duration> {
        let (now, now_ms) = (self.env.clock.now(), self.env.clock.unix_ms());
        let old = match &self.tail {
            Tail::Writing { writer, opened_at } if entries_of(writer) > 0 => {
                Some(*opened_at + self.config.max_ledger_age)
            }
            _ => None,
        };
        let release = trim::next_release(self.ledgers(), slowest, self.config.retention);
        let release = release.map(|at_ms| now + Duration::from_millis(at_ms.saturating_sub(now_ms)));
        old.into_iter().chain(release).min()
    }

    fn let_go(&mut self, gone: Vec<LedgerId>) -> usize {
        if self.leaving.is_some() || self.deleting.is_some() || self.failed.is_some() {
            self.trim_missed |= !gone.is_empty();
            return 0;
        }
        let count = gone.len();
        if count > 0 {
            let generation = self.info.change(|record| gone.iter().for_each(|id| record.list.remove(*id)));
            self.leaving = Some((gone, generation));
            self.update_view();
        }
        count
    }

    /// A property of the topic.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.info.record().properties.get(key).map(String::as_str)
    }

    /// Sets a property; durable when this returns. If it is dropped early, the change is still made.
    pub async fn set_property(&mut self, key: &str, value: &str) -> Result<(), MlError> {
        let change = (key.to_owned(), value.to_owned());
        let generation = self.info.change(|record| record.properties.extend([change]));
        self.wait_durable(generation).await
    }

    /// Every property of the topic.
    pub fn properties(&self) -> &std::collections::BTreeMap<String, String> {
        &self.info.record().properties
    }

    /// Changes properties (`None` removes one); durable when this returns. If it is dropped early, the change is still
    /// made.
    pub async fn change_properties(&mut self, changes: Vec<(String, Option<String>)>) -> Result<(), MlError> {
        let generation = self.info.change(|record| {
            for (key, value) in changes {
                match value {
                    Some(value) => record.properties.insert(key, value),
                    None => record.properties.remove(&key),
                };
            }
        });
        self.wait_durable(generation).await
    }

    /// Where the topic ends, if it is terminated.
    pub fn terminated(&self) -> Option<MarkDelete> {
        self.info.record().terminated
    }

    /// Ends the topic for good after what has been appended, and gives its end; durable when this returns. Idempotent.
    /// Events that happen meanwhile are reported by [`Self::next`] afterwards. If it is dropped early, appends stay
    /// refused until it is called again.
    pub async fn terminate(&mut self) -> Result<MarkDelete, MlError> {
        if let Some(end) = self.terminated() {
            return Ok(end);
        }
        self.stop().await?;
        let end = self.latest();
        let generation = self.info.change(|record| record.terminated = Some(end));
        self.wait_durable(generation).await?;
        Ok(end)
    }

    /// Asks the store whether the topic is still this owner's.
    ///
    /// # Errors
    /// [`MlError::Fenced`] when somebody else has taken it over: stop, and change nothing more.
    pub async fn check_owner(&mut self) -> Result<(), MlError> {
        self.settle().await?;
        self.info.check_owner().await
    }

    /// Deletes the topic's record and then its ledgers, confirmed or not. The cursors must be gone.
    ///
    /// # Errors
    /// [`MlError::Fenced`] when somebody else has taken the topic over: nothing is deleted then.
    pub async fn delete(mut self) -> Result<(), MlError> {
        self.stopping = true;
        while self.creating.is_some() {
            let step = self.step().await;
            self.on_step(step);
        }
        self.settle().await?;
        while let Some(deleting) = self.deleting.take() {
            deleting.await;
        }
        let ledgers: Vec<LedgerId> = self.ledgers().iter().map(|(id, _)| id).collect();
        self.tail = Tail::Idle;
        self.info.delete().await?;
        delete_ledgers(self.env.ledgers.clone(), self.name.clone(), ledgers).await;
        Ok(())
    }

    /// A picture for statistics.
    pub fn stats(&self) -> MlStats {
        let ledgers = self.ledgers().iter().map(|(id, info)| match info.state {
            LedgerState::Closed { entries, size, closed_at_ms } => (id, entries, size, closed_at_ms),
            LedgerState::Open | LedgerState::Sealed { .. } => (id, 0, 0, 0),
        });
        MlStats {
            name: self.name.clone(),
            state: if self.terminated().is_some() { "Terminated" } else { self.tail.state_name() },
            entries: self.ledgers().count_after(self.ledgers().earliest()),
            size_bytes: self.size_bytes(),
            queued: self.tail.queued(),
            last_confirmed: self.last_confirmed(),
            terminated: self.terminated(),
            ledgers: ledgers.collect(),
        }
    }

    async fn wait_durable(&mut self, generation: u64) -> Result<(), MlError> {
        while !self.info.is_durable(generation) {
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            let step = self.step().await;
            self.on_step(step);
        }
        Ok(())
    }

    pub(super) fn start_deleting(&mut self, ledgers: Vec<LedgerId>) {
        let deleting = delete_ledgers(self.env.ledgers.clone(), self.name.clone(), ledgers);
        self.deleting = Some(match self.deleting.take() {
            Some(earlier) => async move {
                earlier.await;
                deleting.await;
            }
            .boxed(),
            None => deleting.boxed(),
        });
    }
}

/// They are out of the list already: one that cannot be deleted now is an orphan, which costs space but harms nobody.
async fn delete_ledgers(client: magnetar_ledger::Client, managed_ledger: String, ledgers: Vec<LedgerId>) {
    for id in ledgers {
        match client.delete(id).await {
            Ok(()) | Err(LedgerError::NoSuchLedger(_)) => {}
            Err(error) => {
                tracing::warn!(managed_ledger, ledger = %id, %error, "delete a ledger: it stays as an orphan")
            }
        }
    }
}
