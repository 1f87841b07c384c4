//! The consumers of a subscription with their permits.

use std::sync::Arc;

use super::{ConsumerId, ConsumerSpec};

/// One consumer as a dispatcher sees it.
#[derive(Debug)]
pub(crate) struct Member {
    pub id: ConsumerId,
    pub name: Arc<str>,
    pub priority: i32,
    /// Messages it may still be sent. Negative after a batch larger than what was left.
    pub permits: i64,
    /// Messages sent and not acknowledged; counted for Shared and Key_Shared only.
    pub unacked: u32,
    /// Holds too many unacknowledged messages; ends when it is below half of the limit.
    pub blocked: bool,
    /// Its connection takes more bytes.
    pub writable: bool,
}

impl Member {
    pub(crate) fn available(&self) -> bool {
        self.permits > 0 && !self.blocked && self.writable
    }
}

/// Sorted by priority, then by order of joining.
#[derive(Debug, Default)]
pub(crate) struct Members(Vec<Member>);

impl Members {
    pub(crate) fn add(&mut self, spec: &ConsumerSpec) {
        let at = self.0.partition_point(|m| m.priority <= spec.priority);
        self.0.insert(
            at,
            Member {
                id: spec.id,
                name: spec.name.clone(),
                priority: spec.priority,
                permits: 0,
                unacked: 0,
                blocked: false,
                writable: true,
            },
        );
    }

    pub(crate) fn remove(&mut self, id: ConsumerId) -> Option<Member> {
        let at = self.index(id)?;
        Some(self.0.remove(at))
    }

    pub(crate) fn flow(&mut self, id: ConsumerId, permits: u32) {
        if let Some(m) = self.get_mut(id) {
            m.permits = m.permits.saturating_add(i64::from(permits));
        }
    }

    pub(crate) fn set_writable(&mut self, id: ConsumerId, writable: bool) {
        if let Some(m) = self.get_mut(id) {
            m.writable = writable;
        }
    }

    pub(crate) fn set_unacked_max(&mut self, max: u32) {
        self.0.iter_mut().for_each(|m| m.blocked = m.unacked >= max);
    }

    pub(crate) fn index(&self, id: ConsumerId) -> Option<usize> {
        self.0.iter().position(|m| m.id == id)
    }

    pub(crate) fn get(&self, id: ConsumerId) -> Option<&Member> {
        self.0.iter().find(|m| m.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: ConsumerId) -> Option<&mut Member> {
        self.0.iter_mut().find(|m| m.id == id)
    }

    pub(crate) fn available(&self, id: ConsumerId) -> bool {
        self.get(id).is_some_and(Member::available)
    }

    pub(crate) fn any_available(&self) -> bool {
        self.0.iter().any(Member::available)
    }

    pub(crate) fn as_slice(&self) -> &[Member] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
