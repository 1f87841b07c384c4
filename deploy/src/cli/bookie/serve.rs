//! `magnetar bookie` without a tool: the flags of a bookie process.

use std::net::IpAddr;
use std::path::PathBuf;

/// Flags of `magnetar bookie`.
#[derive(Debug, clap::Args)]
#[group(id = "serve")]
pub(super) struct Args {
    /// TOML file with a table [bookie]; flags and environment win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Metadata store shared by the cluster: etcd://host:2379[,host:2379...]
    #[arg(long, value_name = "URL")]
    metadata: Option<String>,
    /// Directory of the journal, best on a fast disk of its own
    #[arg(long, value_name = "DIR")]
    journal_dir: Option<PathBuf>,
    /// Directories of the ledgers, best one a disk
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    ledger_dir: Vec<PathBuf>,
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    bind: IpAddr,
    /// Port of the BookKeeper protocol; 0 takes any free one
    #[arg(long, default_value_t = 3181)]
    port: u16,
    /// host:port that brokers dial, where it differs from the address listened on
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
}

/// Refuses to start: a bookie process needs a metadata store that other processes can reach.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    tracing::debug!(?args, "bookie role asked for");
    crate::cli::broker::refuse("bookie", args.metadata.as_deref())
}

#[cfg(test)]
mod tests {
    use super::super::super::{Command, parse};
    use super::*;

    fn parsed(line: &str, environment: &[(&str, &str)]) -> Args {
        let words: Vec<_> = line.split_whitespace().map(std::ffi::OsString::from).collect();
        let lookup =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, text)| text.into());
        match parse(&words, lookup) {
            Ok(Command::Bookie(super::super::Args { tool: None, serve })) => serve,
            other => panic!("not the serving role: {other:?}"),
        }
    }

    #[test]
    fn ledger_directories_are_a_list_in_flag_environment_and_file() {
        let dirs = [PathBuf::from("/a"), PathBuf::from("/b")];
        assert_eq!(parsed("magnetar bookie --ledger-dir /a,/b", &[]).ledger_dir, dirs);
        assert_eq!(parsed("magnetar bookie", &[("MAGNETAR_BOOKIE_LEDGER_DIR", "/a,/b")]).ledger_dir, dirs);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[bookie]\nledger-dir = [\"/a\", \"/b\"]\nport = 1\n").unwrap();
        let args = parsed(&format!("magnetar bookie --config {}", file.path().display()), &[]);
        assert_eq!((&args.ledger_dir[..], args.port), (&dirs[..], 1));
    }
}
