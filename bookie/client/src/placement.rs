//! Which bookies a new ledger, or a failed slot, gets.

use crate::client::Client;
use crate::protocol::quorum::Slots;
use magnetar_proto::bookkeeper::BookieId;

/// Which candidates will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Only bookies that have not failed lately: for what can wait.
    Only,
    /// Those first, then the others: for what cannot.
    First,
}

/// `count` writable bookies in random order, none of `excluded`; fewer when there are not enough.
pub(crate) fn choose(client: &Client, count: usize, excluded: &[BookieId], trust: Trust) -> Vec<BookieId> {
    let bookies = client.directory().now();
    let mut candidates: Vec<BookieId> =
        bookies.writable().map(|(id, _)| id).filter(|id| !excluded.contains(id)).cloned().collect();
    client.env().random.shuffle(&mut candidates);
    let (mut chosen, distrusted): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|id| !client.pool().is_distrusted(id));
    if trust == Trust::First {
        chosen.extend(distrusted);
    }
    chosen.truncate(count);
    chosen
}

/// The ensemble with other bookies in as many of the `failed` slots as there are candidates, and which slots these are.
pub(crate) fn replace(
    client: &Client,
    before: &[BookieId],
    failed: Slots,
    trust: Trust,
) -> (Vec<BookieId>, Slots) {
    let replacements = choose(client, failed.len(), before, trust);
    let (mut ensemble, mut changed) = (before.to_vec(), Slots::NONE);
    for (slot, bookie) in failed.iter().zip(replacements) {
        tracing::warn!(slot, failed = %before[slot], replacement = %bookie, "replacing a bookie of a ledger");
        ensemble[slot] = bookie;
        changed.insert(slot);
    }
    (ensemble, changed)
}
