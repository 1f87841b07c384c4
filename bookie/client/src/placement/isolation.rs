//! Isolation groups: which bookies a namespace's ledgers may lie on, as Pulsar's bookie affinity groups say it.
//!
//! A ledger carries its groups in its own record, under Pulsar's key, so that whoever replaces a bookie later obeys them
//! without knowing the namespace.

use super::topology::Topology;
use bytes::Bytes;
use magnetar_proto::bookkeeper::BookieId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The key of a ledger's custom metadata that holds its placement policy.
const KEY: &str = "EnsemblePlacementPolicyConfig";
/// The only policy of Pulsar's that this key is used with.
const POLICY: &str = "org.apache.pulsar.bookie.rackawareness.IsolatedBookieEnsemblePlacementPolicy";
const PRIMARY: &str = "isolationBookieGroups";
const SECONDARY: &str = "secondaryIsolationBookieGroups";
/// As a primary group it means: any bookie. Pulsar's system topics use it.
const ANY: &str = "*";

/// Groups of bookies, named as in the metadata record `/bookies`. Without a primary group nothing is isolated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// Where ledgers lie.
    pub primary: BTreeSet<String>,
    /// Where they may lie as well when the primary groups have too few bookies.
    pub secondary: BTreeSet<String>,
}

impl Isolation {
    /// Of groups as Pulsar's tools name them: one name, or several with commas between them.
    pub fn named(primary: &str, secondary: &str) -> Self {
        Self { primary: split(primary), secondary: split(secondary) }
    }

    /// What a ledger's custom metadata says. A policy that is not understood isolates nothing.
    pub fn of(custom: &BTreeMap<String, Bytes>) -> Self {
        let Some(bytes) = custom.get(KEY) else { return Self::default() };
        let policy: Value = match serde_json::from_slice(bytes) {
            Ok(policy) => policy,
            Err(error) => {
                tracing::warn!(%error, "a ledger's placement policy cannot be understood; it isolates nothing");
                return Self::default();
            }
        };
        let groups = |name: &str| names(&policy["properties"][name]);
        Self { primary: groups(PRIMARY), secondary: groups(SECONDARY) }
    }

    /// The entry of a ledger's custom metadata that says this; `None` when nothing is isolated.
    pub fn to_custom(&self) -> Option<(String, Bytes)> {
        if self.primary.is_empty() {
            return None;
        }
        let joined = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(",");
        let policy = json!({
            "policyClass": POLICY,
            "properties": { PRIMARY: joined(&self.primary), SECONDARY: joined(&self.secondary) },
        });
        Some((KEY.to_owned(), policy.to_string().into()))
    }

    /// How readily a ledger goes to a bookie: 0 first. `None`: never, because it belongs to others.
    pub(crate) fn tier(&self, topology: &Topology, bookie: &BookieId) -> Option<u8> {
        if self.primary.is_empty() || self.primary.contains(ANY) || topology.is_empty() {
            return Some(0);
        }
        let in_any = |groups: &BTreeSet<String>| groups.iter().any(|group| topology.is_member(group, bookie));
        if in_any(&self.primary) {
            Some(0)
        } else if in_any(&self.secondary) {
            Some(1)
        } else if !topology.is_grouped(bookie) {
            Some(2)
        } else {
            None
        }
    }
}

/// A list, or names with commas between them: Pulsar has written both.
fn names(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).flat_map(split).collect(),
        Value::String(text) => split(text),
        _ => BTreeSet::new(),
    }
}

fn split(names: &str) -> BTreeSet<String> {
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn groups_survive_the_way_through_a_ledgers_record() {
        let isolation = Isolation { primary: set(&["a", "b"]), secondary: set(&["c"]) };
        let custom = isolation.to_custom().into_iter().collect();
        assert_eq!(Isolation::of(&custom), isolation);
        assert_eq!(Isolation::named("b, a,", "c"), isolation);
        assert_eq!(Isolation::default().to_custom(), None);
    }

    #[test]
    fn both_of_pulsars_spellings_are_read_and_nonsense_isolates_nothing() {
        let read = |text: &str| {
            Isolation::of(&BTreeMap::from([(KEY.to_owned(), Bytes::copy_from_slice(text.as_bytes()))]))
        };
        let list = r#"{"policyClass":"x","properties":{"isolationBookieGroups":["a","b"]}}"#;
        assert_eq!(read(list), Isolation { primary: set(&["a", "b"]), secondary: set(&[]) });
        assert_eq!(read("no json"), Isolation::default());
        assert_eq!(read("[]"), Isolation::default());
    }

    #[test]
    fn a_bookie_of_other_groups_only_is_never_used() {
        let record = br#"{"a":{"b1":{"rack":"/r"}},"c":{"b2":{"rack":"/r"}},"d":{"b1":{"rack":"/r"},"b3":{"rack":"/r"}}}"#;
        let topology = Topology::decode(record).expect("a record");
        let isolation = Isolation { primary: set(&["a"]), secondary: set(&["c"]) };
        let tier = |id: &str| isolation.tier(&topology, &BookieId::new(id).expect("an id"));
        assert_eq!([tier("b1"), tier("b2"), tier("b3"), tier("b4")], [Some(0), Some(1), None, Some(2)]);
        let any = Isolation { primary: set(&["*"]), secondary: set(&[]) };
        assert_eq!(any.tier(&topology, &BookieId::new("b3").expect("an id")), Some(0));
    }
}
