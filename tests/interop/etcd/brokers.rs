//! Two `magnetar broker` processes over one etcd, as operators and clients see them.

use crate::support::{SOON, ran};
use anyhow::{Context, Result, ensure};
use magnetar_proto::pulsar::Command;
use magnetar_tests::checker::owner;
use magnetar_tests::cluster::{Broker, Cluster, Layout};
use magnetar_tests::http::{self, Answer};
use magnetar_tests::process::binary;
use magnetar_tests::raw::Connection;
use magnetar_tests::role::refusal;
use magnetar_tests::wait;
use serde_json::json;
use std::collections::BTreeSet;

/// Follows redirects by hand, as pulsarctl does. Gives the answer and where it came from.
fn call(method: &str, url: &str, body: Option<&serde_json::Value>) -> Result<Answer> {
    let mut url = url.to_owned();
    for _ in 0..5 {
        let answer = match method {
            "GET" => http::get(&url)?,
            "PUT" => http::put(&url, body)?,
            "POST" => http::post(&url, body)?,
            _ => http::delete(&url)?,
        };
        if answer.status != 307 {
            return Ok(answer);
        }
        url = answer.location.context("a redirect says where to")?;
    }
    anyhow::bail!("redirected in circles: {url}")
}

fn ok(answer: Answer) -> Result<Answer> {
    ensure!(answer.status < 300, "{} {}", answer.status, answer.body);
    Ok(answer)
}

fn publish(broker: &str, topic: &str, count: u64) -> Result<()> {
    let mut connection = Connection::connect(broker)?;
    connection.create_producer(1, topic)?;
    for number in 0..count {
        connection.publish(1, number, &number.to_be_bytes())?;
        connection.expect(|frame| matches!(frame.command, Command::SendReceipt(_)).then_some(()))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_share_a_namespace_and_each_answers_for_both() -> Result<()> {
    let program = match magnetar_tests::etcd::program() {
        Ok(program) => program,
        Err(reason) => {
            println!("SKIPPED interop/etcd: {reason}");
            return Ok(());
        }
    };
    // Nobody dies here: no broker shall lose its lease to a slow disk.
    let layout = Layout { broker_flags: &["--lease", "30"], ..Layout::local(2) };
    let cluster = Cluster::start(program, &layout)?;
    let [a, b] = cluster.brokers.as_slice() else { anyhow::bail!("two brokers") };
    let admin = |broker: &Broker, path: &str| format!("{}/admin/v2/{path}", broker.http);

    // A partitioned topic lies over both; one call at either reaches all partitions.
    let base = "persistent/public/default/parts";
    ok(call("PUT", &admin(a, &format!("{base}/partitions")), Some(&json!(8)))?)?;
    let mut owners = BTreeSet::new();
    for partition in 0..8 {
        let topic = format!("persistent://public/default/parts-partition-{partition}");
        let (from_a, from_b) = (owner(&a.address, &topic).await?, owner(&b.address, &topic).await?);
        ensure!(from_a == from_b, "{topic}: {from_a} and {from_b}");
        publish(&from_a, &topic, 3)?;
        owners.insert(from_a);
    }
    ensure!(owners.len() == 2, "all partitions at {owners:?}");
    ok(call("PUT", &admin(b, &format!("{base}/subscription/s")), None)?)?;
    for broker in [a, b] {
        let stats = ok(call("GET", &admin(broker, &format!("{base}/partitioned-stats")), None)?)?.json()?;
        ensure!(stats["msgInCounter"] == 24, "{stats}");
        ensure!(stats["partitions"].as_object().context("partitions")?.len() == 8, "{stats}");
        ensure!(stats["subscriptions"]["s"].is_object(), "{stats}");
    }

    // A topic of the other broker is a redirect away, for lookups by HTTP too.
    let topic = "persistent/public/default/parts-partition-0";
    let lookups = [a, b].map(|broker| http::get(&format!("{}/lookup/v2/topic/{topic}", broker.http)));
    for lookup in lookups {
        let found = lookup?;
        ensure!(found.status == 200 && found.json()?["brokerUrl"].is_string(), "{found:?}");
    }
    let statuses = [a, b].map(|broker| http::get(&admin(broker, &format!("{topic}/stats"))));
    let mut statuses: Vec<u16> =
        statuses.into_iter().map(|answer| answer.map(|answer| answer.status)).collect::<Result<_>>()?;
    statuses.sort_unstable();
    ensure!(statuses == [200, 307], "{statuses:?}");

    // What is split stays, what is unloaded moves; every bundle has one broker.
    let bundle = a.bundles()?.into_iter().next().context("a bundle of the first broker")?;
    ok(call("PUT", &admin(b, &format!("namespaces/{bundle}/split")), None)?)?;
    let halves: Vec<String> = a.bundles()?;
    ensure!(!halves.contains(&bundle), "{halves:?}");
    wait::until("the other broker knows of the cut", SOON, || {
        let cut = call("GET", &admin(b, "namespaces/public/default/bundles"), None)
            .and_then(ok)
            .ok()?
            .json()
            .ok()?;
        (cut["numBundles"] == 5).then_some(())
    });
    let moved = halves.first().context("a bundle")?;
    let to_b = format!("namespaces/{moved}/unload?destinationBroker={}", b.id());
    ok(call("PUT", &admin(b, &to_b), None)?)?;
    ensure!(b.bundles()?.contains(moved) && !a.bundles()?.contains(moved), "{moved} did not move");
    for partition in 0..8 {
        let topic = format!("persistent://public/default/parts-partition-{partition}");
        publish(&owner(&a.address, &topic).await?, &topic, 1)?;
    }

    // The same by the command line.
    let listed = std::process::Command::new(binary())
        .args(["admin", "bundles", "list", "--output", "json", "--admin-url", &a.http])
        .output()?;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
    let listed = listed.as_object().context("a map")?;
    ensure!(listed.len() == a.bundles()?.len() + b.bundles()?.len(), "{listed:?}");

    // Isolation: a namespace of its own broker.
    let policy = json!({ "namespaces": ["public/alone"], "primary": ["no-such-host"], "secondary": [] });
    let policies = "clusters/standalone/namespaceIsolationPolicies/p";
    ok(call("POST", &admin(a, policies), Some(&policy))?)?;
    ensure!(ok(call("GET", &admin(b, policies), None)?)?.json()?["primary"] == json!(["no-such-host"]));
    ok(call("DELETE", &admin(a, policies), None)?)?;

    // All of it goes, wherever it is.
    ok(call("DELETE", &admin(a, &format!("{base}/partitions?force=true")), None)?)?;
    let left = ok(call("GET", &admin(b, "persistent/public/default"), None)?)?.json()?;
    ensure!(left == json!([]), "{left}");
    ran("two brokers");
    Ok(())
}

/// This needs no etcd.
#[test]
fn a_broker_that_cannot_start_says_why_in_one_line() -> Result<()> {
    let url = ["--metadata", "etcd://127.0.0.1:1"];
    let quorums = ["--ensemble", "2", "--write-quorum", "3"];
    for (words, expected) in [
        (vec![], "a broker needs --metadata etcd://host:2379"),
        (vec!["--metadata", "embedded"], "cannot be shared"),
        ([url, ["--ensemble", "2"]].concat(), "each must be at least the next"),
        ([url.as_slice(), &quorums].concat(), "each must be at least the next"),
    ] {
        let (said, code) = refusal(["broker"].into_iter().chain(words))?;
        assert!(said.contains(expected) && code == Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let (said, code) = refusal(["standalone", "--metadata", "etcd://127.0.0.1:1"])?;
    assert!(said.contains("magnetar broker") && code == Some(1), "{said}");
    Ok(())
}
