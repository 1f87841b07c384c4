//! Watchers of a namespace's topics (PIP-145): a client with a pattern hears of new topics without asking again and again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use magnetar_common::shutdown::Signal;
use magnetar_common::topic_name::{NamespaceName, TopicName};
use magnetar_proto::pulsar::api;

use super::context::{Context, Room};
use super::refusal::Refusal;
use crate::namespace::{TopicFeed, TopicWatch, topic_list};

/// Watchers of one connection. A client has one for each pattern it consumes; a compiled pattern may take a megabyte.
const WATCHERS_MAX: usize = 100;

/// The watchers of one connection by their ids; giving the signal ends one.
#[derive(Default)]
pub(super) struct Watchers {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// The connection is gone: nothing is watched any more.
    ended: bool,
    watchers: HashMap<u64, Signal>,
}

impl Watchers {
    /// `None`: there are too many. An id that is in use is taken over: its client asks again because it got no answer.
    fn begin(&self, id: u64) -> Option<Signal> {
        let mut table = self.table();
        if table.watchers.len() >= WATCHERS_MAX && !table.watchers.contains_key(&id) {
            return None;
        }
        let stop = Signal::new();
        if table.ended {
            stop.give();
        } else if let Some(before) = table.watchers.insert(id, stop.clone()) {
            before.give();
        }
        Some(stop)
    }

    fn stop(&self, id: u64) {
        if let Some(stop) = self.table().watchers.remove(&id) {
            stop.give();
        }
    }

    /// The connection is gone.
    pub(super) fn end(&self) {
        let mut table = self.table();
        table.ended = true;
        table.watchers.drain().for_each(|(_, stop)| stop.give());
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    pub(super) fn on_watch_topic_list(&self, room: Room, command: api::CommandWatchTopicList) {
        let Some(stop) = self.watchers.begin(command.watcher_id) else {
            let advice = "close some, or list the topics instead";
            let message = format!("{WATCHERS_MAX} topic list watchers are open on this connection; {advice}");
            return self.refuse(command.request_id, Refusal::not_allowed(message));
        };
        let context = self.clone();
        self.spawn(room, async move {
            tokio::select! {
                biased;
                () = stop.given() => {
                    context.refuse(command.request_id, Refusal::not_ready("the watcher was closed or opened again"));
                }
                started = context.start_watching(&command) => match started {
                    Ok((watch, feed)) => drop(tokio::spawn(async move {
                        tokio::select! {
                            biased;
                            () = stop.given() => {}
                            () = context.tell(command.watcher_id, watch, feed) => {}
                        }
                    })),
                    Err(refusal) => {
                        if !stop.is_given() {
                            context.watchers.stop(command.watcher_id);
                        }
                        context.refuse(command.request_id, refusal);
                    }
                },
            }
        });
    }

    /// Answers with what is there.
    async fn start_watching(
        &self,
        command: &api::CommandWatchTopicList,
    ) -> Result<(TopicWatch, TopicFeed), Refusal> {
        let namespace: NamespaceName = command.namespace.parse()?;
        let pattern = topic_list::compile(&command.topics_pattern).ok_or_else(|| {
            Refusal::not_allowed("the pattern is too long or not understood here; list the topics instead")
        })?;
        let mut feed = self.service.feeds.follow(&namespace).await?;
        let watch = TopicWatch::new(pattern, &feed.topics());
        let topics_hash = topic_list::hash(watch.known());
        let known_already = command.topics_hash.as_deref() == Some(topics_hash.as_str());
        self.send(api::CommandWatchTopicListSuccess {
            request_id: command.request_id,
            watcher_id: command.watcher_id,
            topic: if known_already { Vec::new() } else { names(watch.known()) },
            topics_hash,
        });
        Ok((watch, feed))
    }

    /// Until the store has gone.
    async fn tell(&self, watcher_id: u64, mut watch: TopicWatch, mut feed: TopicFeed) {
        while feed.changed().await {
            if let Some(change) = watch.on_listed(&feed.topics()) {
                self.send(api::CommandWatchTopicUpdate {
                    watcher_id,
                    new_topics: names(&change.new),
                    deleted_topics: names(&change.deleted),
                    topics_hash: change.hash,
                });
            }
        }
    }

    pub(super) fn on_watch_topic_list_close(&self, command: &api::CommandWatchTopicListClose) {
        self.watchers.stop(command.watcher_id);
        self.succeed(command.request_id);
    }
}

fn names(topics: &[TopicName]) -> Vec<String> {
    topics.iter().map(ToString::to_string).collect()
}
