//! Ledgers whose records are written by the caller's own transaction, together with the record that names them: one step of
//! the metadata store in place of two, and no moment at which a ledger is there and nobody knows of it.

use crate::client::{Client, LedgerOptions};
use crate::error::LedgerError;
use crate::metadata::Versioned;
use crate::placement::{self, Needs, PlacementError};
use crate::protocol::quorum::Quorum;
use crate::writer::Writer;
use magnetar_common::metadata::{Expect, MetadataError, Op, Version};
use magnetar_proto::bookkeeper::entry::DigestType;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::paths::ledger_path;
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::BTreeMap;

/// An open ledger that is yet to be made. Nothing of it exists before [`put`](Self::put) is applied.
pub struct Draft {
    id: LedgerId,
    quorum: Quorum,
    record: LedgerMetadata,
}

impl Draft {
    /// The ledger.
    pub fn id(&self) -> LedgerId {
        self.id
    }

    /// Makes the ledger. A conflict on its key means that the id is somebody else's.
    pub fn put(&self) -> Op {
        let (key, value) = (ledger_path(self.id), self.record.encode());
        Op::Put { key, value, expect: Expect::Missing, lease: None }
    }
}

impl Client {
    /// A ledger of this id, which [`new_id`](Self::new_id) gave, on `ensemble` bookies that are writable now: does not wait for
    /// more of them.
    pub fn draft(&self, id: LedgerId, options: LedgerOptions) -> Result<Draft, LedgerError> {
        let invalid = |error: &dyn std::fmt::Display| MetadataError::Unavailable(error.to_string());
        let quorum = Quorum::new(options.ensemble, options.write_quorum, options.ack_quorum)
            .map_err(|error| invalid(&error))?;
        let ensemble = self.choose_ensemble(&options, quorum.ensemble())?;
        let random = self.env().random.next_u64() >> 1;
        let record = LedgerMetadata {
            ensemble_size: options.ensemble,
            write_quorum: options.write_quorum,
            ack_quorum: options.ack_quorum,
            state: LedgerState::Open,
            segments: BTreeMap::from([(EntryId::ZERO, ensemble)]),
            digest: DigestType::Crc32c,
            password: options.password,
            ctime_ms: i64::try_from(self.env().clock.unix_ms()).ok(),
            custom: options.custom,
            c_token: i64::try_from(random).ok(),
        };
        Ok(Draft { id, quorum, record })
    }

    /// The writer of a ledger that was made: [`Draft::put`] was applied, by a transaction of the caller's that gave its key this
    /// version.
    pub fn begin(&self, draft: Draft, version: Version) -> Writer {
        let current = Versioned { metadata: draft.record, version };
        Writer::new(self.clone(), draft.id, draft.quorum, current)
    }

    /// Removes a ledger's record, as [`delete`](Self::delete) does. A missing ledger is [`MetadataError::NotFound`].
    pub fn deletion(id: LedgerId) -> Op {
        Op::Delete { key: ledger_path(id), expect: Expect::Any }
    }

    fn choose_ensemble(
        &self,
        options: &LedgerOptions,
        size: usize,
    ) -> Result<Vec<magnetar_proto::bookkeeper::BookieId>, LedgerError> {
        let found = self.directory().now().writable().count();
        match placement::ensemble(self, &Needs::of_options(options), size, &[]) {
            Err(PlacementError::TooFewBookies { .. }) if found < size => {
                Err(LedgerError::TooFewRegistered { needed: size, found })
            }
            other => Ok(other?),
        }
    }
}
