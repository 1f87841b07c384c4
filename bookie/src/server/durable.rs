//! What a connection is owed once a batch is durable, and the journal thread's way to pay it.

use std::sync::Arc;

use bytes::BytesMut;

use super::Peer;
use super::lane::Waiting;
use super::tally::Tally;
use crate::metrics::Metrics;

/// The token of one turn: see [`crate::engine::Engine`].
pub(crate) struct Durable {
    pub(super) peer: Arc<Peer>,
    /// Whole frames that say yes.
    pub(super) frames: BytesMut,
    /// Fencing reads: they may be answered only now, whatever the answer is.
    pub(super) reads: Vec<Waiting>,
    /// What the connection owed for the adds while they were not durable.
    pub(super) owed: usize,
    pub(super) tally: Tally,
}

/// Connections whose answers the journal thread may write itself: for more of them, waking their tasks delays the next
/// batch less.
const WRITE_NOW_PEERS_MAX: usize = 2;

/// Hands out the answers of a durable batch: all of a connection's, then one wake-up for it. Does not block.
pub(crate) fn complete(tokens: &mut Vec<Durable>, metrics: &Metrics) {
    let now = metrics.now();
    let mut touched: Vec<Arc<Peer>> = Vec::new();
    for token in tokens.drain(..) {
        let Durable { peer, frames, reads, owed, tally } = token;
        // First, so that who has seen an answer finds it counted.
        tally.durable(metrics, now);
        peer.outbound.push_frames(&frames);
        peer.outbound.pay(owed);
        if !reads.is_empty() {
            peer.lane.push(reads);
        }
        // A batch rarely holds turns of more than a few connections.
        if !touched.iter().any(|other| Arc::ptr_eq(other, &peer)) {
            touched.push(peer);
        }
    }
    let few = touched.len() <= WRITE_NOW_PEERS_MAX;
    for peer in touched {
        if few { peer.outbound.write_now() } else { peer.outbound.wake() }
    }
}
