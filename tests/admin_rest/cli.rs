//! `magnetar admin` against a real standalone.

use std::process::{Command, Output};

use anyhow::{Result, ensure};
use magnetar_tests::process::{Standalone, binary};

fn admin(url: &str, line: &str) -> Result<Output> {
    Ok(Command::new(binary()).args(["admin", "--admin-url", url]).args(line.split(' ')).output()?)
}

fn printed(process: &Standalone, line: &str) -> Result<String> {
    let output = admin(&process.http_url(), line)?;
    ensure!(output.status.success(), "{line}: {output:?}");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

#[test]
fn the_command_line_creates_shows_changes_and_deletes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let process = Standalone::start(dir.path())?;
    for (line, expected) in [
        ("clusters list", "standalone"),
        ("tenants create acme --allowed-clusters standalone", ""),
        ("namespaces create acme/orders", ""),
        ("namespaces set-retention acme/orders --size 1G --time 3h", ""),
        ("namespaces get-retention acme/orders", "retentionSizeInMB       1024\nretentionTimeInMinutes  180"),
        ("topics create-partitioned-topic acme/orders/split -p 2", ""),
        ("topics get-partitioned-topic-metadata acme/orders/split", "partitions"),
        ("topics create acme/orders/plain", ""),
        ("topics create-subscription acme/orders/plain -s a/b -m earliest", ""),
        ("topics subscriptions acme/orders/plain", "a/b"),
        ("topics reset-cursor acme/orders/plain -s a/b -t 1h", ""),
        ("topics unsubscribe acme/orders/plain -s a/b", ""),
        (
            "--output json topics list-partitioned-topics acme/orders",
            "[\n  \"persistent://acme/orders/split\"\n]",
        ),
        ("topics delete acme/orders/plain", ""),
        ("topics delete-partitioned-topic acme/orders/split", ""),
        ("namespaces delete acme/orders", ""),
        ("tenants delete acme", ""),
    ] {
        let text = printed(&process, line)?;
        ensure!(text == expected || (expected == "partitions" && text.contains(expected)), "{line}: {text}");
    }
    Ok(())
}

#[test]
fn a_refusal_is_one_line_that_tells_why() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let process = Standalone::start(dir.path())?;
    let url = process.http_url();
    for (url, line, told) in [
        (url.as_str(), "topics stats missing", "topics stats: "),
        (url.as_str(), "topics stats a/b", "persistent://tenant/namespace/topic"),
        ("http://127.0.0.1:1", "brokers version", "name one with --admin-url"),
    ] {
        let output = admin(url, line)?;
        let text = String::from_utf8(output.stderr)?;
        ensure!(
            !output.status.success() && text.lines().count() == 1 && text.contains(told),
            "{line}: {text}"
        );
    }
    Ok(())
}
