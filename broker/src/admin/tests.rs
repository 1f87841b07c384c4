//! The router over a bound listener, with records in memory and no topic that can be loaded.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::Environment;
use magnetar_common::metadata::{MemoryStore, SharedMetadata};
use magnetar_common::topic_name::TopicName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::config::BrokerConfig;
use crate::namespace::{ClusterData, LoadTopic, Owner, Purpose, bootstrap};
use crate::service::assemble;
use crate::topic::{Handle, TopicError};

struct NoTopics;

impl LoadTopic for NoTopics {
    fn load(&self, _topic: TopicName, _: Purpose) -> BoxFuture<'static, Result<Handle, TopicError>> {
        async { Err(TopicError::NotReady("no topics in this test".into())) }.boxed()
    }
}

struct Admin {
    address: std::net::SocketAddr,
}

struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Admin {
    async fn start() -> Self {
        let metadata: SharedMetadata = Arc::new(MemoryStore::new());
        let config = BrokerConfig::default();
        let cluster = config.cluster.clone();
        bootstrap(&metadata, &cluster, &ClusterData::default(), 4).await.expect("first records");
        let owner =
            Owner { broker_url: "pulsar://localhost:6650".into(), http_url: "http://localhost:8080".into() };
        let service = assemble(config, metadata, Environment::system(), owner, Arc::new(NoTopics));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(axum::serve(listener, super::router(Arc::new(service))).into_future());
        Self { address }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.expect("an answer");
        let text = String::from_utf8(text).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, body: body.to_owned() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    async fn status(&self, method: &str, path: &str, body: Value) -> u16 {
        self.call(method, path, &body.to_string()).await.status
    }
}

#[tokio::test]
async fn a_new_cluster_shows_itself() {
    let admin = Admin::start().await;
    assert_eq!(admin.get("/admin/v2/clusters").await.json(), json!(["standalone"]));
    assert_eq!(admin.get("/admin/v2/tenants").await.json(), json!(["public", "pulsar"]));
    assert_eq!(admin.get("/admin/v2/namespaces/public").await.json(), json!(["public/default"]));
    assert_eq!(admin.get("/admin/v2/brokers").await.json(), json!(["localhost:8080"]));
    assert_eq!(admin.get("/admin/v2/brokers/health?topicVersion=V2").await.body, "ok");
    assert_eq!(admin.get("/status.html").await.body, "OK");
    assert_eq!(admin.get("/admin/v2/namespaces/public/default/bundles").await.json()["numBundles"], 4);
}

#[tokio::test]
async fn every_refusal_has_a_reason() {
    let admin = Admin::start().await;
    for (method, path, body, status) in [
        ("GET", "/admin/v2/no/such/thing", "", 404),
        ("GET", "/admin/v2/tenants/missing", "", 404),
        ("GET", "/admin/v2/namespaces/missing", "", 404),
        ("GET", "/admin/v2/namespaces/public/missing", "", 404),
        ("GET", "/admin/v2/persistent/public/default/missing/stats", "", 404),
        ("GET", "/admin/v2/persistent/public/missing/t/stats", "", 404),
        ("DELETE", "/admin/v2/persistent/public/default/missing", "", 404),
        ("PUT", "/admin/v2/persistent/public/default/missing/unload", "", 404),
        ("GET", "/admin/v2/namespaces/public/default/nosuchpolicy", "", 404),
        ("PUT", "/admin/v2/namespaces/missing/new", "", 404),
        ("PUT", "/admin/v2/namespaces/public/default", "", 409),
        ("PUT", "/admin/v2/namespaces/public/a%20b", "", 412),
        ("PUT", "/admin/v2/tenants/t", "{\"allowedClusters\":[\"elsewhere\"]}", 412),
        ("PUT", "/admin/v2/persistent/public/default/t/partitions", "\"many\"", 400),
        ("PUT", "/admin/v2/persistent/public/default/t/partitions", "-1", 400),
        ("PUT", "/admin/v2/persistent/public/default/t/partitions", "0", 412),
        ("PUT", "/admin/v2/persistent/public/default/t/partitions", "4294967295", 412),
        ("POST", "/admin/v2/persistent/public/default/t/subscription/s/skip/x", "", 400),
        ("POST", "/admin/v2/namespaces/public/default/messageTTL", "-5", 412),
        ("PATCH", "/admin/v2/tenants/public", "", 405),
    ] {
        let answer = admin.call(method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(answer.json()["reason"].is_string(), "{method} {path}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let admin = Admin::start().await;
    let body = "x".repeat(super::BODY_BYTES_MAX + 1);
    assert_eq!(admin.call("PUT", "/admin/v2/tenants/t", &body).await.status, 413);
}

#[tokio::test]
async fn partitioned_topics_are_created_grown_and_deleted() {
    let admin = Admin::start().await;
    let path = "/admin/v2/persistent/public/default/orders%2Feu/partitions";
    assert_eq!(admin.status("PUT", path, json!({"partitions": 2, "properties": {"a": "b"}})).await, 204);
    assert_eq!(admin.status("PUT", path, json!(2)).await, 409);
    assert_eq!(admin.get(path).await.json()["partitions"], 2);
    assert_eq!(admin.get(path).await.json()["properties"], json!({"a": "b"}));
    assert_eq!(admin.status("POST", path, json!(1)).await, 412);
    assert_eq!(admin.status("POST", path, json!(3)).await, 204);
    let list = "/admin/v2/persistent/public/default";
    assert_eq!(
        admin.get(&format!("{list}/partitioned")).await.json(),
        json!(["persistent://public/default/orders/eu"])
    );
    let names = admin.get(list).await.json();
    assert_eq!(names.as_array().map(Vec::len), Some(3), "{names}");
    assert_eq!(names[2], "persistent://public/default/orders/eu-partition-2");
    assert_eq!(admin.get("/admin/v2/namespaces/public/default/topics?mode=ALL").await.json(), names);
    let topic = "/admin/v2/persistent/public/default/orders%2Feu";
    assert_eq!(admin.get(&format!("{topic}/partitioned-stats")).await.json()["metadata"]["partitions"], 3);
    assert_eq!(admin.status("DELETE", topic, Value::Null).await, 412);
    assert_eq!(admin.status("DELETE", "/admin/v2/namespaces/public/default", Value::Null).await, 409);
    assert_eq!(admin.status("DELETE", path, Value::Null).await, 204);
    assert_eq!(admin.get(path).await.status, 404);
    assert_eq!(admin.get(&format!("{path}?checkAllowAutoCreation=true")).await.json()["partitions"], 0);
}

#[tokio::test]
async fn policies_are_kept_as_they_were_set() {
    let admin = Admin::start().await;
    let namespace = "/admin/v2/namespaces/public/default";
    assert_eq!(admin.get(&format!("{namespace}/retention")).await.status, 204);
    let retention = json!({"retentionTimeInMinutes": 60, "retentionSizeInMB": 100});
    assert_eq!(admin.status("POST", &format!("{namespace}/retention"), retention.clone()).await, 204);
    assert_eq!(admin.status("POST", &format!("{namespace}/messageTTL"), json!(30)).await, 204);
    let quota = json!({"limitSize": 10, "limitTime": -1, "policy": "producer_exception"});
    assert_eq!(admin.status("POST", &format!("{namespace}/backlogQuota"), quota.clone()).await, 204);
    let automatic = json!({"allowAutoTopicCreation": false});
    assert_eq!(admin.status("POST", &format!("{namespace}/autoTopicCreation"), automatic).await, 204);
    let policies = admin.get(namespace).await.json();
    assert_eq!(policies["retention_policies"], retention);
    assert_eq!(policies["message_ttl_in_seconds"], 30);
    assert_eq!(policies["backlog_quota_map"]["destination_storage"], quota);
    assert_eq!(policies["autoTopicCreationOverride"]["allowAutoTopicCreation"], false);
    assert_eq!(policies["bundles"]["numBundles"], 4);
    assert_eq!(admin.get(&format!("{namespace}/messageTTL")).await.json(), json!(30));
    assert_eq!(admin.status("DELETE", &format!("{namespace}/retention"), Value::Null).await, 204);
    assert_eq!(admin.get(&format!("{namespace}/retention")).await.status, 204);
    assert_eq!(admin.status("POST", &format!("{namespace}/replication"), json!([1])).await, 412);
}

#[tokio::test]
async fn a_namespace_takes_what_tools_send_for_its_bundles() {
    let admin = Admin::start().await;
    for (index, (body, bundles)) in [
        (json!({}), 4),
        (json!({"bundles": {"numBundles": 16}, "retention_policies": null}), 16),
        (json!({"bundles": {"boundaries": [], "numBundles": 2}}), 2),
        // pulsar-admin sends a whole record, properties that the broker acts on among them.
        (json!({"bundles": {"numBundles": 3}, "deleted": false, "autoTopicCreationOverride": null}), 3),
        (json!({"bundles": {"boundaries": ["0x00000000", "0xffffffff"], "numBundles": 1}}), 1),
    ]
    .into_iter()
    .enumerate()
    {
        let namespace = format!("/admin/v2/namespaces/public/n{index}");
        assert_eq!(admin.status("PUT", &namespace, body).await, 204);
        let policies = admin.get(&namespace).await.json();
        assert_eq!(policies["bundles"]["numBundles"], bundles);
        assert_eq!(policies["replication_clusters"], json!(["standalone"]));
    }
    let too_many = json!({"bundles": {"numBundles": 1_000_000}});
    assert_eq!(admin.status("PUT", "/admin/v2/namespaces/public/huge", too_many).await, 412);
    let unload = "/admin/v2/namespaces/public/default/0x00000000_0x40000000/unload";
    assert_eq!(admin.status("PUT", unload, Value::Null).await, 204);
    let unload = "/admin/v2/namespaces/public/default/0x00000000_0x40000001/unload";
    assert_eq!(admin.status("PUT", unload, Value::Null).await, 412);
}

#[tokio::test]
async fn permissions_are_granted_read_and_revoked() {
    let admin = Admin::start().await;
    let namespace = "/admin/v2/namespaces/public/default/permissions";
    let topic = "/admin/v2/persistent/public/default/t/permissions";
    assert_eq!(admin.get(namespace).await.json(), json!({}));
    assert_eq!(admin.status("POST", &format!("{namespace}/me"), json!(["produce", "consume"])).await, 204);
    assert_eq!(admin.status("POST", &format!("{topic}/you"), json!(["consume"])).await, 204);
    assert_eq!(admin.get(namespace).await.json(), json!({"me": ["produce", "consume"]}));
    let both = json!({"me": ["produce", "consume"], "you": ["consume"]});
    assert_eq!(admin.get(topic).await.json(), both);
    assert_eq!(admin.status("POST", &format!("{namespace}/me"), json!(["fly"])).await, 400);
    assert_eq!(admin.status("DELETE", &format!("{namespace}/me"), Value::Null).await, 204);
    assert_eq!(admin.get(namespace).await.json(), json!({}));
}

#[tokio::test]
async fn a_schema_is_stored_and_read_back() {
    let admin = Admin::start().await;
    let path = "/admin/v2/schemas/public/default/t";
    assert_eq!(admin.get(&format!("{path}/schema")).await.status, 404);
    let schema = json!({"type": "AVRO", "schema": "{\"type\":\"record\"}", "properties": {"a": "b"}});
    let posted = admin.call("POST", &format!("{path}/schema"), &schema.to_string()).await;
    assert_eq!(posted.json(), json!({"version": 0}));
    let read = admin.get(&format!("{path}/schema/0")).await.json();
    assert_eq!((&read["type"], &read["data"]), (&schema["type"], &schema["schema"]));
    assert_eq!(admin.status("POST", &format!("{path}/schema"), json!({"type": "NOPE"})).await, 412);
}

#[tokio::test]
async fn lookup_and_metrics_answer_without_a_topic() {
    let admin = Admin::start().await;
    let owner = admin.get("/lookup/v2/topic/persistent/public/default/t").await.json();
    assert_eq!(
        (&owner["brokerUrl"], &owner["brokerUrlTls"]),
        (&json!("pulsar://localhost:6650"), &json!(""))
    );
    let bundle = admin.get("/lookup/v2/topic/persistent/public/default/t/bundle").await.body;
    assert!(bundle.starts_with("0x") && bundle.len() == 21, "{bundle}");
    assert_eq!(admin.get("/lookup/v2/topic/persistent/public/missing/t").await.status, 404);
    assert_eq!(admin.get("/metrics").await.status, 307);
    let metrics = admin.get("/metrics/").await.body;
    assert!(metrics.contains("pulsar_broker_topics_count{cluster=\"standalone\"} 0"), "{metrics}");
}

#[tokio::test]
async fn a_schema_that_old_consumers_could_not_read_is_refused_unless_the_namespace_allows_it() {
    let admin = Admin::start().await;
    let path = "/admin/v2/schemas/public/default/t";
    let field = |name: &str| json!({"name": name, "type": "int"});
    let record = |fields: Value| {
        let schema = json!({"type": "record", "name": "R", "fields": fields}).to_string();
        json!({"type": "AVRO", "schema": schema, "properties": {}})
    };
    let (first, second) = (record(json!([field("a")])), record(json!([field("a"), field("b")])));
    assert_eq!(admin.status("POST", &format!("{path}/schema"), first.clone()).await, 200);
    let answer = admin.call("POST", &format!("{path}/compatibility"), &second.to_string()).await.json();
    assert_eq!(
        (&answer["isCompatibility"], &answer["schemaCompatibilityStrategy"]),
        (&json!(false), &json!("FULL"))
    );
    assert!(answer["reason"].as_str().is_some_and(|reason| reason.contains("field b")), "{answer}");
    let refused = admin.call("POST", &format!("{path}/schema"), &second.to_string()).await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    let strategy = "/admin/v2/namespaces/public/default/schemaCompatibilityStrategy";
    assert_eq!(admin.status("PUT", strategy, json!("FORWARD")).await, 204);
    assert_eq!(admin.status("POST", &format!("{path}/schema"), second.clone()).await, 200);
    assert_eq!(
        admin.call("POST", &format!("{path}/version"), &second.to_string()).await.json()["version"],
        1
    );
}

#[tokio::test]
async fn a_topic_has_policies_of_its_own_in_front_of_its_namespaces() {
    let admin = Admin::start().await;
    let topic = "/admin/v2/persistent/public/default/t";
    assert_eq!(admin.get(&format!("{topic}/messageTTL")).await.status, 204);
    assert_eq!(admin.status("POST", "/admin/v2/namespaces/public/default/messageTTL", json!(60)).await, 204);
    assert_eq!(admin.get(&format!("{topic}/messageTTL?applied=true")).await.json(), 60);
    assert_eq!(admin.call("POST", &format!("{topic}/messageTTL?messageTTL=5"), "").await.status, 204);
    assert_eq!(admin.get(&format!("{topic}/messageTTL")).await.json(), 5);
    let quota = json!({"limitSize": 10, "limitTime": -1, "policy": "producer_exception"});
    assert_eq!(admin.status("POST", &format!("{topic}/backlogQuota"), quota.clone()).await, 204);
    let quotas = admin.get(&format!("{topic}/backlogQuotaMap")).await.json();
    assert_eq!(quotas["destination_storage"], quota);
    assert_eq!(admin.status("POST", &format!("{topic}/maxProducers"), json!("many")).await, 412);
    assert_eq!(admin.call("DELETE", &format!("{topic}/messageTTL"), "").await.status, 204);
    assert_eq!(admin.get(&format!("{topic}/messageTTL?applied=true")).await.json(), 60);
    assert_eq!(admin.get(&format!("{topic}/nosuchpolicy")).await.status, 404);
}
