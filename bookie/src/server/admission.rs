//! Which entries found in memory may be answered at once: those that fit into the server's budget for answers and into what
//! their connection may have unsent. The others wait in the connection's lane.

use magnetar_common::budget::{ByteBudget, Ticket};

use super::outbound::Outbound;

/// Taken from the budget at a time, so that small answers do not go there one by one.
const STEP_BYTES: usize = 64 << 10;

/// Answers of one turn.
pub(super) struct Admission<'a> {
    budget: &'a ByteBudget,
    outbound: &'a Outbound,
    ticket: Option<Ticket>,
    /// What `ticket` is for. Never less than `used`.
    held: usize,
    used: usize,
}

impl<'a> Admission<'a> {
    pub(super) fn new(budget: &'a ByteBudget, outbound: &'a Outbound) -> Self {
        Admission { budget, outbound, ticket: None, held: 0, used: 0 }
    }

    /// Whether an answer with so many bytes of entries may be queued now.
    pub(super) fn admits(&mut self, bytes: usize) -> bool {
        if bytes == 0 {
            return true;
        }
        let free = self.held - self.used;
        if free < bytes {
            let more = (bytes - free).max(STEP_BYTES);
            let Some(ticket) = self.budget.try_acquire(more).filter(|_| self.outbound.takes_more(self.used))
            else {
                return false;
            };
            self.held += more;
            match &mut self.ticket {
                Some(held) => held.merge(ticket),
                held => *held = Some(ticket),
            }
        }
        self.used += bytes;
        true
    }

    /// The ticket for what was admitted.
    pub(super) fn ticket(mut self) -> Option<Ticket> {
        if let Some(ticket) = &mut self.ticket {
            ticket.keep(self.used);
        }
        self.ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_admitted_up_to_the_budget_and_hold_what_they_are() {
        let (budget, outbound) = (ByteBudget::new(200 << 10), Outbound::default());
        let mut admission = Admission::new(&budget, &outbound);
        assert!(admission.admits(0));
        assert_eq!(budget.used(), 0);
        assert!(admission.admits(1000) && admission.admits(100 << 10));
        assert!(!admission.admits(150 << 10));
        let ticket = admission.ticket();
        assert_eq!(budget.used(), (1000 + (100 << 10)) / 64 * 64 + 64);
        drop(ticket);
        assert_eq!(budget.used(), 0);
    }
}
