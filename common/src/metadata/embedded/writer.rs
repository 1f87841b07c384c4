//! The writer thread: plans queued transactions as a group, makes the group durable with one commit, and only then
//! shows it to readers and watchers and answers the callers.

use super::super::check_leases;
use super::super::ops::{Op, Value, Version};
use super::super::tree::{Change, Pending};
use super::super::{MetadataError, Result};
use super::Shared;
use super::file::Records;
use std::sync::{Arc, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Transactions in one commit: bounds what a crash can leave unknown at once.
const GROUP_MAX: usize = 256;

pub(super) enum Request {
    Transact(Vec<Op>, oneshot::Sender<Result<Vec<Option<Version>>>>),
    Sequence(String, oneshot::Sender<Result<u64>>),
    /// Leases have been given up: see [`Leases::given_up`](super::Leases::given_up).
    EndLeases,
}

pub(super) struct Writer {
    pub(super) records: Records,
    pub(super) shared: Arc<Shared>,
}

/// What has been planned since the last commit; nobody else can see it yet.
#[derive(Default)]
struct Group {
    changes: Vec<Change>,
    pending: Pending,
    answers: Vec<Answer>,
}

/// Tells a caller how it went, once its group is durable and readable. A refusal waits as well: it may be owed to a
/// change of the same group, which the caller must find when it reads again.
type Answer = Box<dyn FnOnce(Result<()>)>;

impl Group {
    fn accept(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.pending.insert(change.key.clone(), change.value.clone());
            self.changes.push(change);
        }
    }

    fn answer<T: 'static>(&mut self, reply: oneshot::Sender<Result<T>>, planned: Result<T>) {
        self.answers.push(Box::new(|committed| drop(reply.send(committed.and(planned)))));
    }
}

impl Writer {
    /// Serves requests until the last store is dropped or a write fails.
    pub(super) fn run(self, mut queue: mpsc::Receiver<Request>) {
        let mut requests = Vec::with_capacity(GROUP_MAX);
        while queue.blocking_recv_many(&mut requests, GROUP_MAX) > 0 {
            let mut group = Group::default();
            for request in requests.drain(..) {
                self.plan(request, &mut group);
            }
            self.plan_lease_ends(&mut group);
            let outcome = self.commit(&group.changes);
            let failed = outcome.is_err();
            if !failed {
                self.publish(group.changes);
            }
            for answer in group.answers {
                answer(outcome.clone());
            }
            if failed {
                // What the file holds now is unknown; callers see a stopped store until the process starts again.
                tracing::error!(error = ?outcome, "the metadata store failed to write and stops");
                return;
            }
        }
    }

    fn plan(&self, request: Request, group: &mut Group) {
        match request {
            Request::Transact(ops, reply) => {
                let alive = |lease| self.shared.leases(|leases| leases.alive.contains_key(&lease));
                let planned = check_leases(&ops, alive)
                    .and_then(|()| self.shared.read(|tree| tree.plan(&group.pending, ops)));
                let planned = planned.map(|(changes, versions)| {
                    group.accept(changes);
                    versions
                });
                group.answer(reply, planned);
            }
            Request::Sequence(parent, reply) => {
                let planned = self.shared.read(|tree| tree.plan_sequence(&group.pending, &parent));
                let planned = planned.map(|(changes, number)| {
                    group.accept(changes);
                    number
                });
                group.answer(reply, planned);
            }
            Request::EndLeases => {}
        }
    }

    fn plan_lease_ends(&self, group: &mut Group) {
        let ended = self.shared.leases(|leases| {
            let given_up = std::mem::take(&mut leases.given_up);
            given_up.into_iter().filter_map(|id| Some((id, leases.alive.remove(&id)?))).collect::<Vec<_>>()
        });
        for (lease, lost) in ended {
            let changes = self.shared.read(|tree| tree.plan_lease_end(&group.pending, lease));
            group.accept(changes);
            group.answers.push(Box::new(move |_| {
                lost.send_replace(true);
            }));
        }
    }

    fn commit(&self, changes: &[Change]) -> Result<()> {
        if changes.iter().all(|change| self.stays_in_memory(change)) {
            return Ok(());
        }
        self.records.write(changes).map_err(|error| MetadataError::Unavailable(error.to_string()))
    }

    /// True for a change of an ephemeral key that the file does not know.
    fn stays_in_memory(&self, change: &Change) -> bool {
        let ephemeral = |value: &Value| value.lease.is_some();
        let before = self.shared.read(|tree| tree.get(&change.key).map(ephemeral));
        match &change.value {
            Some(value) => ephemeral(value) && before != Some(false),
            None => before == Some(true),
        }
    }

    fn publish(&self, changes: Vec<Change>) {
        let mut durable = self.shared.durable.write().unwrap_or_else(PoisonError::into_inner);
        let events = durable.apply(changes);
        self.shared.watchers.notify(&events);
    }
}

impl Drop for Writer {
    /// However the writer ends, nobody may wait for it any more: leases are lost, watches end.
    fn drop(&mut self) {
        self.shared.stop();
    }
}
