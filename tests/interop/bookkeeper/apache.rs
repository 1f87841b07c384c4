//! Apache BookKeeper's bookies and client as processes, with their metadata in an etcd that ours share: Pulsar's metadata
//! driver keeps them there.

use anyhow::{Context, Result, bail};
use magnetar_proto::ids::LedgerId;
use magnetar_tests::etcd::Etcd;
use magnetar_tests::{java, process, wait};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Four virtual machines that start at once on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(90);

const DRIVERS: &[&str] = &[
    "-Dbookkeeper.metadata.bookie.drivers=org.apache.pulsar.metadata.bookkeeper.PulsarMetadataBookieDriver",
    "-Dbookkeeper.metadata.client.drivers=org.apache.pulsar.metadata.bookkeeper.PulsarMetadataClientDriver",
];

/// Where the jars are, and the metadata.
pub(crate) struct Java {
    dir: PathBuf,
    metadata: String,
}

impl Java {
    pub(crate) fn new(dir: PathBuf, etcd: &Etcd) -> Self {
        Self { dir, metadata: format!("metadata-store:etcd:http://{}", etcd.address()) }
    }

    /// A virtual machine, still without its main class.
    pub(crate) fn command(&self, heap: &str) -> Command {
        let mut command = java::command(&self.dir, heap);
        command.args(DRIVERS);
        command
    }

    /// Makes an empty cluster in the metadata.
    pub(crate) fn init_cluster(&self, scratch: &Path) -> Result<()> {
        let conf = scratch.join("cluster.conf");
        fs::write(&conf, format!("metadataServiceUri={}\n", self.metadata))?;
        let log = scratch.join("initnewcluster.log");
        let mut command = self.command("-Xmx128m");
        command.args(["-Dmagnetar.log=warn", "org.apache.bookkeeper.bookie.BookieShell", "-conf"]);
        command.arg(&conf).arg("initnewcluster").stderr(File::create(&log)?);
        if !command.status().context("run BookieShell")?.success() {
            bail!("initnewcluster failed:\n{}", fs::read_to_string(log)?);
        }
        Ok(())
    }

    /// Starts a bookie over `dir`; it need not serve yet when this returns.
    pub(crate) fn bookie(&self, dir: &Path) -> Result<Bookie> {
        let (port, _) = process::free_ports()?;
        fs::create_dir_all(dir)?;
        let conf = dir.join("bookie.conf");
        let settings = format!(
            "metadataServiceUri={}\nbookiePort={port}\nallowLoopback=true\nadvertisedAddress=127.0.0.1\n\
             journalDirectories={1}/journal\nledgerDirectories={1}/ledgers\njournalPreAllocSizeMB=4\n",
            self.metadata,
            dir.display()
        );
        fs::write(&conf, settings)?;
        let log = dir.join("log");
        let mut command = self.command("-Xmx192m");
        command.args(["-XX:MaxDirectMemorySize=256m", "-Dmagnetar.log=warn"]);
        command.args(["org.apache.bookkeeper.server.Main", "--conf"]).arg(&conf);
        let output = File::create(&log)?;
        let child = command.stdout(output.try_clone()?).stderr(output).spawn().context("start a bookie")?;
        Ok(Bookie { id: format!("127.0.0.1:{port}"), log, child })
    }

    /// Starts a client, which is ready when this returns.
    pub(crate) fn client(&self) -> Result<Client> {
        let mut command = self.command("-Xmx256m");
        command.args(["magnetar.Main", "peer", &self.metadata, "v2"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start a client")?;
        let commands = child.stdin.take().context("piped stdin")?;
        let answers = BufReader::new(child.stdout.take().context("piped stdout")?).lines();
        let mut client = Client { child, commands, answers };
        match client.answer()?.as_str() {
            "ready" => Ok(client),
            other => bail!("the client said {other:?}"),
        }
    }
}

/// A bookie. Killed when dropped.
pub(crate) struct Bookie {
    pub(crate) id: String,
    log: PathBuf,
    child: Child,
}

impl Bookie {
    /// Returns when it takes connections.
    pub(crate) fn ready(&mut self) -> Result<()> {
        let ended = wait::until("Apache's bookie", START_LIMIT, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(Some(status));
            }
            TcpStream::connect(&self.id).is_ok().then_some(None)
        });
        match ended {
            None => Ok(()),
            Some(status) => bail!("{status}:\n{}", fs::read_to_string(&self.log)?),
        }
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Bookie {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Apache's client in a process of its own; see `Peer.java`. Killed when dropped.
pub(crate) struct Client {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Client {
    /// A ledger with so many entries, closed or abandoned.
    pub(crate) fn write(&mut self, count: u64, close: bool) -> Result<LedgerId> {
        let id = self.ask(if close { "write" } else { "abandon" }, count, "ledger ")?;
        Ok(LedgerId(id.parse()?))
    }

    /// Whether a ledger abandoned before has been fenced since.
    pub(crate) fn is_fenced(&mut self, ledger: LedgerId) -> Result<bool> {
        Ok(self.ask("append", ledger.0, "")? == "fenced")
    }

    /// Takes a ledger over and reads and compares all of it; gives the last entry.
    pub(crate) fn read(&mut self, ledger: LedgerId) -> Result<u64> {
        Ok(self.ask("read", ledger.0, "last ")?.parse()?)
    }

    /// Reads and compares what can be read without taking the ledger over; gives the last entry.
    pub(crate) fn look(&mut self, ledger: LedgerId) -> Result<u64> {
        Ok(self.ask("look", ledger.0, "last ")?.parse()?)
    }

    fn ask(&mut self, command: &str, number: u64, expected: &str) -> Result<String> {
        writeln!(self.commands, "{command} {number}")?;
        self.commands.flush()?;
        let answer = self.answer()?;
        let rest = answer.strip_prefix(expected).map(str::to_owned);
        rest.with_context(|| format!("{command} {number}: {answer}"))
    }

    fn answer(&mut self) -> Result<String> {
        match self.answers.next() {
            Some(line) => Ok(line?),
            None => bail!("Apache's client ended: {}", self.child.wait()?),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
