//! What a topic does by the clock: ledgers grow old and are let go, messages expire, backlogs are held to their quotas.
//!
//! No timer runs for what cannot become due: an empty topic without policies has none.

use std::time::Duration;

use magnetar_proto::ids::Position;

use super::actor::Topic;
use super::quota::Breach;
use crate::dispatch::Limits;
use crate::managed_ledger::MarkDelete;
use crate::policies::TopicPolicies;

/// Ledgers are looked through no more often than this by the clock: what could not go now (a bookie is away) is tried
/// again then.
const TIDY_EVERY: Duration = Duration::from_secs(20);

/// The backlog's size is compared with its quota no more often than this.
const QUOTA_EVERY: Duration = Duration::from_secs(1);

/// What is not compacted is compared with its threshold no more often than this.
const COMPACTION_EVERY: Duration = Duration::from_secs(10);

/// When what is due.
#[derive(Default)]
pub(crate) struct Housekeeping {
    /// Something changed that the times below depend on.
    pub plan_due: bool,
    tidied_at: Option<Duration>,
    tidy_at: Option<Duration>,
    /// When the age of the backlog is to be looked at, and the look under way.
    pub look_at: Option<Duration>,
    pub looking: bool,
    /// The oldest entry that some durable subscription has not acknowledged, and when it was published (ms since 1970).
    pub oldest: Option<(Position, u64)>,
    /// Entries or acknowledgements came since the last comparison.
    pub quota_due: bool,
    quota_checked_at: Option<Duration>,
    pub breach: Option<Breach>,
    /// Everything up to here is to go, whatever retention says.
    pub truncate: Option<Position>,
    /// Entries came since what is not compacted was compared with its threshold.
    pub compaction_due: bool,
    compaction_checked_at: Option<Duration>,
}

impl Housekeeping {
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let look = self.look_at.filter(|_| !self.looking);
        [self.tidy_at, look, self.quota_at(), self.compaction_at()].into_iter().flatten().min()
    }

    /// The topic is not empty any more: its ledger begins to grow old.
    pub(crate) fn note_entries(&mut self) {
        self.plan_due |= self.tidy_at.is_none();
    }

    pub(crate) fn compaction_at(&self) -> Option<Duration> {
        let next = self.compaction_checked_at.map_or(Duration::ZERO, |at| at + COMPACTION_EVERY);
        self.compaction_due.then_some(next)
    }

    pub(crate) fn compaction_checked(&mut self, now: Duration) {
        (self.compaction_due, self.compaction_checked_at) = (false, Some(now));
    }

    fn quota_at(&self) -> Option<Duration> {
        let next = self.quota_checked_at.map_or(Duration::ZERO, |at| at + QUOTA_EVERY);
        self.quota_due.then_some(next)
    }
}

impl Topic {
    /// Acts on these policies from now on.
    pub(crate) fn set_policies(&mut self, policies: TopicPolicies) {
        if self.policies == policies {
            return;
        }
        self.ml.set_retention(policies.retention);
        self.ml.set_isolation(policies.isolation.clone());
        // Of cursors that are made from now on; the others go on as they began until the topic is loaded again.
        self.env.config.isolation = policies.isolation.clone();
        let other_dead_letters = self.policies.dead_letters != policies.dead_letters;
        self.policies = policies;
        let limits = self.dispatch_limits();
        let list = self.ml.ledgers();
        for subscription in self.subscriptions.values_mut() {
            subscription.dispatcher.set_limits(limits);
            if other_dead_letters {
                subscription.recall_departures(list);
            }
            subscription.due = true;
        }
        self.housekeeping.look_at = self.policies.shortest_age().map(|_| self.env.environment.clock.now());
        self.housekeeping.quota_due = true;
        self.housekeeping.quota_checked_at = None;
        self.housekeeping.compaction_due = self.policies.compaction_threshold.is_some();
        self.housekeeping.compaction_checked_at = None;
        self.trim_due = true;
    }

    /// The broker's limits, with what the policies say in front.
    pub(crate) fn dispatch_limits(&self) -> Limits {
        let limits = self.env.limits.dispatch;
        Limits {
            unacked_per_consumer: self.policies.unacked_per_consumer.unwrap_or(limits.unacked_per_consumer),
            unacked_per_subscription: self
                .policies
                .unacked_per_subscription
                .unwrap_or(limits.unacked_per_subscription),
            ..limits
        }
    }

    /// Does what is due by the clock.
    pub(crate) fn keep_house(&mut self, now: Duration) {
        if self.housekeeping.tidy_at.is_some_and(|at| at <= now) {
            self.housekeeping.tidied_at = Some(now);
            self.trim_due = true;
        }
        if self.housekeeping.look_at.is_some_and(|at| at <= now) {
            self.look();
        }
    }

    /// Called after each batch of events; cheap when nothing changed.
    pub(crate) fn plan_housekeeping(&mut self) {
        let now = self.env.environment.clock.now();
        if self.housekeeping.quota_at().is_some_and(|at| at <= now) {
            self.housekeeping.quota_due = false;
            self.housekeeping.quota_checked_at = Some(now);
            self.check_storage_quota();
        }
        if std::mem::take(&mut self.housekeeping.plan_due) {
            let earliest = self.housekeeping.tidied_at.map_or(Duration::ZERO, |at| at + TIDY_EVERY);
            let due = self.ml.tidy_deadline(self.slowest_durable());
            self.housekeeping.tidy_at = due.map(|due| due.max(earliest));
        }
    }

    /// The lowest durable mark-delete of whatever holds ledgers back; `None` if nothing does.
    pub(crate) fn slowest_durable(&self) -> Option<MarkDelete> {
        let durable = self.subscriptions.values().filter_map(|s| s.durability.as_ref());
        let deduplication = self.deduplication.iter().map(|d| d.durable_mark_delete());
        let compaction = self.compaction.iter().map(|c| c.durable_mark_delete());
        durable.map(|d| d.durable_mark_delete()).chain(deduplication).chain(compaction).min()
    }

    /// Lets go of ledgers, and of the one in use if it is old.
    pub(crate) fn trim(&mut self) {
        let slowest = self.slowest_durable();
        match self.housekeeping.truncate {
            Some(up_to) => {
                self.ml.trim_up_to(slowest, up_to);
                let first = self.ml.ledgers().iter().next().map(|(id, _)| id);
                if first.is_none_or(|first| first > up_to.ledger_id) {
                    self.housekeeping.truncate = None;
                }
            }
            None => {
                self.ml.trim(slowest);
            }
        }
        self.housekeeping.plan_due = true;
    }
}
