//! The end of a managed ledger's use by its owner.

use super::error::MlError;
use super::ledger_list::LedgerState;
use super::shell::ManagedLedger;
use super::tail::Tail;
use magnetar_common::metadata::MetadataError;
use magnetar_ledger::Client;

impl ManagedLedger {
    /// Waits for all appends, closes the ledger and writes its end down, so that the next owner has nothing to recover.
    ///
    /// # Errors
    /// When something failed before or meanwhile: the next owner recovers. Nothing confirmed is lost.
    pub async fn close(mut self) -> Result<(), MlError> {
        self.stopping = true;
        self.quiesce().await?;
        if !self.end_in_one_step().await? {
            self.stop().await?;
            self.settle().await?;
        }
        while self.deleting.is_some() {
            let step = self.step().await;
            self.on_step(step);
        }
        Ok(())
    }

    /// Lets everything that is under way come to its end; nothing new begins.
    async fn quiesce(&mut self) -> Result<(), MlError> {
        loop {
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            let settled = self.creating.is_none() && self.prepared.is_none() && self.info.is_settled();
            match &self.tail {
                Tail::Idle if settled => return Ok(()),
                Tail::Writing { writer, .. }
                    if settled && writer.last_add_confirmed() == writer.last_add_pushed() =>
                {
                    return Ok(());
                }
                _ => {}
            }
            let step = self.step().await;
            self.on_step(step);
        }
    }

    /// Closes the ledger in use and writes its end into the list by one transaction, which deletes it instead if it is empty.
    /// False if that has to be done step by step.
    async fn end_in_one_step(&mut self) -> Result<bool, MlError> {
        let Tail::Writing { writer, .. } = &self.tail else { return Ok(false) };
        let Some((closed, close)) = writer.closing() else { return Ok(false) };
        let (id, closed_at_ms) = (writer.id(), self.env.clock.unix_ms());
        let (put, end) = match closed.last_entry {
            None => (self.info.last_put(|record| record.list.remove(id)), Client::deletion(id)),
            Some(last) => {
                let state = LedgerState::Closed { entries: last.0 + 1, size: closed.length, closed_at_ms };
                (self.info.last_put(|record| record.list.set_state(id, state)), close)
            }
        };
        match self.env.metadata.transact(vec![put, end]).await {
            Ok(_) => Ok(true),
            // Nothing was written. The ledger's copies may have been moved meanwhile, or there is a newer owner.
            Err(MetadataError::Conflict { .. } | MetadataError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets a rollover that is under way finish, then closes the ledger in use.
    pub(super) async fn stop(&mut self) -> Result<(), MlError> {
        self.stopping = true;
        loop {
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            if self.creating.is_none() && self.prepared.is_none() {
                match self.tail {
                    Tail::Idle => return Ok(()),
                    Tail::Writing { .. } => self.seal_for_good(),
                    _ => {}
                }
            }
            let step = self.step().await;
            self.on_step(step);
        }
    }

    fn seal_for_good(&mut self) {
        if let Some((id, entries)) = self.tail.seal(None) {
            self.info.record_mut().list.set_state(id, LedgerState::Sealed { entries });
        }
    }

    pub(super) async fn settle(&mut self) -> Result<(), MlError> {
        while !self.info.is_settled() {
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            let step = self.step().await;
            self.on_step(step);
        }
        Ok(())
    }
}
