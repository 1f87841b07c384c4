//! A whole cluster as processes: etcd, bookies, and brokers that come and go.

use crate::etcd::Etcd;
use crate::http;
use crate::process::free_ports;
use crate::role::Role;
use crate::site::Site;
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
    bookie_flags: &'static [&'static str],
    dir: TempDir,
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
    pub fn start(site: &Site, etcd: &Etcd, flags: &[&str]) -> Result<Self> {
        let ports = free_ports()?;
        let words = format!(
            "broker --metadata {} --bind {} --broker-port {} --http-port {}",
            etcd.url(),
            site.address,
            ports.0,
            ports.1
        );
        let role = Role::start_at(site, words.split(' ').chain(flags.iter().copied()))?;
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

fn start_bookie(site: &Site, etcd: &Etcd, dir: &Path, flags: &[&str]) -> Result<Role> {
    let ports = free_ports()?;
    let words = format!(
        "bookie --metadata {} --journal-dir {} --ledger-dir {} --bind {} --port {} --http-port {}",
        etcd.url(),
        dir.join("journal").display(),
        dir.join("ledgers").display(),
        site.address,
        ports.0,
        ports.1
    );
    Role::start_at(site, words.split(' ').chain(flags.iter().copied()))
}

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Layout {
    /// One broker on each.
    pub brokers: Vec<Site>,
    /// One bookie on each.
    pub bookies: Vec<Site>,
    /// One member on each.
    pub etcd: Vec<Site>,
    /// Further flags of every bookie.
    pub bookie_flags: &'static [&'static str],
    /// Further flags of every broker that the start starts.
    pub broker_flags: &'static [&'static str],
}

impl Layout {
    /// Three bookies, one etcd and this many brokers on loopback.
    pub fn local(brokers: usize) -> Self {
        Self {
            brokers: vec![Site::local(); brokers],
            bookies: vec![Site::local(); 3],
            etcd: vec![Site::local()],
            bookie_flags: &[],
            broker_flags: &[],
        }
    }
}

impl Cluster {
    /// Starts everything, and waits until the brokers know each other and have a leader.
    pub fn start(etcd: PathBuf, layout: &Layout) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let etcd = Etcd::start_at(etcd, &layout.etcd, "http", &[])?;
        let mut cluster =
            Self { brokers: Vec::new(), bookies: Vec::new(), etcd, bookie_flags: layout.bookie_flags, dir };
        layout.bookies.iter().try_for_each(|site| cluster.add_bookie(site))?;
        for site in &layout.brokers {
            cluster.brokers.push(Broker::start(site, &cluster.etcd, layout.broker_flags)?);
        }
        cluster.wait_for_brokers();
        cluster.retain_everything()?;
        Ok(cluster)
    }

    /// Starts another bookie.
    pub fn add_bookie(&mut self, site: &Site) -> Result<()> {
        let dir = self.bookie_dir(self.bookies.len());
        self.bookies.push(start_bookie(site, &self.etcd, &dir, self.bookie_flags)?);
        Ok(())
    }

    /// Where a bookie keeps all that it has.
    pub fn bookie_dir(&self, number: usize) -> PathBuf {
        self.dir.path().join(number.to_string())
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
