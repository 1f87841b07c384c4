//! The records of bundles' owners and of brokers, in Pulsar's JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::error::StoreError;
use super::super::policies::Others;
use super::Owner;

/// An address for clients of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listener {
    /// `pulsar://host:port`
    pub broker_service_url: Option<String>,
    /// `pulsar+ssl://host:port`
    pub broker_service_url_tls: Option<String>,
}

/// Who owns a bundle: the value of its ephemeral key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BundleOwner {
    pub(super) native_url: String,
    pub(super) native_url_tls: Option<String>,
    pub(super) http_url: String,
    pub(super) http_url_tls: Option<String>,
    /// Being unloaded: whoever reads this waits for the next owner.
    pub(super) disabled: bool,
    pub(super) advertised_listeners: BTreeMap<String, Listener>,
    #[serde(flatten)]
    pub(super) others: Others,
}

/// Where a broker is, and how busy: the value of its registration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerRecord {
    /// `host:port` of the HTTP port.
    pub broker_id: String,
    pub web_service_url: String,
    pub pulsar_service_url: String,
    pub advertised_listeners: BTreeMap<String, Listener>,
    pub persistent_topics_enabled: bool,
    pub broker_version_string: String,
    /// Milliseconds since 1970.
    pub start_timestamp: u64,
    pub last_update: u64,
    pub load_report_type: String,
    pub load_manager_class_name: String,
    pub protocols: BTreeMap<String, String>,
    pub num_topics: u64,
    pub num_bundles: u64,
    pub num_consumers: u64,
    pub num_producers: u64,
    pub msg_rate_in: f64,
    pub msg_rate_out: f64,
    /// Bytes per second.
    pub msg_throughput_in: f64,
    pub msg_throughput_out: f64,
    /// `tenant/namespace/range` of every bundle it serves.
    pub bundles: BTreeSet<String>,
    /// Load by bundle, for those that have any.
    pub last_stats: BTreeMap<String, BundleStats>,
    #[serde(flatten)]
    pub others: Others,
}

/// The load of one bundle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BundleStats {
    pub msg_rate_in: f64,
    pub msg_rate_out: f64,
    pub msg_throughput_in: f64,
    pub msg_throughput_out: f64,
    pub consumer_count: u64,
    pub producer_count: u64,
    pub topics: u64,
}

/// The broker that assigns bundles: the value of the leader's key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeaderRecord {
    pub(super) broker_id: String,
    pub(super) service_url: String,
}

impl BrokerRecord {
    /// The addresses for a client that named a listener, or none.
    pub(super) fn owner(&self, listener: Option<&str>) -> Result<Owner, StoreError> {
        let broker_url = pick(&self.pulsar_service_url, &self.advertised_listeners, listener)?;
        Ok(Owner { broker_url, http_url: self.web_service_url.clone() })
    }

    pub(super) fn bundle_owner(&self) -> BundleOwner {
        BundleOwner {
            native_url: self.pulsar_service_url.clone(),
            http_url: self.web_service_url.clone(),
            advertised_listeners: self.advertised_listeners.clone(),
            ..BundleOwner::default()
        }
    }
}

impl BundleOwner {
    pub(super) fn owner(&self, listener: Option<&str>) -> Result<Owner, StoreError> {
        let broker_url = pick(&self.native_url, &self.advertised_listeners, listener)?;
        Ok(Owner { broker_url, http_url: self.http_url.clone() })
    }
}

fn pick(
    usual: &str,
    listeners: &BTreeMap<String, Listener>,
    name: Option<&str>,
) -> Result<String, StoreError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(usual.to_owned()) };
    let named = listeners.get(name).and_then(|listener| listener.broker_service_url.clone());
    named.ok_or_else(|| {
        StoreError::Invalid(format!(
            "the topic's broker has no listener '{name}'; use one that it advertises"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_java_broker_wrote_is_understood_and_kept() {
        let json = r#"{"nativeUrl":"pulsar://h:6650","nativeUrlTls":null,"httpUrl":"http://h:8080","httpUrlTls":null,
            "disabled":false,"advertisedListeners":{"out":{"brokerServiceUrl":"pulsar://x:1","brokerHttpUrl":null}},"new":1}"#;
        let record: BundleOwner = serde_json::from_str(json).expect("an owner");
        assert_eq!(record.owner(None).expect("an owner").broker_url, "pulsar://h:6650");
        assert_eq!(record.owner(Some("out")).expect("an owner").broker_url, "pulsar://x:1");
        assert!(record.owner(Some("other")).is_err());
        assert_eq!(record.others["new"], 1);
    }
}
