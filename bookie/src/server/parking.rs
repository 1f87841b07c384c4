//! Long polls: reads that wait until there is news of their ledger, or for as long as they said.
//!
//! A waiting read is a task of its connection and a place in the engine's registry. Both are bounded; a read for which
//! there is no place is answered at once, as one that waited in vain: its client asks again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::answer::ReadOp;
use super::batch::{Batch, Fence, Request};
use super::durable::Durable;
use super::{Peer, Shared};
use crate::engine::{Engine, LacWait, News, Turn};

/// Reads waiting on all connections: some megabytes of tasks.
pub(super) const PARKED_MAX: usize = 16_384;

/// Reads waiting on one connection: a client that follows more ledgers spreads them over bookies and connections.
const PARKED_PER_CONNECTION: usize = 1024;

/// The longest wait, whatever the client asks for: a client that is gone without a word is not waited for much longer.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// A read that would like to wait.
pub(crate) struct LongPoll {
    pub(super) read: ReadOp,
    pub(super) ledger: LedgerId,
    /// The LAC that the client knows.
    pub(super) after: Option<EntryId>,
    pub(super) timeout: Duration,
}

/// The waiting reads of a connection.
pub(super) struct Parking {
    places: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
}

impl Default for Parking {
    fn default() -> Self {
        Parking { places: Arc::new(Semaphore::new(PARKED_PER_CONNECTION)), tasks: Mutex::default() }
    }
}

/// A read with a place.
pub(super) struct Parked {
    place: Place,
    timeout: Duration,
    read: ReadOp,
}

/// Given up when dropped, which must not happen during a turn.
struct Place {
    engine: Arc<Engine<Durable>>,
    wait: LacWait,
    woken: bool,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Place {
    async fn news(&mut self) -> News {
        // The sender goes only with the engine, and then there is nothing to wait for either.
        let news = (&mut self.wait.news).await.unwrap_or(News::Changed);
        self.woken = true;
        news
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.woken {
            self.engine.stop_waiting(&self.wait);
        }
    }
}

impl Parking {
    /// A place for a read; the read itself when it need not wait, or cannot.
    pub(super) fn enter(
        &self,
        shared: &Shared,
        turn: &mut Turn<'_, Durable>,
        poll: LongPoll,
    ) -> Result<Parked, ReadOp> {
        let LongPoll { read, ledger, after, timeout } = poll;
        let permit = |places: &Arc<Semaphore>| places.clone().try_acquire_owned().ok();
        let Some(_permits) = permit(&self.places).zip(permit(&shared.parked)) else { return Err(read) };
        let Some(wait) = turn.wait_for_lac(ledger, after) else { return Err(read) };
        let (engine, _permits) = (shared.engine.clone(), _permits.into());
        let place = Place { engine, wait, woken: false, _permits };
        Ok(Parked { place, timeout: timeout.min(WAIT_MAX), read })
    }

    /// Lets reads wait, and answers them then. Not during a turn.
    pub(super) fn wait(&self, shared: &Arc<Shared>, peer: &Arc<Peer>, parked: Vec<Parked>) {
        let mut tasks = self.tasks.lock().expect("nothing panics while holding the tasks");
        while tasks.try_join_next().is_some() {}
        for parked in parked {
            tasks.spawn(wait(shared.clone(), peer.clone(), parked));
        }
    }

    /// Ends all waiting without an answer; returns when nothing waits any more.
    pub(super) async fn close(&self) {
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().expect("nothing panics while holding the tasks"));
        tasks.shutdown().await;
    }
}

async fn wait(shared: Arc<Shared>, peer: Arc<Peer>, parked: Parked) {
    let Parked { mut place, timeout, mut read } = parked;
    tokio::select! {
        biased;
        news = place.news() => {
            if news == News::LacMoved {
                read.lac_moved(shared.clock.unix_ms());
            }
        }
        () = shared.clock.sleep(timeout) => {}
    }
    let ledger = place.wait.ledger;
    drop(place);
    let mut batch = Batch::new(shared, peer);
    batch.push(Request::Read { read, ledger, fence: Fence::No });
    batch.apply().await;
}
