//! `magnetar bookie under-replicated`: which ledgers lack copies.

use std::process::ExitCode;

use magnetar_ledger::replication::{Status, status};
use serde_json::{Value, json};

use super::{connect, say};
use crate::cli::metadata;

/// Flags of `magnetar bookie under-replicated`.
#[derive(Debug, clap::Args)]
pub(in crate::cli::bookie) struct Args {
    #[command(flatten)]
    metadata: metadata::Args,
    /// Write one JSON object, for programs
    #[arg(long)]
    json: bool,
}

pub(in crate::cli::bookie) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (store, _) = connect(args.metadata).await?;
    let status = status(&store).await?;
    match args.json {
        true => say(&object(&status).to_string()),
        false => lines(&status).iter().for_each(|line| say(line)),
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(status: &Status) -> Vec<String> {
    let mut lines = vec![match &status.auditor {
        Some(auditor) => format!("auditor: {auditor}"),
        None => "auditor: none; is a bookie running with auto-recovery?".to_owned(),
    }];
    if status.disabled {
        lines.push("re-replication is disabled".to_owned());
    }
    lines.extend(status.draining.iter().map(|bookie| format!("being emptied: {bookie}")));
    lines.push(format!("under-replicated ledgers: {}", status.marked.len()));
    for (ledger, mark) in &status.marked {
        let replicas: Vec<&str> = mark.replicas.iter().map(String::as_str).collect();
        lines.push(format!("ledger {ledger}: copies of {}", replicas.join(", ")));
    }
    lines
}

fn object(status: &Status) -> Value {
    let ledgers: Vec<Value> = status
        .marked
        .iter()
        .map(|(ledger, mark)| {
            json!({ "ledger": ledger.0, "replicas": mark.replicas, "sinceMs": mark.ctime_ms })
        })
        .collect();
    let draining: Vec<&str> = status.draining.iter().map(|bookie| bookie.as_str()).collect();
    json!({
        "auditor": status.auditor,
        "disabled": status.disabled,
        "lostBookieDelaySeconds": status.delay.map(|delay| delay.as_secs()),
        "draining": draining,
        "underReplicated": ledgers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use magnetar_proto::bookkeeper::underreplication::Mark;
    use magnetar_proto::ids::LedgerId;

    #[test]
    fn what_lacks_copies_is_told_to_people_and_programs() {
        let mark = Mark { replicas: ["b:1".to_owned()].into(), ctime_ms: Some(5) };
        let status = Status {
            auditor: None,
            disabled: true,
            delay: None,
            draining: Default::default(),
            marked: vec![(LedgerId(7), mark)],
        };
        let lines = lines(&status);
        assert_eq!(
            lines[1..],
            ["re-replication is disabled", "under-replicated ledgers: 1", "ledger 7: copies of b:1"]
        );
        let ledger = json!({ "ledger": 7, "replicas": ["b:1"], "sinceMs": 5 });
        assert_eq!(object(&status)["underReplicated"], json!([ledger]));
    }
}
