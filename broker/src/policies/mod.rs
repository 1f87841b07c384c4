//! What operators have set for topics, in the form in which topics act on it.
//!
//! A topic asks a [`PolicySource`] when it is opened, and is told of changes by [`follow`]. This module must never know
//! what a topic does with a policy, nor how tools spell their requests.

mod dead_letter;
mod effective;
mod entry_filters;
pub(crate) mod follow;
mod recent;
mod source;

pub use dead_letter::{DEAD_LETTER_POLICIES, DEAD_LETTER_POLICY, DeadLetterPolicies, DeadLetterPolicy};
pub use effective::{AgeQuota, QuotaAction, StorageQuota, TopicPolicies};
pub use entry_filters::{ENTRY_FILTERS, are_entry_filters};
pub use follow::follow;
pub use recent::RecentPolicies;
pub use source::{Fixed, PolicySource, StoredPolicies};
