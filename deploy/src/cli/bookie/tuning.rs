//! The flags of a bookie that have a good default: devices, memory, rates and TLS.
//!
//! Called by: the serving role. Must never know: what a setting does inside; each flag is one field of the bookie's config.

use std::path::PathBuf;
use std::time::Duration;

use magnetar_bookie::{Config, JournalDevice};
use magnetar_common::net::tls::TlsConfig;

use crate::cli::units;

/// See the module.
#[derive(Debug, clap::Args)]
#[group(id = "tuning")]
pub(super) struct Args {
    /// How the journal is written: auto (the best that works on its disk), direct, uring or buffered
    #[arg(long, default_value_t = JournalDevice::Auto, value_name = "DEVICE")]
    journal_device: JournalDevice,
    /// Size of a journal segment file, in bytes or with a unit
    #[arg(long, default_value = "64MiB", value_parser = units::bytes, value_name = "SIZE")]
    journal_segment: u64,
    /// Journal written since the last checkpoint that starts a new one, in bytes or with a unit: more makes a restart longer
    #[arg(long, default_value = "256MiB", value_parser = units::bytes, value_name = "SIZE")]
    journal_limit: u64,
    /// Memory for entries that are not yet in an entry log, in bytes or with a unit
    #[arg(long, default_value = "64MiB", value_parser = units::bytes, value_name = "SIZE")]
    write_cache: u64,
    /// Memory for entries read ahead of those who read a ledger in order, in bytes or with a unit; 0 keeps nothing
    #[arg(long, default_value = "64MiB", value_parser = units::bytes, value_name = "SIZE")]
    read_cache: u64,
    /// Free space of a disk, in bytes or with a unit, below which the bookie goes read-only; at most a tenth of the disk counts
    #[arg(long, default_value = "512MiB", value_parser = units::bytes, value_name = "SIZE")]
    free_space_min: u64,
    /// How often to look for deleted ledgers that nobody told of (ms, s, m, h)
    #[arg(long, default_value = "15m", value_parser = units::duration, value_name = "TIME")]
    gc_interval: Duration,
    /// Between the two looks that must both find a ledger gone before its entries are dropped (ms, s, m, h)
    #[arg(long, default_value = "30s", value_parser = units::duration, value_name = "TIME")]
    gc_grace: Duration,
    /// Entry logs of which a smaller share is live are rewritten, 0 to 1
    #[arg(long, default_value_t = 0.8, value_name = "SHARE")]
    compaction_live_ratio: f64,
    /// Bytes a second that rewriting entry logs may copy, plain or with a unit; 0 never rewrites
    #[arg(long, default_value = "64MiB", value_parser = units::bytes, value_name = "RATE")]
    compaction_rate: u64,
    /// Bytes a second of stored entries that are verified in the background, plain or with a unit; 0 verifies nothing
    #[arg(long, default_value = "4MiB", value_parser = units::bytes, value_name = "RATE")]
    scrub_rate: u64,
    /// PEM file of the bookie's certificate: clients may then ask for TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file of that certificate's key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// PEM file of the authorities whose certificates clients must have
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Take requests over TLS only: true or false. Shuts out magnetar's own brokers and copying, which speak no TLS yet
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    tls_required: bool,
}

impl Args {
    /// The config of a bookie over these directories.
    pub(super) fn config(self, journal_dir: PathBuf, ledger_dirs: Vec<PathBuf>) -> Config {
        let tls = self.tls_cert.zip(self.tls_key);
        // Too large for this machine: the bookie's own check refuses it.
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Config {
            journal_device: self.journal_device,
            segment_bytes: self.journal_segment,
            journal_bytes: self.journal_limit,
            write_cache_bytes: size(self.write_cache),
            read_cache_bytes: size(self.read_cache),
            free_bytes_min: self.free_space_min,
            gc_interval: self.gc_interval,
            gc_grace: self.gc_grace,
            compaction_live_ratio: self.compaction_live_ratio,
            compaction_bytes_per_second: self.compaction_rate,
            scrub_bytes_per_second: self.scrub_rate,
            tls: tls.map(|(certificate, key)| TlsConfig { certificate, key, client_ca: self.tls_client_ca }),
            tls_required: self.tls_required,
            ..Config::new(journal_dir, ledger_dirs)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn config(line: &str) -> Config {
        let line = Line::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"));
        line.args.config("/j".into(), vec!["/l".into()])
    }

    #[test]
    fn without_flags_everything_is_as_the_bookie_has_it_by_default() {
        let defaults = Config::new("/j".into(), vec!["/l".into()]);
        assert_eq!(format!("{:?}", config("x")), format!("{defaults:?}"));
    }

    #[test]
    fn flags_take_units_and_reach_the_bookie() {
        let found = config(
            "x --journal-device buffered --journal-limit 1GiB --gc-grace 5m --compaction-rate 0 --scrub-rate 8MiB \
             --tls-cert /c --tls-key /k --tls-client-ca /a --tls-required",
        );
        assert_eq!((found.journal_device, found.journal_bytes), (JournalDevice::Buffered, 1 << 30));
        assert_eq!(found.gc_grace, Duration::from_secs(300));
        assert_eq!((found.compaction_bytes_per_second, found.scrub_bytes_per_second), (0, 8 << 20));
        assert_eq!(found.tls.map(|tls| tls.client_ca), Some(Some("/a".into())));
        assert!(found.tls_required);
        assert!(Line::try_parse_from(["x", "--scrub-rate", "4MB"]).is_err());
        assert!(Line::try_parse_from(["x", "--tls-cert", "/c"]).is_err());
    }
}
