//! GET_SCHEMA and GET_OR_CREATE_SCHEMA.

use bytes::Bytes;
use magnetar_common::topic_name::TopicName;
use magnetar_proto::pulsar::api::{self, ServerError};

use super::context::{Context, Room};
use super::refusal::Refusal;
use crate::namespace::version_bytes;

impl Context {
    pub(super) fn on_get_schema(&self, room: Room, command: api::CommandGetSchema) {
        let context = self.clone();
        self.spawn(room, async move {
            let mut response = match context.schema(&command).await {
                Ok((version, schema)) => api::CommandGetSchemaResponse {
                    schema: Some(schema),
                    schema_version: Some(version_bytes(version)),
                    ..Default::default()
                },
                Err(refusal) => api::CommandGetSchemaResponse {
                    error_code: Some(refusal.code as i32),
                    error_message: Some(refusal.message),
                    ..Default::default()
                },
            };
            response.request_id = command.request_id;
            context.send(response);
        });
    }

    async fn schema(&self, command: &api::CommandGetSchema) -> Result<(u64, api::Schema), Refusal> {
        let topic: TopicName = command.topic.parse()?;
        let schemas = &self.service.schemas;
        let found = match &command.schema_version {
            None => schemas.latest(&topic).await?,
            Some(version) => {
                let version = parse_version(version)?;
                schemas.version(&topic, version).await?.map(|record| (version, record))
            }
        };
        let (version, record) = found.ok_or_else(|| {
            Refusal::new(ServerError::TopicNotFound, format!("topic {topic} has no such schema"))
        })?;
        Ok((version, record.schema))
    }

    pub(super) fn on_get_or_create_schema(&self, room: Room, command: api::CommandGetOrCreateSchema) {
        let context = self.clone();
        self.spawn(room, async move {
            let mut response = match context.get_or_create(&command).await {
                Ok(version) => api::CommandGetOrCreateSchemaResponse {
                    schema_version: Some(version),
                    ..Default::default()
                },
                Err(refusal) => api::CommandGetOrCreateSchemaResponse {
                    error_code: Some(refusal.code as i32),
                    error_message: Some(refusal.message),
                    ..Default::default()
                },
            };
            response.request_id = command.request_id;
            context.send(response);
        });
    }

    async fn get_or_create(&self, command: &api::CommandGetOrCreateSchema) -> Result<Bytes, Refusal> {
        let topic: TopicName = command.topic.parse()?;
        self.service.topics.get_or_load(&topic, false).await?;
        if command.schema.r#type() == api::schema::Type::None {
            return Ok(Bytes::new());
        }
        Ok(version_bytes(self.add_schema(&topic, &command.schema).await?))
    }
}

fn parse_version(bytes: &Bytes) -> Result<u64, Refusal> {
    let version = <[u8; 8]>::try_from(bytes.as_ref()).map_err(|_| {
        Refusal::new(
            ServerError::IncompatibleSchema,
            "a schema version has 8 bytes; ask for the latest without one",
        )
    })?;
    Ok(u64::from_be_bytes(version))
}
