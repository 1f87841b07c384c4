//! What a cluster's first start writes, so that clients can publish without a set-up step.

use magnetar_common::bundles::Bundles;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError, Op, SharedMetadata};
use magnetar_common::topic_name::NamespaceName;

use super::error::StoreError;
use super::policies::{ClusterData, Policies, TenantInfo};
use super::records::put;

/// Tenants of a new cluster: the users' default one, and the one for what the system itself keeps in topics.
const TENANTS: [&str; 2] = ["public", "pulsar"];

/// Namespaces of a new cluster.
const NAMESPACES: [(&str, &str); 2] = [("public", "default"), ("pulsar", "system")];

/// Writes cluster, tenants and namespaces in one transaction if the cluster's record is missing; otherwise changes
/// nothing, so that what an administrator deleted stays deleted. Safe to run from several brokers at once.
pub async fn bootstrap(
    metadata: &SharedMetadata,
    cluster: &str,
    data: &ClusterData,
    bundles: u32,
) -> Result<(), StoreError> {
    let key = layout::cluster(cluster);
    if metadata.get(&key).await?.is_some() {
        return Ok(());
    }
    let ops = first_records(metadata, cluster, data, bundles).await?;
    match metadata.transact(ops).await {
        Ok(_) => {
            tracing::info!(cluster, "wrote the records of a new cluster");
            Ok(())
        }
        // Another broker of the same cluster was faster, and wrote the same.
        Err(MetadataError::Conflict { .. }) => Ok(()),
        Err(other) => Err(other.into()),
    }
}

async fn first_records(
    metadata: &SharedMetadata,
    cluster: &str,
    data: &ClusterData,
    bundles: u32,
) -> Result<Vec<Op>, StoreError> {
    let clusters = vec![cluster.to_owned()];
    let tenant = TenantInfo { allowed_clusters: clusters.clone(), ..TenantInfo::default() };
    let policies =
        Policies { replication_clusters: clusters, bundles: Bundles::even(bundles), ..Policies::default() };
    let mut ops = vec![put(&layout::cluster(cluster), data, Expect::Missing)?];
    for name in TENANTS {
        ops.extend(put_if_missing(metadata, &layout::tenant(name), &tenant).await?);
    }
    for (tenant, namespace) in NAMESPACES {
        let name =
            NamespaceName::new(tenant, namespace).map_err(|error| StoreError::Invalid(error.to_string()))?;
        ops.extend(put_if_missing(metadata, &layout::namespace(&name), &policies).await?);
    }
    Ok(ops)
}

/// A second cluster on shared metadata finds the tenants there and leaves them alone.
async fn put_if_missing<T: serde::Serialize>(
    metadata: &SharedMetadata,
    key: &str,
    value: &T,
) -> Result<Option<Op>, StoreError> {
    match metadata.get(key).await? {
        Some(_) => Ok(None),
        None => put(key, value, Expect::Missing).map(Some),
    }
}
