//! What the admin API and the metrics show of a topic, with the names Pulsar's REST API uses.

use std::collections::BTreeMap;

use serde::Serialize;

/// `GET …/stats`. Rates are per second over the last minute or so; counters since the topic was loaded.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicStats {
    pub msg_rate_in: f64,
    pub msg_throughput_in: f64,
    pub msg_rate_out: f64,
    pub msg_throughput_out: f64,
    pub bytes_in_counter: u64,
    pub msg_in_counter: u64,
    pub bytes_out_counter: u64,
    pub msg_out_counter: u64,
    pub average_msg_size: f64,
    pub msg_chunk_published: bool,
    pub storage_size: u64,
    pub backlog_size: u64,
    pub backlog_quota_limit_size: i64,
    pub backlog_quota_limit_time: i64,
    pub offloaded_storage_size: u64,
    pub last_offload_ledger_id: u64,
    pub last_offload_success_time_stamp: u64,
    pub last_offload_failure_time_stamp: u64,
    pub publish_rate_limited_times: u64,
    /// The lowest one of the subscriptions; 0 without a backlog.
    pub earliest_msg_publish_time_in_backlogs: u64,
    /// -1 without a backlog, or when nobody looked.
    pub oldest_backlog_message_age_seconds: i64,
    pub oldest_backlog_message_subscription_name: String,
    pub ongoing_txn_count: u64,
    pub aborted_txn_count: u64,
    pub committed_txn_count: u64,
    pub waiting_publishers: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_broker: Option<String>,
    pub deduplication_status: String,
    pub non_contiguous_deleted_messages_ranges: u64,
    pub non_contiguous_deleted_messages_ranges_serialized_size: u64,
    pub delayed_message_index_size_in_bytes: u64,
    pub topic_creation_time_stamp: u64,
    pub last_publish_time_stamp: u64,
    pub publishers: Vec<PublisherStats>,
    pub subscriptions: BTreeMap<String, SubscriptionStats>,
    /// Geo-replication, by cluster; none yet.
    pub replication: BTreeMap<String, serde_json::Value>,
    pub compaction: CompactionStats,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CompactionStats {
    pub last_compaction_removed_event_count: u64,
    pub last_compaction_succeed_timestamp: u64,
    pub last_compaction_failed_timestamp: u64,
    pub last_compaction_duration_time_in_mills: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PublisherStats {
    pub access_mode: String,
    pub msg_rate_in: f64,
    pub msg_throughput_in: f64,
    pub average_msg_size: f64,
    pub chunked_message_rate: f64,
    pub producer_id: u64,
    pub supports_partial_producer: bool,
    pub producer_name: String,
    pub address: String,
    pub connected_since: String,
    pub client_version: String,
    pub metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionStats {
    pub msg_rate_out: f64,
    pub msg_throughput_out: f64,
    pub bytes_out_counter: u64,
    pub msg_out_counter: u64,
    pub msg_rate_redeliver: f64,
    pub message_ack_rate: f64,
    pub chunked_message_rate: f64,
    /// Messages per second that nobody could take; non-persistent topics only.
    pub msg_drop_rate: f64,
    /// Entries, not messages.
    pub msg_backlog: u64,
    /// Bytes stored after the mark-delete position, what is acknowledged there one by one included.
    pub backlog_size: i64,
    /// When the oldest entry not acknowledged was published, by its producer's clock, ms since 1970; 0 without a backlog.
    pub earliest_msg_publish_time_in_backlog: u64,
    pub msg_backlog_no_delayed: u64,
    pub blocked_subscription_on_unacked_msgs: bool,
    pub msg_delayed: u64,
    pub msg_in_replay: u64,
    pub unacked_messages: u64,
    #[serde(rename = "type")]
    pub kind: String,
    pub active_consumer_name: String,
    pub msg_rate_expired: f64,
    pub total_msg_expired: u64,
    pub last_expire_timestamp: u64,
    pub last_consumed_flow_timestamp: u64,
    pub last_consumed_timestamp: u64,
    pub last_acked_timestamp: u64,
    pub last_mark_delete_advanced_timestamp: u64,
    pub consumers: Vec<ConsumerStats>,
    pub is_durable: bool,
    pub is_replicated: bool,
    pub allow_out_of_order_delivery: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_shared_mode: Option<String>,
    pub consumers_after_mark_delete_position: BTreeMap<String, String>,
    pub draining_hashes_count: u64,
    pub draining_hashes_unacked_messages: u64,
    pub non_contiguous_deleted_messages_ranges: u64,
    pub non_contiguous_deleted_messages_ranges_serialized_size: u64,
    pub delayed_message_index_size_in_bytes: u64,
    pub subscription_properties: BTreeMap<String, String>,
    pub filter_processed_msg_count: u64,
    pub filter_accepted_msg_count: u64,
    pub filter_rejected_msg_count: u64,
    pub filter_rescheduled_msg_count: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerStats {
    pub msg_rate_out: f64,
    pub msg_throughput_out: f64,
    pub bytes_out_counter: u64,
    pub msg_out_counter: u64,
    pub msg_rate_redeliver: f64,
    pub message_ack_rate: f64,
    pub chunked_message_rate: f64,
    pub consumer_name: String,
    pub available_permits: i64,
    pub unacked_messages: u64,
    pub avg_messages_per_entry: u64,
    pub blocked_consumer_on_unacked_msgs: bool,
    pub address: String,
    pub connected_since: String,
    pub client_version: String,
    pub last_acked_timestamp: u64,
    pub last_consumed_timestamp: u64,
    pub last_consumed_flow_timestamp: u64,
    pub metadata: BTreeMap<String, String>,
    /// Of the subscription; for CONSUMER_STATS, not part of the JSON.
    #[serde(skip)]
    pub subscription_type: String,
    /// Of the subscription; for CONSUMER_STATS, not part of the JSON.
    #[serde(skip)]
    pub msg_backlog: u64,
}

/// `GET …/internalStats`.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InternalStats {
    pub entries_added_counter: u64,
    pub number_of_entries: u64,
    pub total_size: u64,
    pub current_ledger_entries: u64,
    pub current_ledger_size: u64,
    pub last_ledger_created_timestamp: String,
    pub waiting_cursors_count: u64,
    pub pending_add_entries_count: u64,
    /// `ledger:entry`.
    pub last_confirmed_entry: String,
    pub state: String,
    pub ledgers: Vec<LedgerInternalStats>,
    pub cursors: BTreeMap<String, CursorInternalStats>,
    pub schema_ledgers: Vec<LedgerInternalStats>,
    pub compacted_ledger: LedgerInternalStats,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerInternalStats {
    pub ledger_id: i64,
    pub entries: u64,
    pub size: u64,
    pub offloaded: bool,
    pub under_replicated: bool,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CursorInternalStats {
    pub mark_delete_position: String,
    pub read_position: String,
    pub waiting_read_op: bool,
    pub pending_read_ops: u64,
    pub messages_consumed_counter: u64,
    pub cursor_ledger: i64,
    pub cursor_ledger_last_entry: i64,
    pub individually_deleted_messages: String,
    pub last_ledger_switch_timestamp: String,
    pub state: String,
    pub active: bool,
    pub number_of_entries_since_first_not_acked_message: u64,
    pub total_non_contiguous_deleted_messages_range: u64,
    pub subscription_have_pending_read: bool,
    pub subscription_have_pending_replay_read: bool,
    pub properties: BTreeMap<String, i64>,
}
