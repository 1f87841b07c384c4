//! Where ledger ids come from: the sequence that BookKeeper's clients use too, so that ids never collide.

use magnetar_common::layout;
use magnetar_common::metadata::{MetadataError, SharedMetadata};
use magnetar_proto::ids::LedgerId;

/// A ledger id that nobody else was given.
pub(crate) async fn next(metadata: &SharedMetadata) -> Result<LedgerId, MetadataError> {
    Ok(LedgerId(metadata.next_sequence(layout::LEDGER_IDS).await?))
}
