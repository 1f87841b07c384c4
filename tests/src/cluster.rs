//! A whole cluster as processes on loopback: etcd, three bookies, and brokers that come and go.

use crate::etcd::Etcd;
use crate::http;
use crate::process::free_ports;
use crate::role::Role;
use crate::wait;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Bounds what should take a second, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A running cluster. Everything is killed when dropped.
pub struct Cluster {
    pub brokers: Vec<Broker>,
    pub bookies: Vec<Role>,
    pub etcd: Etcd,
    _dir: TempDir,
}

/// A broker process and where it is.
pub struct Broker {
    pub role: Role,
    /// `host:port` of the binary protocol.
    pub address: String,
    /// `http://host:port`.
    pub http: String,
}

impl Broker {
    /// Starts a broker of this cluster with further flags.
    pub fn start(etcd: &Etcd, flags: &[&str]) -> Result<Self> {
        let ports = free_ports()?;
        let words = format!(
            "broker --metadata {} --bind 127.0.0.1 --broker-port {} --http-port {}",
            etcd.url(),
            ports.0,
            ports.1
        );
        let role = Role::start(words.split(' ').chain(flags.iter().copied()))?;
        let address = role.told("broker").context("an address")?.trim_start_matches("pulsar://").to_owned();
        let http = role.told("http").context("an address")?.to_owned();
        Ok(Self { role, address, http })
    }

    /// `host:port` of the HTTP port: how brokers call each other.
    pub fn id(&self) -> &str {
        self.http.trim_start_matches("http://")
    }

    /// `tenant/namespace/range` of every bundle that it serves.
    pub fn bundles(&self) -> Result<Vec<String>> {
        let answer =
            http::get(&format!("{}/admin/v2/brokers/standalone/{}/ownedNamespaces", self.http, self.id()))?;
        Ok(answer.json()?.as_object().context("a map")?.keys().cloned().collect())
    }
}

/// A bookie's command line, with its directories below `dir`.
pub fn bookie_words(etcd: &Etcd, dir: &Path) -> Result<Vec<String>> {
    let ports = free_ports()?;
    let words = format!(
        "bookie --metadata {} --journal-dir {} --ledger-dir {} --bind 127.0.0.1 --port {} --http-port {}",
        etcd.url(),
        dir.join("journal").display(),
        dir.join("ledgers").display(),
        ports.0,
        ports.1
    );
    Ok(words.split(' ').map(str::to_owned).collect())
}

impl Cluster {
    /// Starts etcd, three bookies and this many brokers, and waits until the brokers know each other and have a leader.
    pub fn start(etcd: PathBuf, brokers: usize) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let etcd = Etcd::start(etcd)?;
        let mut bookies = Vec::new();
        for number in 0..3 {
            bookies.push(Role::start(bookie_words(&etcd, &dir.path().join(number.to_string()))?)?);
        }
        let brokers = (0..brokers).map(|_| Broker::start(&etcd, &[])).collect::<Result<Vec<_>>>()?;
        let cluster = Self { brokers, bookies, etcd, _dir: dir };
        cluster.wait_for_brokers();
        cluster.retain_everything()?;
        Ok(cluster)
    }

    /// Without this, a ledger that no subscription needs is deleted once its topic writes to the next one.
    fn retain_everything(&self) -> Result<()> {
        let policy = serde_json::json!({"retentionTimeInMinutes": -1, "retentionSizeInMB": -1});
        let url = format!("{}/admin/v2/namespaces/public/default/retention", self.brokers[0].http);
        let answer = http::post(&url, Some(&policy))?;
        anyhow::ensure!(answer.status < 300, "set retention: {} {}", answer.status, answer.body);
        Ok(())
    }

    /// Waits until every broker lists all of them, and there is a leader.
    pub fn wait_for_brokers(&self) {
        wait::until("the brokers know each other", SOON, || {
            let mut ids: Vec<&str> = self.brokers.iter().map(Broker::id).collect();
            ids.sort_unstable();
            let all = self.brokers.iter().all(|broker| {
                let answer = http::get(&format!("{}/admin/v2/brokers", broker.http)).ok();
                answer
                    .and_then(|answer| answer.json().ok())
                    .is_some_and(|listed| listed == serde_json::json!(ids))
            });
            let leader = http::get(&format!("{}/admin/v2/brokers/leaderBroker", self.brokers[0].http));
            (all && leader.is_ok_and(|leader| leader.status == 200)).then_some(())
        });
    }

    /// `host:port` of every broker, as a service URL lists them.
    pub fn addresses(&self) -> Vec<String> {
        self.brokers.iter().map(|broker| broker.address.clone()).collect()
    }
}
