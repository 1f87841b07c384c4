//! `deploy/local-cluster`, as a user runs it.

use super::TURN;
use anyhow::{Context, Result, ensure};
use magnetar_proto::pulsar::Command as Frame;
use magnetar_proto::pulsar::api::command_subscribe::SubType;
use magnetar_tests::process::{binary, free_block};
use magnetar_tests::publisher::Connection as Client;
use magnetar_tests::raw::Connection;
use std::path::Path;
use std::process::{Command, Output};

/// Ports that the script uses from its base on.
const PORTS: u16 = 20;

fn script(etcd: &Path, dir: &Path, base: u16, word: &str) -> Result<Output> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local-cluster");
    let mut command = Command::new(script);
    command.arg(word).arg(dir).env("MAGNETAR_BIN", binary()).env("MAGNETAR_ETCD", etcd);
    Ok(command.env("MAGNETAR_PORT_BASE", base.to_string()).output()?)
}

#[tokio::test]
async fn the_local_cluster_starts_serves_stops_and_keeps_its_data() -> Result<()> {
    let _turn = TURN.lock().await;
    let etcd = match magnetar_tests::etcd::program() {
        Ok(program) => program,
        Err(reason) => {
            println!("SKIPPED chaos/script: {reason}");
            return Ok(());
        }
    };
    let dir = tempfile::tempdir()?;
    let base = free_block(PORTS)?;
    let topic = "persistent://public/default/script";
    for start in 0..2_u64 {
        let started = script(&etcd, dir.path(), base, "start")?;
        let said = String::from_utf8_lossy(&started.stdout).into_owned();
        let failed = String::from_utf8_lossy(&started.stderr).into_owned();
        let outcome = async {
            ensure!(started.status.success(), "{said}{failed}");
            let url = said.split("broker=pulsar://").nth(1).context("a URL")?;
            let address = url.split([',', ' ']).next().context("an address")?;
            let owner = magnetar_tests::checker::owner(address, topic).await?;
            Client::connect(&owner).await?;
            let mut connection = Connection::connect(&owner)?;
            // Keeps the messages: what no subscription needs is deleted with its ledger.
            connection.subscribe(2, topic, "keeper", SubType::Shared)?;
            connection.create_producer(1, topic)?;
            connection.publish(1, start, &start.to_be_bytes())?;
            connection.expect(|frame| matches!(frame.command, Frame::SendReceipt(_)).then_some(()))?;
            let status = script(&etcd, dir.path(), base, "status")?;
            let lines = String::from_utf8(status.stdout)?;
            ensure!(lines.matches(" runs, pid ").count() == 6, "{lines}");
            let numbers = magnetar_tests::checker::read_all(&owner, topic).await?;
            ensure!(numbers == (0..=start).collect::<Vec<_>>(), "{numbers:?}");
            Ok(())
        }
        .await;
        let stopped = script(&etcd, dir.path(), base, "stop")?;
        outcome?;
        ensure!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    }
    let status = script(&etcd, dir.path(), base, "status")?;
    ensure!(!String::from_utf8(status.stdout)?.contains(" runs, pid "), "something is left running");
    Ok(())
}
