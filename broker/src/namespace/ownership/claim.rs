//! Taking a bundle that nobody has.

use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError, Op, Value};

use super::boundaries::Cut;
use super::cluster::Cluster;
use super::table::Bundle;
use crate::namespace::error::StoreError;

impl Cluster {
    /// Takes the bundle if nobody has it and the namespace is still cut as in `cut`; if not, nothing happens and the caller
    /// looks again. When the store's answer is lost the next look finds what happened.
    pub(super) async fn claim(&self, bundle: &Bundle, cut: &Cut) -> Result<(), StoreError> {
        let _turn = self.turn(bundle).await;
        if self.table.state(bundle).is_some() || self.draining.is_given() {
            return Ok(());
        }
        let lease = self.lease()?;
        let boundaries = layout::local_policies(&bundle.0);
        let put = Op::Put {
            key: layout::bundle_owner(&bundle.0, bundle.1),
            value: self.owner_json.clone(),
            expect: Expect::Missing,
            lease: Some(lease),
        };
        let check = Op::Check { key: boundaries.clone(), expect: Expect::Version(cut.version) };
        match self.metadata.transact(vec![check, put]).await {
            Ok(_) => {
                tracing::info!(namespace = %bundle.0, range = %bundle.1, "serving this bundle from now on");
                self.table.serve(bundle);
                Ok(())
            }
            Err(MetadataError::Conflict { key }) => {
                if key == boundaries {
                    self.boundaries.forget(&bundle.0);
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Serves a bundle whose record names this broker, under the lease of now.
    pub(super) async fn adopt(&self, bundle: &Bundle) -> Result<(), StoreError> {
        let _turn = self.turn(bundle).await;
        if self.table.state(bundle).is_some() || self.draining.is_given() {
            return Ok(());
        }
        let lease = self.lease()?;
        let key = layout::bundle_owner(&bundle.0, bundle.1);
        // Under the turn nobody of this process changes the record, so what is read now counts.
        let ours = |found: &Value| found.bytes == self.owner_json || found.lease == Some(lease);
        let Some(found) = self.metadata.get(&key).await?.filter(ours) else { return Ok(()) };
        if found.lease != Some(lease) || found.bytes != self.owner_json {
            let value = self.owner_json.clone();
            match self.metadata.put_ephemeral(&key, value, Expect::Version(found.version), lease).await {
                Ok(_) => {}
                Err(MetadataError::Conflict { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.table.serve(bundle);
        Ok(())
    }
}
