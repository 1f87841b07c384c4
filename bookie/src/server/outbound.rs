//! What one connection has to send, and how much it still owes.
//!
//! Any thread queues responses; whoever holds the writing half writes them: the connection's task, or for a few bytes the
//! thread that queued them. Queueing does not wake the task: the caller does, once, after everything it has for this
//! connection is queued, so that the answers of one sync batch leave in one write.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use magnetar_common::budget::Ticket;
use magnetar_common::net::WriteHalf;
use tokio::io::AsyncWrite;
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

/// Where what is copied goes on in memory of its own, instead of moving everything into more of it.
const TAIL_BYTES_MAX: usize = 64 << 10;

/// More than this is left to the connection's task: the thread that queues has better things to do than to copy it.
const WRITE_NOW_BYTES_MAX: usize = 2 << 10;

/// What is there to write, in order.
#[derive(Default)]
pub(super) struct Queue {
    /// Ready chunks, before `tail`.
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    /// The share of the server's budget that bodies among the chunks take.
    ticket: Option<Ticket>,
    /// The way to the peer; somebody is writing while it is away.
    writer: Option<WriteHalf>,
    /// Others than the task may write.
    shares_writer: bool,
}

/// What was taken from a queue, to be written by the one who has it.
pub(super) struct Taken {
    pub(super) chunks: Chunks,
    /// To hold until the chunks are written.
    pub(super) ticket: Option<Ticket>,
    pub(super) writer: WriteHalf,
}

impl Queue {
    /// Everything there is to write, with the way to write it; `None` while one of both is missing.
    fn take(&mut self) -> Option<Taken> {
        if self.chunks.is_empty() && self.tail.is_empty() {
            return None;
        }
        let writer = self.writer.take()?;
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.chunks.push_back(tail);
        }
        let chunks = Chunks::new(std::mem::take(&mut self.chunks));
        Some(Taken { chunks, ticket: self.ticket.take(), writer })
    }

    /// Appends what `encode` writes, then `body` unchanged; returns their size.
    pub(super) fn push(&mut self, encode: impl FnOnce(&mut BytesMut), body: Option<Bytes>) -> usize {
        let before = self.tail.len();
        encode(&mut self.tail);
        let mut bytes = self.tail.len() - before;
        match body {
            Some(body) if body.len() < COPY_BYTES_MAX => {
                bytes += body.len();
                self.tail.extend_from_slice(&body);
            }
            Some(body) => {
                bytes += body.len();
                self.chunks.push_back(self.tail.split().freeze());
                self.chunks.push_back(body);
            }
            None => {}
        }
        if self.tail.len() > TAIL_BYTES_MAX - COPY_BYTES_MAX {
            let full = std::mem::replace(&mut self.tail, BytesMut::with_capacity(TAIL_BYTES_MAX));
            self.chunks.push_back(full.freeze());
        }
        bytes
    }

    fn hold(&mut self, ticket: Ticket) {
        match &mut self.ticket {
            Some(held) => held.merge(ticket),
            held => *held = Some(ticket),
        }
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
        if let Some(ticket) = ticket {
            queue.hold(ticket);
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

    /// Opens the way to the peer. `shared`: threads that call [`Outbound::write_now`] may write, too.
    pub(super) fn open(&self, writer: WriteHalf, shared: bool) {
        let mut queue = self.lock();
        (queue.writer, queue.shares_writer) = (Some(writer), shared);
    }

    /// Wakes the task.
    pub(super) fn wake(&self) {
        self.ready.notify_one();
    }

    /// Writes what is queued on the calling thread if it is little, nobody else is writing and the socket takes it at
    /// once; wakes the task for whatever is left. Saves the wake-up when an answer is waited for. Never blocks.
    pub(super) fn write_now(&self) {
        let taken = {
            let mut queue = self.lock();
            let little = queue.chunks.is_empty() && queue.tail.len() <= WRITE_NOW_BYTES_MAX;
            if little && queue.shares_writer && !self.is_closed() { queue.take() } else { None }
        };
        let Some(Taken { mut chunks, ticket, mut writer }) = taken else { return self.wake() };
        // The task asks again for everything that is not written here, an error included, so nobody need wake us.
        let mut context = Context::from_waker(Waker::noop());
        let before = chunks.remaining();
        while chunks.has_remaining() {
            match Pin::new(&mut writer).poll_write(&mut context, chunks.chunk()) {
                Poll::Ready(Ok(written @ 1..)) => chunks.advance(written),
                _ => break,
            }
        }
        let written = before - chunks.remaining();
        let mut queue = self.lock();
        if chunks.has_remaining() {
            queue.chunks.push_front(chunks.copy_to_bytes(chunks.remaining()));
            if let Some(ticket) = ticket {
                queue.hold(ticket);
            }
        }
        self.give_back(queue, writer);
        self.sent(written);
    }

    /// Ends what [`Outbound::take`] began.
    pub(super) fn written(&self, writer: WriteHalf) {
        self.give_back(self.lock(), writer);
    }

    fn give_back(&self, mut queue: MutexGuard<'_, Queue>, writer: WriteHalf) {
        queue.writer = Some(writer);
        if !queue.chunks.is_empty() || !queue.tail.is_empty() || self.is_closed() {
            self.wake();
        }
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

    /// Waits for something to write; `None` when closed and empty. Give the writer back with [`Outbound::written`].
    pub(super) async fn take(&self) -> Option<Taken> {
        loop {
            {
                let mut queue = self.lock();
                if let Some(taken) = queue.take() {
                    return Some(taken);
                }
                // With the writer away, its holder wakes this task.
                if self.is_closed() && queue.writer.is_some() {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }

    /// The writer of a connection that is over, unless somebody has it.
    pub(super) fn take_writer(&self) -> Option<WriteHalf> {
        self.lock().writer.take()
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

    fn opened() -> Outbound {
        let outbound = Outbound::default();
        outbound.open(Box::new(tokio::io::sink()), true);
        outbound
    }

    /// Takes so many bytes, then one more at a time whenever it is asked for the second time.
    struct Narrow {
        room: usize,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                self.room = 1;
                return Poll::Pending;
            }
            self.room -= count;
            self.taken.lock().unwrap().extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_a_full_socket_does_not_take_at_once_is_left_to_the_task_in_order() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let outbound = Outbound::default();
        outbound.open(Box::new(Narrow { room: 3, taken: taken.clone() }), true);
        outbound.push_frames(b"abcde");
        outbound.write_now();
        assert_eq!(*taken.lock().unwrap(), b"abc");
        outbound.push_frames(b"fg");
        let mut rest = outbound.take().await.unwrap();
        assert_eq!(rest.chunks.copy_to_bytes(rest.chunks.remaining()), b"defg"[..]);
        outbound.sent(4);
        // While the task writes, another thread's frames wait for it.
        outbound.push_frames(b"h");
        outbound.write_now();
        assert_eq!(*taken.lock().unwrap(), b"abc");
        outbound.written(rest.writer);
        outbound.write_now();
        assert_eq!(*taken.lock().unwrap(), b"abch");
        assert_eq!(outbound.owed.load(Ordering::Relaxed), 0);
        outbound.close();
        assert!(outbound.take().await.is_none());
    }

    /// The writer once paid for a frame between its queueing and its being counted, and brought the connection down.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_written_was_owed_before() {
        let outbound = Arc::new(opened());
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
        while let Some(Taken { chunks, writer, .. }) = outbound.take().await {
            written += chunks.remaining();
            outbound.sent(chunks.remaining());
            outbound.written(writer);
        }
        pusher.join().unwrap();
        assert_eq!(written, (0..20_000usize).map(|n| n % 3000 + 28).sum::<usize>());
        assert_eq!(outbound.owed.load(Ordering::Relaxed), 0);
        assert_eq!(outbound.unsent.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn frames_come_out_in_order_however_they_were_queued() {
        let outbound = opened();
        let (ledger_id, first_entry) = (LedgerId(1), EntryId(2));
        let bodies = [1, COPY_BYTES_MAX].map(|bytes| Bytes::from(vec![8; bytes])).to_vec();
        let batch = Response::BatchRead { code: Code::Ok, ledger_id, first_entry, request_id: 3, bodies };
        let mut responses = vec![found(1), found(COPY_BYTES_MAX), batch, found(0)];
        // More than fits in one piece of memory, with a body between that is not copied.
        responses.extend((0..300).map(|n| found(if n == 200 { COPY_BYTES_MAX } else { 1000 + n })));
        let mut expected = BytesMut::new();
        for response in &responses {
            encode_response(response, &mut expected);
        }
        expected.extend_from_slice(b"frames");
        outbound.push(responses.into_iter().map(Answer::V2), None);
        outbound.push_frames(b"frames");
        let mut chunks = outbound.take().await.unwrap().chunks;
        assert_eq!(chunks.copy_to_bytes(chunks.remaining()), expected);
    }

    #[tokio::test]
    async fn the_budget_is_free_again_when_the_answers_are_written() {
        let (outbound, budget) = (opened(), ByteBudget::new(1 << 20));
        outbound.push([Answer::V2(found(5000))], budget.try_acquire(5000));
        outbound.push([Answer::V2(found(3000))], budget.try_acquire(3000));
        let taken = outbound.take().await.unwrap();
        assert!(budget.used() >= 8000);
        drop(taken);
        assert_eq!(budget.used(), 0);
    }
}
