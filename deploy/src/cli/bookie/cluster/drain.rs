//! `magnetar bookie drain`: empties a bookie.

use std::process::ExitCode;
use std::time::Duration;

use magnetar_common::layout;
use magnetar_ledger::replication::drain::{self, Progress};
use magnetar_proto::bookkeeper::BookieId;

use super::{connect, say};
use crate::cli::metadata;

/// Between two looks at how far it has come.
const INTERVAL: Duration = Duration::from_secs(2);

/// Flags of `magnetar bookie drain`.
#[derive(Debug, clap::Args)]
pub(in crate::cli::bookie) struct Args {
    /// The bookie, by its id
    bookie: BookieId,
    #[command(flatten)]
    metadata: metadata::Args,
    /// Ask for it and return at once
    #[arg(long, conflicts_with = "cancel")]
    no_wait: bool,
    /// Take the wish back; what has been copied stays copied
    #[arg(long)]
    cancel: bool,
}

pub(in crate::cli::bookie) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (store, env) = connect(args.metadata).await?;
    let bookie = args.bookie;
    if args.cancel {
        drain::cancel(&store, &bookie).await?;
        say(&format!("bookie {bookie} is not emptied any more"));
        return Ok(ExitCode::SUCCESS);
    }
    // A slip in the name would wait for ever.
    anyhow::ensure!(
        store.get(&layout::cookie(&bookie)).await?.is_some(),
        "the cluster knows no bookie {bookie}: see the names below {} in the metadata store",
        layout::COOKIES
    );
    drain::request(&store, &bookie).await?;
    if args.no_wait {
        say(&format!("bookie {bookie} is being emptied"));
        return Ok(ExitCode::SUCCESS);
    }
    let mut told = String::new();
    loop {
        let progress = drain::progress(&store, &env.clock, &bookie).await?;
        let line = text(&bookie, &progress);
        if line != told {
            say(&line);
            told = line;
        }
        if progress.is_done() {
            return Ok(ExitCode::SUCCESS);
        }
        env.clock.sleep(INTERVAL).await;
    }
}

fn text(bookie: &BookieId, progress: &Progress) -> String {
    if progress.is_done() {
        return format!("bookie {bookie} is empty: stop it, then `magnetar bookie forget {bookie}`");
    }
    let mut line = format!("{} ledgers still need bookie {bookie}", progress.ledgers);
    if progress.open > 0 {
        line.push_str(&format!(
            "; {} of them wait for their writers to leave it, or for more bookies",
            progress.open
        ));
    }
    if progress.unreadable > 0 {
        line.push_str(&format!("; the records of {} ledgers cannot be understood", progress.unreadable));
    }
    let examples: Vec<String> = progress.examples.iter().map(ToString::to_string).collect();
    if !examples.is_empty() {
        line.push_str(&format!("; ledgers {}", examples.join(", ")));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use magnetar_proto::ids::LedgerId;

    #[test]
    fn progress_is_told_with_what_holds_it_up() {
        let bookie = BookieId::new("b:1").unwrap();
        assert!(text(&bookie, &Progress::default()).contains("magnetar bookie forget b:1"));
        let progress =
            Progress { ledgers: 3, open: 1, unreadable: 0, examples: vec![LedgerId(4), LedgerId(9)] };
        let expected = "3 ledgers still need bookie b:1; 1 of them wait for their writers to leave it, or for more bookies; ledgers 4, 9";
        assert_eq!(text(&bookie, &progress), expected);
    }
}
