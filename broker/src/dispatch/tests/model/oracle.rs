//! What must hold.

use super::super::*;
use super::world::{Kind, LIMITS, World};

impl World {
    /// At each delivery: one consumer at a time, with permits, the right one, and no waiting message of the same key before
    /// it.
    pub(super) fn deliver(&mut self, n: u64, id: ConsumerId, redelivery_count: u32) {
        assert!(!self.holders.contains_key(&n), "{self}: entry {n} is with two consumers");
        let messages = i64::from(self.at(n).left);
        let consumer = self.consumers.get_mut(&id).expect("a connected consumer");
        let (permits, writable) = (consumer.permits, consumer.writable);
        consumer.permits -= messages;
        let left = consumer.permits;
        assert!(permits > 0 && writable, "{self}: {id:?} could take nothing");
        assert_eq!(left, self.dispatcher.permits(id), "{self}");
        if self.kind.is_single() {
            assert_eq!(self.dispatcher.active(), Some(id), "{self}: not the active consumer");
            let skipped = (self.mark..n).find(|m| !self.is_acked(*m) && !self.holders.contains_key(m));
            assert_eq!(skipped, None, "{self}: entry {n} overtook another");
        }
        if self.kind.keeps_key_order() {
            let same = |m: &u64| self.at(*m).tag == self.at(n).tag;
            let elsewhere = self.holders.iter().find(|(m, holder)| same(m) && **holder != id);
            assert_eq!(elsewhere, None, "{self}: the key of {n} is in flight at two consumers");
            let overtaken = (self.mark..n).find(|m| same(m) && self.is_idle(*m));
            assert_eq!(overtaken, None, "{self}: entry {n} overtook one of its key");
        }
        self.check_receiver(n, id);
        let given_back = self.given_back.get(&n).copied().unwrap_or(0);
        assert_eq!(redelivery_count, given_back, "{self}: how often entry {n} was given back");
        self.holders.insert(n, id);
        self.tally.delivered += 1;
        self.tally.negative += u64::from(redelivery_count > 0);
        let again = std::mem::replace(&mut self.log[n as usize].was_delivered, true);
        self.tally.delivered_again += u64::from(again);
    }

    /// Nobody of a better priority could have taken it; a range's entries go to whoever brought the range.
    fn check_receiver(&self, n: u64, id: ConsumerId) {
        let tag = self.at(n).tag;
        if self.kind == Kind::Shared && tag.is_none() {
            let priority = self.consumers[&id].priority;
            let better =
                self.consumers.iter().find(|(other, c)| c.priority < priority && self.can_take(**other));
            assert!(better.is_none(), "{self}: {id:?} was served before a better one");
        }
        if self.kind == Kind::Shared && tag.is_some() {
            let overtaken = (self.mark..n).find(|m| self.at(*m).tag == tag && self.is_idle(*m));
            assert_eq!(overtaken, None, "{self}: entry {n} overtook a chunk of its message");
        }
        if self.kind == Kind::Sticky {
            let part = u64::from(tag.expect("keyed") % STICKY_RANGE / (STICKY_RANGE / 4));
            assert_eq!(part, id.0 % 4, "{self}: entry {n} is not of a range of {id:?}");
        }
    }

    /// Where entries are not tracked, a consumer that gives some back gets all of them again, if it is the active one.
    pub(super) fn check_rewind(&self, id: ConsumerId, actions: &[Action]) {
        let rewinds = self.kind.is_single() && self.dispatcher.active() == Some(id);
        assert_eq!(actions.contains(&Action::Rewind), rewinds, "{self}: given back by {id:?}");
    }

    /// Looked at, wanted by nobody's clock, and with no consumer.
    fn is_idle(&self, n: u64) -> bool {
        !self.is_acked(n) && !self.holders.contains_key(&n) && !self.waiting.contains(&n)
    }

    /// After every step, once dispatch came to rest.
    pub(super) fn check(&self) {
        if self.kind.is_single() {
            self.check_active();
        } else {
            self.check_counts();
            self.check_idle();
        }
    }

    fn can_take(&self, id: ConsumerId) -> bool {
        let consumer = self.consumers[&id];
        consumer.permits > 0 && consumer.writable && !self.dispatcher.unacked(id).1
    }

    fn check_active(&self) {
        let active = self.dispatcher.active();
        assert_eq!(active.is_some(), !self.consumers.is_empty(), "{self}: nobody is active");
        let Some(active) = active else { return };
        let best = self.consumers.values().map(|c| c.priority).min();
        let priority = self.consumers.get(&active).map(|c| c.priority);
        assert_eq!(priority, best, "{self}: the active consumer is gone, or another one comes before it");
        let rests = self.dispatcher.deadline().is_some();
        let more = (self.read..self.end()).any(|n| !self.is_acked(n));
        assert!(rests || !more || !self.can_take(active), "{self}: a message, a permit and a consumer");
        // Nothing before the read position is forgotten.
        let lost = (self.mark..self.read).find(|n| self.is_idle(*n));
        assert_eq!(lost, None, "{self}: an entry is with nobody");
    }

    fn check_counts(&self) {
        let mut total = 0;
        for id in self.consumers.keys() {
            let held = self.holders.iter().filter(|(_, holder)| *holder == id);
            let unacked: u32 = held.map(|(n, _)| self.at(*n).left).sum();
            let (counted, blocked) = self.dispatcher.unacked(*id);
            assert_eq!(counted, unacked, "{self}: unacked of {id:?}");
            assert!(
                !blocked || unacked >= LIMITS.unacked_per_consumer.div_ceil(2),
                "{self}: blocked for nothing"
            );
            assert!(blocked || unacked < LIMITS.unacked_per_consumer, "{self}: not blocked at the limit");
            total += unacked;
        }
        let (counted, blocked) = self.dispatcher.unacked_total();
        assert_eq!(counted, total, "{self}: unacked of the subscription");
        assert!(
            !blocked || total >= LIMITS.unacked_per_subscription.div_ceil(2),
            "{self}: blocked for nothing"
        );
        let idle = (self.mark..self.read).filter(|n| self.is_idle(*n)).count();
        assert_eq!(self.dispatcher.replay_len(), idle, "{self}: the replay set is what nobody has");
    }

    /// No deliverable message, permit and live consumer at a time.
    fn check_idle(&self) {
        let (_, blocked) = self.dispatcher.unacked_total();
        let open = !blocked && self.consumers.keys().any(|id| self.can_take(*id));
        if !open {
            return;
        }
        for n in (self.mark..self.read).filter(|n| self.is_idle(*n)) {
            assert!(!self.is_deliverable(n), "{self}: entry {n} could be delivered and is not");
        }
        let unread = (self.read..self.end()).any(|n| !self.is_acked(n));
        let ahead = LIMITS.look_ahead_per_consumer * self.consumers.len();
        let full = self.dispatcher.replay_len() >= ahead.min(LIMITS.look_ahead_per_subscription);
        assert!(!unread || full, "{self}: entry {} could be looked at and is not", self.read);
    }

    fn is_deliverable(&self, n: u64) -> bool {
        let tag = self.at(n).tag;
        match &self.dispatcher {
            Dispatcher::KeyShared(d) => {
                let slot = d.slot(tag).unwrap_or(0);
                let Some(owner) = d.owner(slot) else { return false };
                let in_slot = |m: &u64| d.slot(self.at(*m).tag) == Some(slot);
                let drains = self.holders.iter().any(|(m, holder)| *holder != owner && in_slot(m));
                self.can_take(owner) && (self.kind == Kind::OutOfOrder || !drains)
            }
            // A chunk waits for the consumer that has the ones before it.
            Dispatcher::Shared(d) => match d.chosen(tag) {
                Some(chosen) => self.can_take(chosen),
                None => true,
            },
            Dispatcher::SingleActive(_) => true,
        }
    }

    /// With willing consumers and acknowledgements everything comes through.
    pub(super) fn finish(&mut self) {
        for id in self.consumers.keys().copied().collect::<Vec<_>>() {
            self.dispatcher.set_writable(id, true);
            self.consumers.get_mut(&id).expect("connected").writable = true;
        }
        (0..4).for_each(|_| self.join());
        for _ in 0..100 {
            self.now += Duration::from_secs(2);
            self.on_time();
            self.fall_due();
            for id in self.consumers.keys().copied().collect::<Vec<_>>() {
                self.dispatcher.flow(id, 10);
                self.consumers.get_mut(&id).expect("connected").permits += 10;
            }
            self.dispatch();
            self.check();
            for n in self.holders.keys().copied().collect::<Vec<_>>() {
                self.ack(n);
            }
        }
        assert_eq!(self.mark, self.end(), "{self}: some messages were never delivered");
        assert_eq!((self.dispatcher.unacked_total().0, self.dispatcher.replay_len()), (0, 0), "{self}");
    }
}
