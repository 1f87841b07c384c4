//! The bounds of what a subscription with several consumers may have outstanding.

/// Defaults are Pulsar's; a test lowers them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages a consumer may hold unacknowledged before it gets no more (`maxUnackedMessagesPerConsumer`).
    pub unacked_per_consumer: u32,
    /// The same over the whole subscription (`maxUnackedMessagesPerSubscription`).
    pub unacked_per_subscription: u32,
    /// Entries held back (waiting in the replay set) per consumer before no new entry is read: look-ahead past a
    /// stuck key costs memory and reads (`keySharedLookAheadMsgInReplayThresholdPerConsumer`).
    pub look_ahead_per_consumer: usize,
    /// The same over the whole subscription.
    pub look_ahead_per_subscription: usize,
    /// Entries one consumer gets before the next one's turn (`dispatcherMaxRoundRobinBatchSize`).
    pub round_robin_entries: u32,
    /// Positions handed out of the replay set at a time: keeps one pass short.
    pub replay_batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            unacked_per_consumer: 50_000,
            unacked_per_subscription: 200_000,
            look_ahead_per_consumer: 2_000,
            look_ahead_per_subscription: 20_000,
            round_robin_entries: 20,
            replay_batch: 100,
        }
    }
}
