//! The records of clusters, tenants, namespaces, partitioned topics and schemas.

use magnetar_common::clock::ManualClock;
use magnetar_common::metadata::Expect;
use magnetar_proto::pulsar::api;

use crate::schemas::Strategy;

use super::*;

const PARTITIONS_MAX: u32 = 100;

#[tokio::test]
async fn the_first_start_writes_what_clients_need_and_later_ones_nothing() {
    let (metadata, store) = new_cluster().await;
    assert_eq!(store.clusters().await.expect("clusters"), ["standalone"]);
    assert_eq!(store.tenants().await.expect("tenants"), ["public", "pulsar"]);
    let policies = store.namespace(&namespace("public/default")).await.expect("a read").expect("it exists");
    assert_eq!((policies.bundles.count(), policies.replication_clusters), (4, vec!["standalone".to_owned()]));

    store.delete_namespace(&namespace("public/default")).await.expect("it is empty");
    bootstrap(&metadata, "standalone", &ClusterData::default(), 4).await.expect("the second start");
    assert_eq!(store.namespace(&namespace("public/default")).await.expect("a read"), None);
}

#[tokio::test]
async fn records_are_pulsars_json_and_keep_what_we_do_not_know() {
    let (metadata, store) = new_cluster().await;
    let key = "/admin/policies/public/default";
    let json = br#"{"replication_clusters":["standalone"],"message_ttl_in_seconds":60,
        "bundles":{"boundaries":["0x00000000","0xffffffff"],"numBundles":1}}"#;
    metadata.put(key, bytes::Bytes::from_static(json), Expect::Any).await.expect("a put");
    let change = |policies: &mut Policies| {
        policies.replication_clusters.clear();
        Ok(())
    };
    let changed = store.update_namespace(&namespace("public/default"), change).await.expect("an update");
    assert_eq!(changed.others.get("message_ttl_in_seconds"), Some(&60.into()));
    assert_eq!(store.namespace(&namespace("public/default")).await.expect("a read"), Some(changed));
}

#[tokio::test]
async fn children_need_their_parents_and_parents_outlive_their_children() {
    let (metadata, store) = new_cluster().await;
    let orphan = store.create_namespace(&namespace("nobody/x"), &Policies::default()).await;
    assert!(matches!(orphan, Err(StoreError::NotFound(_))), "{orphan:?}");
    assert!(matches!(store.delete_tenant("public").await, Err(StoreError::NotEmpty(_))));

    write_topic(&metadata, "a").await;
    assert!(matches!(
        store.delete_namespace(&namespace("public/default")).await,
        Err(StoreError::NotEmpty(_))
    ));

    let unknown_cluster = TenantInfo { allowed_clusters: vec!["mars".into()], ..TenantInfo::default() };
    assert!(matches!(store.create_tenant("t", &unknown_cluster).await, Err(StoreError::Invalid(_))));
    store.create_tenant("t", &TenantInfo::default()).await.expect("a new tenant");
    assert!(matches!(store.create_tenant("t", &TenantInfo::default()).await, Err(StoreError::Exists(_))));
    store.create_namespace(&namespace("t/n"), &Policies::default()).await.expect("a new namespace");
    assert_eq!(store.namespaces("t").await.expect("namespaces"), [namespace("t/n")]);
}

#[tokio::test]
async fn topics_are_listed_by_their_full_names() {
    let (metadata, store) = new_cluster().await;
    for name in ["b", "persistent://public/default/a/with slash", "p-partition-0"] {
        write_topic(&metadata, name).await;
    }
    write_topic(&metadata, "pulsar/system/other").await;
    // A cursor's record lies below its topic's, and is none.
    metadata
        .put("/managed-ledgers/public/default/persistent/b/sub", bytes::Bytes::new(), Expect::Any)
        .await
        .expect("a put");
    let topics = store.topics(&namespace("public/default")).await.expect("topics");
    assert_eq!(
        topics,
        [topic("persistent://public/default/a/with slash"), topic("b"), topic("p-partition-0")]
    );

    let record = PartitionedTopicMetadata { partitions: 2, ..Default::default() };
    store.create_partitioned(&topic("p"), &record, PARTITIONS_MAX).await.expect("a new topic");
    let topics = store.topics(&namespace("public/default")).await.expect("topics");
    assert_eq!(topics[2..], [topic("p-partition-0"), topic("p-partition-1")]);
    assert!(store.topics(&namespace("no/where")).await.expect("topics").is_empty());
}

#[tokio::test]
async fn partitions_only_grow() {
    let (_, store) = new_cluster().await;
    let name = topic("p");
    let record = |partitions| PartitionedTopicMetadata { partitions, ..Default::default() };
    for wrong in [0, PARTITIONS_MAX + 1] {
        let refused = store.create_partitioned(&name, &record(wrong), PARTITIONS_MAX).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    store.create_partitioned(&name, &record(3), PARTITIONS_MAX).await.expect("a new topic");
    assert!(matches!(store.grow_partitions(&name, 2, PARTITIONS_MAX).await, Err(StoreError::Invalid(_))));
    store.grow_partitions(&name, 5, PARTITIONS_MAX).await.expect("more partitions");
    assert_eq!(store.partitions(&name).await.expect("a read").map(|record| record.partitions), Some(5));
    assert_eq!(store.partitioned_topics(&namespace("public/default")).await.expect("a list"), [name]);
}

#[tokio::test]
async fn the_same_schema_keeps_its_version() {
    let (metadata, _) = new_cluster().await;
    let schemas = SchemaRegistry::new(metadata, ManualClock::new());
    let schema = |data: &'static [u8]| api::Schema {
        name: "s".into(),
        schema_data: bytes::Bytes::from_static(data),
        r#type: api::schema::Type::Json as i32,
        properties: Vec::new(),
    };
    for (data, version) in [(b"one" as &[u8], 0), (b"two", 1), (b"one", 0)] {
        assert_eq!(
            schemas
                .add(&topic("t-partition-3"), &schema(data), Strategy::AlwaysCompatible)
                .await
                .expect("an add"),
            version
        );
    }
    let (latest, record) = schemas.latest(&topic("t")).await.expect("a read").expect("there are two");
    assert_eq!((latest, &record.schema.schema_data[..]), (1, &b"two"[..]));
    assert_eq!(schemas.version(&topic("t"), 7).await.expect("a read"), None);
    schemas.delete(&topic("t")).await.expect("a delete");
    assert_eq!(schemas.latest(&topic("t")).await.expect("a read"), None);
}
