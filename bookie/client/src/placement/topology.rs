//! What operators have said about bookies: racks and groups, in the record `/bookies` that Pulsar's tools write too
//! (`pulsar-admin bookies set-bookie-rack`).

use super::location::Location;
use magnetar_common::layout;
use magnetar_common::metadata::{MetadataError, SharedMetadata, Watch};
use magnetar_proto::bookkeeper::BookieId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a failed read waits for the store to come back.
const RETRY: Duration = Duration::from_secs(1);

/// Racks by group and bookie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Topology {
    groups: BTreeMap<String, BTreeMap<String, Option<Location>>>,
}

/// The record is not what Pulsar writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{record} is no map of groups to bookies: {0}", record = layout::BOOKIE_RACKS)]
pub(crate) struct MalformedTopology(String);

impl Topology {
    /// Reads `{"<group>":{"<bookie id>":{"rack":"/r1","hostname":"h"}}}`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MalformedTopology> {
        let record: Value =
            serde_json::from_slice(bytes).map_err(|error| MalformedTopology(error.to_string()))?;
        let object = |value: &Value| {
            value.as_object().cloned().ok_or_else(|| MalformedTopology(format!("{value} is no object")))
        };
        let mut groups = BTreeMap::new();
        for (group, members) in object(&record)? {
            let rack = |place: &Value| place["rack"].as_str().map(Location::parse);
            let members = object(&members)?.into_iter().map(|(id, place)| (id, rack(&place))).collect();
            groups.insert(group, members);
        }
        Ok(Self { groups })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.values().all(BTreeMap::is_empty)
    }

    /// The rack of a bookie, if one is named.
    pub(crate) fn location(&self, bookie: &BookieId) -> Option<Location> {
        self.groups.values().find_map(|members| members.get(bookie.as_str()).cloned().flatten())
    }

    pub(crate) fn is_member(&self, group: &str, bookie: &BookieId) -> bool {
        self.groups.get(group).is_some_and(|members| members.contains_key(bookie.as_str()))
    }

    /// Whether it is in any group.
    pub(crate) fn is_grouped(&self, bookie: &BookieId) -> bool {
        self.groups.values().any(|members| members.contains_key(bookie.as_str()))
    }
}

/// Follows the record. Clones share one background task, which ends with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct TopologyWatch {
    topology: watch::Receiver<Arc<Topology>>,
}

impl TopologyWatch {
    /// Reads the record and keeps following it. Must be called within a tokio runtime with its timer on.
    pub(crate) async fn follow(store: SharedMetadata) -> Result<Self, MetadataError> {
        let watch = store.watch(layout::BOOKIE_RACKS);
        let (sender, topology) = watch::channel(Arc::new(read(&store).await?.unwrap_or_default()));
        tokio::spawn(keep_following(store, watch, sender));
        Ok(Self { topology })
    }

    pub(crate) fn now(&self) -> Arc<Topology> {
        self.topology.borrow().clone()
    }
}

async fn keep_following(store: SharedMetadata, mut watch: Watch, sender: watch::Sender<Arc<Topology>>) {
    let mut stale = false;
    loop {
        let wait = if stale { RETRY } else { Duration::MAX };
        tokio::select! {
            event = tokio::time::timeout(wait, watch.next()) => if let Ok(None) = event { return },
            () = sender.closed() => return,
        }
        let found = read(&store).await;
        stale = found.is_err();
        match found {
            Ok(Some(topology)) => drop(sender.send_replace(Arc::new(topology))),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot read the racks of bookies; keeping the last ones"),
        }
    }
}

/// `None`: there is a record, and it makes no sense; the last one that did is better than none.
async fn read(store: &SharedMetadata) -> Result<Option<Topology>, MetadataError> {
    let Some(value) = store.get(layout::BOOKIE_RACKS).await? else { return Ok(Some(Topology::default())) };
    match Topology::decode(&value.bytes) {
        Ok(topology) => Ok(Some(topology)),
        Err(error) => {
            tracing::warn!(%error, "the racks of bookies cannot be understood");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magnetar_common::metadata::{Expect, MemoryStore};

    fn id(text: &str) -> BookieId {
        BookieId::new(text).expect("an id")
    }

    #[test]
    fn pulsars_record_is_read_and_others_are_refused() {
        let record =
            br#"{"default":{"b1:3181":{"rack":"/eu/r1","hostname":"h"},"b2:3181":{"rack":"r2"},"b3":{}}}"#;
        let topology = Topology::decode(record).expect("a record");
        assert_eq!(topology.location(&id("b1:3181")), Some(Location::parse("/eu/r1")));
        assert_eq!(topology.location(&id("b2:3181")), Some(Location::parse("/r2")));
        assert_eq!((topology.location(&id("b3")), topology.is_grouped(&id("b3"))), (None, true));
        assert!(!topology.is_grouped(&id("b4")));
        for record in ["", "[]", "{\"a\":1}"] {
            assert!(Topology::decode(record.as_bytes()).is_err(), "{record}");
        }
    }

    #[tokio::test]
    async fn a_changed_record_is_followed_and_a_senseless_one_is_not() {
        let store: SharedMetadata = Arc::new(MemoryStore::new());
        let mut following = TopologyWatch::follow(store.clone()).await.expect("the record");
        assert!(following.now().is_empty());
        for record in ["nonsense", r#"{"g":{"b1":{"rack":"/r"}}}"#] {
            store.put(layout::BOOKIE_RACKS, record.into(), Expect::Any).await.expect("put");
        }
        following.topology.changed().await.expect("followed");
        assert!(following.now().is_member("g", &id("b1")));
    }
}
