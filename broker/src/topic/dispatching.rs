//! Getting entries from the tail cache, or from bookies, to consumers with permits.

use magnetar_proto::ids::Position;

use super::compaction;
use super::consumer::Delivery;
use super::dead_letter::Verdict;
use super::filter;
use super::reads::{Ahead, Source, after};
use super::runs::{Runs, Wanted};
use super::subscription::{Context, Subscription, tag};
use super::tail_cache::{Entry, expired_before_ms};
use crate::dispatch::{ConsumerId, EntryInfo, Offer, Want};

/// While so many entries wait in the replay set, delayed ones that fell due wait where they take less memory.
pub(crate) const REPLAY_PULL: usize = 1_000;

/// What became of an entry.
#[derive(PartialEq, Eq)]
enum Outcome {
    /// It is done with for now: sent, held, delayed or acknowledged.
    Taken,
    /// Nobody can take it now.
    Refused,
}

impl Subscription {
    /// Sends what can be sent.
    pub(crate) fn dispatch(&mut self, cx: &Context<'_>, runs: &mut Runs) {
        self.due = false;
        if self.consumers.is_empty() {
            return;
        }
        loop {
            self.pull_due(cx);
            let progress = match self.dispatcher.want() {
                Want::Nothing => false,
                Want::Replay(positions) => self.dispatch_replay(&positions, cx),
                Want::New => self.dispatch_new(cx, runs),
            };
            if !progress {
                break;
            }
        }
        if cx.terminated && self.backlog(cx.ledgers) == 0 {
            self.consumers.values_mut().for_each(super::consumer::Consumer::send_end_of_topic);
        }
    }

    /// Moves delayed entries that fell due into the replay set, some at a time: millions may fall due together.
    fn pull_due(&mut self, cx: &Context<'_>) {
        while self.dispatcher.replay_len() < REPLAY_PULL
            && let Some((position, tag)) = self.delayed.pop_due(cx.now_ms)
        {
            if !self.cursor.is_acked(position) {
                self.dispatcher.replay(position, tag);
            }
        }
    }

    fn dispatch_replay(&mut self, positions: &[Position], cx: &Context<'_>) -> bool {
        let Some(source) = &cx.source else { return false };
        let mut progress = false;
        for (n, &position) in positions.iter().enumerate() {
            if self.cursor.is_acked(position) {
                self.dispatcher.acked(position);
                progress = true;
                continue;
            }
            let found = cx.cache.get(position).or_else(|| self.reads.replayed(position)).cloned();
            let Some(entry) = found else {
                // Nothing later may be offered before it: it could be of the same key.
                let missing = |p: &&Position| cx.cache.get(**p).is_none();
                self.reads.read_replay(positions[n..].iter().filter(missing).copied().collect(), source);
                return progress;
            };
            if self.give(&entry, cx) == Outcome::Refused {
                return progress;
            }
            self.reads.forget(position);
            progress = true;
        }
        progress
    }

    /// True when entries were taken and the dispatcher should be asked again.
    fn dispatch_new(&mut self, cx: &Context<'_>, runs: &mut Runs) -> bool {
        let mut progress = false;
        loop {
            if let Some(compacted) = cx.compacted.as_ref().filter(|c| self.reads_from(c)) {
                match self.dispatch_compacted(compacted, cx) {
                    true => progress = true,
                    false => return progress,
                }
                continue;
            }
            let Some(source) = cx.source.as_ref().filter(|source| self.read_position <= source.up_to) else {
                return progress;
            };
            if self.cursor.is_acked(self.read_position) {
                self.read_position = after(self.read_position);
                continue;
            }
            if self.stream(source.up_to, cx, runs) {
                progress = true;
                continue;
            }
            let entry = match cx.cache.at_or_after(self.read_position) {
                Some(entry) => entry.clone(),
                None => match self.reads.ahead(self.read_position, source) {
                    Ahead::Entry(entry) => entry,
                    Ahead::Wait => return progress,
                    Ahead::NothingUpTo(last) => {
                        self.read_position = after(last);
                        continue;
                    }
                },
            };
            if entry.position > source.up_to || self.give(&entry, cx) == Outcome::Refused {
                return progress;
            }
            self.read_position = after(entry.position);
            progress = true;
        }
    }

    /// Sends neighbouring entries as one, if none of them needs a look of its own: not acknowledged in part, not given back
    /// before, not too old, not filtered, and to the one consumer that receives. False if the next entry may need one.
    fn stream(&mut self, up_to: Position, cx: &Context<'_>, runs: &mut Runs) -> bool {
        let (is_filtered, from) = (cx.filters && filter::filters(&self.properties), self.read_position);
        if self.read_compacted || is_filtered || self.departing.len() > 0 {
            return false;
        }
        let Some((id, permits)) = self.dispatcher.stream_from(from) else { return false };
        let Some(consumer) = self.consumers.get_mut(&id) else { return false };
        if !self.cursor.is_untouched_from(from) {
            return false;
        }
        // Asked before as well as after: of a connection with many consumers each would send a whole piece until it knows.
        if !consumer.outbound.is_writable() {
            self.dispatcher.set_writable(id, false);
            return false;
        }
        let expired_before_ms = cx.ttl.map_or(0, |ttl| expired_before_ms(ttl, cx.now_ms));
        let (to, partition) = (consumer.addressee(), cx.partition);
        let wanted = Wanted { from, to, permits, partition, expired_before_ms };
        let Some(run) = runs.at(&wanted, cx.cache) else { return false };
        let is_old = run.oldest_ms < expired_before_ms;
        let Some(piece) = run.piece(from, permits).filter(|piece| !is_old && piece.last <= up_to) else {
            return false;
        };
        consumer.send_piece(&piece, cx.now_ms);
        self.dispatcher.streamed(piece.messages);
        if !consumer.outbound.is_writable() {
            self.dispatcher.set_writable(id, false);
        }
        self.counters.out.add(piece.messages, piece.bytes);
        self.counters.last_consumed_ms = cx.now_ms;
        self.read_position = after(piece.last);
        true
    }

    fn reads_from(&self, compacted: &Source) -> bool {
        self.read_compacted && self.read_position <= compacted.up_to
    }

    /// The next step among what was compacted; false when it can get no further now.
    fn dispatch_compacted(&mut self, compacted: &Source, cx: &Context<'_>) -> bool {
        let (end, entry) = match self.reads.ahead(self.read_position, compacted) {
            Ahead::Wait => return false,
            Ahead::NothingUpTo(last) => (after(last), None),
            Ahead::Entry(entry) => (entry.position, Some(entry)),
        };
        self.pass_compacted_out(end, cx);
        let Some(entry) = entry else {
            self.read_position = end;
            return true;
        };
        let is_due = !self.cursor.is_acked(entry.position);
        if self.give(&entry, cx) == Outcome::Refused {
            return false;
        }
        self.given_before_all |= is_due && cx.ledgers.is_before_all(entry.position.ledger_id);
        self.read_position = after(entry.position);
        true
    }

    /// Nobody will acknowledge what is not there any more.
    fn pass_compacted_out(&mut self, end: Position, cx: &Context<'_>) {
        if cx.ledgers.is_before_all(end.ledger_id) {
            return;
        }
        if !self.given_before_all {
            self.cursor.wait_before_all(false, cx.ledgers);
        }
        if !cx.ledgers.is_before_all(self.cursor.mark_delete().ledger_id) {
            self.cursor.pass_over(self.read_position, end, cx.ledgers);
        }
    }

    fn give(&mut self, entry: &Entry, cx: &Context<'_>) -> Outcome {
        let position = entry.position;
        if self.cursor.is_acked(position) {
            return Outcome::Taken;
        }
        if entry.summary.marker_type.is_some() {
            self.ack_entry(position, cx);
            return Outcome::Taken;
        }
        if !self.read_compacted && cx.ttl.is_some_and(|ttl| entry.is_older(ttl, cx.now_ms)) {
            self.counters.expired.add(u64::from(entry.summary.num_messages), entry.bytes.len());
            self.counters.last_expire_ms = cx.now_ms;
            self.ack_entry(position, cx);
            return Outcome::Taken;
        }
        if self.filters_out(entry, cx) {
            self.ack_entry(position, cx);
            return Outcome::Taken;
        }
        let tag = tag(self.kind, &entry.summary);
        if self.dispatcher.tracks_entries()
            && cx.delays
            && let Some(at) = entry.summary.deliver_at_time
            && at > cx.now_ms as i64
        {
            if self.delayed.is_full() {
                return Outcome::Refused;
            }
            // A clock that was set back makes it wait anew.
            self.dispatcher.acked(position);
            self.delayed.push(at, position, tag, cx.now_ms);
            return Outcome::Taken;
        }
        let mut ack_set = self.cursor.ack_set_of(position).unwrap_or_default();
        if self.read_compacted
            && let Some(left) = compaction::left_of(&entry.bytes)
        {
            ack_set = both(ack_set, left);
            if ack_set.iter().all(|word| *word == 0) {
                self.ack_entry(position, cx);
                return Outcome::Taken;
            }
        }
        match self.judge(entry, tag, &ack_set, cx) {
            Verdict::Deliver => {}
            Verdict::Departs => return Outcome::Taken,
            Verdict::Waits => return Outcome::Refused,
        }
        let messages = match ack_set.is_empty() {
            true => entry.summary.num_messages,
            false => ack_set.iter().map(|word| word.count_ones()).sum(),
        };
        let last_chunk = entry.summary.chunk.as_ref().is_some_and(|chunk| chunk.id + 1 >= chunk.total);
        let info = EntryInfo { position, messages: messages.max(1), tag, last_chunk };
        match self.dispatcher.offer(&info) {
            Offer::Refused => Outcome::Refused,
            Offer::Held => Outcome::Taken,
            Offer::Send { consumer, redelivery_count } => {
                self.send(consumer, entry, redelivery_count, ack_set, info.messages, cx);
                Outcome::Taken
            }
        }
    }

    fn filters_out(&mut self, entry: &Entry, cx: &Context<'_>) -> bool {
        if !cx.filters || !filter::filters(&self.properties) {
            return false;
        }
        let rejected = filter::rejects(&self.properties, &entry.bytes);
        let count = if rejected { &mut self.counters.rejected } else { &mut self.counters.accepted };
        *count += u64::from(entry.summary.num_messages);
        rejected
    }

    fn send(
        &mut self,
        id: ConsumerId,
        entry: &Entry,
        redelivery_count: u32,
        ack_set: Vec<u64>,
        messages: u32,
        cx: &Context<'_>,
    ) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let with_epoch = self.kind.is_single();
        let partition = cx.partition;
        consumer.send(
            entry,
            Delivery { redelivery_count, ack_set, messages, with_epoch, partition },
            cx.now_ms,
        );
        if !consumer.outbound.is_writable() {
            self.dispatcher.set_writable(id, false);
        }
        self.counters.out.add(u64::from(messages), entry.bytes.len());
        if redelivery_count > 0 {
            self.counters.redelivered.add(u64::from(messages), entry.bytes.len());
        }
        self.counters.last_consumed_ms = cx.now_ms;
    }
}

/// The messages of a batch that are in both sets; an empty one stands for all.
fn both(acks_left: Vec<u64>, left: Vec<u64>) -> Vec<u64> {
    match acks_left.is_empty() {
        true => left,
        false => left.iter().zip(acks_left).map(|(left, acks_left)| left & acks_left).collect(),
    }
}
