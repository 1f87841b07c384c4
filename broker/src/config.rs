//! What a user tunes of a broker. Defaults are written here and nowhere else.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use magnetar_proto::pulsar::frame::MAX_MESSAGE_SIZE;

use crate::managed_ledger::MlConfig;

/// Whether other brokers share the metadata store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// This one serves every topic.
    Alone,
    /// Each serves some of the bundles. One that is silent for `lease` loses its own; shorter than 2 s is taken for 2 s.
    Cluster { lease: Duration },
}

/// Sizes are bytes. The defaults suit one broker with three bookies.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Name of the cluster; the first start writes it into the metadata.
    pub cluster: String,
    /// Whether other brokers share the metadata store.
    pub membership: Membership,
    /// Further addresses for clients, by name: `pulsar://host:port` each. A client asks for one by its name.
    pub listeners: BTreeMap<String, String>,
    /// Address both listeners bind to.
    pub bind: IpAddr,
    /// Port of the binary protocol; 0 means any free one.
    pub broker_port: u16,
    /// Port of the admin REST API; 0 means any free one.
    pub http_port: u16,
    /// Host that clients are told to dial. `None`: the bind address, or loopback if that is unspecified.
    pub advertise: Option<String>,
    /// Bookies over which a ledger is spread.
    pub ensemble: u32,
    /// Bookies that get each entry.
    pub write_quorum: u32,
    /// Bookies that must have an entry durable before it is acknowledged.
    pub ack_quorum: u32,
    /// Largest message taken, announced to clients, which cut larger ones into chunks.
    pub max_message_bytes: usize,
    /// Messages received and not yet durable, over all connections. At this limit publishing connections wait.
    pub publish_buffer_bytes: usize,
    /// The newest entries of all topics, kept for consumers that keep up (and 64 KiB of each topic on top).
    pub tail_cache_bytes: usize,
    /// A PING goes out this often; a peer silent for two of these is gone.
    pub keep_alive: Duration,
    /// How long a connection in the way of a newcomer has to answer a PING.
    pub liveness_check: Duration,
    /// A topic that does not exist is created on first use.
    pub auto_create_topics: bool,
    /// A durable subscription that does not exist is created on first use.
    pub auto_create_subscriptions: bool,
    /// Bundles of a namespace that is created without saying how many.
    pub default_bundles: u32,
    /// Most partitions a partitioned topic may have: each is a topic with ledgers of its own.
    pub max_partitions: u32,
    /// A topic without producers and consumers leaves memory after about this time; `None`: never.
    pub idle_topics: Option<Duration>,
    /// Connections served at a time; further ones are closed at once.
    pub max_connections: usize,
    /// A ledger is closed and the next one begun after this many entries …
    pub ledger_entries_max: u64,
    /// … or bytes …
    pub ledger_bytes_max: u64,
    /// … or this time.
    pub ledger_age_max: Duration,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        BrokerConfig {
            cluster: "standalone".into(),
            membership: Membership::Alone,
            listeners: BTreeMap::new(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            broker_port: 6650,
            http_port: 8080,
            advertise: None,
            ensemble: 3,
            write_quorum: 3,
            ack_quorum: 2,
            max_message_bytes: MAX_MESSAGE_SIZE,
            publish_buffer_bytes: 128 * 1024 * 1024,
            tail_cache_bytes: 256 * 1024 * 1024,
            keep_alive: Duration::from_secs(30),
            liveness_check: Duration::from_secs(5),
            auto_create_topics: true,
            auto_create_subscriptions: true,
            default_bundles: 4,
            max_partitions: 1024,
            idle_topics: Some(Duration::from_secs(5 * 60)),
            max_connections: 10_000,
            ledger_entries_max: 50_000,
            ledger_bytes_max: 2 * 1024 * 1024 * 1024,
            ledger_age_max: Duration::from_secs(4 * 60 * 60),
        }
    }
}

impl BrokerConfig {
    /// The numbers of every topic's managed ledger.
    pub fn managed_ledgers(&self) -> MlConfig {
        MlConfig {
            ensemble: self.ensemble,
            write_quorum: self.write_quorum,
            ack_quorum: self.ack_quorum,
            max_entries_per_ledger: self.ledger_entries_max,
            max_bytes_per_ledger: self.ledger_bytes_max,
            max_ledger_age: self.ledger_age_max,
            ..MlConfig::default()
        }
    }

    /// The host to put into the URLs that clients get.
    pub fn advertised_host(&self) -> String {
        match &self.advertise {
            Some(host) => host.clone(),
            None if self.bind.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            None => match self.bind {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            },
        }
    }

    /// Clients on other machines (or outside a container) cannot dial a loopback address; they go on through the address
    /// they came by.
    pub fn advertises_loopback(&self) -> bool {
        let host = self.advertised_host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound_to(bind: &str, advertise: Option<&str>) -> BrokerConfig {
        let bind = bind.parse().expect("an address");
        BrokerConfig { bind, advertise: advertise.map(Into::into), ..BrokerConfig::default() }
    }

    #[test]
    fn clients_are_never_told_the_unspecified_address() {
        assert_eq!(bound_to("0.0.0.0", None).advertised_host(), "127.0.0.1");
        assert_eq!(bound_to("0.0.0.0", Some("broker-1")).advertised_host(), "broker-1");
        assert_eq!(bound_to("::1", None).advertised_host(), "[::1]");
    }

    #[test]
    fn loopback_is_recognised_in_each_of_its_forms() {
        assert!(bound_to("0.0.0.0", None).advertises_loopback());
        assert!(bound_to("::1", None).advertises_loopback());
        assert!(bound_to("10.0.0.1", Some("localhost")).advertises_loopback());
        assert!(!bound_to("10.0.0.1", None).advertises_loopback());
        assert!(!bound_to("0.0.0.0", Some("broker-1")).advertises_loopback());
    }
}
