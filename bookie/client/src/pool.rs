//! The connections to all bookies, made on demand and kept; and what is known of each bookie: which have failed lately,
//! which are slow, and which know batch reads.

use crate::connection::{AddTimes, Connection, Context, Load};
use crate::protocol::batching::BatchSupport;
use crate::protocol::hedged::Speculation;
use crate::protocol::slow_bookies::{SlowBookies, SlowConfig};
use hashbrown::HashMap;
use magnetar_proto::bookkeeper::BookieId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// For so long a bookie that failed is no candidate, unless it has registered anew: about the time after which a dead one
/// is no longer registered.
const DISTRUST: Duration = Duration::from_secs(30);

/// Two connections a bookie: one for what writes and recovers, where requests of one ledger stay in order; and one for
/// reads, so that neither a large answer nor a bookie that closes the connection on a batch read is in a writer's way.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

/// What [`Pool`]s share, without keeping it alive.
pub(crate) struct WeakPool(Weak<Shared>);

struct Shared {
    context: Context,
    /// Bounded by the number of bookies that ledgers in use name.
    members: Mutex<HashMap<BookieId, Member>>,
    slow: Mutex<SlowBookies<BookieId>>,
    /// Rises when a bookie is set aside or taken back, and now and then while one is.
    slow_version: watch::Sender<u64>,
    /// Something was sent since it was last looked.
    active: AtomicBool,
    wake: Arc<Notify>,
    single_reads: Mutex<Speculation>,
    batch_reads: Mutex<Speculation>,
}

struct Member {
    adds: Connection,
    reads: Option<Connection>,
    failed: Option<Failed>,
    batches: BatchSupport,
    /// As of the last window.
    times: AddTimes,
}

/// When an add failed, and as what the bookie was registered.
#[derive(Clone, Copy)]
struct Failed {
    at: Duration,
    registration: Option<u64>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Whoever watches over the pool shall see that it is gone.
        self.wake.notify_one();
    }
}

impl Pool {
    pub(crate) fn new(context: Context, slow: SlowConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                context,
                members: Mutex::default(),
                slow: Mutex::new(SlowBookies::new(slow)),
                slow_version: watch::Sender::new(0),
                active: AtomicBool::new(false),
                wake: Arc::new(Notify::new()),
                single_reads: Mutex::default(),
                batch_reads: Mutex::default(),
            }),
        }
    }

    /// For adds, and for reads that fence.
    pub(crate) fn get(&self, bookie: &BookieId) -> Connection {
        self.with_member(bookie, |member| member.adds.clone())
    }

    /// For reads that change nothing.
    pub(crate) fn reading(&self, bookie: &BookieId) -> Connection {
        let open = || Connection::open(bookie.clone(), self.shared.context.clone());
        self.with_member(bookie, |member| member.reads.get_or_insert_with(open).clone())
    }

    /// What all connections have in common.
    pub(crate) fn context(&self) -> &Context {
        &self.shared.context
    }

    /// What the writers have in flight.
    pub(crate) fn load(&self) -> Arc<Load> {
        self.shared.context.load.clone()
    }

    /// An add at this bookie failed.
    pub(crate) fn note_failure(&self, bookie: &BookieId) {
        let failed = Failed { at: self.now(), registration: self.registration(bookie) };
        self.with_member(bookie, |member| member.failed = Some(failed));
    }

    /// Whether an add at this bookie has failed lately and it has not started again since, or it is far slower than its
    /// peers.
    pub(crate) fn is_distrusted(&self, bookie: &BookieId) -> bool {
        let now = self.now();
        let failed = self.members().get(bookie).and_then(|member| member.failed);
        let lately = failed.filter(|failed| now < failed.at + DISTRUST);
        lately.is_some_and(|failed| failed.registration == self.registration(bookie))
            || self.slow().is_quarantined(bookie)
    }

    fn registration(&self, bookie: &BookieId) -> Option<u64> {
        self.shared.context.directory.now().registration(bookie)
    }

    /// What is known of the bookie and batch reads; to be changed in place.
    pub(crate) fn batches<T>(&self, bookie: &BookieId, look: impl FnOnce(&mut BatchSupport) -> T) -> T {
        self.with_member(bookie, |member| look(&mut member.batches))
    }

    /// When a second replica is worth asking: for reads of one entry, or of many.
    pub(crate) fn speculation(&self, batch: bool) -> MutexGuard<'_, Speculation> {
        let speculation = if batch { &self.shared.batch_reads } else { &self.shared.single_reads };
        speculation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which bookies are slow. The lock is held for a look.
    pub(crate) fn slow(&self) -> MutexGuard<'_, SlowBookies<BookieId>> {
        self.shared.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes when writers should look which of their bookies are slow.
    pub(crate) fn slow_version(&self) -> watch::Receiver<u64> {
        self.shared.slow_version.subscribe()
    }

    /// Tells the writers to look.
    pub(crate) fn tell_slow(&self) {
        self.shared.slow_version.send_modify(|version| *version += 1);
    }

    /// Something is sent: latencies are worth watching.
    pub(crate) fn note_activity(&self) {
        if !self.shared.active.swap(true, Ordering::Relaxed) {
            self.shared.wake.notify_one();
        }
    }

    /// Whether anything was sent since the last call.
    pub(crate) fn take_activity(&self) -> bool {
        self.shared.active.swap(false, Ordering::Relaxed)
    }

    /// What the adds since the last call took at each bookie that had any: on average, or for as long as they have waited
    /// without an answer if that is longer.
    pub(crate) fn take_latencies(&self) -> Vec<(BookieId, Duration)> {
        let now = self.now();
        let mut latencies = Vec::new();
        for (bookie, member) in self.members().iter_mut() {
            let times = member.adds.add_times();
            let answered = times.answered - member.times.answered;
            let took = times.took.saturating_sub(member.times.took);
            member.times = times;
            let mean = u32::try_from(answered).ok().and_then(|answered| took.checked_div(answered));
            let waited = times.waiting_since.map(|since| now.saturating_sub(since));
            latencies.extend(mean.max(waited).map(|latency| (bookie.clone(), latency)));
        }
        latencies
    }

    /// A reference that lets the pool end, and what wakes when it does or when it becomes active.
    pub(crate) fn downgrade(&self) -> (WeakPool, Arc<Notify>) {
        (WeakPool(Arc::downgrade(&self.shared)), self.shared.wake.clone())
    }

    fn now(&self) -> Duration {
        self.shared.context.env.clock.now()
    }

    fn members(&self) -> MutexGuard<'_, HashMap<BookieId, Member>> {
        self.shared.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_member<T>(&self, bookie: &BookieId, look: impl FnOnce(&mut Member) -> T) -> T {
        let fresh = || Member {
            adds: Connection::open(bookie.clone(), self.shared.context.clone()),
            reads: None,
            failed: None,
            batches: BatchSupport::default(),
            times: AddTimes::default(),
        };
        look(self.members().entry_ref(bookie).or_insert_with(fresh))
    }
}

impl WeakPool {
    /// The pool, unless it has ended.
    pub(crate) fn upgrade(&self) -> Option<Pool> {
        Some(Pool { shared: self.0.upgrade()? })
    }
}
