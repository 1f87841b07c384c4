//! How old the backlog is, and what of it has expired.
//!
//! Publish times are in the entries, and the oldest entries are at the bookies: a look at them runs beside the topic's
//! task and reports to it. How long until the next look follows from what was found.

use std::time::Duration;

use magnetar_proto::ids::Position;

use super::actor::Topic;
use super::error::TopicError;
use super::finder::Finder;
use super::reads::after;
use crate::managed_ledger::{LedgerList, MlReader};

/// Looks are at least this far apart: expiry is that precise. (Delivery is exact: dispatch checks each entry.)
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Pause after a look that failed.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What a look found.
pub(crate) struct Looked {
    /// The age from which on an entry counted as expired.
    expiry: Option<Duration>,
    found: Result<Found, TopicError>,
}

struct Found {
    /// The last entry before the first one that has not expired.
    expired: Option<Position>,
    /// The first one that has not, and when it was published. `None`: there is none.
    oldest: Option<(Position, u64)>,
}

impl Topic {
    /// The first entry that some durable subscription has not acknowledged.
    fn first_unacked(&self) -> Option<Position> {
        let list = self.ml.ledgers();
        let durable = self.subscriptions.values().filter(|s| s.durability.is_some());
        let first = durable.map(|s| list.next_after(s.cursor.mark_delete())).min()?;
        list.last_confirmed().filter(|last| first <= *last).map(|_| first)
    }

    /// Entries came: if no look is planned, the first of them decides when the next one is.
    pub(crate) fn plan_look(&mut self) {
        if self.housekeeping.look_at.is_none()
            && let Some(age) = self.policies.shortest_age()
        {
            self.housekeeping.look_at = Some(self.env.environment.clock.now() + age.max(LOOK_EVERY));
        }
    }

    /// A subscription was made, or moved back: what it has to come may be old.
    pub(crate) fn look_soon(&mut self) {
        if self.policies.shortest_age().is_some() {
            self.housekeeping.look_at = Some(self.env.environment.clock.now());
        }
    }

    /// Begins a look at the age of the backlog, unless what is known suffices.
    pub(crate) fn look(&mut self) {
        if self.housekeeping.looking {
            return;
        }
        self.housekeeping.look_at = None;
        let (Some(from), Some(_)) = (self.first_unacked(), self.policies.shortest_age()) else {
            self.housekeeping.oldest = None;
            self.housekeeping.quota_due = true;
            return;
        };
        let now_ms = self.env.environment.clock.unix_ms();
        let expiry = self.policies.expiry();
        let expired = |published: u64| expiry.is_some_and(|age| published + millis(age) < now_ms);
        if let Some((at, published)) = self.housekeeping.oldest
            && at == from
            && !expired(published)
        {
            // The quota may be another one, or its time have come.
            self.check_age_quota(published);
            return self.plan_after(published);
        }
        self.housekeeping.looking = true;
        let before = expiry.map(|age| now_ms.saturating_sub(millis(age)));
        let (list, reader, events) = (self.ml.ledgers().clone(), self.ml.reader(), self.events.clone());
        tokio::spawn(async move {
            let found = find(&list, reader, from, before).await;
            // The topic may be gone by now.
            events.tell(Looked { expiry, found });
        });
    }

    pub(crate) fn on_looked(&mut self, Looked { expiry, found }: Looked) {
        self.housekeeping.looking = false;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(topic = %self.name, %error, "look at the age of the backlog");
                self.housekeeping.look_at = Some(self.env.environment.clock.now() + RETRY_AFTER);
                return;
            }
        };
        if expiry != self.policies.expiry() {
            // What was to expire may not be meant to any more.
            self.look_soon();
            return;
        }
        if let Some(last) = found.expired {
            self.expire_up_to(last);
        }
        self.housekeeping.oldest = found.oldest;
        match found.oldest {
            Some((_, published)) => {
                self.check_age_quota(published);
                self.plan_after(published);
            }
            None => self.housekeeping.quota_due = true,
        }
    }

    /// The next look is when the entry published then has an age that matters.
    fn plan_after(&mut self, published: u64) {
        let clock = &self.env.environment.clock;
        let (now, now_ms) = (clock.now(), clock.unix_ms());
        let ages = [self.policies.message_ttl, self.policies.age_quota.map(|quota| quota.age)];
        // An age quota that is exceeded already is looked at again each time, until it is met.
        let waits =
            ages.into_iter().flatten().map(|age| (published + millis(age) + 1).saturating_sub(now_ms));
        let wait = waits.min().map(|ms| Duration::from_millis(ms).max(LOOK_EVERY));
        self.housekeeping.look_at = wait.map(|wait| now + wait);
    }

    /// Acknowledges everything up to `last` for every durable subscription.
    pub(crate) fn expire_up_to(&mut self, last: Position) {
        let (now, now_ms) = (self.env.environment.clock.now(), self.env.environment.clock.unix_ms());
        let list = self.ml.ledgers();
        for subscription in self.subscriptions.values_mut().filter(|s| s.durability.is_some()) {
            let expired = subscription.pass_over(last, list);
            if expired == 0 {
                continue;
            }
            subscription.counters.expired.add(expired, 0);
            subscription.counters.last_expire_ms = now_ms;
            if let Some(durability) = &mut subscription.durability {
                durability.changed(None, now);
            }
        }
        self.release_due = true;
    }
}

impl super::subscription::Subscription {
    /// Acknowledges everything up to `last`. Answers how many entries of the backlog that were.
    pub(crate) fn pass_over(&mut self, last: Position, list: &LedgerList) -> u64 {
        let before = self.backlog(list);
        self.cursor.ack_cumulative(last, None, list);
        self.dispatcher.acked_up_to(last);
        if self.read_position <= last {
            self.read_position = after(last);
        }
        self.due = true;
        before.saturating_sub(self.backlog(list))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

/// Finds the first entry at or after `from` that was published at or after `before`.
async fn find(
    list: &LedgerList,
    reader: MlReader,
    from: Position,
    before: Option<u64>,
) -> Result<Found, TopicError> {
    let finder = Finder::beside(list, reader);
    let Some(first) = finder.read_at_or_after(from).await? else {
        return Ok(Found { expired: None, oldest: None });
    };
    let published = first.summary.publish_time;
    let Some(before) = before.filter(|before| published < *before) else {
        return Ok(Found { expired: None, oldest: Some((from, published)) });
    };
    match finder.find_by_time_in(from.ledger_id, before).await? {
        // Producers' clocks may disagree: never go back.
        Some(young) if young <= from => Ok(Found { expired: None, oldest: Some((from, published)) }),
        Some(young) => {
            let entry = finder.read_at_or_after(young).await?;
            let oldest = entry.map(|entry| (young, entry.summary.publish_time));
            Ok(Found { expired: list.previous(young), oldest })
        }
        None => Ok(Found { expired: list.last_confirmed(), oldest: None }),
    }
}
