//! Apache Pulsar's broker and client as processes, beside ours in one cluster.

use crate::apache::Java;
use anyhow::{Context, Result, bail, ensure};
use magnetar_tests::{process, wait};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

/// It takes ten seconds of a core.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Apache Pulsar's broker. Killed when dropped.
pub(crate) struct PulsarBroker {
    /// `pulsar://host:port`.
    pub(crate) service_url: String,
    /// `http://host:port`.
    pub(crate) http: String,
    log: PathBuf,
    child: Child,
}

impl PulsarBroker {
    /// Starts a broker of the cluster in the metadata; it need not serve yet when this returns.
    pub(crate) fn start(java: &Java, etcd: &str, scratch: &Path) -> Result<Self> {
        let (binary, http) = process::free_ports()?;
        let conf = scratch.join("broker.conf");
        // The load balancer and the topics that the broker itself would use are left out.
        let settings = format!(
            "metadataStoreUrl=etcd:http://{etcd}\nconfigurationMetadataStoreUrl=etcd:http://{etcd}\n\
             clusterName=standalone\nbrokerServicePort={binary}\nwebServicePort={http}\nbindAddress=127.0.0.1\n\
             advertisedAddress=127.0.0.1\nmetadataStoreSessionTimeoutMillis=15000\nnumIOThreads=2\n\
             numHttpServerThreads=8\nmanagedLedgerDefaultEnsembleSize=3\nmanagedLedgerDefaultWriteQuorum=3\n\
             managedLedgerDefaultAckQuorum=2\nmanagedLedgerCacheSizeMB=16\nloadBalancerEnabled=false\n\
             acknowledgmentAtBatchIndexLevelEnabled=true\ntransactionCoordinatorEnabled=false\n\
             systemTopicEnabled=false\ntopicLevelPoliciesEnabled=false\n"
        );
        fs::write(&conf, settings)?;
        let log = scratch.join("broker.log");
        let output = File::create(&log)?;
        let mut command = java.command("-Xmx384m");
        command.args(["-XX:MaxDirectMemorySize=256m", "-Dmagnetar.log=warn"]);
        command.args(["org.apache.pulsar.PulsarBrokerStarter", "--broker-conf"]).arg(&conf);
        let child = command.stdout(output.try_clone()?).stderr(output).spawn().context("start a broker")?;
        let (service_url, http) =
            (format!("pulsar://127.0.0.1:{binary}"), format!("http://127.0.0.1:{http}"));
        Ok(Self { service_url, http, log, child })
    }

    /// Returns when it serves.
    pub(crate) fn ready(&mut self) -> Result<()> {
        let url = format!("{}/admin/v2/brokers/ready", self.http);
        let ended = wait::until("Apache's broker", START_LIMIT, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(Some(status));
            }
            magnetar_tests::http::get(&url).is_ok_and(|answer| answer.status == 200).then_some(None)
        });
        match ended {
            None => Ok(()),
            Some(status) => bail!("{status}:\n{}", self.log()),
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for PulsarBroker {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Apache's client in a process of its own; see `Exchange.java`. Killed when dropped.
pub(crate) struct Exchange {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Exchange {
    pub(crate) fn start(java: &Java) -> Result<Self> {
        let mut command = java.command("-Xmx256m");
        command.args(["-Dmagnetar.log=error", "magnetar.pulsar.Exchange"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let commands = child.stdin.take().context("piped stdin")?;
        let answers = BufReader::new(child.stdout.take().context("piped stdout")?).lines();
        Ok(Self { child, commands, answers })
    }

    /// Has it publish or consume, and compare what came.
    pub(crate) fn run(
        &mut self,
        command: &str,
        url: &str,
        topic: &str,
        numbers: std::ops::Range<u32>,
    ) -> Result<()> {
        let line = format!("{command} {url} {topic} {} {}", numbers.start, numbers.end);
        writeln!(self.commands, "{line}")?;
        self.commands.flush()?;
        match self.answers.next() {
            Some(answer) => ensure!(answer? == "ok", "{line}"),
            None => bail!("{line}: Apache's client ended, {}", self.child.wait()?),
        }
        Ok(())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
