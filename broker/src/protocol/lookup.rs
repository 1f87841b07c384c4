//! Where a topic is, how many partitions it has, and which topics a namespace has.

use magnetar_common::topic_name::{Domain, NamespaceName, TopicName};
use magnetar_proto::pulsar::api;
use magnetar_proto::pulsar::api::command_get_topics_of_namespace::Mode;

use super::context::{Context, Room};
use super::errors::for_lookup;
use super::refusal::Refusal;
use crate::namespace::{Asked, Located, topic_list};

impl Context {
    pub(super) fn on_partition_metadata(&self, room: Room, command: api::CommandPartitionedTopicMetadata) {
        let context = self.clone();
        self.spawn(room, async move {
            let outcome = context.partitions(&command).await;
            context.send(partitions_response(command.request_id, outcome));
        });
    }

    async fn partitions(&self, command: &api::CommandPartitionedTopicMetadata) -> Result<u32, Refusal> {
        let topic: TopicName = command.topic.parse()?;
        Ok(self.service.topics.partitions_for_use(&topic, command.metadata_auto_creation_enabled()).await?)
    }

    pub(super) fn on_lookup(&self, room: Room, command: api::CommandLookupTopic) {
        let context = self.clone();
        self.spawn(room, async move {
            let outcome = context.locate(&command).await;
            // The proxy's way leads to this broker only.
            let ownership = &context.service.ownership;
            let through_proxy = !ownership.is_shared() && context.service.config.advertises_loopback();
            context.send(lookup_response(command.request_id, outcome, through_proxy));
        });
    }

    async fn locate(&self, command: &api::CommandLookupTopic) -> Result<Located, Refusal> {
        let topic: TopicName = command.topic.parse()?;
        let listener = command.advertised_listener_name.as_deref();
        let asked = Asked { authoritative: command.authoritative(), listener };
        Ok(self.service.ownership.locate(&topic, asked).await?)
    }

    pub(super) fn on_get_topics_of_namespace(&self, room: Room, command: api::CommandGetTopicsOfNamespace) {
        let context = self.clone();
        self.spawn(room, async move {
            match context.list_topics(&command).await {
                Ok(response) => context.send(response),
                Err(refusal) => context.refuse(command.request_id, refusal),
            }
        });
    }

    async fn list_topics(
        &self,
        command: &api::CommandGetTopicsOfNamespace,
    ) -> Result<api::CommandGetTopicsOfNamespaceResponse, Refusal> {
        let namespace: NamespaceName = command.namespace.parse()?;
        let mut topics = match command.mode() {
            Mode::Persistent | Mode::All => self.service.store.topics(&namespace).await?,
            Mode::NonPersistent => Vec::new(),
        };
        if command.mode() != Mode::Persistent {
            topics.extend(self.non_persistent(&namespace));
        }
        topics.retain(|topic| !topic_list::is_system(topic));
        let pattern = command.topics_pattern.as_deref().and_then(topic_list::compile);
        if let Some(pattern) = &pattern {
            topics.retain(|topic| topic_list::matches(pattern, topic));
        }
        let hash = topic_list::hash(&topics);
        let changed = command.topics_hash.as_deref() != Some(hash.as_str());
        Ok(api::CommandGetTopicsOfNamespaceResponse {
            request_id: command.request_id,
            topics: if changed { topics.iter().map(ToString::to_string).collect() } else { Vec::new() },
            filtered: Some(pattern.is_some()),
            topics_hash: Some(hash),
            changed: Some(changed),
        })
    }
}

impl Context {
    /// The namespace's non-persistent topics that are in use: they are stored nowhere.
    fn non_persistent(&self, namespace: &NamespaceName) -> Vec<TopicName> {
        let handles = self.service.topics.loaded();
        let parsed = handles.iter().filter_map(|handle| handle.name().parse::<TopicName>().ok());
        parsed.filter(|t| t.domain() == Domain::NonPersistent && t.namespace() == namespace).collect()
    }
}

fn partitions_response(
    request_id: u64,
    outcome: Result<u32, Refusal>,
) -> api::CommandPartitionedTopicMetadataResponse {
    use api::command_partitioned_topic_metadata_response::LookupType;
    let mut response = api::CommandPartitionedTopicMetadataResponse { request_id, ..Default::default() };
    match outcome {
        Ok(partitions) => {
            response.partitions = Some(partitions);
            response.response = Some(LookupType::Success as i32);
        }
        Err(refusal) => {
            response.response = Some(LookupType::Failed as i32);
            response.error = Some(for_lookup(refusal.code) as i32);
            response.message = Some(refusal.message);
        }
    }
    response
}

/// 'Connect' to who serves the topic, 'redirect' to who knows more. TLS is not listened on yet.
fn lookup_response(
    request_id: u64,
    outcome: Result<Located, Refusal>,
    through_proxy: bool,
) -> api::CommandLookupTopicResponse {
    use api::command_lookup_topic_response::LookupType;
    let mut response = api::CommandLookupTopicResponse { request_id, ..Default::default() };
    match outcome {
        Ok(Located::Ask { broker, authoritative }) => {
            response.broker_service_url = Some(broker.broker_url);
            response.response = Some(LookupType::Redirect as i32);
            response.authoritative = Some(authoritative);
        }
        Ok(Located::Serves(owner)) => {
            response.broker_service_url = Some(owner.broker_url);
            response.response = Some(LookupType::Connect as i32);
            response.authoritative = Some(true);
            response.proxy_through_service_url = Some(through_proxy);
        }
        Err(refusal) => {
            response.response = Some(LookupType::Failed as i32);
            response.error = Some(for_lookup(refusal.code) as i32);
            response.message = Some(refusal.message);
        }
    }
    response
}
