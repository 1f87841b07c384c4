//! One compaction: reads the topic twice and writes what stays. Runs beside the topic's task and tells it how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use magnetar_ledger::{Client, LedgerError, LedgerOptions, Writer};
use magnetar_proto::ids::{LedgerId, Position};
use tokio::sync::{Semaphore, oneshot};

use super::compacted::Compacted;
use super::content::look;
use super::entry;
use super::newest::{Kept, Newest, TooManyKeys};
use super::options::is_of_same_topic;
use crate::managed_ledger::{MlError, MlReader};
use crate::topic::event::Events;
use magnetar_common::clock::SharedClock;
use magnetar_proto::pulsar::entry::{EntryError, headers_and_payload};

/// Entries read at a time, and their bytes.
const READ_ENTRIES: usize = 1_000;
const READ_BYTES: usize = 4 << 20;

/// Bytes written and not acknowledged: enough to keep the bookies busy.
const WRITE_AHEAD_BYTES: usize = 4 << 20;

/// Bytes that the keys of one topic may take: about two million short ones. A broker compacts few topics at a time.
pub(super) const KEYS_BYTES_MAX: usize = 256 << 20;

/// Told to the topic's task. `serial` is the job's.
pub(crate) struct Event {
    pub(super) serial: u64,
    pub(super) what: What,
}

pub(super) enum What {
    /// A ledger is to be made, and then: was made. The job goes on once the task has recorded that it may have to be deleted.
    Began {
        ledger: LedgerId,
        go: oneshot::Sender<()>,
    },
    Ended(Result<Finished, String>),
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    pub(super) ledger: LedgerId,
    pub(super) horizon: Position,
    pub(super) removed: u64,
    pub(super) took: Duration,
}

/// Why a compaction did not come to its end. Whatever it is, the topic is as it was.
#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error("read the topic: {0}")]
    Topic(#[from] MlError),
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    #[error("{0}")]
    Keys(#[from] TooManyKeys),
    #[error("an entry at {0} is damaged: {1}")]
    Entry(Position, EntryError),
    #[error("the topic ends at {0:?}, before {1}")]
    Short(Option<Position>, Position),
    #[error("ledger {0} exists, and is somebody else's")]
    IdTaken(LedgerId),
    #[error("the topic was closed")]
    Closed,
}

pub(super) struct Job {
    pub(super) serial: u64,
    pub(super) client: Client,
    pub(super) clock: SharedClock,
    pub(super) topic: MlReader,
    pub(super) former: Option<Compacted>,
    /// The first position after what `former` stands for.
    pub(super) from: Position,
    /// The new horizon, confirmed.
    pub(super) to: Position,
    pub(super) partition: Option<i32>,
    /// They tell whose ledger it is.
    pub(super) options: LedgerOptions,
    /// Ledgers that nobody needs any more.
    pub(super) leftovers: Vec<LedgerId>,
    /// How many compactions a broker does at a time.
    pub(super) slots: Arc<Semaphore>,
    pub(super) keys_bytes_max: usize,
    pub(super) events: Events,
    /// Set when nobody wants the outcome any more.
    pub(super) stop: Arc<AtomicBool>,
}

impl Job {
    pub(super) async fn run(self) {
        let result = self.compact().await;
        let ledger = result.as_ref().ok().map(|done| done.ledger);
        let told = self.tell(What::Ended(result.map_err(|error| error.to_string())));
        if let (Err(JobError::Closed), Some(ledger)) = (told, ledger) {
            self.discard(ledger).await;
        }
    }

    fn tell(&self, what: What) -> Result<(), JobError> {
        let told = self.events.tell(Event { serial: self.serial, what });
        told.then_some(()).ok_or(JobError::Closed)
    }

    /// Deletes what nobody will read. If that fails now, the ledger is named as a leftover.
    async fn discard(&self, ledger: LedgerId) {
        if let Err(error) = delete(&self.client, ledger, &self.options).await {
            tracing::warn!(%ledger, %error, "delete the ledger of a compaction that was given up");
        }
    }

    async fn compact(&self) -> Result<Finished, JobError> {
        let _slot = self.slots.acquire().await.map_err(|_| JobError::Closed)?;
        let began = self.clock.now();
        for leftover in &self.leftovers {
            delete(&self.client, *leftover, &self.options).await?;
        }
        let newest = self.find_newest().await?;
        let ledger = self.client.new_id().await?;
        match self.fill(ledger, &newest).await {
            Ok(removed) => {
                let took = self.clock.now().saturating_sub(began);
                Ok(Finished { ledger, horizon: self.to, removed, took })
            }
            Err(error) => {
                self.discard(ledger).await;
                Err(error)
            }
        }
    }

    /// The ledger is recorded before it is made, so that no crash leaves one that nobody knows of; and again after, so that an
    /// owner that was replaced in between learns of it while the ledger can still be given up.
    async fn fill(&self, ledger: LedgerId, newest: &Newest) -> Result<u64, JobError> {
        self.record(ledger).await?;
        let created = self.client.create_as(ledger, self.options.clone()).await?;
        let mut writer = created.ok_or(JobError::IdTaken(ledger))?;
        self.record(ledger).await?;
        let removed = self.write(newest, &mut writer).await?;
        writer.close().await?;
        Ok(removed)
    }

    async fn record(&self, ledger: LedgerId) -> Result<(), JobError> {
        let (go, gone) = oneshot::channel();
        self.tell(What::Began { ledger, go })?;
        gone.await.map_err(|_| JobError::Closed)
    }

    async fn find_newest(&self) -> Result<Newest, JobError> {
        let mut newest = Newest::new(self.keys_bytes_max);
        let mut log = Log::new(self);
        while let Some(entries) = log.next().await? {
            for (position, bytes) in entries {
                newest.see(position, &look(&bytes))?;
            }
        }
        Ok(newest)
    }

    /// Answers how many messages were left out.
    async fn write(&self, newest: &Newest, writer: &mut Writer) -> Result<u64, JobError> {
        let mut removed = 0;
        let mut log = Log::new(self);
        while let Some(entries) = log.next().await? {
            for (position, bytes) in entries {
                let (kept, gone) = newest.keep(position, look(&bytes));
                removed += gone;
                let message = match kept {
                    Kept::Nothing => continue,
                    Kept::Whole => bytes,
                    Kept::Part(part) => part,
                };
                append(writer, entry::encode(position, self.partition, &message)).await?;
            }
        }
        while writer.last_add_confirmed() < writer.last_add_pushed() {
            confirm(writer).await?;
        }
        Ok(removed)
    }
}

/// Deletes a ledger whose own record says that it is of this topic's compactions, as `options` do. A missing one is fine;
/// one of somebody else stays.
pub(super) async fn delete(
    client: &Client,
    ledger: LedgerId,
    options: &LedgerOptions,
) -> Result<(), LedgerError> {
    let metadata = match client.metadata(ledger).await {
        Err(LedgerError::NoSuchLedger(_)) => return Ok(()),
        found => found?,
    };
    if !is_of_same_topic(&metadata.custom, &options.custom) {
        tracing::warn!(%ledger, "a compaction named a ledger that is not its topic's; it stays");
        return Ok(());
    }
    match client.delete(ledger).await {
        Err(LedgerError::NoSuchLedger(_)) => Ok(()),
        other => other,
    }
}

async fn append(writer: &mut Writer, entry: Bytes) -> Result<(), LedgerError> {
    while writer.in_flight_bytes() > WRITE_AHEAD_BYTES {
        confirm(writer).await?;
    }
    let mut entry = entry;
    loop {
        match writer.append(entry) {
            Ok(_) => return Ok(()),
            Err(refused) if matches!(refused.error, LedgerError::Busy { .. }) => {
                entry = refused.payload;
                confirm(writer).await?;
            }
            Err(refused) => return Err(refused.error),
        }
    }
}

async fn confirm(writer: &mut Writer) -> Result<(), LedgerError> {
    match writer.next().await {
        magnetar_ledger::Event::Confirmed { .. } => Ok(()),
        magnetar_ledger::Event::Failed(error) => Err(error),
    }
}

/// Everything up to the new horizon: what the former compaction has left, then the topic.
struct Log<'a> {
    job: &'a Job,
    former: Option<(&'a Compacted, u64)>,
    from: Position,
    last: Option<Position>,
}

impl<'a> Log<'a> {
    fn new(job: &'a Job) -> Self {
        let former = job.former.as_ref().map(|former| (former, 0));
        Log { job, former, from: job.from, last: None }
    }

    /// The next entries as clients get them; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<(Position, Bytes)>>, JobError> {
        if self.job.stop.load(Ordering::Relaxed) {
            return Err(JobError::Closed);
        }
        if let Some((former, first)) = &mut self.former {
            let entries = former.read_entries(*first, READ_ENTRIES, READ_BYTES).await?;
            *first += entries.len() as u64;
            if !entries.is_empty() {
                return Ok(Some(entries));
            }
            self.former = None;
        }
        if self.last == Some(self.job.to) {
            return Ok(None);
        }
        let entries = self.job.topic.read(self.from, READ_ENTRIES, READ_BYTES, self.job.to).await?;
        let Some((end, _)) = entries.last() else {
            // Acting on a part of the topic would lose the rest.
            return Err(JobError::Short(self.last, self.job.to));
        };
        self.last = Some(*end);
        self.from = Position { entry_id: end.entry_id.next(), ..*end };
        let plain = |(position, stored): (Position, Bytes)| match headers_and_payload(&stored) {
            Ok(bytes) => Ok((position, bytes)),
            Err(error) => Err(JobError::Entry(position, error)),
        };
        entries.into_iter().map(plain).collect::<Result<_, _>>().map(Some)
    }
}
