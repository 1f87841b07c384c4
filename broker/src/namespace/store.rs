//! Clusters, tenants and namespaces.

use magnetar_common::layout;
use magnetar_common::metadata::SharedMetadata;
use magnetar_common::topic_name::{NamespaceName, TopicName, check_part, decode};

use super::error::StoreError;
use super::policies::{ClusterData, Policies, TenantInfo};
use super::records::{PolicyChanges, Records};

/// Reads and changes the records; every change is durable and visible to all before it returns. Cheap to clone.
#[derive(Clone)]
pub struct NamespaceStore {
    pub(super) records: Records,
}

fn cluster_called(name: &str) -> String {
    format!("cluster {name}")
}

fn tenant_called(name: &str) -> String {
    format!("tenant {name}")
}

fn namespace_called(name: &NamespaceName) -> String {
    format!("namespace {name}")
}

fn check(name: &str, what: &'static str) -> Result<(), StoreError> {
    check_part(name, what).map_err(|error| StoreError::Invalid(error.to_string()))
}

impl NamespaceStore {
    pub fn new(metadata: SharedMetadata) -> Self {
        NamespaceStore { records: Records { metadata, changes: PolicyChanges::default() } }
    }

    /// Counts what this store and its clones write.
    pub fn policy_changes(&self) -> &PolicyChanges {
        &self.records.changes
    }

    /// Names of all clusters, sorted.
    pub async fn clusters(&self) -> Result<Vec<String>, StoreError> {
        self.records.names(layout::CLUSTERS).await
    }

    pub async fn cluster(&self, name: &str) -> Result<Option<ClusterData>, StoreError> {
        self.records.get(&layout::cluster(name)).await
    }

    pub async fn create_cluster(&self, name: &str, data: &ClusterData) -> Result<(), StoreError> {
        check(name, "cluster name")?;
        self.records.create(&layout::cluster(name), data, &cluster_called(name), None).await
    }

    pub async fn update_cluster(&self, name: &str, data: ClusterData) -> Result<(), StoreError> {
        let replace = |record: &mut ClusterData| {
            *record = data.clone();
            Ok(())
        };
        self.records.update(&layout::cluster(name), &cluster_called(name), replace).await.map(drop)
    }

    pub async fn delete_cluster(&self, name: &str) -> Result<(), StoreError> {
        self.records.delete(&layout::cluster(name), &cluster_called(name)).await
    }

    /// Names of all tenants, sorted.
    pub async fn tenants(&self) -> Result<Vec<String>, StoreError> {
        self.records.names(layout::POLICIES).await
    }

    pub async fn tenant(&self, name: &str) -> Result<Option<TenantInfo>, StoreError> {
        self.records.get(&layout::tenant(name)).await
    }

    /// Every allowed cluster must exist.
    pub async fn create_tenant(&self, name: &str, info: &TenantInfo) -> Result<(), StoreError> {
        check(name, "tenant name")?;
        self.check_clusters(&info.allowed_clusters).await?;
        self.records.create(&layout::tenant(name), info, &tenant_called(name), None).await
    }

    pub async fn update_tenant(&self, name: &str, info: TenantInfo) -> Result<(), StoreError> {
        self.check_clusters(&info.allowed_clusters).await?;
        let replace = |record: &mut TenantInfo| {
            *record = info.clone();
            Ok(())
        };
        self.records.update(&layout::tenant(name), &tenant_called(name), replace).await.map(drop)
    }

    /// `NotEmpty` while it has namespaces.
    pub async fn delete_tenant(&self, name: &str) -> Result<(), StoreError> {
        if !self.records.names(&layout::tenant(name)).await?.is_empty() {
            return Err(StoreError::NotEmpty(tenant_called(name)));
        }
        self.records.delete(&layout::tenant(name), &tenant_called(name)).await
    }

    /// Full names of a tenant's namespaces, sorted; `NotFound` without such a tenant.
    pub async fn namespaces(&self, tenant: &str) -> Result<Vec<NamespaceName>, StoreError> {
        if !self.records.exists(&layout::tenant(tenant)).await? {
            return Err(StoreError::NotFound(tenant_called(tenant)));
        }
        let names = self.records.names(&layout::tenant(tenant)).await?;
        // What does not parse was not written by a broker and cannot be addressed by a client either.
        Ok(names.iter().filter_map(|name| NamespaceName::new(tenant, name).ok()).collect())
    }

    pub async fn namespace(&self, name: &NamespaceName) -> Result<Option<Policies>, StoreError> {
        self.records.get(&layout::namespace(name)).await
    }

    /// Its tenant must exist.
    pub async fn create_namespace(
        &self,
        name: &NamespaceName,
        policies: &Policies,
    ) -> Result<(), StoreError> {
        let (tenant_key, tenant_what) = (layout::tenant(name.tenant()), tenant_called(name.tenant()));
        let parent = Some((tenant_key.as_str(), tenant_what.as_str()));
        self.records.create(&layout::namespace(name), policies, &namespace_called(name), parent).await
    }

    /// Changes the policies atomically; `change` may run several times. Gives the new ones.
    pub async fn update_namespace(
        &self,
        name: &NamespaceName,
        change: impl FnMut(&mut Policies) -> Result<(), StoreError>,
    ) -> Result<Policies, StoreError> {
        self.records.update(&layout::namespace(name), &namespace_called(name), change).await
    }

    /// `NotEmpty` while it has topics.
    pub async fn delete_namespace(&self, name: &NamespaceName) -> Result<(), StoreError> {
        if !self.topics(name).await?.is_empty() {
            return Err(StoreError::NotEmpty(namespace_called(name)));
        }
        self.records.delete(&layout::namespace(name), &namespace_called(name)).await
    }

    /// Full names of a namespace's topics, sorted: what is stored, and every partition of its partitioned topics, used
    /// or not. Without such a namespace: none.
    pub async fn topics(&self, namespace: &NamespaceName) -> Result<Vec<TopicName>, StoreError> {
        let mut topics =
            parse_topics(namespace, &self.records.names(&layout::managed_ledgers(namespace)).await?);
        for topic in self.partitioned_topics(namespace).await? {
            // Deleted since it was listed: then it has no partitions.
            let partitions = self.partitions(&topic).await?.map_or(0, |record| record.partitions);
            topics.extend((0..partitions).map(|partition| topic.with_partition(partition)));
        }
        topics.sort();
        topics.dedup();
        Ok(topics)
    }

    /// Is the topic stored? Partitions exist once they were used.
    pub async fn topic_exists(&self, topic: &TopicName) -> Result<bool, StoreError> {
        self.records.exists(&layout::managed_ledger(&topic.managed_ledger_name())).await
    }

    async fn check_clusters(&self, names: &[String]) -> Result<(), StoreError> {
        for name in names {
            if !self.records.exists(&layout::cluster(name)).await? {
                return Err(StoreError::Invalid(format!("cluster {name} does not exist; create it first")));
            }
        }
        Ok(())
    }
}

/// Keys that do not decode were not written by a broker.
pub(super) fn parse_topics(namespace: &NamespaceName, keys: &[String]) -> Vec<TopicName> {
    let parse = |key: &String| format!("persistent://{namespace}/{}", decode(key)?).parse().ok();
    let mut topics: Vec<TopicName> = keys.iter().filter_map(parse).collect();
    topics.sort();
    topics
}
