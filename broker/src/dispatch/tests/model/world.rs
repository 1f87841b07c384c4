//! The model: a log of messages, the consumers, and who has what.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::random::Seeded;

/// Entries not acknowledged at a time: enough to fill every limit below, few enough to check all after each step.
pub(super) const BACKLOG_MAX: u64 = 60;
const KEYS: u64 = 9;
const BATCH_MAX: u64 = 4;

pub(super) const LIMITS: Limits = Limits {
    unacked_per_consumer: 25,
    unacked_per_subscription: 60,
    look_ahead_per_consumer: 12,
    look_ahead_per_subscription: 30,
    round_robin_entries: 3,
    replay_batch: 4,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Exclusive,
    FailoverPartition,
    FailoverTopic,
    Shared,
    KeyShared,
    Sticky,
    OutOfOrder,
}

impl Kind {
    pub(super) fn is_single(self) -> bool {
        matches!(self, Kind::Exclusive | Kind::FailoverPartition | Kind::FailoverTopic)
    }

    pub(super) fn keeps_key_order(self) -> bool {
        matches!(self, Kind::KeyShared | Kind::Sticky)
    }

    pub(super) fn dispatcher(self) -> Dispatcher {
        let single = |rule| Dispatcher::SingleActive(SingleActive::new(rule));
        let keyed = |routing, free| Dispatcher::KeyShared(KeyShared::new(routing, free, LIMITS));
        match self {
            Kind::Exclusive => single(ActiveRule::Exclusive),
            Kind::FailoverPartition => single(ActiveRule::Partition(3)),
            Kind::FailoverTopic => single(ActiveRule::Topic("persistent://public/default/t".into())),
            Kind::Shared => Dispatcher::Shared(Shared::new(LIMITS)),
            Kind::KeyShared => keyed(Routing::AutoSplit, false),
            Kind::Sticky => keyed(Routing::Sticky, false),
            Kind::OutOfOrder => keyed(Routing::AutoSplit, true),
        }
    }
}

/// A message entry of the log.
#[derive(Clone, Copy)]
pub(super) struct Logged {
    /// Messages not acknowledged; 0 when the entry is done.
    pub(super) left: u32,
    pub(super) tag: Option<u32>,
    pub(super) last_chunk: bool,
    pub(super) delayed: bool,
    pub(super) was_delivered: bool,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Consumer {
    pub(super) priority: i32,
    pub(super) permits: i64,
    pub(super) writable: bool,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) delivered: u64,
    pub(super) delivered_again: u64,
    pub(super) acknowledged: u64,
    pub(super) joined: u64,
    pub(super) left: u64,
    pub(super) seeks: u64,
    pub(super) skips: u64,
    /// Deliveries that a negative acknowledgement had asked for.
    pub(super) negative: u64,
    /// Times at which entries were sent together, without being offered.
    pub(super) streamed: u64,
}

impl Tally {
    pub(super) fn is_complete(&self, kind: Kind) -> bool {
        let Tally { delivered, delivered_again, acknowledged, joined, left, seeks, skips, .. } = *self;
        let particular = if kind.is_single() { self.streamed } else { self.negative };
        [delivered, delivered_again, acknowledged, joined, left, seeks, skips, particular]
            .iter()
            .all(|n| *n > 0)
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Tally) {
        self.delivered += more.delivered;
        self.delivered_again += more.delivered_again;
        self.acknowledged += more.acknowledged;
        self.joined += more.joined;
        self.left += more.left;
        self.seeks += more.seeks;
        self.skips += more.skips;
        self.negative += more.negative;
        self.streamed += more.streamed;
    }
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) kind: Kind,
    pub(super) random: Seeded,
    pub(super) dispatcher: Dispatcher,
    pub(super) now: Duration,
    pub(super) log: Vec<Logged>,
    /// Everything below is acknowledged.
    pub(super) mark: u64,
    /// Everything from here on was never looked at since the last rewind.
    pub(super) read: u64,
    /// Who has which unacknowledged entry.
    pub(super) holders: BTreeMap<u64, ConsumerId>,
    /// Looked at, not due yet.
    pub(super) waiting: BTreeSet<u64>,
    /// How often a consumer gave an unacknowledged entry back; counted where entries are tracked.
    pub(super) given_back: BTreeMap<u64, u32>,
    pub(super) consumers: BTreeMap<ConsumerId, Consumer>,
    pub(super) next_id: u64,
    pub(super) tally: Tally,
    /// Chunks of one message that are still to be published: its tag and how many.
    chunks_to_come: Option<(u32, u64)>,
}

impl World {
    pub(super) fn new(seed: u64, kind: Kind) -> World {
        World {
            seed,
            kind,
            random: Seeded(seed),
            dispatcher: kind.dispatcher(),
            now: Duration::ZERO,
            log: Vec::new(),
            mark: 0,
            read: 0,
            holders: BTreeMap::new(),
            waiting: BTreeSet::new(),
            given_back: BTreeMap::new(),
            consumers: BTreeMap::new(),
            next_id: 0,
            tally: Tally::default(),
            chunks_to_come: None,
        }
    }

    pub(super) fn at(&self, n: u64) -> &Logged {
        &self.log[n as usize]
    }

    pub(super) fn is_acked(&self, n: u64) -> bool {
        n < self.mark || self.at(n).left == 0
    }

    pub(super) fn end(&self) -> u64 {
        self.log.len() as u64
    }

    pub(super) fn publish(&mut self) {
        let chunk = match (self.kind, self.chunks_to_come) {
            (Kind::Shared, Some((tag, left))) => Some((tag, left)),
            (Kind::Shared, None) if self.random.one_in(8) => {
                Some((self.end() as u32, 1 + self.random.below(3)))
            }
            _ => None,
        };
        self.chunks_to_come = chunk.and_then(|(tag, left)| (left > 1).then_some((tag, left - 1)));
        let tag = match self.kind {
            Kind::KeyShared | Kind::Sticky | Kind::OutOfOrder => {
                Some(key_hash(format!("k{}", self.random.below(KEYS)).as_bytes()))
            }
            _ => chunk.map(|(tag, _)| tag),
        };
        let single = self.kind.is_single();
        self.log.push(Logged {
            left: if chunk.is_some() { 1 } else { 1 + self.random.below(BATCH_MAX) as u32 },
            tag,
            last_chunk: chunk.is_some_and(|(_, left)| left == 1),
            delayed: !single && chunk.is_none() && self.random.one_in(12),
            was_delivered: false,
        });
    }

    pub(super) fn info(&self, n: u64) -> EntryInfo {
        let logged = self.at(n);
        EntryInfo { position: at(n), messages: logged.left, tag: logged.tag, last_chunk: logged.last_chunk }
    }

    /// As the topic does: replays first, then new entries, until nothing can be done.
    pub(super) fn dispatch(&mut self) {
        loop {
            match self.dispatcher.want() {
                Want::Nothing => return,
                Want::Replay(positions) => {
                    let sent = positions.into_iter().filter(|p| self.offer(p.entry_id.0)).count();
                    assert!(sent > 0, "{self}: a candidate of the replay set could not be sent");
                }
                Want::New => {
                    while self.read < self.end() && self.is_acked(self.read) {
                        self.read += 1;
                    }
                    let n = self.read;
                    if n >= self.end() {
                        return;
                    }
                    if self.at(n).delayed && !self.waiting.contains(&n) {
                        self.waiting.insert(n);
                        self.read += 1;
                        continue;
                    }
                    let streamed = self.random.one_in(2) && self.stream(n);
                    if !streamed && !self.offer(n) && self.read == n {
                        return;
                    }
                }
            }
        }
    }

    /// Sends entries from `n` on as the topic does where none needs a look of its own. False if none was.
    fn stream(&mut self, n: u64) -> bool {
        let Some((id, permits)) = self.dispatcher.stream_from(at(n)) else { return false };
        assert!(self.kind.is_single(), "{self}: entries are tracked");
        let (mut sent, most) = (0, 1 + self.random.below(8));
        while sent < permits && self.read < self.end().min(n + most) && !self.is_acked(self.read) {
            let messages = u64::from(self.at(self.read).left);
            self.dispatcher.streamed(messages);
            self.deliver(self.read, id, 0);
            self.read += 1;
            sent += messages;
        }
        self.tally.streamed += 1;
        true
    }

    /// True when it was sent. A new entry that was taken moves the read position on.
    fn offer(&mut self, n: u64) -> bool {
        assert!(!self.is_acked(n), "{self}: acknowledged entry {n} is wanted");
        let info = self.info(n);
        let outcome = self.dispatcher.offer(&info);
        if n == self.read && outcome != Offer::Refused {
            self.read += 1;
        }
        match outcome {
            Offer::Send { consumer, redelivery_count } => {
                self.deliver(n, consumer, redelivery_count);
                true
            }
            Offer::Held | Offer::Refused => false,
        }
    }

    /// What the dispatcher was told of a membership change or a redelivery.
    pub(super) fn apply(&mut self, actions: &[Action]) {
        if actions.contains(&Action::Rewind) {
            self.read = self.mark;
            self.holders.clear();
        }
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let World { kind, seed, log, .. } = self;
        write!(f, "{kind:?}, {} published, again with MAGNETAR_MODEL_SEED={seed}", log.len())
    }
}
