//! The producers and consumers of one connection, and the order of what is done with each.
//!
//! Creating, closing and the other requests for one id are done one after the other, in the order of their arrival:
//! each takes a [`Turn`] when its command is read, and its task waits for the turn before. A session keeps its topic
//! also after the topic closed it of its own accord: that is how messages still on their way to a closed producer are
//! told apart from messages of a producer that never was.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use magnetar_common::shutdown::Signal;
use tokio::sync::oneshot;

use crate::topic::Handle;

/// Producers plus consumers of one connection, pending ones included. A client has a few for each topic it uses.
const SESSIONS_MAX: usize = 100_000;

/// Two spaces of ids: producer 0 and consumer 0 may coexist.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    Producer,
    Consumer,
}

type Key = (Kind, u64);

#[derive(Default)]
pub(super) struct Sessions {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// The connection is gone: nothing is created any more.
    ended: bool,
    sessions: HashMap<Key, Session>,
}

#[derive(Default)]
struct Session {
    topic: Option<Handle>,
    /// Given when the creation under way is no longer wanted.
    creating: Option<Signal>,
    /// Ends when the last turn that was taken ends.
    last_turn: Option<oneshot::Receiver<()>>,
    /// Turns taken and not ended.
    turns: usize,
}

/// What an id stands for now.
pub(super) enum Found {
    Ready(Handle),
    Creating,
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CannotCreate {
    /// The same id is being created already.
    Pending,
    TooMany,
}

/// A place in the queue of one id; given up when dropped.
pub(super) struct Turn {
    sessions: Arc<Sessions>,
    key: Key,
    previous: Option<oneshot::Receiver<()>>,
    _done: oneshot::Sender<()>,
}

/// A creation under way.
pub(super) struct Creation {
    pub(super) turn: Turn,
    /// The topic that knew the id before.
    previous: Option<Handle>,
    id: Pending,
}

/// An id that is being created.
#[derive(Clone)]
pub(super) struct Pending {
    key: Key,
    cancelled: Signal,
}

impl Sessions {
    /// Takes the turn of a PRODUCER or SUBSCRIBE. An id that exists may be created again: its topic decides.
    pub(super) fn begin_creation(self: &Arc<Self>, kind: Kind, id: u64) -> Result<Creation, CannotCreate> {
        let mut table = self.table();
        let key = (kind, id);
        let known = table.sessions.len();
        match table.sessions.get(&key) {
            Some(session) if session.creating.is_some() => return Err(CannotCreate::Pending),
            None if known >= SESSIONS_MAX => return Err(CannotCreate::TooMany),
            _ => {}
        }
        let cancelled = Signal::new();
        if table.ended {
            cancelled.give();
        }
        let session = table.sessions.entry(key).or_default();
        session.creating = Some(cancelled.clone());
        let previous = session.topic.clone();
        let turn = session.take_turn(self, key);
        Ok(Creation { turn, previous, id: Pending { key, cancelled } })
    }

    /// The creation succeeded. False: it is not wanted any more, and must be undone.
    pub(super) fn created(&self, id: &Pending, topic: Handle) -> bool {
        let mut table = self.table();
        let wanted = !id.cancelled.is_given();
        if let Some(session) = table.sessions.get_mut(&id.key)
            && wanted
        {
            session.creating = None;
            session.topic = Some(topic);
        }
        wanted
    }

    /// The creation failed, or is undone; what was known of the id before is void too.
    pub(super) fn not_created(&self, creation: &Creation) {
        let mut table = self.table();
        if let Some(session) = table.sessions.get_mut(&creation.id.key)
            && !creation.id.cancelled.is_given()
        {
            session.creating = None;
            session.topic = None;
        }
    }

    /// Takes the turn of a CLOSE: cancels a pending creation, and forgets the topic at once.
    pub(super) fn begin_close(self: &Arc<Self>, kind: Kind, id: u64) -> Option<(Turn, Option<Handle>)> {
        let mut table = self.table();
        let session = table.sessions.get_mut(&(kind, id))?;
        if let Some(creating) = session.creating.take() {
            creating.give();
        }
        let topic = session.topic.take();
        Some((session.take_turn(self, (kind, id)), topic))
    }

    /// Takes the turn of any other request for an id that is ready.
    pub(super) fn begin_request(self: &Arc<Self>, kind: Kind, id: u64) -> Option<(Turn, Handle)> {
        let mut table = self.table();
        let session = table.sessions.get_mut(&(kind, id))?;
        let topic = session.topic.clone()?;
        Some((session.take_turn(self, (kind, id)), topic))
    }

    pub(super) fn find(&self, kind: Kind, id: u64) -> Found {
        match self.table().sessions.get(&(kind, id)) {
            Some(Session { creating: Some(_), .. }) => Found::Creating,
            Some(Session { topic: Some(topic), .. }) => Found::Ready(topic.clone()),
            _ => Found::Unknown,
        }
    }

    /// Forgets a session whose subscription was deleted.
    pub(super) fn forget(&self, kind: Kind, id: u64) {
        if let Some(session) = self.table().sessions.get_mut(&(kind, id)) {
            session.topic = None;
        }
    }

    /// The topics that this connection's consumers consume from, each once.
    pub(super) fn consumed_topics(&self) -> Vec<Handle> {
        self.table().topics(|kind| kind == Kind::Consumer)
    }

    /// The connection is gone. Cancels what is pending; gives the topics that must be told, each once.
    pub(super) fn end(&self) -> Vec<Handle> {
        let mut table = self.table();
        table.ended = true;
        for session in table.sessions.values_mut() {
            if let Some(creating) = session.creating.take() {
                creating.give();
            }
        }
        let topics = table.topics(|_| true);
        table.sessions.retain(|_, session| {
            session.topic = None;
            session.turns > 0
        });
        topics
    }

    fn end_turn(&self, key: Key) {
        let mut table = self.table();
        if let Some(session) = table.sessions.get_mut(&key) {
            session.turns -= 1;
            if session.turns == 0 && session.topic.is_none() && session.creating.is_none() {
                table.sessions.remove(&key);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn topics(&self, wanted: impl Fn(Kind) -> bool) -> Vec<Handle> {
        let of_kind = self.sessions.iter().filter(|((kind, _), _)| wanted(*kind));
        let mut topics: Vec<Handle> = of_kind.filter_map(|(_, session)| session.topic.clone()).collect();
        topics.sort_by(|a, b| a.name().cmp(b.name()));
        topics.dedup_by(|a, b| a.same_topic(b));
        topics
    }
}

impl Session {
    fn take_turn(&mut self, sessions: &Arc<Sessions>, key: Key) -> Turn {
        let (done, ended) = oneshot::channel();
        self.turns += 1;
        let previous = self.last_turn.replace(ended);
        Turn { sessions: Arc::clone(sessions), key, previous, _done: done }
    }
}

impl Turn {
    /// Resolves when all turns taken before have ended.
    pub(super) async fn come(&mut self) {
        if let Some(previous) = &mut self.previous {
            // The sender sends nothing: it is dropped.
            let _ = previous.await;
        }
        self.previous = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.sessions.end_turn(self.key);
    }
}

impl Creation {
    /// Given when the client closed the id, or is gone, before it was [`created`](Sessions::created), and never later.
    pub(super) fn cancelled(&self) -> Signal {
        self.id.cancelled.clone()
    }

    pub(super) fn id(&self) -> Pending {
        self.id.clone()
    }

    /// Where the id must be taken away: at the topic that it may have entered in vain, and at the one it left.
    pub(super) fn leftovers(&self, entered: Option<&Handle>, succeeded: bool) -> Vec<Handle> {
        let left = self
            .previous
            .as_ref()
            .filter(|previous| !entered.is_some_and(|topic| topic.same_topic(previous)));
        let in_vain = entered.filter(|_| !succeeded);
        left.into_iter().chain(in_vain).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Arc<Sessions> {
        Arc::default()
    }

    async fn has_come(turn: &mut Turn) -> bool {
        tokio::select! {
            biased;
            () = turn.come() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn requests_for_one_id_take_turns() {
        let sessions = sessions();
        let mut creation = sessions.begin_creation(Kind::Producer, 0).expect("a new id");
        assert!(has_come(&mut creation.turn).await);
        let (mut close, topic) = sessions.begin_close(Kind::Producer, 0).expect("pending");
        assert!(topic.is_none() && creation.cancelled().is_given());
        assert!(!has_come(&mut close).await);
        drop(creation);
        assert!(has_come(&mut close).await);
        drop(close);
        assert!(sessions.table().sessions.is_empty());
    }

    #[test]
    fn an_id_that_is_being_created_cannot_be_created_again() {
        let sessions = sessions();
        let creation = sessions.begin_creation(Kind::Consumer, 7).expect("a new id");
        assert_eq!(sessions.begin_creation(Kind::Consumer, 7).err(), Some(CannotCreate::Pending));
        assert!(sessions.begin_creation(Kind::Producer, 7).is_ok(), "producers have ids of their own");
        sessions.not_created(&creation);
        assert!(matches!(sessions.find(Kind::Consumer, 7), Found::Unknown));
    }

    #[test]
    fn after_the_end_a_creation_is_cancelled_from_its_start() {
        let sessions = sessions();
        assert!(sessions.end().is_empty());
        let creation = sessions.begin_creation(Kind::Producer, 0).expect("a new id");
        assert!(creation.cancelled().is_given());
    }
}
