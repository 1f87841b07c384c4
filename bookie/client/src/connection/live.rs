//! An established connection: three futures of one task, which write, read, and watch for silence.

use super::Shared;
use super::outstanding::{Admission, Answered, Outstanding, Waiting};
use super::request::{Key, Outgoing};
use crate::protocol::writer::AddOutcome;
use bytes::{Buf, Bytes, BytesMut};
use magnetar_common::Environment;
use magnetar_common::net::{ReadHalf, Stream, WriteHalf};
use magnetar_proto::bookkeeper::v2::{self, Response};
use magnetar_proto::bookkeeper::{Code, frame};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

/// A request without an answer for so long has failed; without any answer at all, so has the connection.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How often requests are looked through for late ones.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Slices in one vectored write; the kernel takes up to 1024.
const SLICES_MAX: usize = 256;
/// The longest answer: a full-sized Pulsar message with the headers of both protocols.
const FRAME_BYTES_MAX: usize = frame::MAX_FRAME_SIZE + 64 * 1024;
/// Room made for each read from the socket.
const READ_BYTES: usize = 64 * 1024;

/// The state that the three futures share. The locks are never contended: one task runs them all.
pub(super) struct Live<'a> {
    shared: &'a Shared,
    env: &'a Environment,
    outstanding: Mutex<Outstanding>,
    /// When an answer came last, or a request went out to an idle bookie.
    progress: Mutex<Duration>,
    sent: Notify,
}

impl<'a> Live<'a> {
    pub(super) fn new(shared: &'a Shared, env: &'a Environment) -> Self {
        Self {
            shared,
            env,
            outstanding: Mutex::default(),
            progress: Mutex::new(env.clock.now()),
            sent: Notify::new(),
        }
    }

    /// Serves `batch` and what is queued after it until the connection ends. What is then left in `batch` was not sent;
    /// everything sent has its outcome.
    pub(super) async fn serve(&self, stream: Stream, batch: &mut Vec<Outgoing>) -> io::Result<()> {
        let end = tokio::select! {
            end = self.write(stream.writer, batch) => end,
            end = self.read(stream.reader) => end,
            () = self.watch() => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer for 10 s")),
        };
        let freed = self.outstanding().fail_all();
        self.shared.release(freed);
        end
    }

    fn outstanding(&self) -> MutexGuard<'_, Outstanding> {
        self.outstanding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Duration> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, mut writer: WriteHalf, batch: &mut Vec<Outgoing>) -> io::Result<()> {
        let mut slices = VecDeque::new();
        loop {
            let now = self.env.clock.now();
            {
                let mut outstanding = self.outstanding();
                if outstanding.is_empty() {
                    *self.progress() = now;
                }
                for request in batch.drain(..) {
                    let held = outstanding.admit(request, now, |request| request.encode(&mut slices));
                    if held == Admission::Held {
                        tracing::trace!("an equal request is on the wire; holding one back");
                    }
                }
            }
            self.sent.notify_one();
            write_all(&mut writer, &mut slices).await?;
            // TLS keeps the end of what is written to itself until it is told; TCP has nothing to flush.
            writer.flush().await?;
            if !self.shared.take(batch).await {
                return Ok(());
            }
        }
    }

    async fn read(&self, mut reader: ReadHalf) -> io::Result<()> {
        let mut decoder = frame::Decoder::new(FRAME_BYTES_MAX);
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        loop {
            if reader.read_buf(&mut buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the bookie"));
            }
            let now = self.env.clock.now();
            while let Some(packet) = decoder.decode(&mut buffer).map_err(invalid)? {
                self.complete(v2::decode_response(packet).map_err(invalid)?, now)?;
                // Thousands of answers may have come at once, and other connections wait.
                tokio::task::consume_budget().await;
            }
            *self.progress() = now;
            self.shared.adds.on_progress(now);
            buffer.reserve(READ_BYTES);
        }
    }

    fn complete(&self, response: Response, now: Duration) -> io::Result<()> {
        let key = match &response {
            Response::Add { ledger_id, entry_id, .. } => Key::Add(*ledger_id, *entry_id),
            Response::Read { ledger_id, entry_id, .. } => Key::Read(*ledger_id, *entry_id),
            Response::BatchRead { request_id, .. } => Key::BatchRead(*request_id),
            Response::Auth(_) => {
                return Err(invalid("an answer to nothing that was asked"));
            }
        };
        let Some(Answered { waiting, sent, next }) = self.outstanding().answered(key) else { return Ok(()) };
        if let Some(next) = next {
            self.shared.push(next);
        }
        match (waiting, response) {
            (Waiting::Add(reply, bytes), Response::Add { code, .. }) => {
                self.shared.adds.on_answer(sent, now);
                self.shared.release(bytes);
                reply.answer(add_outcome(code));
            }
            (Waiting::Read(reply), Response::Read { code, body, .. }) => {
                let _ = reply.send(Some((code, body)));
            }
            (Waiting::BatchRead(reply), Response::BatchRead { code, bodies, .. }) => {
                let _ = reply.send(Some((code, bodies)));
            }
            // Given up before. The key names the operation, so no other pair meets here.
            _ => {}
        }
        Ok(())
    }

    /// Gives up late requests; ends when there has been no answer at all for too long. Sleeps only while requests wait.
    async fn watch(&self) {
        loop {
            if self.outstanding().is_empty() {
                self.sent.notified().await;
            }
            self.env.clock.sleep(WATCH_INTERVAL).await;
            let Some(before) = self.env.clock.now().checked_sub(ANSWER_MAX) else { continue };
            if *self.progress() <= before && !self.outstanding().is_empty() {
                return;
            }
            let freed = self.outstanding().expire(before);
            self.shared.release(freed);
        }
    }
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn add_outcome(code: Code) -> AddOutcome {
    match code {
        Code::Ok => AddOutcome::Stored,
        Code::Fenced => AddOutcome::Fenced,
        Code::Unauthorized => AddOutcome::Unauthorized,
        Code::NoLedger
        | Code::NoEntry
        | Code::BadRequest
        | Code::Io
        | Code::BadVersion
        | Code::ReadOnly
        | Code::TooManyRequests
        | Code::UnknownLedgerState => AddOutcome::Failed,
    }
}

/// Writes all slices, many with each system call, and leaves them empty.
async fn write_all(writer: &mut WriteHalf, slices: &mut VecDeque<Bytes>) -> io::Result<()> {
    while !slices.is_empty() {
        let mut written = {
            let mut io = [IoSlice::new(&[]); SLICES_MAX];
            let count = slices.len().min(SLICES_MAX);
            for (io, slice) in io.iter_mut().zip(slices.iter()) {
                *io = IoSlice::new(slice);
            }
            writer.write_vectored(&io[..count]).await?
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = slices.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            slices.pop_front();
        }
    }
    Ok(())
}
