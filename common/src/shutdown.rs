//! Telling parts to stop, and waiting until they have.

use std::sync::Arc;
use tokio::sync::watch;

/// A signal that is given once and seen by every listener, early or late. Clones share it.
#[derive(Clone, Debug)]
pub struct Signal {
    given: Arc<watch::Sender<bool>>,
}

impl Default for Signal {
    fn default() -> Self {
        Self { given: Arc::new(watch::Sender::new(false)) }
    }
}

impl Signal {
    /// A signal not given yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the signal. Idempotent.
    pub fn give(&self) {
        self.given.send_replace(true);
    }

    /// Whether it has been given.
    pub fn is_given(&self) -> bool {
        *self.given.borrow()
    }

    /// Resolves once it has been given. Cancel-safe.
    pub async fn given(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.given.subscribe().wait_for(|given| *given).await;
    }
}

/// Counts who is still inside. Clones share it.
#[derive(Clone, Debug)]
pub struct Gate {
    inside: Arc<watch::Sender<usize>>,
}

/// Keeps the gate from being empty until dropped.
#[derive(Debug)]
pub struct GateGuard {
    inside: Arc<watch::Sender<usize>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { inside: Arc::new(watch::Sender::new(0)) }
    }
}

impl Gate {
    /// A gate with nobody inside.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes inside until the guard is dropped.
    pub fn enter(&self) -> GateGuard {
        self.inside.send_modify(|inside| *inside += 1);
        GateGuard { inside: self.inside.clone() }
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        *self.inside.borrow()
    }

    /// Resolves once nobody is inside. Cancel-safe.
    pub async fn empty(&self) {
        let _ = self.inside.subscribe().wait_for(|inside| *inside == 0).await;
    }
}

impl Drop for GateGuard {
    fn drop(&mut self) {
        self.inside.send_modify(|inside| *inside -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_reaches_late_listeners_and_a_gate_waits_for_guards() {
        let signal = Signal::new();
        signal.give();
        signal.given().await;
        let gate = Gate::new();
        let guard = gate.enter();
        let mut empty = Box::pin(gate.empty());
        assert!(futures_util::FutureExt::now_or_never(&mut empty).is_none());
        drop(guard);
        empty.await;
    }
}
