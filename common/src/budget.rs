//! One byte budget for everything in flight.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit in which bytes are counted: a semaphore counts to 2^32 only, and small messages need not be exact.
const UNIT_BYTES: usize = 64;

/// Bytes that may be in flight at once. Clones share it.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    units: Arc<Semaphore>,
    limit: usize,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    units: OwnedSemaphorePermit,
}

impl Ticket {
    /// Keeps `bytes` of the ticket and gives the rest back. A smaller ticket stays as it is.
    pub fn keep(&mut self, bytes: usize) {
        let surplus = self.units.num_permits().saturating_sub(bytes.div_ceil(UNIT_BYTES));
        drop(self.units.split(surplus));
    }

    /// Takes another ticket in; both are given back together. Panics when it is of another budget.
    pub fn merge(&mut self, other: Ticket) {
        self.units.merge(other.units);
    }
}

impl ByteBudget {
    /// A budget of `limit` bytes, rounded up to 64.
    pub fn new(limit: usize) -> Self {
        let units = limit.div_ceil(UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), limit: units * UNIT_BYTES }
    }

    /// A ticket for `bytes`, or `None` when too much is in flight. More than the whole budget counts as the whole.
    pub fn try_acquire(&self, bytes: usize) -> Option<Ticket> {
        let permit = self.units.clone().try_acquire_many_owned(self.units_of(bytes)).ok()?;
        Some(Ticket { units: permit })
    }

    /// Waits for a ticket for `bytes`, in order of asking. Cancel-safe.
    pub async fn acquire(&self, bytes: usize) -> Ticket {
        let permit = self.units.clone().acquire_many_owned(self.units_of(bytes)).await;
        Ticket { units: permit.expect("the budget's semaphore is never closed") }
    }

    /// Bytes in flight.
    pub fn used(&self) -> usize {
        self.limit - self.units.available_permits() * UNIT_BYTES
    }

    /// Bytes that may be in flight at once.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn units_of(&self, bytes: usize) -> u32 {
        let units = bytes.div_ceil(UNIT_BYTES).min(self.limit / UNIT_BYTES);
        u32::try_from(units).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_ticket_lets_the_next_one_in() {
        let budget = ByteBudget::new(128);
        let ticket = budget.try_acquire(100).expect("room");
        assert_eq!(budget.used(), 128);
        assert!(budget.try_acquire(1).is_none());
        drop(ticket);
        let all = budget.acquire(1_000_000).await;
        assert_eq!(budget.used(), budget.limit());
        drop(all);
        assert_eq!(budget.used(), 0);
    }
    #[test]
    fn a_ticket_shrinks_and_grows() {
        let budget = ByteBudget::new(1024);
        let mut ticket = budget.try_acquire(512).expect("room");
        ticket.keep(100);
        assert_eq!(budget.used(), 128);
        ticket.keep(4096);
        assert_eq!(budget.used(), 128);
        ticket.merge(budget.try_acquire(64).expect("room"));
        drop(ticket);
        assert_eq!(budget.used(), 0);
    }
}
