//! Apache BookKeeper's bookie and the ZooKeeper that it needs, from the jars that the Java client comes with.
//!
//! Called by: the runner of `bench peer`. Must never tune: memory and collector are those of upstream's start script, and
//! every setting is its default but for directories, addresses, the storage, and a garbage collection only after an hour
//! (the ledgers' metadata are the client's alone).

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use magnetar_tests::{process, wait};

use super::server::Server;

const START_LIMIT: Duration = Duration::from_secs(60);

const BOOKIE_JVM: &[&str] = &[
    "-Xms1g",
    "-Xmx1g",
    "-XX:MaxDirectMemorySize=2g",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=10",
    "-XX:+DisableExplicitGC",
    "-Dio.netty.leakDetectionLevel=disabled",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.util.zip=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.misc=ALL-UNNAMED",
    "-Dmagnetar.log=warn",
];

/// A ZooKeeper of one. Killed when dropped.
pub(super) struct ZooKeeper {
    java: PathBuf,
    port: u16,
    child: Child,
}

impl ZooKeeper {
    /// Starts on a free port and makes an empty BookKeeper cluster in it.
    pub(super) fn start(java: &Path, scratch: &Path) -> Result<Self> {
        let (port, _) = process::free_ports()?;
        let log = scratch.join("zookeeper.log");
        let mut command = jvm(java, &["-Xmx128m", "-Dzookeeper.admin.enableServer=false"], &log)?;
        command.arg("org.apache.zookeeper.server.ZooKeeperServerMain").arg(port.to_string());
        let child = command.arg(scratch.join("zookeeper")).spawn().context("start ZooKeeper")?;
        let mut zookeeper = ZooKeeper { java: java.to_owned(), port, child };
        listening(&mut zookeeper.child, port, &log)?;

        let conf = scratch.join("cluster.conf");
        fs::write(&conf, zookeeper.uri())?;
        let log = scratch.join("initnewcluster.log");
        let mut command = jvm(java, &["-Xmx128m"], &log)?;
        command.args(["org.apache.bookkeeper.bookie.BookieShell", "-conf"]).arg(&conf).arg("initnewcluster");
        if !command.status().context("run BookieShell")?.success() {
            bail!("initnewcluster failed:\n{}", fs::read_to_string(log)?);
        }
        Ok(zookeeper)
    }

    fn uri(&self) -> String {
        format!("metadataServiceUri=zk+hierarchical://127.0.0.1:{}/ledgers\n", self.port)
    }

    /// Starts a bookie over `dir` with this class of upstream's for its storage.
    pub(super) fn bookie(&self, name: &'static str, storage: &str, dir: &Path) -> Result<Server> {
        let (port, _) = process::free_ports()?;
        fs::create_dir_all(dir)?;
        let conf = dir.join("bookie.conf");
        let dirs = format!("journalDirectories={0}/journal\nledgerDirectories={0}/ledgers\n", dir.display());
        let settings = format!(
            "bookiePort={port}\nallowLoopback=true\nadvertisedAddress=127.0.0.1\n\
             ledgerStorageClass=org.apache.bookkeeper.bookie.{storage}\ngcWaitTime=3600000\n"
        );
        fs::write(&conf, self.uri() + &dirs + &settings)?;
        let log = dir.join("log");
        let mut command = jvm(&self.java, BOOKIE_JVM, &log)?;
        command.args(["org.apache.bookkeeper.server.Main", "--conf"]).arg(&conf);
        let mut child = command.spawn().context("start Apache's bookie")?;
        listening(&mut child, port, &log)?;
        Ok(Server::new(name, format!("127.0.0.1:{port}"), child))
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Java with the jars on its path and what it says in `log`; the class is still to be named.
pub(super) fn jvm(java: &Path, options: &[&str], log: &Path) -> Result<Command> {
    let mut command = Command::new("java");
    command.args(options);
    command.arg(concat!(
        "-Dlog4j2.configurationFile=",
        env!("CARGO_MANIFEST_DIR"),
        "/interop/java/log4j2.properties"
    ));
    command.args(["-cp", &format!("{0}/classes:{0}/lib/*", java.display())]);
    let log = File::create(log)?;
    command.stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

/// Returns when `child` takes connections; fails with its log when it ends instead.
fn listening(child: &mut Child, port: u16, log: &Path) -> Result<()> {
    let ended = wait::until("a server that listens", START_LIMIT, || {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(Some(status));
        }
        TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(None)
    });
    match ended {
        None => Ok(()),
        Some(status) => bail!("{status}:\n{}", fs::read_to_string(log)?),
    }
}
