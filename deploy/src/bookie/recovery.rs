//! Re-replication beside a bookie: auditor, worker and integrity check in its process.
//!
//! Called by: the bookie's role.
//! Must never know: which ledgers lack copies; it starts and stops the parts, and lets the bookie follow operators' wishes.

use std::time::Duration;

use anyhow::Context;
use magnetar_bookie::{Bookie, FoundDamage, Welcome};
use magnetar_ledger::Client;
use magnetar_ledger::replication::{AutoRecovery, Settings, rejoin};

/// What is not at its end by then is left to the lease: others go on when it has ended.
const STOP_MAX: Duration = Duration::from_secs(3);

/// The running parts.
pub(super) struct Recovery(AutoRecovery);

impl Recovery {
    /// Starts them for a bookie that serves.
    pub(super) async fn start(client: Client, bookie: &Bookie, settings: Settings) -> anyhow::Result<Self> {
        let damage: FoundDamage = bookie.found_damage();
        let damaged = Box::new(move || damage.entries());
        let recovery = AutoRecovery::start(client, bookie.id().clone(), settings, damaged);
        let recovery = recovery.await.context("re-replication")?;
        let metrics = recovery.metrics();
        bookie.add_metrics(move || metrics.render());
        Ok(Self(recovery))
    }

    /// Stops them and lets others go on at once.
    pub(super) async fn stop(self) {
        if tokio::time::timeout(STOP_MAX, self.0.stop()).await.is_err() {
            tracing::warn!("re-replication did not stop in time; others go on when its lease has ended");
        }
    }
}

/// Keeps an emptied bookie from taking a name that ledgers count on before they can do without it.
pub(super) fn welcome(client: Client) -> Welcome {
    Box::new(move |bookie| {
        Box::pin(async move {
            match rejoin::before_serving(&client, &bookie).await {
                Ok(0) => Ok(()),
                Ok(ledgers) => {
                    tracing::warn!(%bookie, ledgers, "ledgers name this bookie, which has no data; they are marked to get their copies back");
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            }
        })
    })
}

/// Makes the bookie read-only while an operator wants it emptied. Never ends.
pub(super) async fn follow_draining(recovery: Option<&Recovery>, bookie: &Bookie) {
    if let Some(Recovery(recovery)) = recovery {
        let mut draining = recovery.draining();
        loop {
            let wanted = *draining.borrow_and_update();
            bookie.set_draining(wanted);
            if draining.changed().await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}
