//! Brokers and bookies of either make in one cluster: Apache Pulsar's broker on our bookies beside our broker, with the
//! topics handed to and fro, and our broker on Apache BookKeeper's bookies. The client is Apache's.

use crate::apache::{Bookie, Java};
use crate::pulsar::{Exchange, PulsarBroker};
use anyhow::{Context, Result, ensure};
use magnetar_tests::cluster::{Broker, Cluster, Layout};
use magnetar_tests::etcd::{self, Etcd};
use magnetar_tests::site::Site;
use magnetar_tests::{http, java, wait};
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// One where every message is an entry, and one of batches, which are acknowledged in parts.
const TOPICS: [&str; 2] = ["persistent://public/default/plain", "persistent://public/default/batches"];

/// The Java programs and etcd, or why there is one of them missing.
pub(crate) fn programs() -> Result<(PathBuf, PathBuf), String> {
    Ok((java::built()?, etcd::program()?))
}

/// Who serves the topic, as the broker at `http` tells.
fn owner(http: &str, topic: &str) -> Result<String> {
    let mut url = format!("{http}/lookup/v2/topic/{}", topic.replace("://", "/"));
    for _ in 0..5 {
        let answer = http::get(&url)?;
        match answer.location {
            Some(next) => url = next,
            None => {
                let owner = answer.json()?["brokerUrl"].as_str().map(str::to_owned);
                return owner.with_context(|| format!("{}: {}", answer.status, answer.body));
            }
        }
    }
    anyhow::bail!("redirected in circles: {url}")
}

/// Has one broker give up the namespace and the other one serve the topic; then both say so.
fn hand_over(topic: &str, to: (&str, &str), from: &str) -> Result<()> {
    let answer = http::put(&format!("{from}/admin/v2/namespaces/public/default/unload"), None)?;
    ensure!(answer.status < 400, "unload at {from}: {} {}", answer.status, answer.body);
    // Asked so, a broker takes the bundle itself; Apache's may name the old owner first, of whose end it has not heard.
    let url = format!("{}/lookup/v2/topic/{}?authoritative=true", to.1, topic.replace("://", "/"));
    wait::until("the new owner", PATIENCE, || {
        let answer = http::get(&url).ok().filter(|answer| answer.status == 200)?;
        (answer.json().ok()?["brokerUrl"] == to.0).then_some(())
    });
    for http in [from, to.1] {
        wait::until("both brokers name the new owner", PATIENCE, || {
            (owner(http, topic).ok()? == to.0).then_some(())
        });
    }
    Ok(())
}

#[test]
fn a_topic_is_handed_to_and_fro_between_apaches_broker_and_ours_on_our_bookies() -> Result<()> {
    let (java, etcd) = match programs() {
        Ok(programs) => programs,
        Err(reason) => {
            println!("SKIPPED interop bookkeeper/brokers: {reason}");
            return Ok(());
        }
    };
    let scratch = tempfile::tempdir()?;
    let cluster = Cluster::start(etcd, &Layout::local(1))?;
    let java = Java::new(java, &cluster.etcd);
    let mut apache = PulsarBroker::start(&java, &cluster.etcd.address(), scratch.path())?;
    let mut client = Exchange::start(&java)?;
    apache.ready()?;
    let ours = &cluster.brokers[0];
    let our_url = format!("pulsar://{}", ours.address);
    let (ours, theirs) = ((our_url.as_str(), ours.http.as_str()), (&*apache.service_url, &*apache.http));
    let mut exchange = || -> Result<()> {
        for topic in TOPICS {
            // The client asks the broker that does not serve the topic, and is sent to the other one.
            hand_over(topic, ours, theirs.1)?;
            client.run("all", theirs.0, topic, 0..0)?;
            client.run("write", theirs.0, topic, 0..40)?;
            client.run("half", theirs.0, topic, 0..40)?;
            hand_over(topic, theirs, ours.1)?;
            client.run("rest", ours.0, topic, 0..40)?;
            client.run("write", ours.0, topic, 40..80)?;
            client.run("half", ours.0, topic, 40..80)?;
            hand_over(topic, ours, theirs.1)?;
            client.run("rest", theirs.0, topic, 40..80)?;
            client.run("write", theirs.0, topic, 80..120)?;
        }
        Ok(())
    };
    exchange().with_context(|| format!("log of Apache's broker:\n{}", apache.log()))?;
    println!(
        "RAN interop bookkeeper/brokers: topics and cursors go to and fro between Apache's broker and ours"
    );

    // A broker that dies leaves its ledgers open: the next one recovers them.
    for topic in TOPICS {
        hand_over(topic, (&apache.service_url, &apache.http), ours.1)?;
    }
    // Handing over the second one may have closed the first one in order.
    for topic in TOPICS {
        client.run("write", ours.0, topic, 120..160)?;
    }
    apache.kill()?;
    for topic in TOPICS {
        wait::until("the dead broker's lease to end", PATIENCE, || {
            owner(ours.1, topic).ok().filter(|owner| owner == ours.0)
        });
        client.run("all", ours.0, topic, 80..160)?;
    }
    println!("RAN interop bookkeeper/brokers: ours takes over what Apache's broker left when it was killed");
    Ok(())
}

#[test]
fn our_broker_serves_topics_on_apaches_bookies_also_with_one_of_them_gone() -> Result<()> {
    let (java, etcd) = match programs() {
        Ok(programs) => programs,
        Err(reason) => {
            println!("SKIPPED interop bookkeeper/brokers: {reason}");
            return Ok(());
        }
    };
    let scratch = tempfile::tempdir()?;
    let etcd = Etcd::start(etcd)?;
    let java = Java::new(java, &etcd);
    java.init_cluster(scratch.path())?;
    let start = |number: usize| java.bookie(&scratch.path().join(number.to_string()));
    let mut bookies = (0..3).map(start).collect::<Result<Vec<_>>>()?;
    let mut client = Exchange::start(&java)?;
    bookies.iter_mut().try_for_each(Bookie::ready)?;
    let mut broker = Broker::start(&Site::local(), &etcd, &[])?;
    let url = format!("pulsar://{}", broker.address);
    for topic in TOPICS {
        client.run("all", &url, topic, 0..0)?;
        client.run("write", &url, topic, 0..40)?;
        client.run("half", &url, topic, 0..40)?;
    }
    println!("RAN interop bookkeeper/brokers: our broker publishes and delivers on Apache's bookies");

    // The next broker recovers what a killed one left open.
    broker.role.kill()?;
    let broker = Broker::start(&Site::local(), &etcd, &[])?;
    let url = format!("pulsar://{}", broker.address);
    for topic in TOPICS {
        client.run("rest", &url, topic, 0..40)?;
        client.run("write", &url, topic, 40..80)?;
    }
    // Two of three are an ack quorum.
    bookies[0].kill()?;
    for topic in TOPICS {
        client.run("half", &url, topic, 40..80)?;
        client.run("rest", &url, topic, 40..80)?;
        client.run("write", &url, topic, 80..120)?;
        client.run("all", &url, topic, 80..120)?;
    }
    println!(
        "RAN interop bookkeeper/brokers: our broker recovers, and goes on with one of Apache's bookies gone"
    );
    Ok(())
}
