//! The admin REST of a real standalone, as pulsar-admin and pulsarctl call it.

mod cli;

use anyhow::{Result, ensure};
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::command_subscribe::SubType;
use magnetar_tests::http;
use magnetar_tests::process::Standalone;
use magnetar_tests::raw::Connection;
use serde_json::json;

#[test]
fn tenants_namespaces_and_topics_are_created_listed_and_deleted() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let process = Standalone::start(dir.path())?;
    let admin = format!("{}/admin/v2", process.http_url());
    ensure!(http::get(&format!("{admin}/clusters"))?.json()? == json!(["standalone"]));
    ensure!(http::get(&format!("{admin}/brokers/health"))?.body.trim() == "ok");
    ensure!(http::get(&format!("{admin}/namespaces/public"))?.json()? == json!(["public/default"]));

    let tenant = json!({"adminRoles": ["me"], "allowedClusters": ["standalone"]});
    ensure!(http::put(&format!("{admin}/tenants/acme"), Some(&tenant))?.status == 204);
    ensure!(http::put(&format!("{admin}/tenants/acme"), Some(&tenant))?.status == 409);
    ensure!(http::get(&format!("{admin}/tenants/acme"))?.json()?["allowedClusters"] == json!(["standalone"]));
    ensure!(http::put(&format!("{admin}/namespaces/acme/orders"), None)?.status == 204);
    ensure!(http::put(&format!("{admin}/persistent/acme/orders/plain"), None)?.status == 204);
    ensure!(
        http::put(&format!("{admin}/persistent/acme/orders/split/partitions"), Some(&json!(3)))?.status
            == 204
    );
    ensure!(
        http::get(&format!("{admin}/persistent/acme/orders/split/partitions"))?.json()?["partitions"] == 3
    );
    ensure!(
        http::get(&format!("{admin}/persistent/acme/orders/plain/partitions"))?.json()?["partitions"] == 0
    );
    ensure!(
        http::get(&format!("{admin}/persistent/acme/orders/partitioned"))?.json()?
            == json!(["persistent://acme/orders/split"])
    );
    let topics = http::get(&format!("{admin}/persistent/acme/orders"))?.json()?;
    ensure!(
        topics.as_array().is_some_and(|names| names.contains(&json!("persistent://acme/orders/plain"))),
        "{topics}"
    );

    ensure!(http::delete(&format!("{admin}/tenants/acme"))?.status == 409);
    ensure!(http::delete(&format!("{admin}/persistent/acme/orders/plain"))?.status == 204);
    ensure!(http::delete(&format!("{admin}/persistent/acme/orders/split/partitions"))?.status == 204);
    ensure!(http::delete(&format!("{admin}/namespaces/acme/orders"))?.status == 204);
    ensure!(http::delete(&format!("{admin}/tenants/acme"))?.status == 204);
    ensure!(http::get(&format!("{admin}/tenants/acme"))?.status == 404);
    Ok(())
}

#[test]
fn stats_and_metrics_tell_what_clients_do_and_lookup_answers_over_http() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let process = Standalone::start(dir.path())?;
    let admin = format!("{}/admin/v2", process.http_url());
    let mut connection = Connection::connect(&process.broker_address())?;
    connection.create_producer(1, "persistent://public/default/stats")?;
    connection.subscribe(1, "persistent://public/default/stats", "s", SubType::Shared)?;
    for sequence_id in 0..5 {
        connection.publish(1, sequence_id, b"payload")?;
        connection.expect(|frame| matches!(frame.command, Command::SendReceipt(_)).then_some(()))?;
    }
    let stats = http::get(&format!("{admin}/persistent/public/default/stats/stats"))?.json()?;
    ensure!(stats["msgInCounter"] == 5, "{stats}");
    ensure!(stats["publishers"].as_array().is_some_and(|all| all.len() == 1), "{stats}");
    ensure!(stats["subscriptions"]["s"]["msgBacklog"] == 5, "{stats}");
    ensure!(stats["subscriptions"]["s"]["type"] == "Shared", "{stats}");
    let internal = http::get(&format!("{admin}/persistent/public/default/stats/internalStats"))?.json()?;
    ensure!(internal["numberOfEntries"] == 5, "{internal}");
    ensure!(internal["cursors"]["s"].is_object(), "{internal}");
    ensure!(
        http::get(&format!("{admin}/persistent/public/default/stats/subscriptions"))?.json()? == json!(["s"])
    );
    let skip = format!("{admin}/persistent/public/default/stats/subscription/s/skip_all");
    ensure!(http::post(&skip, None)?.status == 204);
    let stats = http::get(&format!("{admin}/persistent/public/default/stats/stats"))?.json()?;
    ensure!(stats["subscriptions"]["s"]["msgBacklog"] == 0, "{stats}");

    let lookup = format!("{}/lookup/v2/topic/persistent/public/default/stats", process.http_url());
    let answer = http::get(&lookup)?.json()?;
    ensure!(answer["brokerUrl"] == process.service_url(), "{answer}");
    ensure!(answer["brokerUrlTls"].is_string(), "{answer}");
    let metrics = http::get(&format!("{}/metrics/", process.http_url()))?.body;
    ensure!(metrics.contains("pulsar_topics_count"), "{metrics}");
    Ok(())
}

#[test]
fn what_does_not_exist_is_404_and_what_is_wrong_is_412_or_400() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let process = Standalone::start(dir.path())?;
    let admin = format!("{}/admin/v2", process.http_url());
    for path in [
        "persistent/public/default/missing/stats",
        "namespaces/missing/ns",
        "tenants/missing",
        "no/such/thing",
    ] {
        let answer = http::get(&format!("{admin}/{path}"))?;
        ensure!(answer.status == 404, "{path}: {answer:?}");
    }
    let answer = http::put(&format!("{admin}/persistent/public/default/t/partitions"), Some(&json!("many")))?;
    ensure!((400..500).contains(&answer.status), "{answer:?}");
    Ok(())
}
