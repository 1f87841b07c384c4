//! What one connection has to send, and how much it still owes.
//!
//! Any thread queues responses; one task writes them. Queueing does not wake the writer: the caller does, once, after
//! everything it has for this connection is queued, so that the answers of one sync batch leave in one write.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::Notify;

/// A connection that owes more than this (adds not yet durable plus responses not yet written) is not read from: more
/// than one sync's worth of a fast disk, and small against the write cache of a bookie with several clients.
const OWED_BYTES_MAX: usize = 16 << 20;

/// Bodies below this are copied behind their header: cheaper than one more slice in a vectored write.
const COPY_BYTES_MAX: usize = 2 << 10;

#[derive(Default)]
struct Queue {
    /// Ready chunks, before `tail`.
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
}

impl Queue {
    /// Appends what `encode` writes, then `body`; returns their size.
    fn push(&mut self, encode: impl FnOnce(&mut BytesMut), body: Option<Bytes>) -> usize {
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
    owed: AtomicUsize,
    paid: Notify,
    closed: AtomicBool,
}

impl Outbound {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while holding an outbound queue")
    }

    /// Queues the frames that `encode` appends, then `body` unchanged.
    pub(super) fn push(&self, body: Option<Bytes>, encode: impl FnOnce(&mut BytesMut)) {
        let mut queue = self.lock();
        let bytes = queue.push(encode, body);
        // Under the lock: the writer must not pay for bytes before they are owed.
        self.owe(bytes);
        drop(queue);
    }

    /// Queues one frame of several parts; nothing of another frame comes between them.
    pub(super) fn push_many<F: FnOnce(&mut BytesMut)>(
        &self,
        header: impl FnOnce(&mut BytesMut),
        parts: impl Iterator<Item = (F, Bytes)>,
    ) {
        let mut queue = self.lock();
        let mut bytes = queue.push(header, None);
        for (encode, body) in parts {
            bytes += queue.push(encode, Some(body));
        }
        self.owe(bytes);
    }

    /// Queues whole frames encoded before.
    pub(super) fn push_frames(&self, frames: &[u8]) {
        let mut queue = self.lock();
        queue.tail.extend_from_slice(frames);
        self.owe(frames.len());
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

    /// Waits until the connection owes little enough to take more work.
    pub(super) async fn not_overloaded(&self) {
        loop {
            let paid = self.paid.notified();
            tokio::pin!(paid);
            paid.as_mut().enable();
            if self.owed.load(Ordering::Relaxed) <= OWED_BYTES_MAX || self.is_closed() {
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

    /// Waits for something to write; `None` when closed and empty.
    pub(super) async fn take(&self) -> Option<Chunks> {
        loop {
            {
                let mut queue = self.lock();
                if !queue.tail.is_empty() {
                    let tail = queue.tail.split().freeze();
                    queue.chunks.push_back(tail);
                }
                if !queue.chunks.is_empty() {
                    return Some(Chunks(std::mem::take(&mut queue.chunks)));
                }
            }
            if self.is_closed() {
                return None;
            }
            self.ready.notified().await;
        }
    }
}

/// Chunks to write one after the other.
pub(super) struct Chunks(VecDeque<Bytes>);

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn has_remaining(&self) -> bool {
        self.0.iter().any(|chunk| !chunk.is_empty())
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |chunk| chunk)
    }

    fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let first = self.0.front_mut().expect("advance stays within what remains");
            if bytes < first.len() {
                return first.advance(bytes);
            }
            bytes -= first.len();
            self.0.pop_front();
        }
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, chunk) in into.iter_mut().zip(&self.0) {
            *slot = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// The writer once paid for a frame between its queueing and its being counted, and brought the connection down.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_written_was_owed_before() {
        let outbound = Arc::new(Outbound::default());
        let pusher = {
            let outbound = outbound.clone();
            std::thread::spawn(move || {
                for n in 0..20_000usize {
                    outbound
                        .push(Some(Bytes::from(vec![0; n % 3000])), |out| out.extend_from_slice(b"header"));
                    outbound.wake();
                }
                outbound.close();
            })
        };
        let mut written = 0;
        while let Some(chunks) = outbound.take().await {
            written += chunks.remaining();
            outbound.pay(chunks.remaining());
        }
        pusher.join().unwrap();
        assert_eq!(written, (0..20_000usize).map(|n| n % 3000 + 6).sum::<usize>());
        assert_eq!(outbound.owed.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn frames_come_out_in_order_however_they_were_queued() {
        let outbound = Outbound::default();
        let large = Bytes::from(vec![7; COPY_BYTES_MAX]);
        outbound.push(None, |out| out.extend_from_slice(b"a"));
        outbound.push(Some(large.clone()), |out| out.extend_from_slice(b"b"));
        outbound.push_frames(b"c");
        let part = |byte: u8| move |out: &mut BytesMut| out.extend_from_slice(&[byte]);
        let parts = [(part(b'e'), large.clone()), (part(b'f'), Bytes::from_static(b"small"))];
        outbound.push_many(part(b'd'), parts.into_iter());
        let mut queue = outbound.lock();
        let tail = queue.tail.split().freeze();
        queue.chunks.push_back(tail);
        let mut chunks = Chunks(std::mem::take(&mut queue.chunks));
        let expected = [b"ab", &large[..], b"cde", &large[..], b"fsmall"].concat();
        assert_eq!(chunks.copy_to_bytes(chunks.remaining()), expected);
    }
}
