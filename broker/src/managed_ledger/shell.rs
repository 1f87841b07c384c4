//! The managed ledger itself: the thin shell around the tail, the list of ledgers and the readers.

use super::config::{MlConfig, MlEnv};
use super::error::{AppendRefused, MlError, Refusal};
use super::info_store::InfoStore;
use super::ledger_list::{LedgerList, LedgerState};
use super::mark::MarkDelete;
use super::queue::AppendQueue;
use super::reader::{MlReader, Shared};
use super::rollover::{self, Filling};
use super::tail::{self, Next, Tail, TailEvent};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use magnetar_ledger::{ClosedLedger, LedgerError, Writer};
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// After a new ledger could not be opened for a rollover, the old one goes on for this long before the next try: too
/// few bookies do not come back within a few appends.
const CREATE_RETRY_DELAY: Duration = Duration::from_secs(5);

/// What the owner of a managed ledger must know.
#[derive(Debug)]
pub enum MlEvent {
    /// Every entry appended up to this position is durable. Monotonic; confirmations are merged.
    Confirmed {
        /// The newest durable position.
        up_to: Position,
    },
    /// After [`ManagedLedger::start_writing`]: appends are taken.
    Writable,
    /// After [`ManagedLedger::start_writing`]: no ledger could be opened. It may be tried again.
    NotWritable(LedgerError),
    /// A ledger was closed and appends go to the next one.
    RolledOver {
        /// The ledger that was closed.
        closed: LedgerId,
    },
    /// The ledgers that had left are gone, and a trim was asked for meanwhile: it should be asked for again.
    Trimmable,
    /// Reported once. No append is taken any more, and it is unknown which of the unconfirmed ones survive: tell their
    /// producers, then [`ManagedLedger::reopen`].
    Failed(MlError),
}

/// The entries of one topic.
///
/// Its owner calls [`Self::next`] all the time: nothing is confirmed, rolled over, trimmed or written down but in there.
/// No other method waits for anything unless it is `async`.
pub struct ManagedLedger {
    pub(super) env: MlEnv,
    pub(super) name: String,
    pub(super) config: MlConfig,
    pub(super) info: InfoStore,
    pub(super) tail: Tail,
    pub(super) shared: Arc<Shared>,
    /// A ledger being made, to follow the one that is full.
    pub(super) creating: Option<BoxFuture<'static, Result<Writer, LedgerError>>>,
    /// It exists, and takes over once the list that names it is durable.
    pub(super) prepared: Option<(Writer, u64)>,
    create_not_before: Duration,
    /// Ledgers that leave the list; deleted once the list without them is durable.
    pub(super) leaving: Option<(Vec<LedgerId>, u64)>,
    pub(super) deleting: Option<BoxFuture<'static, ()>>,
    /// Ledgers could have left while others were leaving.
    pub(super) trim_missed: bool,
    /// Appends are refused because the topic is being sealed.
    pub(super) stopping: bool,
    pub(super) failed: Option<MlError>,
    pub(super) create_error: Option<LedgerError>,
    confirmed_unreported: bool,
    /// Rare events only, so it stays short.
    pub(super) events: VecDeque<MlEvent>,
}

pub(super) enum Step {
    Tail(TailEvent),
    Recorded(Result<u64, MlError>),
    Created(Result<Writer, LedgerError>),
    Deleted,
}

impl ManagedLedger {
    pub(super) fn from_parts(env: MlEnv, name: &str, config: MlConfig, info: InfoStore) -> Self {
        let shared = Shared::new(env.ledgers.clone(), config.password.clone(), info.record().list.clone());
        Self {
            env,
            name: name.to_owned(),
            config,
            info,
            tail: Tail::Idle,
            shared,
            creating: None,
            prepared: None,
            create_not_before: Duration::ZERO,
            leaving: None,
            deleting: None,
            trim_missed: false,
            stopping: false,
            failed: None,
            create_error: None,
            confirmed_unreported: false,
            events: VecDeque::new(),
        }
    }

    /// The ledgers, and finding one's way among their positions.
    pub fn ledgers(&self) -> &LedgerList {
        &self.info.record().list
    }

    /// The newest durable entry.
    pub fn last_confirmed(&self) -> Option<Position> {
        self.ledgers().last_confirmed()
    }

    /// Reads what is confirmed. Remains valid over rollovers and trims, not over [`Self::reopen`].
    pub fn reader(&self) -> MlReader {
        MlReader::new(self.shared.clone())
    }

    /// Appends an entry and gives its position at once. It is durable when [`MlEvent::Confirmed`] covers the position;
    /// appends are confirmed in order. While one ledger gives way to the next, entries are queued, up to a limit.
    ///
    /// # Errors
    /// Gives the entry back; nothing was appended.
    pub fn append(&mut self, entry: Bytes) -> Result<Position, AppendRefused> {
        if self.stopping || self.info.record().terminated.is_some() {
            return Err(AppendRefused { reason: Refusal::Terminated, entry });
        }
        let position = self.tail.append(entry).map_err(|(reason, entry)| AppendRefused { reason, entry })?;
        self.roll_over_if_due();
        Ok(position)
    }

    /// Whether appends are taken.
    pub fn is_writable(&self) -> bool {
        !self.stopping && self.info.record().terminated.is_none() && self.tail.is_writable()
    }

    /// Has a ledger opened for appends unless there is one; [`Self::next`] reports how it went.
    pub fn start_writing(&mut self) {
        if matches!(self.tail, Tail::Idle) && self.prepared.is_none() && !self.stopping {
            self.create_error = None;
            self.create_ledger();
        }
    }

    /// Waits until appends are taken. Cancel-safe: what was begun goes on in [`Self::next`].
    ///
    /// # Errors
    /// When no ledger can be opened now (it may be tried again), or the managed ledger has failed.
    pub async fn make_writable(&mut self) -> Result<(), MlError> {
        self.start_writing();
        loop {
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            if let Some(error) = self.create_error.take() {
                return Err(error.into());
            }
            if self.tail.is_writable() || self.stopping {
                return Ok(());
            }
            let step = self.step().await;
            self.on_step(step);
        }
    }

    /// Waits for the next event. Cancel-safe. After [`MlEvent::Failed`] only housekeeping goes on.
    pub async fn next(&mut self) -> MlEvent {
        loop {
            if let (true, Some(up_to)) = (self.confirmed_unreported, self.last_confirmed()) {
                self.confirmed_unreported = false;
                return MlEvent::Confirmed { up_to };
            }
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let step = self.step().await;
            self.on_step(step);
        }
    }

    /// Waits for the next thing to happen. Everything awaited lives in `self` or is itself cancel-safe, and what
    /// happened is acted on without waiting: so dropping this loses nothing.
    pub(super) async fn step(&mut self) -> Step {
        tokio::select! {
            biased;
            created = or_pending(&mut self.creating) => {
                self.creating = None;
                Step::Created(created)
            }
            recorded = self.info.next(), if self.failed.is_none() => Step::Recorded(recorded),
            () = or_pending(&mut self.deleting) => {
                self.deleting = None;
                Step::Deleted
            }
            event = self.tail.next() => Step::Tail(event),
        }
    }

    pub(super) fn on_step(&mut self, step: Step) {
        match step {
            Step::Tail(TailEvent::Confirmed(up_to)) => self.confirm(up_to),
            Step::Tail(TailEvent::Closed(id, closed)) => self.on_closed(id, closed),
            Step::Tail(TailEvent::Failed(error)) => self.fail(error.into()),
            Step::Created(Ok(writer)) => self.on_created(writer),
            Step::Created(Err(error)) => self.on_create_failed(error),
            Step::Recorded(Ok(generation)) => self.on_recorded(generation),
            Step::Recorded(Err(error)) => self.fail(error),
            Step::Deleted if std::mem::take(&mut self.trim_missed) => {
                self.events.push_back(MlEvent::Trimmable)
            }
            Step::Deleted => {}
        }
    }

    pub(super) fn fail(&mut self, error: MlError) {
        if self.failed.is_some() {
            return;
        }
        self.tail = Tail::Failed;
        (self.creating, self.prepared, self.leaving) = (None, None, None);
        self.failed = Some(error.clone());
        self.events.push_back(MlEvent::Failed(error));
    }

    fn confirm(&mut self, up_to: Position) {
        if self.last_confirmed() == Some(up_to) {
            return;
        }
        self.info.record_mut().list.confirm(up_to);
        self.confirmed_unreported = true;
    }

    pub(super) fn roll_over_if_due(&mut self) {
        let Tail::Writing { writer, opened_at } = &self.tail else { return };
        let now = self.env.clock.now();
        let filling = Filling {
            entries: tail::entries_of(writer),
            bytes: writer.length(),
            age: now.saturating_sub(*opened_at),
        };
        if rollover::is_due(filling, &self.config)
            && self.prepared.is_none()
            && !self.stopping
            && now >= self.create_not_before
        {
            self.create_ledger();
        }
    }

    /// Goes on to a new ledger as soon as there is one, if the one in use has an entry.
    pub fn roll_over(&mut self) {
        let has_entries = matches!(&self.tail, Tail::Writing { writer, .. } if tail::entries_of(writer) > 0);
        if has_entries && self.prepared.is_none() && !self.stopping {
            self.create_ledger();
        }
    }

    fn create_ledger(&mut self) {
        if self.creating.is_none() && self.failed.is_none() {
            let (client, options) = (self.env.ledgers.clone(), self.config.ledger_options(&self.name, None));
            self.creating = Some(async move { client.create(options).await }.boxed());
        }
    }

    /// The list must name a ledger before its first entry exists: what is not listed would never be recovered.
    fn on_created(&mut self, writer: Writer) {
        let id = writer.id();
        if self.ledgers().iter().next_back().is_some_and(|(last, _)| last >= id) {
            let reason = format!("ledger {id} was made after a ledger with a higher id");
            self.fail(MlError::Corrupt { name: self.name.clone(), reason });
            return;
        }
        let generation = self.info.change(|record| record.list.push_open(id));
        self.prepared = Some((writer, generation));
    }

    /// The ledger in use goes on beyond its limits; without one, the owner must know.
    fn on_create_failed(&mut self, error: LedgerError) {
        tracing::warn!(managed_ledger = self.name, %error, "open a new ledger");
        self.create_not_before = self.env.clock.now() + CREATE_RETRY_DELAY;
        if matches!(self.tail, Tail::Idle) {
            self.create_error = Some(error.clone());
            self.events.push_back(MlEvent::NotWritable(error));
        }
    }

    fn on_recorded(&mut self, generation: u64) {
        if let Some((ledgers, _)) = self.leaving.take_if(|(_, needed)| *needed <= generation) {
            self.start_deleting(ledgers);
        }
        if let Some((writer, _)) = self.prepared.take_if(|(_, needed)| *needed <= generation) {
            self.start_using(writer);
        }
    }

    pub(super) fn start_using(&mut self, writer: Writer) {
        match self.tail {
            Tail::Writing { .. } => {
                let next = Next { writer, queue: AppendQueue::default() };
                if let Some((id, entries)) = self.tail.seal(Some(next)) {
                    self.info.record_mut().list.set_state(id, LedgerState::Sealed { entries });
                }
            }
            _ => {
                self.tail = Tail::Writing { writer, opened_at: self.env.clock.now() };
                self.events.push_back(MlEvent::Writable);
            }
        }
        self.update_view();
    }

    fn on_closed(&mut self, id: LedgerId, closed: ClosedLedger) {
        if let Some(last) = closed.last_entry {
            self.confirm(Position::new(id, last));
        }
        self.record_closed(id, closed);
        if let Some(next) = self.tail.take_next() {
            self.use_next(next);
            self.events.push_back(MlEvent::RolledOver { closed: id });
        }
        self.update_view();
    }

    fn record_closed(&mut self, id: LedgerId, closed: ClosedLedger) {
        let entries = closed.last_entry.map_or(0, |last| last.0 + 1);
        let closed_at_ms = self.env.clock.unix_ms();
        if entries == 0 && self.leaving.is_none() {
            let generation = self.info.change(|record| record.list.remove(id));
            self.leaving = Some((vec![id], generation));
        } else {
            let state = LedgerState::Closed { entries, size: closed.length, closed_at_ms };
            self.info.change(|record| record.list.set_state(id, state));
        }
    }

    /// The positions of what was queued have been given out: they must come true.
    fn use_next(&mut self, next: Next) {
        let Next { mut writer, queue } = next;
        for (index, entry) in queue.into_entries().enumerate() {
            match writer.append(entry) {
                Ok(id) => assert_eq!(id, EntryId(index as u64), "a queued entry keeps its position"),
                Err(refused) => return self.fail(refused.error.into()),
            }
        }
        self.tail = Tail::Writing { writer, opened_at: self.env.clock.now() };
    }

    pub(super) fn update_view(&self) {
        self.shared.set_view(self.ledgers().clone(), self.tail.readers());
    }

    /// The mark after everything confirmed.
    pub fn latest(&self) -> MarkDelete {
        self.ledgers().latest()
    }
}

async fn or_pending<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
