//! Several brokers over one store in memory, without topics that could be opened.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::Environment;
use magnetar_common::bundles::BundleRange;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MemoryStore, MetadataStore, SharedMetadata};
use magnetar_common::topic_name::{NamespaceName, TopicName};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::slow_store::Slow;
use super::*;
use crate::namespace::{
    AutoCreate, ClusterData, LoadTopic, NamespaceStore, Purpose, TopicRegistry, bootstrap,
};
use crate::topic::{Handle, TopicError};

/// Bounds what takes milliseconds.
const SOON: Duration = Duration::from_secs(20);

struct NoTopics;

impl LoadTopic for NoTopics {
    fn load(&self, _topic: TopicName, _: Purpose) -> BoxFuture<'static, Result<Handle, TopicError>> {
        async { Err(TopicError::NotReady("no topics in this test".into())) }.boxed()
    }
}

/// Calls the other brokers of this process without a network.
struct Direct;

fn brokers_of_all_tests() -> MutexGuard<'static, HashMap<String, Weak<Cluster>>> {
    static BROKERS: LazyLock<Mutex<HashMap<String, Weak<Cluster>>>> = LazyLock::new(Mutex::default);
    BROKERS.lock().expect("no panic")
}

impl Neighbours for Direct {
    fn take_over<'a>(
        &'a self,
        broker: &'a BrokerRecord,
        namespace: &'a NamespaceName,
        range: BundleRange,
        request: &'a HandOver,
    ) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let request =
                serde_json::from_slice(&serde_json::to_vec(request).expect("JSON")).expect("a request");
            let next = brokers_of_all_tests().get(&broker.broker_id).and_then(Weak::upgrade);
            let taken = next.ok_or("it is gone")?.take_over(namespace, range, request).await;
            taken.map_err(|error| error.to_string())
        }
        .boxed()
    }
}

struct Broker {
    cluster: Arc<Cluster>,
    topics: Arc<TopicRegistry>,
    /// Somebody listens at the address told to clients.
    _port: TcpListener,
}

async fn store() -> MemoryStore {
    let store = MemoryStore::new();
    let metadata: SharedMetadata = Arc::new(store.clone());
    bootstrap(&metadata, "c", &ClusterData::default(), 4).await.expect("first records");
    store
}

async fn broker(store: &MemoryStore) -> Broker {
    let metadata: SharedMetadata = Arc::new(store.clone());
    let port = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = port.local_addr().expect("an address");
    let record = BrokerRecord {
        broker_id: format!("{address}"),
        web_service_url: format!("http://{address}"),
        pulsar_service_url: format!("pulsar://{address}"),
        ..BrokerRecord::default()
    };
    let settings = ClusterSettings { name: "c".into(), record, lease: Duration::from_secs(600) };
    let environment = Environment::system();
    let cluster = Cluster::join(Arc::clone(&metadata), &environment, settings).await.expect("joined");
    let auto_create = AutoCreate { topics: true, subscriptions: true, partitions_max: 10 };
    let ownership = Arc::clone(&cluster) as Arc<dyn Ownership>;
    let topics =
        TopicRegistry::new(NamespaceStore::new(metadata), Arc::new(NoTopics), auto_create, ownership);
    cluster.register(&topics, Arc::new(Direct)).await.expect("registered");
    brokers_of_all_tests().insert(cluster.id().to_owned(), Arc::downgrade(&cluster));
    Broker { cluster, topics, _port: port }
}

fn topic(name: &str) -> TopicName {
    name.parse().expect("a topic name")
}

/// Follows answers as clients do.
async fn find(brokers: &[&Broker], first: usize, topic: &TopicName) -> Owner {
    let (mut asked, mut authoritative) = (brokers[first], false);
    for _ in 0..20 {
        let request = Asked { authoritative, listener: None };
        let located = tokio::time::timeout(SOON, asked.cluster.locate(topic, request)).await;
        match located.expect("in time").expect("an answer") {
            Located::Serves(owner) => return owner,
            Located::Ask { broker, authoritative: decided } => {
                let next = brokers.iter().find(|b| b.cluster.record.pulsar_service_url == broker.broker_url);
                (asked, authoritative) = (next.expect("a broker of this test"), decided);
            }
        }
    }
    panic!("redirected in circles");
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let clock = Environment::system().clock;
    let wait = async {
        while !holds().await {
            clock.sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

fn topics_of_all_bundles() -> Vec<TopicName> {
    (0..40).map(|number| topic(&format!("t-{number}"))).collect()
}

/// How many brokers would load the topic.
fn servers(brokers: &[&Broker], topic: &TopicName) -> usize {
    brokers.iter().filter(|broker| broker.cluster.is_owned(topic)).count()
}

#[tokio::test]
async fn every_lookup_names_the_one_broker_that_serves_the_topic() {
    let store = store().await;
    let (a, b) = (broker(&store).await, broker(&store).await);
    until("both know each other", async || {
        [&a, &b].iter().all(|broker| broker.cluster.directory().now().len() == 2)
            && (a.cluster.is_leader() || b.cluster.is_leader())
    })
    .await;
    let brokers = [&a, &b];
    for topic in topics_of_all_bundles() {
        let (one, other) = tokio::join!(find(&brokers, 0, &topic), find(&brokers, 1, &topic));
        assert_eq!(one, other, "{topic}");
        let server = brokers.iter().find(|broker| broker.cluster.is_owned(&topic)).expect("a server");
        assert_eq!(server.cluster.record.pulsar_service_url, one.broker_url);
        assert_eq!(servers(&brokers, &topic), 1);
    }
    let held = [a.cluster.held().len(), b.cluster.held().len()];
    assert_eq!(held, [2, 2], "four bundles over two brokers");
    let record = store.get(&layout::bundle_owner(&a.cluster.held()[0].0, a.cluster.held()[0].1)).await;
    assert!(record.expect("get").expect("a record").lease.is_some(), "ownership ends with the lease");
}

#[tokio::test]
async fn a_topic_of_another_brokers_bundle_is_not_loaded() {
    let store = store().await;
    let (a, b) = (broker(&store).await, broker(&store).await);
    let name = topic("x");
    let owner = find(&[&a, &b], 0, &name).await;
    let other = if owner.broker_url == a.cluster.record.pulsar_service_url { &b } else { &a };
    let refused = other.topics.get_or_load(&name, true).await.err().expect("refused");
    assert!(matches!(refused, crate::namespace::LoadError::NotServed(_)), "{refused}");
}

#[tokio::test]
async fn a_drained_brokers_bundles_are_served_by_the_others_at_once() {
    let store = store().await;
    let (a, b) = (broker(&store).await, broker(&store).await);
    let brokers = [&a, &b];
    for topic in topics_of_all_bundles() {
        find(&brokers, 0, &topic).await;
    }
    a.cluster.drain().await;
    assert!(a.cluster.held().is_empty());
    for topic in topics_of_all_bundles() {
        for first in [0, 1] {
            let owner = find(&brokers, first, &topic).await;
            assert_eq!(owner.broker_url, b.cluster.record.pulsar_service_url);
        }
        assert!(!a.cluster.is_owned(&topic));
    }
    a.cluster.stop().await;
    until("the new leader", async || b.cluster.is_leader()).await;
}

#[tokio::test]
async fn a_lost_lease_costs_only_the_bundles_that_somebody_took() {
    let store = store().await;
    let a = broker(&store).await;
    let names = topics_of_all_bundles();
    for topic in &names {
        find(&[&a], 0, topic).await;
    }
    let held = a.cluster.held();
    assert_eq!(held.len(), 4);
    let b = broker(&store).await;
    // The process was stopped: its lease ends, and before it can do anything one bundle is taken.
    let lease = a.cluster.session.borrow().expect("a lease");
    store.expire(lease);
    let taken = &held[0];
    let key = layout::bundle_owner(&taken.0, taken.1);
    let theirs = b.cluster.session.borrow().expect("a lease");
    store.put_ephemeral(&key, b.cluster.owner_json.clone(), Expect::Missing, theirs).await.expect("taken");
    until("another lease", async || a.cluster.session.borrow().is_some_and(|now| now != lease)).await;
    assert_eq!(a.cluster.held(), held[1..].to_vec());
    for topic in &names {
        let owner = find(&[&a, &b], 0, topic).await;
        // Asked itself, the taker finds its record and serves.
        assert_eq!(find(&[&a, &b], 1, topic).await, owner);
        assert_eq!(
            owner.broker_url == b.cluster.record.pulsar_service_url,
            taken.1.contains(topic.bundle_hash())
        );
        assert_eq!(servers(&[&a, &b], topic), 1);
    }
    let registered = store.get(&layout::broker(a.cluster.id())).await.expect("get").expect("registered");
    assert_eq!(registered.lease, *a.cluster.session.borrow());
}

#[tokio::test]
async fn a_record_that_somebody_deleted_is_written_again() {
    let store = store().await;
    let a = broker(&store).await;
    let name = topic("x");
    find(&[&a], 0, &name).await;
    let (namespace, range) = a.cluster.held()[0].clone();
    let key = layout::bundle_owner(&namespace, range);
    store.delete(&key, Expect::Any).await.expect("deleted");
    until("the record", async || store.get(&key).await.expect("get").is_some()).await;
    assert!(a.cluster.is_owned(&name));
}

#[tokio::test]
async fn a_split_leaves_no_hash_unserved_and_its_parts_move_by_themselves() {
    let store = store().await;
    let (a, b) = (broker(&store).await, broker(&store).await);
    let brokers = [&a, &b];
    let names = topics_of_all_bundles();
    let name = &names[0];
    let owner = find(&brokers, 0, name).await;
    let (here, there) =
        if owner.broker_url == a.cluster.record.pulsar_service_url { (&a, &b) } else { (&b, &a) };
    let (namespace, whole) = here.cluster.held()[0].clone();
    let parts = here.cluster.split(&namespace, whole, SplitAt::Middle).await.expect("a split");
    assert_eq!(here.cluster.held(), [(namespace.clone(), parts[0]), (namespace.clone(), parts[1])]);
    assert!(here.cluster.is_owned(name), "no topic was closed");
    assert_eq!(here.cluster.boundaries().get(&namespace).await.expect("read").bundles.count(), 5);

    // The other broker remembers the boundaries of before: a claim that rests on them must fail.
    let moved = parts.into_iter().find(|part| part.contains(name.bundle_hash())).expect("a part");
    until("both know each other", async || here.cluster.directory().now().len() == 2).await;
    here.cluster.unload(&namespace, moved, Some(there.cluster.id())).await.expect("unloaded");
    assert!(there.cluster.is_owned(name), "handed over");
    let owner = find(&brokers, 0, name).await;
    assert_eq!(owner.broker_url, there.cluster.record.pulsar_service_url);
    assert!(names.iter().all(|name| servers(&brokers, name) <= 1));
    assert!(here.cluster.split(&namespace, moved, SplitAt::Middle).await.is_err(), "it is not here any more");
}

#[tokio::test]
async fn a_late_request_takes_no_bundle_from_who_has_it_by_now() {
    let store = store().await;
    let (a, b) = (broker(&store).await, broker(&store).await);
    let name = topic("x");
    find(&[&a], 0, &name).await;
    let (namespace, range) = a.cluster.held()[0].clone();
    let key = layout::bundle_owner(&namespace, range);
    let record = store.get(&key).await.expect("get").expect("a record");
    for version in [record.version.0, record.version.0 + 1] {
        let request = serde_json::json!({"version": version, "topics": {}});
        let request = serde_json::from_value(request).expect("a request");
        let refused = b.cluster.take_over(&namespace, range, request).await;
        assert!(matches!(refused, Err(BundleError::NotHere(_))), "{refused:?}");
    }
    assert!(a.cluster.is_owned(&name) && b.cluster.held().is_empty());
    assert_eq!(store.get(&key).await.expect("get").expect("a record").version, record.version);
}

#[tokio::test]
async fn a_bundle_that_nobody_takes_over_is_free_for_everybody() {
    let store = store().await;
    let (a, b) = (broker(&store).await, broker(&store).await);
    let name = topic("x");
    find(&[&a], 0, &name).await;
    until("both know each other", async || a.cluster.directory().now().len() == 2).await;
    let (namespace, range) = a.cluster.held()[0].clone();
    brokers_of_all_tests().remove(b.cluster.id());
    let unloaded = a.cluster.unload(&namespace, range, Some(b.cluster.id())).await;
    assert!(matches!(unloaded, Err(BundleError::NotTaken(..))), "{unloaded:?}");
    assert!(store.get(&layout::bundle_owner(&namespace, range)).await.expect("get").is_none());
    let unknown = a.cluster.unload(&namespace, range, Some("nobody:1")).await;
    assert!(matches!(unknown, Err(BundleError::NoSuchBroker(_))), "{unknown:?}");
    find(&[&a, &b], 0, &name).await;
    assert_eq!(servers(&[&a, &b], &name), 1);
}

#[tokio::test]
async fn a_claim_on_yesterdays_boundaries_does_not_happen() {
    let store = store().await;
    let (a, b) = (broker(&store).await, broker(&store).await);
    let name = topic("x");
    find(&[&a], 0, &name).await;
    let (namespace, whole) = a.cluster.held()[0].clone();
    let yesterday = b.cluster.boundaries().get(&namespace).await.expect("read");
    a.cluster.split(&namespace, whole, SplitAt::Middle).await.expect("a split");
    b.cluster.claim(&(namespace.clone(), whole), &yesterday).await.expect("no error");
    assert!(b.cluster.held().is_empty(), "the whole is no bundle any more");
    assert!(store.get(&layout::bundle_owner(&namespace, whole)).await.expect("get").is_none());
}

/// The broker went on with the boundaries of before a split by another one: the news of it came while they were being read, when
/// there was nothing to forget yet.
#[tokio::test]
async fn boundaries_that_change_while_they_are_read_are_not_remembered() {
    let store = store().await;
    let a = broker(&store).await;
    let name = topic("x");
    find(&[&a], 0, &name).await;
    let (namespace, whole) = a.cluster.held()[0].clone();
    let answers = Arc::new(Semaphore::new(0));
    let slow = Boundaries::new(Arc::new(Slow { store: Arc::new(store.clone()), answers: answers.clone() }));
    let read = slow.get(&namespace);
    tokio::pin!(read);
    assert!((&mut read).now_or_never().is_none(), "its answer is on its way");
    a.cluster.split(&namespace, whole, SplitAt::Middle).await.expect("a split");
    slow.forget(&namespace);
    answers.add_permits(2);
    assert!(read.await.expect("read").bundles.has(whole));
    assert!(!slow.get(&namespace).await.expect("read").bundles.has(whole));
}
