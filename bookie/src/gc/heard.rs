//! What a watch has told and nobody has looked at yet. Bounded by the ledgers of this bookie, whatever is told.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use magnetar_common::metadata::WatchEvent;
use magnetar_proto::bookkeeper::paths::parse_ledger_path;
use magnetar_proto::ids::LedgerId;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Heard {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    deleted: BTreeSet<LedgerId>,
    missed: bool,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding what was heard")
    }

    /// Events may be missing up to now.
    pub(super) fn missed_some(&self) {
        self.lock().missed = true;
        self.changed.notify_one();
    }

    pub(super) fn take(&self, event: WatchEvent, is_ours: impl Fn(LedgerId) -> bool) {
        match event {
            WatchEvent::Deleted { key } => {
                if let Some(ledger) = parse_ledger_path(&key).filter(|ledger| is_ours(*ledger)) {
                    self.lock().deleted.insert(ledger);
                    self.changed.notify_one();
                }
            }
            WatchEvent::Resync => self.missed_some(),
            WatchEvent::Changed { .. } => {}
        }
    }

    /// Waits until there is something to [`drain`](Self::drain). Cancel-safe.
    pub(super) async fn something(&self) {
        self.changed.notified().await;
    }

    /// The deleted ledgers, and whether there may be more.
    pub(super) fn drain(&self) -> (BTreeSet<LedgerId>, bool) {
        let state = std::mem::take(&mut *self.lock());
        (state.deleted, state.missed)
    }
}
