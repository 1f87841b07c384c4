//! Requests sent and not answered: which answer belongs to which request. No socket, no clock.
//!
//! Answers carry only (operation, ledger, entry). Were two equal requests on the wire, an answer could be taken for the
//! other's: a plain read's "absent" for that of a fencing read, which must come from a fenced bookie; or an add of a
//! fenced writer for the recovery's. So only one of a key is on the wire at a time; the others are held back.

use super::request::{AddReply, BatchAnswer, Key, Outgoing, ReadAnswer};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::oneshot;

/// Who waits for an answer. Dropped unanswered, it tells its caller so.
pub(super) enum Waiting {
    /// The sender of an add, and the bytes it holds of the connection's allowance.
    Add(AddReply, usize),
    /// The sender of a read.
    Read(oneshot::Sender<ReadAnswer>),
    /// The sender of a batch read.
    BatchRead(oneshot::Sender<BatchAnswer>),
    /// Given up. The key stays taken: an answer that still comes must not be taken for that of a later request.
    Nobody,
}

struct Sent {
    waiting: Waiting,
    at: Duration,
}

/// What an answer brings about.
pub(super) struct Answered {
    /// Who gets it.
    pub(super) waiting: Waiting,
    /// When the request was sent.
    pub(super) sent: Duration,
    /// The next request of the same key, which may go out now.
    pub(super) next: Option<Outgoing>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Outstanding {
    sent: HashMap<Key, Sent>,
    /// Requests whose key is on the wire, with the time they came. Nearly always empty.
    held: VecDeque<(Outgoing, Duration)>,
}

/// What a request turned into.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Write its bytes now.
    Send,
    /// An equal request is on the wire.
    Held,
}

impl Outstanding {
    /// Takes a request; `encode` is called with it if it goes out now.
    pub(super) fn admit(
        &mut self,
        request: Outgoing,
        now: Duration,
        encode: impl FnOnce(&Outgoing),
    ) -> Admission {
        match self.sent.entry(request.key()) {
            Entry::Occupied(_) => {
                self.held.push_back((request, now));
                Admission::Held
            }
            Entry::Vacant(place) => {
                encode(&request);
                let bytes = request.bytes();
                let waiting = match request {
                    Outgoing::Add(add) => Waiting::Add(add.reply, bytes),
                    Outgoing::Read(read) => Waiting::Read(read.reply),
                    Outgoing::BatchRead(read) => Waiting::BatchRead(read.reply),
                };
                place.insert(Sent { waiting, at: now });
                Admission::Send
            }
        }
    }

    /// The request that an answer belongs to.
    pub(super) fn answered(&mut self, key: Key) -> Option<Answered> {
        let Sent { waiting, at: sent } = self.sent.remove(&key)?;
        let next = self.held.iter().position(|(request, _)| request.key() == key);
        let next = next.and_then(|index| self.held.remove(index)).map(|(request, _)| request);
        Some(Answered { waiting, sent, next })
    }

    /// Gives up what was sent, or held, at `before` or earlier; gives the allowance that is free again.
    pub(super) fn expire(&mut self, before: Duration) -> usize {
        let mut freed = 0;
        for sent in self.sent.values_mut().filter(|sent| sent.at <= before) {
            if let Waiting::Add(_, bytes) = std::mem::replace(&mut sent.waiting, Waiting::Nobody) {
                freed += bytes;
            }
        }
        self.held.retain(|(request, at)| {
            let keep = *at > before;
            freed += if keep { 0 } else { request.bytes() };
            keep
        });
        freed
    }

    /// Gives up everything: the connection has ended. Gives the allowance that is free again.
    pub(super) fn fail_all(&mut self) -> usize {
        let freed = self.expire(Duration::MAX);
        self.sent.clear();
        freed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ENTRY_OVERHEAD;
    use super::super::request::{Add, AddDone, Read};
    use super::*;
    use crate::protocol::writer::AddOutcome;
    use bytes::Bytes;
    use magnetar_proto::bookkeeper::v2::Flags;
    use magnetar_proto::ids::{EntryId, LedgerId};
    use tokio::sync::mpsc;

    const AT: Duration = Duration::from_secs(1);

    fn read(flags: Flags) -> (Outgoing, oneshot::Receiver<ReadAnswer>) {
        let (reply, answer) = oneshot::channel();
        (Outgoing::Read(Read { ledger: LedgerId(1), entry: None, flags, key: None, reply }), answer)
    }

    fn add() -> (Outgoing, mpsc::UnboundedReceiver<AddDone>) {
        let (to, done) = mpsc::unbounded_channel();
        let reply = AddReply::new(to, 2, 0, EntryId(5), 7);
        let (head, payload) = (Bytes::from_static(b"head"), Bytes::from_static(b"payload"));
        (Outgoing::Add(Add { ledger: LedgerId(1), entry: EntryId(5), head, payload, reply }), done)
    }

    #[test]
    fn a_fencing_read_never_gets_the_answer_of_a_plain_read_of_the_same_entry() {
        let mut outstanding = Outstanding::default();
        let key = Key::Read(LedgerId(1), None);
        let (plain, mut plain_answer) = read(Flags::NONE);
        let (fencing, mut fencing_answer) = read(Flags::RECOVERY_READ);
        assert_eq!(outstanding.admit(plain, AT, |_| ()), Admission::Send);
        assert_eq!(outstanding.admit(fencing, AT, |_| panic!("still held")), Admission::Held);
        let Answered { waiting, next, .. } = outstanding.answered(key).expect("known");
        let Waiting::Read(reply) = waiting else { panic!("a read") };
        reply.send(None).expect("waited for");
        assert_eq!(plain_answer.try_recv(), Ok(None));
        assert!(fencing_answer.try_recv().is_err());
        assert_eq!(outstanding.admit(next.expect("held"), AT, |_| ()), Admission::Send);
    }

    #[test]
    fn a_late_answer_of_a_request_given_up_completes_nothing() {
        let mut outstanding = Outstanding::default();
        let (first, mut done) = add();
        outstanding.admit(first, AT, |_| ());
        assert_eq!(outstanding.expire(AT), ENTRY_OVERHEAD + 7);
        assert_eq!(done.try_recv().expect("told").outcome, AddOutcome::Failed);
        let (again, mut done) = add();
        assert_eq!(outstanding.admit(again, AT * 2, |_| ()), Admission::Held);
        let Answered { waiting, next, sent } =
            outstanding.answered(Key::Add(LedgerId(1), EntryId(5))).expect("known");
        assert_eq!(sent, AT);
        assert!(matches!(waiting, Waiting::Nobody) && next.is_some());
        assert!(done.try_recv().is_err());
    }

    #[test]
    fn every_add_gets_an_outcome_when_the_connection_ends() {
        let mut outstanding = Outstanding::default();
        let ((first, mut first_done), (second, mut second_done)) = (add(), add());
        outstanding.admit(first, AT, |_| ());
        outstanding.admit(second, AT, |_| ());
        assert_eq!(outstanding.fail_all(), 2 * (ENTRY_OVERHEAD + 7));
        assert!(outstanding.is_empty());
        for done in [&mut first_done, &mut second_done] {
            assert_eq!(done.try_recv().expect("told").outcome, AddOutcome::Failed);
        }
    }
}
