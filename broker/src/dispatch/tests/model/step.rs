//! What may happen to a subscription, one thing a step.

use super::super::*;
use super::world::{BACKLOG_MAX, Consumer, Kind, World};

impl World {
    pub(super) fn step(&mut self) {
        match self.random.below(40) {
            0 if self.consumers.len() < 5 => self.join(),
            1 => self.leave(),
            2 => self.redeliver_all(),
            3 => self.redeliver_some(),
            4 if self.random.one_in(4) => self.seek(),
            5 if self.random.one_in(4) => self.skip(),
            6 => self.turn_writable(),
            7 => self.pass_time(),
            8 => self.fall_due(),
            9..16 => self.grant(),
            16..26 => self.ack_held(),
            26 => self.ack_any(),
            27..30 => self.ack_partly(),
            _ if self.end() - self.mark < BACKLOG_MAX => self.publish(),
            _ => self.ack_held(),
        }
    }

    fn any_consumer(&mut self) -> Option<ConsumerId> {
        let n = self.consumers.len() as u64;
        (n > 0).then(|| *self.consumers.keys().nth(self.random.below(n) as usize).expect("in range"))
    }

    pub(super) fn join(&mut self) {
        if self.kind == Kind::Exclusive && !self.consumers.is_empty() {
            let refused = self.dispatcher.add(spec(u64::MAX, "second"), self.now);
            assert!(matches!(refused, Err(JoinError::Busy { .. })), "{self}");
            return;
        }
        self.next_id += 1;
        let id = self.next_id;
        // Names recur: a client that reconnects keeps its own.
        let mut joining = spec(id, &format!("c{}", id % 6));
        let priority = self.random.below(2) as i32;
        joining.priority = priority;
        if self.kind == Kind::Sticky {
            let part = STICKY_RANGE / 4;
            let first = part * (id % 4) as u32;
            joining.ranges = vec![(first, first + part - 1)];
        }
        match self.dispatcher.add(joining, self.now) {
            Ok(actions) => {
                let consumer = Consumer { priority, permits: 0, writable: true };
                self.consumers.insert(ConsumerId(id), consumer);
                self.tally.joined += 1;
                self.apply(&actions);
            }
            Err(error) => assert!(self.kind == Kind::Sticky, "{self}: {error:?}"),
        }
    }

    /// A clean close and a crash look alike to the dispatcher.
    fn leave(&mut self) {
        let Some(id) = self.any_consumer() else { return };
        let actions = self.dispatcher.remove(id, self.now);
        self.consumers.remove(&id);
        self.tally.left += 1;
        if !self.kind.is_single() {
            self.holders.retain(|_, holder| *holder != id);
        }
        self.apply(&actions);
    }

    fn redeliver_all(&mut self) {
        let Some(id) = self.any_consumer() else { return };
        let actions = self.dispatcher.redeliver(id, None);
        self.check_rewind(id, &actions);
        self.give_back(|_, holder| holder == id);
        self.apply(&actions);
    }

    fn give_back(&mut self, is_given: impl Fn(u64, ConsumerId) -> bool) {
        if self.kind.is_single() {
            return;
        }
        let given_back = &mut self.given_back;
        self.holders.retain(|n, holder| {
            let given = is_given(*n, *holder);
            if given {
                *given_back.entry(*n).or_default() += 1;
            }
            !given
        });
    }

    /// Of the ids given, some are another consumer's or nobody's.
    fn redeliver_some(&mut self) {
        let Some(id) = self.any_consumer() else { return };
        let wanted: Vec<u64> = (0..3).map(|_| self.mark + self.random.below(BACKLOG_MAX)).collect();
        let positions: Vec<Position> = wanted.iter().map(|n| at(*n)).collect();
        let actions = self.dispatcher.redeliver(id, Some(&positions));
        self.check_rewind(id, &actions);
        if self.kind.is_single() && self.dispatcher.active() == Some(id) {
            // Who has what is not tracked there: what the active consumer names counts.
            wanted.iter().for_each(|n| *self.given_back.entry(*n).or_default() += 1);
        }
        self.give_back(|n, holder| holder == id && wanted.contains(&n));
        self.apply(&actions);
    }

    /// As the topic does it: everybody is sent away first.
    fn seek(&mut self) {
        for id in std::mem::take(&mut self.consumers).into_keys() {
            self.dispatcher.remove(id, self.now);
        }
        let (low, high) = (self.mark.saturating_sub(10), self.end());
        let to = low + self.random.below(high - low + 1);
        for n in to..self.end() {
            self.log[n as usize].left = self.log[n as usize].left.max(1);
        }
        self.mark = to;
        self.read = to;
        self.holders.clear();
        self.waiting.clear();
        self.given_back.clear();
        self.tally.seeks += 1;
        self.dispatcher = self.kind.dispatcher();
        (0..1 + self.random.below(3)).for_each(|_| self.join());
    }

    /// Everything up to some entry is acknowledged at once, delivered or not: skip, expiry, cumulative ack.
    fn skip(&mut self) {
        if self.mark == self.end() {
            return;
        }
        let last = self.mark + self.random.below(self.end() - self.mark);
        self.dispatcher.acked_up_to(at(last));
        for n in self.mark..=last {
            self.log[n as usize].left = 0;
            self.holders.remove(&n);
            self.waiting.remove(&n);
            self.given_back.remove(&n);
        }
        self.tally.skips += 1;
        self.read = self.read.max(last + 1);
        self.advance();
    }

    fn turn_writable(&mut self) {
        let Some(id) = self.any_consumer() else { return };
        let consumer = self.consumers.get_mut(&id).expect("connected");
        consumer.writable = !consumer.writable;
        self.dispatcher.set_writable(id, consumer.writable);
    }

    fn pass_time(&mut self) {
        self.now += Duration::from_millis(self.random.below(700));
        self.on_time();
    }

    pub(super) fn on_time(&mut self) {
        if self.dispatcher.deadline().is_some_and(|at| at <= self.now) {
            let actions = self.dispatcher.on_timer(self.now);
            self.apply(&actions);
            assert!(
                self.dispatcher.deadline().is_none_or(|at| at > self.now),
                "{self}: a timer that stays due"
            );
        }
    }

    pub(super) fn fall_due(&mut self) {
        while let Some(n) = self.waiting.pop_first() {
            if !self.is_acked(n) {
                self.dispatcher.replay(at(n), self.at(n).tag);
            }
        }
    }

    fn grant(&mut self) {
        let Some(id) = self.any_consumer() else { return };
        let permits = self.random.below(12);
        self.dispatcher.flow(id, permits as u32);
        self.consumers.get_mut(&id).expect("connected").permits += permits as i64;
    }

    fn ack_held(&mut self) {
        let n = self.random.below(4).min(self.holders.len() as u64);
        if let Some(n) = self.holders.keys().nth(n as usize).copied() {
            self.ack(n);
        }
    }

    /// Also what nobody holds, and what was never looked at.
    fn ack_any(&mut self) {
        let n = self.mark + self.random.below(BACKLOG_MAX);
        if n < self.end() && !self.is_acked(n) {
            self.ack(n);
        }
    }

    pub(super) fn ack(&mut self, n: u64) {
        self.dispatcher.acked(at(n));
        self.log[n as usize].left = 0;
        self.holders.remove(&n);
        self.waiting.remove(&n);
        self.given_back.remove(&n);
        self.tally.acknowledged += 1;
        self.advance();
    }

    fn ack_partly(&mut self) {
        let batch = self.holders.keys().copied().find(|n| self.at(*n).left > 1);
        if let Some(n) = batch {
            let some = 1 + self.random.below(u64::from(self.at(n).left) - 1) as u32;
            self.dispatcher.acked_partially(at(n), some);
            self.log[n as usize].left -= some;
        }
    }

    fn advance(&mut self) {
        while self.mark < self.end() && self.at(self.mark).left == 0 {
            self.mark += 1;
        }
    }
}
