//! Backlog quotas: what happens when subscriptions are too far behind, by bytes or by age.

use std::time::Duration;

use magnetar_proto::ids::Position;

use super::actor::Topic;
use super::error::TopicError;
use super::publish::{disconnect, tell_waiting};
use crate::managed_ledger::MarkDelete;
use crate::policies::QuotaAction;

/// After an eviction this much of the quota is used, so that not every further entry causes one.
const EVICT_TO_PERCENT: u64 = 90;

/// Which quota is exceeded, while it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Breach {
    Storage { bytes: u64, limit: u64, hold: bool },
    Age { age: Duration, limit: Duration, hold: bool },
}

impl Breach {
    fn is_storage(self) -> bool {
        matches!(self, Breach::Storage { .. })
    }

    /// What a producer is told.
    pub(crate) fn error(self) -> TopicError {
        match self {
            Breach::Storage { bytes, limit, hold } => TopicError::BacklogFull {
                message: format!(
                    "the backlog of {bytes} bytes exceeds its quota of {limit}; let consumers catch up, or raise it"
                ),
                hold,
            },
            Breach::Age { age, limit, hold } => TopicError::BacklogFull {
                message: format!(
                    "the oldest message of the backlog is {} s old, and the quota is {} s; let consumers catch up, or raise it",
                    age.as_secs(),
                    limit.as_secs()
                ),
                hold,
            },
        }
    }
}

impl Topic {
    /// The mark-delete position of the durable subscription that is farthest behind.
    fn slowest_mark(&self) -> Option<MarkDelete> {
        let durable = self.subscriptions.values().filter(|s| s.durability.is_some());
        durable.map(|s| s.cursor.mark_delete()).min()
    }

    /// Compares the backlog with its quota in bytes, and with what is known of its age.
    pub(crate) fn check_storage_quota(&mut self) {
        let no_age = self.housekeeping.oldest.is_none() || self.policies.age_quota.is_none();
        if no_age && self.housekeeping.breach.is_some_and(|b| !b.is_storage()) {
            self.housekeeping.breach = None;
        }
        let bytes = self.slowest_mark().map_or(0, |mark| self.ml.bytes_after(mark));
        match self.policies.storage_quota {
            Some(quota) if bytes > quota.bytes => match quota.action {
                QuotaAction::Evict => {
                    let keep = quota.bytes / 100 * EVICT_TO_PERCENT;
                    self.evict(self.ml.position_leaving(keep));
                }
                action => {
                    let hold = action == QuotaAction::HoldProducers;
                    self.send_producers_away(Breach::Storage { bytes, limit: quota.bytes, hold });
                }
            },
            _ if self.housekeeping.breach.is_some_and(Breach::is_storage) => self.housekeeping.breach = None,
            _ => {}
        }
    }

    /// Compares the age of the oldest entry of the backlog with its quota. What is to be evicted has been by then.
    pub(crate) fn check_age_quota(&mut self, published: u64) {
        let now_ms = self.env.environment.clock.unix_ms();
        let age = Duration::from_millis(now_ms.saturating_sub(published));
        match self.policies.age_quota {
            Some(quota) if age > quota.age => match quota.action {
                QuotaAction::Evict => {}
                action => {
                    let hold = action == QuotaAction::HoldProducers;
                    self.send_producers_away(Breach::Age { age, limit: quota.age, hold });
                }
            },
            _ if self.housekeeping.breach.is_some_and(|b| !b.is_storage()) => self.housekeeping.breach = None,
            _ => {}
        }
    }

    fn evict(&mut self, last: Option<Position>) {
        let Some(last) = last else { return };
        tracing::warn!(topic = %self.name, up_to = %last, "the backlog exceeds its quota: its oldest entries are dropped");
        self.expire_up_to(last);
    }

    fn send_producers_away(&mut self, breach: Breach) {
        let new = self.housekeeping.breach.is_none();
        self.housekeeping.breach = Some(breach);
        if new {
            tracing::warn!(topic = %self.name, ?breach, "the backlog exceeds its quota: producers are sent away");
            tell_waiting(&mut self.producers, &breach.error());
            self.producers.take_all().iter().for_each(disconnect);
        }
    }
}
