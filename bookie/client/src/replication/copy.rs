//! Copies entries from the bookies that have them to one that lacks them, as they are: checked, but not sealed anew.
//!
//! It must never take "no bookie gives it" for "there is nothing to copy": every entry it is asked for was acknowledged.

use super::metrics::Metrics;
use super::pace::Pace;
use crate::client::Client;
use crate::connection::{Add, AddReply};
use crate::protocol::quorum::Quorum;
use crate::protocol::writer::AddOutcome;
use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use magnetar_proto::bookkeeper::entry::Digest;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::v2::{self, Flags, MasterKey};
use magnetar_proto::bookkeeper::{BookieId, Code, master_key};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::sync::Mutex;
use tokio::sync::mpsc;

/// What copies carry: a fenced ledger takes them, and they go behind the work of clients.
const FLAGS: Flags = Flags { fencing: false, recovery_add: true, high_priority: false };
/// Entries under way at once.
const WINDOW_ENTRIES_MAX: usize = 64;
/// Bytes under way at once, as far as the ledger's average tells.
const WINDOW_BYTES: u64 = 4 << 20;

/// Why copying stopped. What was copied until then stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CopyError {
    /// No bookie gave the entry. It may be on one that is away.
    #[error("entry {entry} cannot be read from any bookie: {reason}")]
    Unreadable {
        /// The entry.
        entry: EntryId,
        /// What the bookies said.
        reason: String,
    },
    /// The bookie that lacks entries did not take one.
    #[error("bookie {bookie} does not take entry {entry}: {outcome:?}")]
    NotTaken {
        /// The bookie.
        bookie: BookieId,
        /// The entry.
        entry: EntryId,
        /// What became of it.
        outcome: AddOutcome,
    },
}

/// A ledger whose entries are copied. Its record must not be older than the decision what to copy.
pub(crate) struct Copying<'a> {
    pub(crate) client: &'a Client,
    pub(crate) metrics: &'a Metrics,
    pub(crate) pace: &'a Mutex<Pace>,
    ledger: LedgerId,
    quorum: Quorum,
    digest: Digest,
    key: MasterKey,
    average_bytes: u64,
}

impl<'a> Copying<'a> {
    pub(crate) fn new(
        client: &'a Client,
        metrics: &'a Metrics,
        pace: &'a Mutex<Pace>,
        ledger: LedgerId,
        quorum: Quorum,
        record: &LedgerMetadata,
    ) -> Self {
        let average_bytes = match record.state {
            LedgerState::Closed { last_entry: Some(last), length } => length / (last.0 + 1),
            // Not known: as if each were large.
            _ => WINDOW_BYTES / 8,
        };
        let (digest, key) = (Digest::new(record.digest, &record.password), master_key(&record.password));
        Self { client, metrics, pace, ledger, quorum, digest, key, average_bytes }
    }

    /// Makes every one of `entries`, which are of one segment with this ensemble, durable on `to`. Bookies in `last_resort`
    /// are asked only when no other gives an entry. When this returns without an error, all of them are. Cancelled, some may
    /// have been copied, which does no harm.
    pub(crate) async fn copy(
        &self,
        entries: impl Iterator<Item = EntryId>,
        ensemble: &[BookieId],
        last_resort: &[BookieId],
        to: &BookieId,
    ) -> Result<u64, CopyError> {
        let fitting = WINDOW_BYTES / self.average_bytes.max(1);
        let window = usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, WINDOW_ENTRIES_MAX);
        let (mut entries, mut copied) = (entries.peekable(), 0);
        while entries.peek().is_some() {
            let ids: Vec<EntryId> = entries.by_ref().take(window).collect();
            let bodies = join_all(ids.iter().map(|entry| self.read(*entry, ensemble, last_resort, to))).await;
            let bodies = ids.into_iter().zip(bodies).map(|(id, body)| Ok((id, body?)));
            let bodies = bodies.collect::<Result<Vec<_>, CopyError>>()?;
            let bytes = bodies.iter().map(|(_, (head, payload))| (head.len() + payload.len()) as u64).sum();
            copied += bodies.len() as u64;
            self.write(bodies, to).await?;
            self.metrics.bytes_written.add(bytes);
            let pause = {
                let mut pace = self.pace.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                pace.done(self.client.env().clock.now(), bytes)
            };
            self.client.env().clock.sleep(pause).await;
        }
        Ok(copied)
    }

    /// An entry's body, in front of its payload and the payload, from whoever has it.
    async fn read(
        &self,
        entry: EntryId,
        ensemble: &[BookieId],
        last_resort: &[BookieId],
        to: &BookieId,
    ) -> Result<(Bytes, Bytes), CopyError> {
        let mut sources: Vec<&BookieId> =
            self.quorum.write_set(entry).map(|slot| &ensemble[slot]).filter(|bookie| *bookie != to).collect();
        // Different entries begin at different bookies; `false` sorts first.
        sources.sort_by_key(|bookie| last_resort.contains(bookie));
        let mut reasons = String::new();
        for bookie in sources {
            let connection = self.client.pool().get(bookie);
            let said = match connection.read(self.ledger, Some(entry), Flags::NONE, None).await {
                Some((Code::Ok, Some(body))) => {
                    match self.digest.open(body.clone(), self.ledger, Some(entry)) {
                        Ok((_, payload)) => {
                            let head = body.slice(..body.len() - payload.len());
                            self.metrics.entries_read.add(1);
                            self.metrics.bytes_read.add(body.len() as u64);
                            return Ok((head, payload));
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Some((code, _)) => format!("{code:?}"),
                None => "no answer".to_owned(),
            };
            reasons.push_str(&format!("{bookie}: {said}; "));
        }
        self.metrics.entries_unreadable.add(1);
        Err(CopyError::Unreadable { entry, reason: reasons.trim_end_matches("; ").to_owned() })
    }

    async fn write(&self, bodies: Vec<(EntryId, (Bytes, Bytes))>, to: &BookieId) -> Result<(), CopyError> {
        let (sender, mut done) = mpsc::unbounded_channel();
        let connection = self.client.pool().get(to);
        let mut left = bodies.len();
        for (entry, (head, payload)) in bodies {
            let mut packet = BytesMut::new();
            v2::encode_add_header(&self.key, FLAGS, &head, payload.len(), &mut packet);
            let reply = AddReply::new(sender.clone(), 0, 0, entry, payload.len());
            connection.add(Add { ledger: self.ledger, entry, head: packet.freeze(), payload, reply });
        }
        drop(sender);
        let mut refused = None;
        while let Some(answer) = done.recv().await {
            match answer.outcome {
                AddOutcome::Stored => {
                    left -= 1;
                    self.metrics.entries_written.add(1);
                }
                outcome => {
                    refused.get_or_insert(CopyError::NotTaken {
                        bookie: to.clone(),
                        entry: answer.entry,
                        outcome,
                    });
                }
            }
        }
        match refused {
            Some(error) => Err(error),
            None => {
                assert_eq!(left, 0, "every add has its outcome");
                Ok(())
            }
        }
    }
}
