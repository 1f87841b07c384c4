//! `magnetar bookie` without a tool: the flags of a bookie process.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use magnetar_ledger::replication::Settings;
use magnetar_proto::bookkeeper::BookieId;

use super::tuning;
use crate::bookie::{Config, Role};
use crate::cli::metadata;
use crate::standalone::StopSignals;

/// Flags of `magnetar bookie`.
#[derive(Debug, clap::Args)]
#[group(id = "serve")]
pub(super) struct Args {
    /// TOML file with a table [bookie]; flags and environment win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    metadata: metadata::Args,
    /// Directory of the journal, best on a fast disk of its own; made when missing
    #[arg(long, value_name = "DIR")]
    journal_dir: Option<PathBuf>,
    /// Directories of the ledgers, best one a disk; made when missing, and their order must not change
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    ledger_dir: Vec<PathBuf>,
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    bind: IpAddr,
    /// Port of the BookKeeper protocol; 0 takes any free one
    #[arg(long, default_value_t = 3181)]
    port: u16,
    /// Port of the gRPC control service; 0 takes any free one [default: not served]
    #[arg(long, value_name = "PORT")]
    grpc_port: Option<u16>,
    /// Port of metrics and state over HTTP; 0 takes any free one
    #[arg(long, default_value_t = 8000)]
    http_port: u16,
    /// host:port that others dial; the bookie is known by it for ever when its directories are new [default: this machine's
    /// address towards the metadata store, where --bind names none]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Name of a bookie whose directories are new; for ever, whatever its address [default: its address]
    #[arg(long, value_name = "NAME")]
    bookie_id: Option<BookieId>,
    /// Where it stands, for spreading copies: /rack or /region/rack; what operators record in /bookies wins
    #[arg(long, value_name = "RACK")]
    rack: Option<String>,
    /// Seconds after which a process that vanished is no longer announced
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..), value_name = "SECONDS")]
    session_timeout: u64,
    /// Take no part in noticing lost bookies and copying what they held; nor compare and mend what this one holds, nor turn
    /// read-only when it is drained
    #[arg(long)]
    no_auto_recovery: bool,
    /// Seconds that a bookie may be away before its copies count as lost; those of the elected auditor count, so give all the same
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    lost_bookie_delay: u64,
    /// Seconds that the writer of an open ledger has to leave a lost bookie before its ledger is taken from it, if
    /// there are bookies for its next one
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    open_ledger_grace: u64,
    /// Bytes a second that this process copies at most to make up for lost copies; 0: no limit
    #[arg(long, default_value_t = 64 << 20, value_name = "BYTES")]
    copy_rate: u64,
    /// Seconds between two comparisons of what this bookie holds with what it should hold; 0: never
    #[arg(long, default_value_t = 86_400, value_name = "SECONDS")]
    integrity_interval: u64,
    #[command(flatten)]
    tuning: tuning::Args,
}

/// Starts the bookie, prints the ready line, and serves until a signal or a failure.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let Some(journal_dir) = args.journal_dir else {
        anyhow::bail!("a bookie needs --journal-dir DIR: where its journal lies");
    };
    if args.ledger_dir.is_empty() {
        anyhow::bail!("a bookie needs --ledger-dir DIR[,DIR...]: where its ledgers lie");
    }
    magnetar_common::telemetry::init();
    let mut signals = StopSignals::install()?;
    let config = Config {
        metadata: args.metadata.into(),
        bookie: args.tuning.config(journal_dir, args.ledger_dir),
        bind: args.bind,
        port: args.port,
        grpc_port: args.grpc_port,
        http_port: args.http_port,
        advertise: args.advertise,
        bookie_id: args.bookie_id,
        rack: args.rack,
        session_timeout: Duration::from_secs(args.session_timeout),
        auto_recovery: (!args.no_auto_recovery).then(|| Settings {
            lost_bookie_delay: Duration::from_secs(args.lost_bookie_delay),
            open_ledger_grace: Duration::from_secs(args.open_ledger_grace),
            copy_bytes_per_second: args.copy_rate,
            integrity_interval: Duration::from_secs(args.integrity_interval),
            lease_ttl: Duration::from_secs(args.session_timeout),
            ..Settings::default()
        }),
    };
    let role = tokio::select! {
        started = Role::start(config) => started?,
        // Nothing was promised to anybody yet, so there is nothing to drain.
        () = signals.received() => return Ok(()),
    };
    println!("{}", role.ready_line());
    role.serve(signals).await
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

    #[test]
    fn rates_and_devices_come_from_flag_environment_and_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[bookie]\nscrub-rate = \"1MiB\"\ncompaction-rate = \"2MiB\"\ntls-required = true\n";
        std::fs::write(file.path(), text).unwrap();
        let line = format!("magnetar bookie --journal-device uring --config {}", file.path().display());
        let args = parsed(&line, &[("MAGNETAR_BOOKIE_SCRUB_RATE", "3MiB")]);
        let config = args.tuning.config("/j".into(), vec!["/l".into()]);
        assert_eq!((config.scrub_bytes_per_second, config.compaction_bytes_per_second), (3 << 20, 2 << 20));
        assert_eq!(config.journal_device, magnetar_bookie::JournalDevice::Uring);
        assert!(config.tls_required);
    }
}
