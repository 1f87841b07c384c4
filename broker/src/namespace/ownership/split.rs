//! Cutting a bundle in two, without closing a topic: both parts stay with the owner until somebody moves one.

use magnetar_common::bundles::BundleRange;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError, Op};
use magnetar_common::topic_name::NamespaceName;

use super::cluster::Cluster;
use super::release::BundleError;
use super::table::State;
use crate::namespace::error::StoreError;

/// Where a bundle is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitAt {
    /// In the middle of its hashes.
    Middle,
    /// So that both parts have as many of the topics in memory.
    TopicCount,
    /// At this boundary.
    Hash(u32),
}

impl Cluster {
    /// Cuts a bundle that this broker serves: boundaries and owners change in one transaction, so that no hash is ever
    /// without an owner, or with two. Gives the two parts.
    pub async fn split(
        &self,
        namespace: &NamespaceName,
        range: BundleRange,
        at: SplitAt,
    ) -> Result<[BundleRange; 2], BundleError> {
        let bundle = (namespace.clone(), range);
        let name = format!("{namespace}/{range}");
        let at =
            self.boundary(namespace, range, at).ok_or_else(|| BundleError::NoSuchBoundary(name.clone()))?;
        // Of the parts, too: their records are there before this broker knows that it serves them.
        let _turns = self.turn_of_parts(&bundle, at).await;
        if self.table.state(&bundle) != Some(State::Serving) {
            return Err(BundleError::NotHere(name));
        }
        let lease = self.lease()?;
        let cut = self.boundaries.read(namespace).await?;
        if !cut.bundles.has(range) {
            return Err(BundleError::Unknown(range, namespace.clone()));
        }
        let after = cut.bundles.split(range, at).ok_or(BundleError::NoSuchBoundary(name))?;
        let parts = [after.of_hash(range.low()), after.of_hash(at)];
        let own = |range| Op::Put {
            key: layout::bundle_owner(namespace, range),
            value: self.owner_json.clone(),
            expect: Expect::Missing,
            lease: Some(lease),
        };
        let whole = layout::bundle_owner(namespace, range);
        let found = self.metadata.get(&whole).await.map_err(StoreError::from)?;
        let Some(found) = found.filter(|found| found.lease == Some(lease)) else {
            return Err(StoreError::Contended(format!("bundle {namespace}/{range}")).into());
        };
        let ops = vec![
            self.boundaries.change(namespace, &cut, &after)?,
            Op::Delete { key: whole, expect: Expect::Version(found.version) },
            own(parts[0]),
            own(parts[1]),
        ];
        let outcome = self.metadata.transact(ops).await;
        self.boundaries.forget(namespace);
        match outcome {
            Ok(_) => {}
            // Whether it happened is in the boundaries.
            Err(MetadataError::Unavailable(_))
                if self.boundaries.read(namespace).await.is_ok_and(|now| now.bundles.has(parts[1])) => {}
            Err(error) => return Err(StoreError::from(error).into()),
        }
        self.table.split(&bundle, &parts);
        tracing::info!(%namespace, %range, boundary = format!("{at:#010x}"), "split this bundle");
        Ok(parts)
    }

    fn boundary(&self, namespace: &NamespaceName, range: BundleRange, at: SplitAt) -> Option<u32> {
        match at {
            SplitAt::Middle => range.midpoint(),
            SplitAt::Hash(hash) => Some(hash),
            SplitAt::TopicCount => {
                let mut hashes = self.topics()?.hashes(namespace, range);
                hashes.sort_unstable();
                let median = hashes.get(hashes.len() / 2).copied();
                // With fewer than two topics any cut is as good.
                median.filter(|hash| *hash > range.low()).or_else(|| range.midpoint())
            }
        }
    }
}
