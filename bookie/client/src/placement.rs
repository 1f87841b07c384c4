//! Which bookies a new ledger, or a failed slot, gets.

use magnetar_common::bookies::Bookies;
use magnetar_common::random::SharedRandom;
use magnetar_proto::bookkeeper::BookieId;

/// `count` writable bookies in random order, none of `excluded`; fewer when there are not enough.
pub(crate) fn choose(
    bookies: &Bookies,
    random: &SharedRandom,
    count: usize,
    excluded: &[BookieId],
) -> Vec<BookieId> {
    let mut candidates: Vec<BookieId> =
        bookies.writable().map(|(id, _)| id).filter(|id| !excluded.contains(id)).cloned().collect();
    random.shuffle(&mut candidates);
    candidates.truncate(count);
    candidates
}
