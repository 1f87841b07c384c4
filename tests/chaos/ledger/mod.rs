//! A replicated ledger under load on real processes: bookies that are killed, and a network that loses packets.
//!
//! What must hold: every entry that was acknowledged is read back with its bytes, and nothing stands between them. The full
//! runs are asked for by the environment; without it a sample of them runs.

mod kills;
mod load;
mod loss;
mod recovery;

use anyhow::{Context, Result};
use magnetar_common::Environment;
use magnetar_common::clock::SystemClock;
use magnetar_common::metadata::{EtcdConfig, EtcdStore, SharedMetadata};
use magnetar_ledger::{Client, ClientConfig};
use magnetar_tests::etcd::{self, Etcd};
use magnetar_tests::process::free_ports;
use magnetar_tests::role::Role;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// For one operation on a machine, or a network, at its limit.
const PATIENCE: Duration = Duration::from_secs(60);

/// Some `magnetar bookie` processes and the etcd that they share.
struct Cluster {
    bookies: Vec<Role>,
    etcd: Etcd,
}

impl Cluster {
    /// `None` after telling why a test is skipped.
    fn start(dir: &Path, bookies: usize, test: &str) -> Result<Option<Self>> {
        let program = match etcd::program() {
            Ok(program) => program,
            Err(reason) => {
                println!("SKIPPED chaos ledger {test}: {reason}");
                return Ok(None);
            }
        };
        let etcd = Etcd::start(program)?;
        let start = |number: usize| Role::start(words(&etcd, &dir.join(format!("bookie-{number}")))?);
        let bookies = (0..bookies).map(start).collect::<Result<Vec<_>>>()?;
        Ok(Some(Self { bookies, etcd }))
    }

    async fn client(&self) -> Result<Client> {
        let config = EtcdConfig { limit: PATIENCE, ..EtcdConfig::parse(&self.etcd.url())? };
        let store = EtcdStore::connect(&config, Arc::new(SystemClock::default())).await?;
        let metadata: SharedMetadata = Arc::new(store);
        let config = ClientConfig { registration_wait: PATIENCE, ..ClientConfig::default() };
        Ok(Client::new(metadata, Environment::system(), config).await?)
    }
}

fn words(etcd: &Etcd, dir: &Path) -> Result<Vec<String>> {
    let (port, http) = free_ports()?;
    let (journal, ledgers) = (dir.join("journal"), dir.join("ledgers"));
    let words = format!(
        "bookie --metadata {} --journal-dir {} --ledger-dir {} --bind 127.0.0.1 --port {port} --http-port {http} --grpc-port 0",
        etcd.url(),
        journal.display(),
        ledgers.display(),
    );
    Ok(words.split(' ').map(str::to_owned).collect())
}

/// The seconds that the environment asks for, or those of the sample.
fn seconds(variable: &str, sample: u64) -> Result<Duration> {
    let seconds = match std::env::var(variable) {
        Ok(seconds) => seconds.parse().with_context(|| format!("{variable} takes a number of seconds"))?,
        Err(_) => sample,
    };
    Ok(Duration::from_secs(seconds))
}
