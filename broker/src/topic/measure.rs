//! What of a backlog only the ledgers know: its bytes and the age of its oldest entry.
//!
//! The last entry before a backlog tells how many bytes lie before it, and the first one when it was published. Both are
//! read beside the topic's task, which goes on meanwhile.

use super::actor::Topic;
use super::error::TopicError;
use super::finder::Finder;
use super::mailbox::Reply;
use super::request::Name;
use super::stats::TopicStats;
use crate::managed_ledger::{LedgerList, MlReader};
use magnetar_proto::ids::Position;

/// Where a subscription's backlog begins.
struct Begin {
    subscription: Name,
    /// The first entry that is not acknowledged.
    first: Position,
    /// Bytes from the beginning of a ledger on, and the entry up to which they are to be taken off.
    around: (u64, Option<Position>),
}

impl Topic {
    /// Answers with stats in which the backlogs are exact.
    pub(crate) fn measured_stats(&mut self, reply: Reply<TopicStats>) {
        let mut stats = self.stats();
        let list = self.ml.ledgers().clone();
        let begin = |(name, s): (&Name, &super::subscription::Subscription)| {
            let mark = s.cursor.mark_delete();
            let first = list.next_after(mark);
            let begin = Begin { subscription: name.clone(), first, around: self.ml.bytes_around(mark) };
            (s.backlog(&list) > 0).then_some(begin)
        };
        let begins: Vec<Begin> =
            self.subscriptions.iter().map(|(name, s)| (name, &**s)).filter_map(begin).collect();
        if begins.is_empty() {
            drop(reply.send(Ok(stats)));
            return;
        }
        let (reader, now_ms) = (self.ml.reader(), self.env.environment.clock.unix_ms());
        tokio::spawn(async move {
            let measured = measure(&mut stats, &begins, &list, reader, now_ms).await;
            // Whoever asked may be gone by now.
            drop(reply.send(measured.map(|()| stats)));
        });
    }
}

async fn measure(
    stats: &mut TopicStats,
    begins: &[Begin],
    list: &LedgerList,
    reader: MlReader,
    now_ms: u64,
) -> Result<(), TopicError> {
    stats.backlog_size = 0;
    let finder = Finder::beside(list, reader.clone());
    for Begin { subscription, first, around: (bytes, before) } in begins {
        let Some(one) = stats.subscriptions.get_mut(&**subscription) else { continue };
        let before = match before {
            Some(position) => reader.length_at(*position).await,
            None => Ok(0),
        };
        let before = before.map_err(|error| TopicError::Persistence(error.to_string()))?;
        let bytes = bytes.saturating_sub(before);
        one.backlog_size = i64::try_from(bytes).unwrap_or(i64::MAX);
        stats.backlog_size = stats.backlog_size.max(bytes);
        let Some(entry) = finder.read_at_or_after(*first).await? else { continue };
        let published = entry.summary.publish_time;
        one.earliest_msg_publish_time_in_backlog = published;
        let oldest = &mut stats.earliest_msg_publish_time_in_backlogs;
        if *oldest == 0 || published < *oldest {
            *oldest = published;
            let age_seconds = now_ms.saturating_sub(published) / 1000;
            stats.oldest_backlog_message_age_seconds = i64::try_from(age_seconds).unwrap_or(i64::MAX);
            stats.oldest_backlog_message_subscription_name = subscription.to_string();
        }
    }
    Ok(())
}
