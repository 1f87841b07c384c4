//! What a user may set for a bookie.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use magnetar_common::net::tls::TlsConfig;
use magnetar_proto::bookkeeper::BookieId;

use crate::journal::JournalDevice;

/// Settings of one bookie. Directories and address have no default; take the rest from [`Config::new`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The name under which ledgers know this bookie, for its whole life. `None`: the id its directories were stamped
    /// with, or, on the first start, the advertised address.
    pub bookie_id: Option<BookieId>,
    /// Where the journal lies: the fastest disk, on its own if possible.
    pub journal_dir: PathBuf,
    /// Where entry logs lie. The first one also holds the checkpoint. Their order must not change.
    pub ledger_dirs: Vec<PathBuf>,
    /// Where to listen; port 0 takes any free one.
    pub bind: SocketAddr,
    /// `host[:port]` that clients are told to connect to. `None`: the bound address. Without a port: the bound one.
    pub advertise: Option<String>,
    /// Where the bookie stands, as `/rack` or `/region/rack`, for those who spread copies. What operators have recorded of
    /// it in the metadata store wins. Default `None`: not told.
    pub rack: Option<String>,
    /// Memory for entries not yet in an entry log. Default 64 MiB. More makes larger, better sorted logs and a longer
    /// replay. At least 4 MiB and four times `frame_bytes_max`, at most 1 GiB.
    pub write_cache_bytes: usize,
    /// Memory for entries read from logs for those who read a ledger in order, half of it for what is read ahead of them.
    /// Default 64 MiB. More serves more such readers at the full bandwidth of the disk: each takes up to 4 MiB. 0: every
    /// read goes to the page cache or the disk.
    pub read_cache_bytes: usize,
    /// Journal written since the last checkpoint that starts a new one. Default 256 MiB.
    pub journal_bytes: u64,
    /// Size of a journal segment file. Default 64 MiB.
    pub segment_bytes: u64,
    /// How the journal is written. Default [`JournalDevice::Auto`]: the best that works on its disk.
    pub journal_device: JournalDevice,
    /// Acknowledge entries that are not yet durable: a power cut then loses them. Only for measuring. Default false.
    pub journal_unsafe_no_sync: bool,
    /// The longest frame taken from a client, which bounds an entry. Default 5 MiB + 64 KiB: a full-sized Pulsar message
    /// with all its headers.
    pub frame_bytes_max: usize,
    /// Memory for large frames being received and answers being sent, of all connections together. When it is used up
    /// sockets wait. Default 256 MiB, at least 4 times `frame_bytes_max`. Beside it a connection takes up to 128 KiB; adds
    /// that wait for the disk are bounded by `write_cache_bytes`.
    pub in_flight_bytes_max: usize,
    /// Connections at once; more are closed as they come. Default 10,000.
    pub connections_max: usize,
    /// Upgrade connections to TLS when clients ask for it, with certificates from these files; announced in the
    /// registration. `None`: such a request is refused. Default `None`.
    pub tls: Option<TlsConfig>,
    /// Take requests over TLS only: a connection that begins without is closed. Default false; needs `tls`.
    pub tls_required: bool,
    /// Free space of a disk below which the bookie goes read-only; what is left is for the flush of what was accepted,
    /// for compaction and for checkpoints. It is writable again with a quarter more. Default 512 MiB; never
    /// more than a tenth of the disk.
    pub free_bytes_min: u64,
    /// How often to look at the free space. Default 500 ms.
    pub space_interval: Duration,
    /// How often to look for ledgers whose deletion nobody told this bookie of. Default 15 min.
    pub gc_interval: Duration,
    /// Between the two reads of the metadata store that must both find nothing before a ledger is dropped. Default 30 s.
    /// Space comes back that much later.
    pub gc_grace: Duration,
    /// An entry log with a smaller share of live bytes is rewritten. Default 0.8; at most 1. More saves space and costs
    /// writes.
    pub compaction_live_ratio: f64,
    /// Bytes that rewriting may copy a second. Default 64 MiB. 0: logs are never rewritten, only removed once nothing
    /// in them is live. Logs that are small beside `write_cache_bytes` are merged at this rate too.
    pub compaction_bytes_per_second: u64,
    /// Bytes a second of stored entries that are read in the background to find damage, each at most once a day, from five
    /// minutes after the start on. Default 4 MiB. 0: nothing is read.
    pub scrub_bytes_per_second: u64,
    /// How long the registration outlives a bookie that vanished. Default 30 s.
    pub lease_ttl: Duration,
    /// Where to serve `/metrics` and the state over HTTP, without authentication; port 0 takes any free one. Default
    /// `None`: not at all.
    pub http: Option<SocketAddr>,
    /// Where to serve the gRPC control service, without authentication; port 0 takes any free one. Default `None`: not
    /// at all.
    pub grpc: Option<SocketAddr>,
}

impl Config {
    /// The defaults for these directories, on any free port of the loopback address.
    pub fn new(journal_dir: PathBuf, ledger_dirs: Vec<PathBuf>) -> Self {
        Config {
            bookie_id: None,
            journal_dir,
            ledger_dirs,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: None,
            rack: None,
            write_cache_bytes: 64 << 20,
            read_cache_bytes: 64 << 20,
            journal_bytes: 256 << 20,
            segment_bytes: 64 << 20,
            journal_device: JournalDevice::Auto,
            journal_unsafe_no_sync: false,
            frame_bytes_max: (5 << 20) + (64 << 10),
            in_flight_bytes_max: 256 << 20,
            connections_max: 10_000,
            tls: None,
            tls_required: false,
            free_bytes_min: 512 << 20,
            space_interval: Duration::from_millis(500),
            gc_interval: Duration::from_secs(15 * 60),
            gc_grace: Duration::from_secs(30),
            compaction_live_ratio: 0.8,
            compaction_bytes_per_second: 64 << 20,
            scrub_bytes_per_second: 4 << 20,
            lease_ttl: Duration::from_secs(30),
            http: None,
            grpc: None,
        }
    }

    /// Why these settings cannot work together, in one sentence.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.ledger_dirs.is_empty() {
            return Err("at least one ledger directory is needed".into());
        }
        // A batch is up to 1 MiB and one frame more; half of the cache must take it while the other half is flushed.
        let least = 4 * self.frame_bytes_max.max(1 << 20);
        if self.write_cache_bytes < least || self.write_cache_bytes > 1 << 30 {
            return Err(format!(
                "write_cache_bytes must lie between {least} (4 × frame_bytes_max and 4 MiB) and {}",
                1 << 30
            ));
        }
        let least = self.frame_bytes_max.saturating_mul(4);
        if self.in_flight_bytes_max < least {
            return Err(format!("in_flight_bytes_max must be at least {least} (4 × frame_bytes_max)"));
        }
        if self.connections_max == 0 {
            return Err("connections_max must be at least 1".into());
        }
        if self.tls_required && self.tls.is_none() {
            return Err("tls_required needs a TLS certificate and key".into());
        }
        if !(0.0..=1.0).contains(&self.compaction_live_ratio) {
            return Err("compaction_live_ratio must lie between 0 and 1".into());
        }
        if self.segment_bytes < 1 << 16 {
            return Err("segment_bytes must be at least 65536".into());
        }
        Ok(())
    }
}
