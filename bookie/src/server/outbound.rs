//! What one connection has to send, and how much it still owes.
//!
//! Any thread queues responses; one task writes them. Queueing does not wake the writer: the caller does, once, after
//! everything it has for this connection is queued, so that the answers of one sync batch leave in one write.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use magnetar_common::budget::Ticket;
use tokio::sync::Notify;

use super::answer::Answer;
use super::chunks::Chunks;

/// A connection that owes more than this (adds not yet durable plus responses not yet written) is not read from: more
/// than one sync's worth of a fast disk, and small against the write cache of a bookie with several clients.
const OWED_BYTES_MAX: usize = 16 << 20;

/// Entries are not read for a connection that has more than this to send: enough to keep a fast network busy while the
/// next ones are read. Far below what a connection may owe, so that a reader that is behind does not hold up adds.
const UNSENT_BYTES_MAX: usize = 4 << 20;

/// Bodies below this are copied behind their header: cheaper than one more slice in a vectored write.
const COPY_BYTES_MAX: usize = 2 << 10;

/// What is there to write, in order.
#[derive(Default)]
pub(super) struct Queue {
    /// Ready chunks, before `tail`.
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    /// The share of the server's budget that bodies among the chunks take.
    ticket: Option<Ticket>,
}

impl Queue {
    /// Appends what `encode` writes, then `body` unchanged; returns their size.
    pub(super) fn push(&mut self, encode: impl FnOnce(&mut BytesMut), body: Option<Bytes>) -> usize {
        let before = self.tail.len();
        encode(&mut self.tail);
        let encoded = self.tail.len() - before;
        let Some(body) = body else { return encoded };
        let bytes = encoded + body.len();
        if body.len() < COPY_BYTES_MAX {
            self.tail.extend_from_slice(&body);
        } else {
            self.chunks.push_back(self.tail.split().freeze());
            self.chunks.push_back(body);
        }
        bytes
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Outbound {
    queue: Mutex<Queue>,
    ready: Notify,
    /// Bytes of adds that are not durable, and of answers not sent.
    owed: AtomicUsize,
    /// Bytes of answers not sent: a part of `owed`.
    unsent: AtomicUsize,
    paid: Notify,
    closed: AtomicBool,
}

impl Outbound {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while holding an outbound queue")
    }

    /// Queues answers; `ticket` is given back once they are sent.
    pub(super) fn push(&self, answers: impl IntoIterator<Item = Answer>, ticket: Option<Ticket>) {
        let mut queue = self.lock();
        let bytes = answers.into_iter().map(|answer| answer.queue(&mut queue)).sum();
        match (&mut queue.ticket, ticket) {
            (Some(held), Some(ticket)) => held.merge(ticket),
            (held, ticket) => *held = held.take().or(ticket),
        }
        // Under the lock: the writer must not pay for bytes before they are owed.
        self.count_unsent(bytes);
        drop(queue);
    }

    /// Queues whole frames encoded before.
    pub(super) fn push_frames(&self, frames: &[u8]) {
        let mut queue = self.lock();
        queue.tail.extend_from_slice(frames);
        self.count_unsent(frames.len());
        drop(queue);
    }

    /// Wakes the writer.
    pub(super) fn wake(&self) {
        self.ready.notify_one();
    }

    /// Counts bytes that this connection makes us hold.
    pub(super) fn owe(&self, bytes: usize) {
        self.owed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes back what [`Outbound::owe`] counted.
    pub(super) fn pay(&self, bytes: usize) {
        let before = self.owed.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "only what is owed can be paid");
        if before > OWED_BYTES_MAX && before - bytes <= OWED_BYTES_MAX {
            self.paid.notify_waiters();
        }
    }

    fn count_unsent(&self, bytes: usize) {
        self.owe(bytes);
        self.unsent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many of the bytes taken have been written.
    pub(super) fn sent(&self, bytes: usize) {
        let before = self.unsent.fetch_sub(bytes, Ordering::Relaxed);
        if before > UNSENT_BYTES_MAX && before - bytes <= UNSENT_BYTES_MAX {
            self.paid.notify_waiters();
        }
        self.pay(bytes);
    }

    /// Waits until the connection owes little enough to take more work.
    pub(super) async fn not_overloaded(&self) {
        self.until(|| self.owed.load(Ordering::Relaxed) <= OWED_BYTES_MAX).await;
    }

    /// With `bytes` more there is still little enough to send that more may be read for this connection.
    pub(super) fn takes_more(&self, bytes: usize) -> bool {
        self.unsent.load(Ordering::Relaxed) + bytes <= UNSENT_BYTES_MAX
    }

    /// Waits until there is little enough to send.
    pub(super) async fn drained(&self) {
        self.until(|| self.takes_more(0)).await;
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            let paid = self.paid.notified();
            tokio::pin!(paid);
            paid.as_mut().enable();
            if condition() || self.is_closed() {
                return;
            }
            paid.await;
        }
    }

    /// Nothing is written any more; who waits goes on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.paid.notify_waiters();
        self.ready.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Waits for something to write, with the ticket to hold until it is written; `None` when closed and empty.
    pub(super) async fn take(&self) -> Option<(Chunks, Option<Ticket>)> {
        loop {
            {
                let mut queue = self.lock();
                if !queue.tail.is_empty() {
                    let tail = queue.tail.split().freeze();
                    queue.chunks.push_back(tail);
                }
                if !queue.chunks.is_empty() {
                    let chunks = Chunks::new(std::mem::take(&mut queue.chunks));
                    return Some((chunks, queue.ticket.take()));
                }
            }
            if self.is_closed() {
                return None;
            }
            self.ready.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Buf;
    use magnetar_common::budget::ByteBudget;
    use magnetar_proto::bookkeeper::Code;
    use magnetar_proto::bookkeeper::v2::{Response, encode_response};
    use magnetar_proto::ids::{EntryId, LedgerId};

    use super::*;

    fn found(bytes: usize) -> Response {
        let body = Some(Bytes::from(vec![7; bytes]));
        Response::Read { code: Code::Ok, ledger_id: LedgerId(1), entry_id: Some(EntryId(2)), body }
    }

    /// The writer once paid for a frame between its queueing and its being counted, and brought the connection down.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_written_was_owed_before() {
        let outbound = Arc::new(Outbound::default());
        let pusher = {
            let outbound = outbound.clone();
            std::thread::spawn(move || {
                for n in 0..20_000usize {
                    outbound.push([Answer::V2(found(n % 3000))], None);
                    outbound.wake();
                }
                outbound.close();
            })
        };
        let mut written = 0;
        while let Some((chunks, _)) = outbound.take().await {
            written += chunks.remaining();
            outbound.sent(chunks.remaining());
        }
        pusher.join().unwrap();
        assert_eq!(written, (0..20_000usize).map(|n| n % 3000 + 28).sum::<usize>());
        assert_eq!(outbound.owed.load(Ordering::Relaxed), 0);
        assert_eq!(outbound.unsent.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn frames_come_out_in_order_however_they_were_queued() {
        let outbound = Outbound::default();
        let (ledger_id, first_entry) = (LedgerId(1), EntryId(2));
        let bodies = [1, COPY_BYTES_MAX].map(|bytes| Bytes::from(vec![8; bytes])).to_vec();
        let batch = Response::BatchRead { code: Code::Ok, ledger_id, first_entry, request_id: 3, bodies };
        let responses = [found(1), found(COPY_BYTES_MAX), batch, found(0)];
        let mut expected = BytesMut::new();
        for response in &responses {
            encode_response(response, &mut expected);
        }
        expected.extend_from_slice(b"frames");
        outbound.push(responses.map(Answer::V2), None);
        outbound.push_frames(b"frames");
        let (mut chunks, _) = outbound.take().await.unwrap();
        assert_eq!(chunks.copy_to_bytes(chunks.remaining()), expected);
    }

    #[tokio::test]
    async fn the_budget_is_free_again_when_the_answers_are_written() {
        let (outbound, budget) = (Outbound::default(), ByteBudget::new(1 << 20));
        outbound.push([Answer::V2(found(5000))], budget.try_acquire(5000));
        outbound.push([Answer::V2(found(3000))], budget.try_acquire(3000));
        let (chunks, ticket) = outbound.take().await.unwrap();
        assert!(budget.used() >= 8000);
        drop((chunks, ticket));
        assert_eq!(budget.used(), 0);
    }
}
