//! Which logs to rewrite as one.

use std::collections::BTreeMap;

use crate::engine::LogSpace;

/// Live bytes copied into one log: bounds what one rewrite needs of free space, and how long it takes.
const LIVE_BYTES_MAX: u64 = 256 << 20;

/// Small logs are merged when so many of about the same size have come together. So an entry is copied once for each time
/// that its log becomes eight times as large, and the small logs that stay are few of each size.
const MERGED_MIN: usize = 8;

/// Most small logs merged at once: bounds what is held open and sorted meanwhile.
const MERGED_MAX: usize = 256;

/// Below this all sizes are the same: that of a block or two.
const SIZE_MIN: u64 = 4096;

/// Those that give back most for what must be copied, old ones first, as what is young may die soon without help.
pub(super) fn sparse(mut spaces: Vec<LogSpace>, live_ratio: f64, room: u64) -> Vec<u64> {
    let is_worth_it = |space: &LogSpace| (space.live as f64) < live_ratio * (space.live + space.dead) as f64;
    spaces.retain(|space| space.dead > 0 && is_worth_it(space));
    let score = |space: &LogSpace| space.dead as f64 * space.age as f64 / (space.live + 1) as f64;
    spaces.sort_unstable_by(|a, b| score(b).total_cmp(&score(a)).then(a.log.cmp(&b.log)));
    within(spaces, room)
}

/// Those below `small_bytes` of one size, when they are many; the smallest size first.
pub(super) fn small(spaces: Vec<LogSpace>, small_bytes: u64, room: u64) -> Vec<u64> {
    let mut sizes: BTreeMap<u32, Vec<LogSpace>> = BTreeMap::new();
    for space in spaces {
        let bytes = space.live + space.dead;
        if bytes < small_bytes {
            sizes.entry((bytes / SIZE_MIN).max(1).ilog2() / 3).or_default().push(space);
        }
    }
    let Some(mut many) = sizes.into_values().find(|some| some.len() >= MERGED_MIN) else { return Vec::new() };
    many.sort_unstable_by_key(|space| space.log);
    many.truncate(MERGED_MAX);
    let chosen = within(many, room);
    if chosen.len() < MERGED_MIN { Vec::new() } else { chosen }
}

/// As many of them, first come first served, as may be copied into one log.
fn within(mut spaces: Vec<LogSpace>, room: u64) -> Vec<u64> {
    let mut live = 0;
    let bound = room.min(LIVE_BYTES_MAX.max(spaces.first().map_or(0, |first| first.live)));
    spaces.retain(|space| {
        let fits = live + space.live <= bound;
        live += if fits { space.live } else { 0 };
        fits
    });
    spaces.iter().map(|space| space.log).collect()
}
