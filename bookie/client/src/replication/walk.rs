//! Goes through the records of all ledgers, a page at a time and not too fast: a cluster has more ledgers than memory is
//! for, and its metadata store has other work.

use magnetar_common::clock::SharedClock;
use magnetar_common::metadata::{MetadataError, SharedMetadata};
use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
use magnetar_proto::bookkeeper::paths::{ROOT, parse_ledger_path};
use magnetar_proto::ids::LedgerId;
use std::time::Duration;

/// Records read at once.
const PAGE: usize = 500;
/// Between two pages: at most five thousand records a second.
const PAUSE: Duration = Duration::from_millis(100);

/// Where a walk is. It can be kept, and gone on with at any time.
pub(crate) struct Walk {
    store: SharedMetadata,
    clock: SharedClock,
    /// The first digit of the ledgers' directories: other keys below the root have names of letters.
    digit: u8,
    after: Option<String>,
    pages: u64,
}

impl Walk {
    pub(crate) fn new(store: SharedMetadata, clock: SharedClock) -> Self {
        Self { store, clock, digit: 0, after: None, pages: 0 }
    }

    /// The next ledgers, never none; `None` at the end. A ledger whose record cannot be understood is left out, with a
    /// warning: `unreadable` counts them. After an error the same page can be asked for again. Cancel-safe.
    pub(crate) async fn next(
        &mut self,
        unreadable: &mut u64,
    ) -> Result<Option<Vec<(LedgerId, LedgerMetadata)>>, MetadataError> {
        while self.digit < 10 {
            if self.pages > 0 && self.after.is_some() {
                self.clock.sleep(PAUSE).await;
            }
            let prefix = format!("{ROOT}/{}", self.digit);
            let page = self.store.scan(&prefix, self.after.as_deref(), PAGE).await?;
            self.pages += 1;
            match page.last() {
                Some((last, _)) if page.len() == PAGE => self.after = Some(last.clone()),
                _ => (self.digit, self.after) = (self.digit + 1, None),
            }
            let mut ledgers = Vec::with_capacity(page.len());
            for (key, value) in page {
                let Some(ledger) = parse_ledger_path(&key) else { continue };
                match LedgerMetadata::decode(&value.bytes) {
                    Ok(record) => ledgers.push((ledger, record)),
                    Err(error) => {
                        *unreadable += 1;
                        tracing::warn!(%ledger, %error, "a ledger's record cannot be understood; whether it lacks copies is not known");
                    }
                }
            }
            if !ledgers.is_empty() {
                return Ok(Some(ledgers));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use magnetar_common::clock::SystemClock;
    use magnetar_common::metadata::{Expect, MemoryStore};
    use magnetar_proto::bookkeeper::BookieId;
    use magnetar_proto::bookkeeper::entry::DigestType;
    use magnetar_proto::bookkeeper::metadata_format::LedgerState;
    use magnetar_proto::bookkeeper::paths::ledger_path;
    use magnetar_proto::ids::EntryId;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[tokio::test]
    async fn every_ledger_is_met_once_and_nothing_else() {
        let store: SharedMetadata = Arc::new(MemoryStore::new());
        let record = LedgerMetadata {
            ensemble_size: 1,
            write_quorum: 1,
            ack_quorum: 1,
            state: LedgerState::Open,
            segments: BTreeMap::from([(EntryId::ZERO, vec![BookieId::new("b").expect("an id")])]),
            digest: DigestType::Crc32c,
            password: Bytes::new(),
            ctime_ms: None,
            custom: BTreeMap::new(),
            c_token: None,
        };
        let put = async |key: &str, value: Bytes| store.put(key, value, Expect::Any).await.expect("put");
        let mut ids: Vec<u64> = (0..PAGE as u64 + 20).collect();
        ids.extend([2_147_483_646, 2_147_483_647, i64::MAX as u64]);
        for id in &ids {
            put(&ledger_path(LedgerId(*id)), record.encode()).await;
        }
        put(&ledger_path(LedgerId(77_777)), "BookieMetadataFormatVersion\t2\n".into()).await;
        for key in ["/ledgers/LAYOUT", "/ledgers/available/b", "/ledgers/underreplication/LAYOUT"] {
            put(key, Bytes::new()).await;
        }
        let mut walk = Walk::new(store.clone(), Arc::new(SystemClock::default()));
        let (mut met, mut unreadable) = (Vec::new(), 0);
        while let Some(page) = walk.next(&mut unreadable).await.expect("a page") {
            met.extend(page.into_iter().map(|(ledger, _)| ledger.0));
        }
        met.sort_unstable();
        assert_eq!((met, unreadable), (ids, 1));
    }
}
