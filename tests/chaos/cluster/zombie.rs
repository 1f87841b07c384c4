//! The owner sleeps past its lease, wakes up, and must not get another message acknowledged.

use super::{Run, rounds};
use anyhow::{Context, Result, ensure};
use magnetar_proto::pulsar::Command;
use magnetar_tests::raw::Connection;
use magnetar_tests::role::Role;
use std::time::Duration;

const TOPIC: &str = "persistent://public/default/asleep";
/// Sends that lie in the sleeper's socket when it wakes.
const ASLEEP: u64 = 50;

fn signal(role: &Role, signal: rustix::process::Signal) -> Result<()> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(role.pid())?).context("a pid")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

/// Until no thread of it runs. The signal alone is not enough: one thread takes it and stops the others, and on a busy machine
/// those go on for a while.
fn wait_until_stopped(role: &Role) -> Result<()> {
    let tasks = format!("/proc/{}/task", role.pid());
    let runs = |task: std::io::Result<std::fs::DirEntry>| -> Result<bool> {
        // One that cannot be read has ended since it was listed: at the next look it is not there.
        let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else { return Ok(true) };
        // The state follows the name, which is in parentheses and may hold any character.
        Ok(stat.rsplit(") ").next().is_none_or(|rest| !rest.starts_with('T')))
    };
    loop {
        let running = std::fs::read_dir(&tasks)?.map(runs).collect::<Result<Vec<bool>>>()?;
        if !running.contains(&true) {
            return Ok(());
        }
        magnetar_tests::wait::pause(Duration::from_millis(1));
    }
}

/// A connection to the topic's owner, with producer 1 on it. Brokers refuse for a moment when they were too busy to keep up with
/// their lease; official clients try again, too.
async fn producing(run: &Run, ask: &str, topic: &str) -> Result<(String, Connection)> {
    let end = run.now() + Duration::from_secs(60);
    loop {
        let producing = async {
            let owner = magnetar_tests::checker::owner(ask, topic).await?;
            let mut connection = Connection::connect(&owner)?;
            connection.create_producer(1, topic)?;
            anyhow::Ok((owner, connection))
        };
        match producing.await {
            Err(_) if run.now() < end => magnetar_tests::wait::pause(Duration::from_millis(100)),
            done => return done,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_slept_past_its_lease_acknowledges_nothing_more() -> Result<()> {
    let Some(mut run) = Run::start("zombie", 4).await? else { return Ok(()) };
    let mut dropped = 0;
    for round in 0..rounds(2) {
        let from = run.now();
        let topic = format!("{TOPIC}-{round}");
        let (owner, mut connection) = producing(&run, &run.cluster.brokers[0].address, &topic).await?;
        let sleeper =
            run.cluster.brokers.iter().position(|broker| broker.address == owner).context("an owner")?;
        let (zombie, awake) = (&run.cluster.brokers[sleeper], &run.cluster.brokers[1 - sleeper]);
        connection.publish(1, 0, b"before")?;
        connection.expect(|frame| matches!(frame.command, Command::SendReceipt(_)).then_some(()))?;
        signal(&zombie.role, rustix::process::Signal::STOP)?;
        wait_until_stopped(&zombie.role)?;
        for number in 1..=ASLEEP {
            connection.publish(1, number, b"while asleep")?;
        }
        // The next owner writes: its receipt shows that it has fenced the sleeper's ledger.
        while !magnetar_tests::checker::owner(&awake.address, &topic)
            .await
            .is_ok_and(|next| next == awake.address)
        {
            magnetar_tests::wait::pause(Duration::from_millis(50));
        }
        let (_, mut other) = producing(&run, &awake.address, &topic).await?;
        other.publish(1, 0, b"after")?;
        other.expect(|frame| matches!(frame.command, Command::SendReceipt(_)).then_some(()))?;
        signal(&zombie.role, rustix::process::Signal::CONT)?;
        // It closes the producer or the connection; a receipt instead would be for a message that is nowhere.
        loop {
            match connection.receive() {
                Err(_) => break,
                Ok(frame) => match frame.command {
                    Command::SendReceipt(receipt) => {
                        ensure!(
                            receipt.sequence_id == 0,
                            "round {round}: the zombie acknowledged {receipt:?}"
                        );
                    }
                    Command::CloseProducer(_) => break,
                    _ => {}
                },
            }
        }
        dropped += ASLEEP;
        run.all_publish(10).await;
        run.record_gaps(from)?;
    }
    println!("chaos/zombie: {dropped} sends to a sleeping owner, none acknowledged after the takeover");
    run.finish().await.map(drop)
}
