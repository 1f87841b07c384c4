//! The way to the cluster: one client for all members, bounded waits, repetition, and the newest revision seen.

use super::super::{MetadataError, Result};
use super::config::EtcdConfig;
use super::failure::{Repeat, compacted, describe};
use crate::clock::SharedClock;
use etcd_client::{
    Certificate, Client, ConnectOptions, Error, GetOptions, GetResponse, Identity, KvClient, ResponseHeader,
    TlsOptions,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// For one connection attempt; the next member is tried after it.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A silent connection is probed this often and given up after as long again: what a member that lost power costs.
const PROBE: Duration = Duration::from_secs(3);
/// For one try of a request that may be repeated: another member may do better.
const TRY_MAX: Duration = Duration::from_secs(4);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// Largest answer taken: a page of values at etcd's default limit of 1.5 MiB a value.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Read to learn the revision; whether it exists does not matter.
const ROOT: &str = "/";

/// A connected client. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    client: Client,
    kv: KvClient,
    clock: SharedClock,
    limit: Duration,
    /// Every change that this store's callers know of has at most this revision.
    newest: Arc<AtomicI64>,
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Link").field("newest", &self.newest).finish_non_exhaustive()
    }
}

impl Link {
    /// Connects, proves who we are where etcd asks for it, and learns the revision.
    pub(super) async fn connect(config: &EtcdConfig, clock: SharedClock) -> Result<Self> {
        let options = options(config)?;
        let endpoints = config.endpoints.clone();
        let connect = || Client::connect(endpoints.clone(), Some(options.clone()));
        let client =
            repeat(&*clock, config.limit, Repeat::Freely, connect).await.map_err(|failed| failed.told())?;
        let kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
        let newest = Arc::new(AtomicI64::new(0));
        let link = Self { client, kv, clock, limit: config.limit, newest };
        link.learn_revision().await?;
        Ok(link)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// How long an operation may take.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// The newest revision that an answer to us carried.
    pub(super) fn newest(&self) -> i64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Remembers the revision of an answer.
    pub(super) fn saw(&self, header: Option<&ResponseHeader>) {
        if let Some(header) = header {
            self.newest.fetch_max(header.revision(), Ordering::AcqRel);
        }
    }

    /// The cluster's revision as of now. Renews an expired token on the way.
    pub(super) async fn learn_revision(&self) -> Result<i64> {
        let read =
            |mut kv: KvClient| async move { kv.get(ROOT, Some(GetOptions::new().with_count_only())).await };
        let answer = self.ask(Repeat::Freely, read).await?;
        self.saw(answer.header());
        answer.header().map(ResponseHeader::revision).ok_or_else(no_header)
    }

    /// One try of a read that sees everything that was committed before.
    pub(super) async fn read_newest(&self) -> std::result::Result<(), Error> {
        read_newest(self.kv.clone()).await.map(drop)
    }

    /// Sends a request until it is answered, refused, or the limit is over. The closure makes one try.
    pub(super) async fn ask<T, F>(&self, repeated: Repeat, request: impl Fn(KvClient) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, Error>>,
    {
        let attempt = || request(self.kv.clone());
        repeat(&*self.clock, self.limit, repeated, attempt).await.map_err(|failed| failed.told())
    }

    /// Like [`ask`](Self::ask), for reads at a fixed revision: `None` when that one is compacted away.
    pub(super) async fn ask_at_revision<T, F>(&self, request: impl Fn(KvClient) -> F) -> Result<Option<T>>
    where
        F: Future<Output = std::result::Result<T, Error>>,
    {
        let attempt = || request(self.kv.clone());
        match repeat(&*self.clock, self.limit, Repeat::Freely, attempt).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Failed::Error(error)) if compacted(&error) => Ok(None),
            Err(failed) => Err(failed.told()),
        }
    }
}

async fn read_newest(mut kv: KvClient) -> std::result::Result<GetResponse, Error> {
    kv.get(ROOT, Some(GetOptions::new().with_count_only())).await
}

pub(super) fn no_header() -> MetadataError {
    MetadataError::Corrupt("etcd: an answer without a header".into())
}

/// Why repetition ended without an answer.
enum Failed {
    /// The last error.
    Error(Error),
    /// No try came to an end.
    Silent(Duration),
}

impl Failed {
    fn told(self) -> MetadataError {
        match self {
            Failed::Error(error) => describe(error),
            Failed::Silent(limit) => MetadataError::Unavailable(format!("etcd: no answer within {limit:?}")),
        }
    }
}

/// Tries until the limit is over. The last error is worth more to the reader than the news that time is up.
async fn repeat<T, F>(
    clock: &dyn crate::clock::Clock,
    limit: Duration,
    repeated: Repeat,
    mut attempt: impl FnMut() -> F,
) -> std::result::Result<T, Failed>
where
    F: Future<Output = std::result::Result<T, Error>>,
{
    let end = clock.now() + limit;
    let mut failed = Failed::Silent(limit);
    loop {
        let left = end.saturating_sub(clock.now());
        if left.is_zero() {
            return Err(failed);
        }
        let try_max = match repeated {
            Repeat::Freely => left.min(TRY_MAX),
            Repeat::IfUnseen => left,
        };
        match within(clock, try_max, attempt()).await {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) if repeated.after(&error) => failed = Failed::Error(error),
            Some(Err(error)) => return Err(Failed::Error(error)),
            None => {}
        }
        clock.sleep(PAUSE.min(left)).await;
    }
}

/// The outcome, or `None` once `limit` is over.
pub(super) async fn within<T>(
    clock: &dyn crate::clock::Clock,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        outcome = future => Some(outcome),
        () = clock.sleep(limit) => None,
    }
}

fn options(config: &EtcdConfig) -> Result<ConnectOptions> {
    let secure = config.endpoints.iter().filter(|endpoint| endpoint.starts_with("https://")).count();
    let refused = |reason: &str| Err(MetadataError::Refused(format!("etcd: {reason}")));
    if config.endpoints.is_empty() {
        return refused("no member is named");
    }
    if config.tls.is_some() && secure < config.endpoints.len() {
        return refused("TLS settings need https:// members only");
    }
    if config.tls.is_none() && secure > 0 {
        return refused("https:// members need the certificate of the authority that signed theirs");
    }
    let mut options = ConnectOptions::new()
        .with_connect_timeout(CONNECT_MAX)
        .with_keep_alive(PROBE, PROBE)
        .with_keep_alive_while_idle(true)
        // A member cut off from the others answers at once that it is, and ends its watches, instead of keeping silent.
        .with_require_leader(true);
    if let Some(user) = &config.user {
        options = options.with_user(&user.name, &user.password).with_auto_token_refresh(true);
    }
    if let Some(tls) = &config.tls {
        let mut settings = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.authority));
        if let Some((certificate, key)) = &tls.identity {
            settings = settings.identity(Identity::from_pem(certificate, key));
        }
        options = options.with_tls(settings);
    }
    Ok(options)
}
