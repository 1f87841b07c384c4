//! Creating, opening, recovering and deleting ledgers.

use crate::asking::Asking;
use crate::bad_replicas::{BadReplica, BadReplicaReport, BadReplicas};
use crate::config::ClientConfig;
use crate::connection::{Context, Load};
use crate::error::LedgerError;
use crate::metadata;
use crate::placement::{PlacementPolicy, Space, TopologyWatch};
use crate::pool::Pool;
use crate::protocol::quorum::Quorum;
use crate::reader::Reader;
use crate::writer::Writer;
use crate::{health, ids, recovery};
use bytes::Bytes;
use magnetar_common::Environment;
use magnetar_common::bookies::BookieDirectory;
use magnetar_common::budget::ByteBudget;
use magnetar_common::metadata::{Expect, MetadataError, SharedMetadata, version_of_put};
use magnetar_common::net::tls::TlsClient;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::paths::ledger_path;
use magnetar_proto::ids::LedgerId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a new ledger is to be like. E >= Qw >= Qa >= 1, at most 64.
#[derive(Clone, Debug)]
pub struct LedgerOptions {
    /// Bookies of the ledger (E).
    pub ensemble: u32,
    /// Copies of an entry (Qw).
    pub write_quorum: u32,
    /// Copies that must be durable before an entry is acknowledged (Qa).
    pub ack_quorum: u32,
    /// From which the master key is derived; Pulsar's is empty.
    pub password: Bytes,
    /// The application's own facts, kept in the ledger's metadata.
    pub custom: BTreeMap<String, Bytes>,
}

/// The way to all ledgers of a cluster. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    metadata: SharedMetadata,
    directory: BookieDirectory,
    topology: TopologyWatch,
    space: Space,
    pool: Pool,
    env: Environment,
    config: ClientConfig,
    bad_replicas: BadReplicas,
    read_ahead: ByteBudget,
}

impl Client {
    /// Follows the registered bookies and connects to them as needed. Must be called within a tokio runtime.
    pub async fn new(
        metadata: SharedMetadata,
        env: Environment,
        config: ClientConfig,
    ) -> Result<Self, LedgerError> {
        let tls = config.tls.clone().map(TlsClient::load).transpose();
        let tls = tls.map_err(|error| LedgerError::Tls(error.to_string()))?.map(Arc::new);
        let directory = BookieDirectory::follow(metadata.clone()).await?;
        let topology = TopologyWatch::follow(metadata.clone()).await?;
        let space = Space::default();
        let load = Arc::new(Load::new(config.lag_bytes_max));
        let context = Context { directory: directory.clone(), env: env.clone(), tls, load };
        let pool = Pool::new(context, config.slow);
        health::watch_over(&pool, metadata.clone());
        let read_ahead = ByteBudget::new(config.read_ahead_bytes_max);
        let bad_replicas = BadReplicas::default();
        let shared =
            Shared { metadata, directory, topology, space, pool, env, config, bad_replicas, read_ahead };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Creates an open ledger on `ensemble` writable bookies, chosen by [`placement`](crate::placement). Its record is durable
    /// when this returns; cancelled half-way it may leave an empty ledger behind.
    pub async fn create(&self, options: LedgerOptions) -> Result<Writer, LedgerError> {
        loop {
            let id = self.new_id().await?;
            if let Some(writer) = self.create_as(id, options.clone()).await? {
                return Ok(writer);
            }
            tracing::warn!(ledger = %id, "a ledger of this id exists already; taking another id");
        }
    }

    /// An id for [`Self::create_as`] that nobody else was given.
    pub async fn new_id(&self) -> Result<LedgerId, LedgerError> {
        Ok(ids::next(self.metadata_store()).await?)
    }

    /// As [`Self::create`], under an id of [`Self::new_id`]: whoever has noted that first finds the ledger, whatever happens.
    /// `None`: there is a ledger of this id, and it is somebody else's.
    pub async fn create_as(
        &self,
        id: LedgerId,
        options: LedgerOptions,
    ) -> Result<Option<Writer>, LedgerError> {
        let enough = self.shared.directory.wait_for_writable(options.ensemble as usize);
        // Whether they came in time shows below.
        let _ = tokio::time::timeout(self.shared.config.registration_wait, enough).await;
        let draft = self.draft(id, options)?;
        match self.metadata_store().transact(vec![draft.put()]).await {
            Ok(versions) => Ok(Some(self.begin(draft, version_of_put(versions.first())?))),
            Err(MetadataError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a ledger for reading without disturbing its writer. Of a ledger that is not closed, the entries up to the last
    /// add confirmed that its bookies know of now may be read; the writer may be a few entries ahead.
    pub async fn open(&self, id: LedgerId, password: &[u8]) -> Result<Reader, LedgerError> {
        let record = metadata::read(self.metadata_store(), id).await?.metadata;
        check_password(id, &record, password)?;
        let reader = Reader::of_record(self.clone(), id, record.clone())?;
        if !matches!(record.state, LedgerState::Closed { .. })
            && let Some(last) = Asking::plain(self, id, &record)?.last_add_confirmed().await?
        {
            let (header, _) = reader.read_one(last).await?;
            reader.advance(last, header.length);
        }
        Ok(reader)
    }

    /// Takes a ledger over: fences its writer, finds its end, makes every entry up to there durable on Qa bookies, and
    /// closes it. Idempotent, and safe when several do it at once: all get the same end. On an error the ledger stays as
    /// it is, to be recovered later.
    pub async fn recover(&self, id: LedgerId, password: &[u8]) -> Result<Reader, LedgerError> {
        let versioned = metadata::read(self.metadata_store(), id).await?;
        check_password(id, &versioned.metadata, password)?;
        let closed = recovery::recover(self, id, versioned).await?;
        Reader::of_record(self.clone(), id, closed)
    }

    /// Removes a ledger's record; bookies drop its entries later by themselves. A missing ledger is
    /// [`LedgerError::NoSuchLedger`].
    pub async fn delete(&self, id: LedgerId) -> Result<(), LedgerError> {
        match self.metadata_store().delete(&ledger_path(id), Expect::Any).await {
            Err(MetadataError::NotFound { .. }) => Err(LedgerError::NoSuchLedger(id)),
            other => Ok(other?),
        }
    }

    /// A ledger's record.
    pub async fn metadata(&self, id: LedgerId) -> Result<LedgerMetadata, LedgerError> {
        Ok(metadata::read(self.metadata_store(), id).await?.metadata)
    }

    /// Copies that this client was given and that were not what was written. Their readers got another copy, or an error.
    pub fn bad_replicas(&self) -> BadReplicaReport {
        self.shared.bad_replicas.told()
    }

    pub(crate) fn report_bad(&self, bad: BadReplica) {
        self.shared.bad_replicas.report(bad);
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// What all readers may hold of what was not asked for yet.
    pub(crate) fn read_ahead(&self) -> &ByteBudget {
        &self.shared.read_ahead
    }

    pub(crate) fn metadata_store(&self) -> &SharedMetadata {
        &self.shared.metadata
    }

    pub(crate) fn directory(&self) -> &BookieDirectory {
        &self.shared.directory
    }

    pub(crate) fn topology(&self) -> &TopologyWatch {
        &self.shared.topology
    }

    pub(crate) fn space(&self) -> &Space {
        &self.shared.space
    }

    pub(crate) fn placement_policy(&self) -> &PlacementPolicy {
        &self.shared.config.placement
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    pub(crate) fn env(&self) -> &Environment {
        &self.shared.env
    }
}

fn check_password(id: LedgerId, record: &LedgerMetadata, password: &[u8]) -> Result<(), LedgerError> {
    if record.password.as_ref() == password { Ok(()) } else { Err(LedgerError::Unauthorized(id)) }
}

/// The quorums of a record, which decoding has checked.
pub(crate) fn quorum_of(id: LedgerId, record: &LedgerMetadata) -> Result<Quorum, LedgerError> {
    Quorum::new(record.ensemble_size, record.write_quorum, record.ack_quorum)
        .map_err(|error| LedgerError::DamagedMetadata { ledger: id, reason: error.to_string() })
}
