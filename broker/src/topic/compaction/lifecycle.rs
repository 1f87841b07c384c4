//! Compaction in the topic's task: when it begins, what its steps make durable, and its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use magnetar_ledger::{Client, LedgerOptions};
use magnetar_proto::ids::{EntryId, LedgerId, Position};

use super::compacted::Compacted;
use super::job::{self, Event, Finished, Job, KEYS_BYTES_MAX, What};
use super::options::options;
use super::state::{CURSOR, Compaction, CompactionState, CompactionStatus, Running, Stage};
use crate::cursor::{Cursor, CursorError, CursorStore};
use crate::managed_ledger::MarkDelete;
use crate::topic::actor::Topic;
use crate::topic::durability::Durability;
use crate::topic::error::TopicError;
use crate::topic::request::Name;
use crate::topic::stats::CompactionStats;

impl Compaction {
    /// What must not be trimmed.
    pub(crate) fn durable_mark_delete(&self) -> MarkDelete {
        self.durability.durable_mark_delete()
    }

    /// Up to there everything was compacted.
    pub(crate) fn mark_delete(&self) -> MarkDelete {
        self.cursor.mark_delete()
    }

    /// What the cursor names.
    pub(crate) fn properties(&self) -> BTreeMap<String, i64> {
        self.cursor.properties().iter().cloned().collect()
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.durability.deadline()
    }

    pub(crate) fn durability_mut(&mut self) -> &mut Durability {
        &mut self.durability
    }

    pub(crate) fn compacted(&self) -> Option<&Compacted> {
        self.compacted.as_ref()
    }

    pub(crate) fn counts(&self) -> &CompactionStats {
        &self.counts
    }

    /// Gives up what is under way.
    fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        running.stop.store(true, Ordering::Relaxed);
        if let Stage::Publishing { next, .. } = running.stage {
            self.leftovers.push(next.ledger());
        }
    }

    /// Makes the cursor durable for the last time, and so publishes what was ready to be.
    pub(crate) async fn close(mut self) -> Result<(), TopicError> {
        self.stop();
        self.durability.close(&self.cursor).await
    }

    /// Deletes what was compacted, and the cursor. After an error some of it may be there still, and this be tried again.
    pub(crate) async fn delete(&mut self, client: &Client, of: &LedgerOptions) -> Result<(), TopicError> {
        self.stop();
        for ledger in self.leftovers.iter().copied().chain(self.compacted.as_ref().map(Compacted::ledger)) {
            let deleted = job::delete(client, ledger, of).await;
            deleted.map_err(|error| TopicError::Persistence(error.to_string()))?;
        }
        self.durability.delete().await
    }
}

impl Topic {
    /// Takes over the cursor that an earlier owner left, with what it names.
    pub(crate) fn recover_compaction(&mut self, store: CursorStore, cursor: Cursor) {
        let (ledger, leftovers) = Compaction::named(&cursor);
        let mark = cursor.mark_delete();
        let mut compaction = Compaction::new(cursor, Durability::new(store, mark));
        compaction.compacted = ledger.zip(mark.position()).map(|(id, at)| self.compacted_at(id, at));
        leftovers.iter().for_each(|ledger| self.delete_beside(*ledger));
        compaction.leftovers = leftovers;
        self.compaction = Some(Box::new(compaction));
    }

    fn compacted_at(&self, ledger: LedgerId, horizon: Position) -> Compacted {
        let client = self.env.managed_ledgers.ledgers.clone();
        Compacted::new(client, self.env.config.password.clone(), ledger, horizon)
    }

    /// What the records of this topic's compacted ledgers say, but for how far they go.
    pub(crate) fn compacted_options(&self) -> LedgerOptions {
        let anywhere = Position { ledger_id: LedgerId(0), entry_id: EntryId::ZERO };
        options(&self.env.config, &self.name, anywhere, self.partition)
    }

    /// Deletes a ledger without waiting. If that fails, it is still named as a leftover.
    fn delete_beside(&self, ledger: LedgerId) {
        let (client, topic) = (self.env.managed_ledgers.ledgers.clone(), self.name.clone());
        let of = self.compacted_options();
        tokio::spawn(async move {
            if let Err(error) = job::delete(&client, ledger, &of).await {
                tracing::warn!(%topic, %ledger, %error, "delete a compacted ledger; it is tried again later");
            }
        });
    }

    /// Has a cursor from here on, so that nothing is trimmed before it was compacted.
    async fn ensure_compaction(&mut self) -> Result<(), TopicError> {
        if self.compaction.is_none() {
            let failed = |error: CursorError| TopicError::Metadata(error.to_string());
            let cursor = Cursor::new(self.ml.ledgers().earliest());
            let (env, config, name) = (&self.env.managed_ledgers, &self.env.config, self.ml.name());
            let snapshot = cursor.snapshot();
            match CursorStore::create(env, config, name, CURSOR, snapshot, Default::default()).await {
                Ok(store) => {
                    let durability = Durability::new(store, cursor.mark_delete());
                    self.compaction = Some(Box::new(Compaction::new(cursor, durability)));
                }
                Err(CursorError::Exists(_)) => {
                    let (store, cursor, _) = self.take_up_cursor(CURSOR).await?;
                    self.recover_compaction(store, cursor);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Begins a compaction of everything that is durable now.
    pub(crate) async fn compact(&mut self) -> Result<(), TopicError> {
        let Some(to) = self.ml.last_confirmed() else {
            // Nothing is left that was not compacted.
            if let Some(compaction) = self.compaction.as_deref_mut().filter(|found| found.running.is_none()) {
                compaction.last = CompactionStatus::succeeded();
            }
            return Ok(());
        };
        let (reader, partition) = (self.ml.reader(), self.partition);
        let env = self.env.clone();
        let options = options(&env.config, &self.name, to, partition);
        let events = self.events.clone();
        self.ensure_compaction().await?;
        let list = self.ml.ledgers();
        let Some(compaction) = self.compaction.as_deref_mut() else { return Err(TopicError::closed()) };
        let from = list.next_after(compaction.horizon().map_or(list.earliest(), MarkDelete::after));
        if compaction.running.is_some() {
            return Err(TopicError::Exists("a compaction of the topic".into()));
        }
        // The last entry may have been trimmed before anybody asked for a compaction.
        if from > to {
            compaction.last = CompactionStatus::succeeded();
            return Ok(());
        }
        compaction.next_serial += 1;
        let job = Job {
            serial: compaction.next_serial,
            client: env.managed_ledgers.ledgers,
            clock: env.environment.clock,
            topic: reader,
            former: compaction.compacted.clone(),
            from,
            to,
            partition,
            options,
            leftovers: compaction.leftovers.clone(),
            slots: env.compactions,
            keys_bytes_max: KEYS_BYTES_MAX,
            events,
            stop: Arc::default(),
        };
        let (serial, stop) = (job.serial, Arc::clone(&job.stop));
        tokio::spawn(job.run());
        compaction.running = Some(Running { serial, stop, stage: Stage::Reading });
        Ok(())
    }

    pub(crate) fn on_compaction(&mut self, Event { serial, what }: Event) {
        let clock = &self.env.environment.clock;
        let (now, now_ms) = (clock.now(), clock.unix_ms());
        let compaction = self.compaction.as_deref_mut();
        let ours = |compaction: &&mut Compaction| {
            compaction.running.as_ref().is_some_and(|running| running.serial == serial)
        };
        let Some(compaction) = compaction.filter(ours) else { return };
        match what {
            What::Began { ledger, go } => {
                compaction.leftovers = vec![ledger];
                let version = compaction.name(compaction.compacted.as_ref().map(Compacted::ledger), now);
                compaction.at(Stage::Recording { version, go });
            }
            What::Ended(Ok(done)) => self.publish_compacted(done, now),
            What::Ended(Err(error)) => {
                tracing::warn!(topic = %self.name, error, "compaction failed; the topic is as it was");
                compaction.running = None;
                self.housekeeping.compaction_due = self.policies.compaction_threshold.is_some();
                compaction.counts.last_compaction_failed_timestamp = now_ms;
                compaction.last = CompactionStatus { status: CompactionState::Error, last_error: error };
            }
        }
    }

    /// Has the cursor name the new ledger, and the former one as a leftover.
    fn publish_compacted(&mut self, done: Finished, now: Duration) {
        let next = self.compacted_at(done.ledger, done.horizon);
        let list = self.ml.ledgers();
        let Some(compaction) = self.compaction.as_deref_mut() else { return };
        compaction.cursor.ack_cumulative(done.horizon, None, list);
        assert!(
            compaction.cursor.mark_delete().covers(done.horizon),
            "the cursor has held the log up to {}",
            done.horizon
        );
        compaction.leftovers = compaction.compacted.iter().map(Compacted::ledger).collect();
        compaction.counts.last_compaction_removed_event_count = done.removed;
        compaction.counts.last_compaction_duration_time_in_mills = done.took.as_millis() as u64;
        let version = compaction.name(Some(done.ledger), now);
        compaction.at(Stage::Publishing { version, next });
    }

    /// The cursor became more durable: a compaction goes on, or readers get what it has left.
    pub(crate) fn on_compaction_stored(&mut self) {
        let now_ms = self.env.environment.clock.unix_ms();
        let Some(compaction) = self.compaction.as_deref_mut() else { return };
        let durable = compaction.durability.durable_version();
        let Some(running) = &mut compaction.running else { return };
        match std::mem::replace(&mut running.stage, Stage::Writing) {
            Stage::Recording { version, go } if version <= durable => {
                // A job that has gone away meanwhile needs no permission.
                let _ = go.send(());
            }
            Stage::Publishing { version, next } if version <= durable => {
                compaction.running = None;
                compaction.last = CompactionStatus::succeeded();
                compaction.counts.last_compaction_succeed_timestamp = now_ms;
                let former = compaction.compacted.replace(next);
                if let Some(former) = former {
                    self.delete_beside(former.ledger());
                }
                for subscription in self.subscriptions.values_mut() {
                    subscription.due = true;
                }
            }
            waiting => running.stage = waiting,
        }
    }

    /// After each batch of events: begins the cursor's write if one is due, and a compaction if the policies ask for it.
    pub(crate) async fn keep_compaction(&mut self) {
        let now = self.env.environment.clock.now();
        if let Some(compaction) = self.compaction.as_deref_mut() {
            compaction.durability.write_if_due(&compaction.cursor, &Name::from(CURSOR), &self.events, now);
        }
        let Some(threshold) = self.policies.compaction_threshold else { return };
        if self.housekeeping.compaction_at().is_none_or(|at| at > now) {
            return;
        }
        self.housekeeping.compaction_checked(now);
        let begun = match Box::pin(self.ensure_compaction()).await {
            Ok(()) if self.has_to_compact(threshold) => Box::pin(self.compact()).await,
            Ok(()) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            tracing::warn!(topic = %self.name, %error, "begin a compaction; it is tried again later");
            self.housekeeping.compaction_due = true;
        }
    }

    fn has_to_compact(&self, threshold: u64) -> bool {
        let idle = self.compaction.as_ref().filter(|compaction| compaction.running.is_none());
        idle.is_some_and(|compaction| self.ml.bytes_after(compaction.cursor.mark_delete()) > threshold)
    }

    pub(crate) fn compaction_status(&self) -> CompactionStatus {
        self.compaction.as_ref().map(|compaction| compaction.status()).unwrap_or_default()
    }

    /// Ends compaction, as deleting Pulsar's subscription of that name does: readers get the log as it is, and it is held no
    /// longer. `NotAllowed` while a policy asks for compaction.
    pub(crate) async fn end_compaction(&mut self) -> Result<(), TopicError> {
        if self.policies.compaction_threshold.is_some() {
            let reason = "the compaction threshold asks for it; remove that policy first";
            return Err(TopicError::NotAllowed(reason.into()));
        }
        self.forget_compacted().await?;
        let of = self.compacted_options();
        let Some(compaction) = self.compaction.as_deref_mut() else {
            return Err(TopicError::SubscriptionNotFound(CURSOR.into()));
        };
        compaction.delete(&self.env.managed_ledgers.ledgers, &of).await?;
        self.compaction = None;
        self.trim_due = true;
        Ok(())
    }

    /// Lets go of what was compacted: everything up to now is to go.
    pub(crate) async fn forget_compacted(&mut self) -> Result<(), TopicError> {
        let list = self.ml.ledgers();
        let (Some(compaction), Some(last)) = (self.compaction.as_deref_mut(), list.last_confirmed()) else {
            return Ok(());
        };
        compaction.stop();
        compaction.cursor.ack_cumulative(last, None, list);
        let former = compaction.compacted.take();
        compaction.leftovers.extend(former.iter().map(Compacted::ledger));
        compaction.name(None, Duration::ZERO);
        compaction.durability.persist_now(&compaction.cursor).await?;
        let leftovers = compaction.leftovers.clone();
        leftovers.into_iter().for_each(|ledger| self.delete_beside(ledger));
        Ok(())
    }
}
