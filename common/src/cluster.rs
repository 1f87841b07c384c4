//! What a cluster's first start writes for BookKeeper's clients and tools, so that no separate step is needed.
//!
//! Called by every role that needs ledgers, at each start. It must never change what is already there: the cluster may
//! have been made by Apache BookKeeper's own tools.

use crate::layout;
use crate::metadata::{Expect, MetadataError, SharedMetadata};
use crate::random::Random;
use bytes::Bytes;

/// How ledgers' metadata is laid out: version of this record's format, class of the layout and the layout's own version.
const LEDGER_LAYOUT: &str = "2\norg.apache.bookkeeper.meta.HierarchicalLedgerManagerFactory:1";

/// Writes the cluster's id and the ledgers' layout where they are missing. Idempotent, and safe to run from several
/// processes at once. Gives the cluster's id.
pub async fn initialize(store: &SharedMetadata, random: &dyn Random) -> Result<String, MetadataError> {
    let id = instance_id(random);
    let id = written_once(store, layout::INSTANCE_ID, id.into()).await?;
    written_once(store, layout::LEDGER_LAYOUT, Bytes::from_static(LEDGER_LAYOUT.as_bytes())).await?;
    let no_text = |_| MetadataError::Corrupt(format!("{} is no text", layout::INSTANCE_ID));
    String::from_utf8(id.to_vec()).map_err(no_text)
}

fn instance_id(random: &dyn Random) -> String {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random.next_u64().to_be_bytes());
    bytes[8..].copy_from_slice(&random.next_u64().to_be_bytes());
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// What is there, after putting `value` there if nothing was.
async fn written_once(store: &SharedMetadata, key: &str, value: Bytes) -> Result<Bytes, MetadataError> {
    if let Some(found) = store.get(key).await? {
        return Ok(found.bytes);
    }
    match store.put(key, value.clone(), Expect::Missing).await {
        Ok(_) => Ok(value),
        // Another process was faster.
        Err(MetadataError::Conflict { .. }) => {
            let found = store.get(key).await?;
            found.map(|found| found.bytes).ok_or_else(|| MetadataError::NotFound { key: key.to_owned() })
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::MemoryStore;
    use crate::random::OsRandom;
    use std::sync::Arc;

    #[tokio::test]
    async fn the_first_start_names_the_cluster_and_later_ones_keep_the_name() {
        let store: SharedMetadata = Arc::new(MemoryStore::new());
        let (first, second) = tokio::join!(initialize(&store, &OsRandom), initialize(&store, &OsRandom));
        assert_eq!(first, second);
        let written = store.get(layout::LEDGER_LAYOUT).await.expect("get").expect("a layout").version;
        assert_eq!(initialize(&store, &OsRandom).await, first);
        assert!(uuid::Uuid::parse_str(&first.expect("an id")).is_ok());
        let layout = store.get(layout::LEDGER_LAYOUT).await.expect("get").expect("a layout");
        assert_eq!((layout.bytes, layout.version), (Bytes::from_static(LEDGER_LAYOUT.as_bytes()), written));
    }

    #[tokio::test]
    async fn what_others_wrote_is_left_alone() {
        let store: SharedMetadata = Arc::new(MemoryStore::new());
        store.put(layout::INSTANCE_ID, "theirs".into(), Expect::Missing).await.expect("put");
        let theirs =
            store.put(layout::LEDGER_LAYOUT, "2\nother:7".into(), Expect::Missing).await.expect("put");
        assert_eq!(initialize(&store, &OsRandom).await.as_deref(), Ok("theirs"));
        let layout = store.get(layout::LEDGER_LAYOUT).await.expect("get").expect("a layout");
        assert_eq!(layout.version, theirs);
    }
}
