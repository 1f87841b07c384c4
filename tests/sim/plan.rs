//! What a seed decides before anything happens.

use super::faults::Fault;
use super::queue::{MS, Time};
use magnetar_common::random::Random;
use magnetar_ledger::protocol::quorum::Quorum;
use std::rc::Rc;

/// E, Qw, Qa of the ledgers.
const SIZES: [(u32, u32, u32); 8] =
    [(3, 3, 2), (3, 3, 2), (3, 2, 2), (2, 2, 2), (3, 3, 3), (4, 3, 2), (5, 3, 2), (3, 2, 1)];

/// Bookies beside those of the largest ensemble.
const SPARE_BOOKIES: usize = 2;

/// See the module.
pub(super) struct Plan {
    pub(super) ledgers: Vec<Rc<LedgerPlan>>,
    pub(super) bookies: usize,
    /// Bookies that may lose what they have, wiped or rotten, without an acknowledged entry being lost.
    pub(super) losses_max: usize,
    /// The kinds of faults of this run. Each run has some and not others: what hides behind one shows without it.
    pub(super) faults: Vec<Fault>,
    /// Mean time between faults.
    pub(super) fault_every: Time,
    /// When the world heals, and everything must come to an end.
    pub(super) heals_at: Time,
    /// Messages lost and messages doubled, out of 1000.
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// Messages that take far longer than usual, out of 1000.
    pub(super) late: u64,
    /// How long a client waits for a bookie.
    pub(super) patience: Time,
    /// Entries that a recovery probes at once.
    pub(super) window: u64,
}

pub(super) struct LedgerPlan {
    pub(super) quorum: Quorum,
    pub(super) entries: u64,
    /// Mean time between appends.
    pub(super) append_every: Time,
    /// Whether the writer closes the ledger once everything is acknowledged.
    pub(super) closes: bool,
    /// When each recovery begins.
    pub(super) recoveries: Vec<Time>,
    pub(super) readers: usize,
}

impl Plan {
    pub(super) fn of(random: &dyn Random) -> Self {
        let heals_at = (100 + random.below(400)) * MS;
        let ledgers: Vec<Rc<LedgerPlan>> =
            (0..1 + random.below(3)).map(|_| Rc::new(LedgerPlan::of(random, heals_at))).collect();
        let largest = ledgers.iter().map(|ledger| ledger.quorum.ensemble()).max().unwrap_or(0);
        let weakest = ledgers.iter().map(|ledger| ledger.quorum.ack()).min().unwrap_or(1);
        let often = |one_in: u64| if random.below(one_in) == 0 { 0 } else { random.below(80) };
        Self {
            bookies: largest + SPARE_BOOKIES,
            losses_max: weakest - 1,
            faults: Fault::ALL.into_iter().filter(|_| random.below(5) < 2).collect(),
            fault_every: (2 + random.below(20)) * MS,
            heals_at,
            lost: often(4),
            doubled: often(3),
            late: often(3),
            patience: (15 + random.below(40)) * MS,
            window: 1 + random.below(8),
            ledgers,
        }
    }
}

impl LedgerPlan {
    fn of(random: &dyn Random, heals_at: Time) -> Self {
        let (ensemble, write, ack) = SIZES[random.below(SIZES.len() as u64) as usize];
        let recoveries = (0..1 + random.below(3)).map(|_| 5 * MS + random.below(heals_at)).collect();
        Self {
            quorum: Quorum::new(ensemble, write, ack).expect("the sizes are valid"),
            entries: 5 + random.below(40),
            append_every: 200 + random.below(12 * MS),
            closes: random.below(3) == 0,
            recoveries,
            readers: 1 + random.below(2) as usize,
        }
    }
}
