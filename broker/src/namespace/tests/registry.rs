//! Loading topics: once at a time, and only those that may exist.

use std::any::Any;
use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::shutdown::Signal;

use super::*;
use crate::topic::{Handle, TopicError};

/// Opens topics that do nothing, once the test lets it.
#[derive(Default)]
struct Loader {
    go: Signal,
    /// The tasks' ends of the topics opened; dropping one is that topic's end.
    tasks: Arc<Mutex<Vec<Box<dyn Any + Send>>>>,
    /// What each was to be opened for.
    purposes: Arc<Mutex<Vec<Purpose>>>,
    fails: bool,
}

impl LoadTopic for Loader {
    fn load(&self, topic: TopicName, purpose: Purpose) -> BoxFuture<'static, Result<Handle, TopicError>> {
        self.purposes.lock().expect("no panic").push(purpose);
        let (handle, task) = Handle::of_nobody(topic.as_str());
        self.tasks.lock().expect("no panic").push(Box::new(task));
        let (go, fails) = (self.go.clone(), self.fails);
        async move {
            go.given().await;
            if fails { Err(TopicError::Persistence("no bookies".into())) } else { Ok(handle) }
        }
        .boxed()
    }
}

const AUTO_CREATE: AutoCreate = AutoCreate { topics: true, subscriptions: true, partitions_max: 100 };

async fn registry(loader: Loader) -> (Arc<TopicRegistry>, Arc<Loader>, NamespaceStore) {
    let (_, store) = new_cluster().await;
    let loader = Arc::new(loader);
    let shared = Arc::clone(&loader) as Arc<dyn LoadTopic>;
    (TopicRegistry::new(store.clone(), shared, AUTO_CREATE, Arc::new(SingleBroker(nowhere()))), loader, store)
}

fn nowhere() -> Owner {
    Owner { broker_url: "pulsar://localhost:1".into(), http_url: "http://localhost:2".into() }
}

fn loads(loader: &Loader) -> usize {
    loader.tasks.lock().expect("no panic").len()
}

#[tokio::test]
async fn concurrent_callers_share_one_load() {
    let (registry, loader, _) = registry(Loader::default()).await;
    let name = topic("t");
    let release = async {
        tokio::task::yield_now().await;
        loader.go.give();
    };
    let (first, second, ()) =
        tokio::join!(registry.get_or_load(&name, true), registry.get_or_load(&name, true), release);
    assert!(first.expect("loaded").same_topic(&second.expect("loaded")));
    assert_eq!((loads(&loader), registry.loaded().len()), (1, 1));
}

#[tokio::test]
async fn topics_loaded_ahead_are_waited_for_and_those_published_to_are_opened_for_that() {
    let (registry, loader, _) = registry(Loader::default()).await;
    let (written, read) = (topic("written"), topic("read"));
    let ahead = registry.load_ahead([(written.clone(), true), (read.clone(), false)]);
    let request = async {
        while loads(&loader) < 2 {
            tokio::task::yield_now().await;
        }
        let waiting = registry.get_or_load(&read, false);
        tokio::pin!(waiting);
        assert!((&mut waiting).now_or_never().is_none(), "it is being loaded");
        loader.go.give();
        let loaded = waiting.await.expect("whoever began to load it had found that it exists");
        assert!(loaded.same_topic(&registry.get(&read).expect("loaded")));
        // Nobody is there to open the ledger.
        loader.tasks.lock().expect("no panic").clear();
    };
    tokio::join!(ahead, request);
    let mut purposes = loader.purposes.lock().expect("no panic").clone();
    purposes.sort_by_key(|purpose| *purpose == Purpose::Read);
    assert_eq!(purposes, [Purpose::Publish, Purpose::Read]);
}

#[tokio::test]
async fn a_cancelled_caller_does_not_stop_the_load() {
    let (registry, loader, _) = registry(Loader::default()).await;
    let name = topic("t");
    tokio::select! {
        biased;
        _ = registry.get_or_load(&name, true) => panic!("the loader was not let go"),
        () = async { while loads(&loader) == 0 { tokio::task::yield_now().await } } => {}
    }
    loader.go.give();
    registry.get_or_load(&name, true).await.expect("loaded");
    assert_eq!(loads(&loader), 1);
}

#[tokio::test]
async fn a_topic_whose_task_ended_is_loaded_anew() {
    let (registry, loader, _) = registry(Loader::default()).await;
    loader.go.give();
    let first = registry.get_or_load(&topic("t"), true).await.expect("loaded");
    loader.tasks.lock().expect("no panic").clear();
    assert!(first.is_closed() && registry.loaded().is_empty());
    let second = registry.get_or_load(&topic("t"), true).await.expect("loaded again");
    assert!(!second.same_topic(&first) && !second.is_closed());
}

#[tokio::test]
async fn a_failed_load_is_tried_again_by_the_next_caller() {
    let (registry, loader, _) = registry(Loader { fails: true, ..Loader::default() }).await;
    loader.go.give();
    for tried in 1..3 {
        let failed = registry.get_or_load(&topic("t"), true).await.err();
        assert!(matches!(failed, Some(LoadError::Topic(TopicError::Persistence(_)))), "{failed:?}");
        assert_eq!(loads(&loader), tried);
    }
}

#[tokio::test]
async fn only_what_may_exist_is_loaded() {
    let (registry, loader, store) = registry(Loader::default()).await;
    loader.go.give();
    let record = PartitionedTopicMetadata { partitions: 2, ..Default::default() };
    store.create_partitioned(&topic("p"), &record, 100).await.expect("a new topic");

    let refused = async |name: &str, create| registry.get_or_load(&topic(name), create).await.err();
    assert!(matches!(refused("no/where/t", true).await, Some(LoadError::UnknownNamespace(_))));
    assert!(matches!(refused("t", false).await, Some(LoadError::NotFound(_))));
    assert!(matches!(refused("p", true).await, Some(LoadError::Partitioned(_))));
    assert!(matches!(refused("p-partition-2", true).await, Some(LoadError::NoSuchPartition { .. })));
    let volatile = "non-persistent://public/default/t";
    assert!(matches!(refused(volatile, false).await, Some(LoadError::NotFound(_))));
    assert_eq!(loads(&loader), 0);
    assert!(refused(volatile, true).await.is_none());
    assert!(refused("p-partition-1", false).await.is_none());
    assert!(refused("t", true).await.is_none());
}

#[tokio::test]
async fn a_namespace_decides_what_first_use_creates() {
    let (registry, _, store) = registry(Loader::default()).await;
    let rule = |allow, partitions| AutoTopicCreation {
        allow_auto_topic_creation: allow,
        topic_type: Some("partitioned".into()),
        default_num_partitions: Some(partitions),
        ..Default::default()
    };
    let set = async |rule: AutoTopicCreation| {
        let change = |policies: &mut Policies| {
            policies.auto_topic_creation = Some(rule.clone());
            Ok(())
        };
        store.update_namespace(&namespace("public/default"), change).await.expect("an update");
    };
    set(rule(true, 3)).await;
    assert_eq!(registry.partitions_for_use(&topic("t"), true).await.expect("created"), 3);
    set(rule(false, 3)).await;
    assert!(matches!(registry.partitions_for_use(&topic("u"), true).await, Err(LoadError::NotFound(_))));
    assert_eq!(registry.partitions_for_use(&topic("t"), true).await.expect("it exists"), 3);
}
