//! What the policies of namespaces and of topics have in common: a table of properties, checked before they are stored.

use axum::Json;
use axum::response::{IntoResponse, NoContent, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::{AdminError, AdminResult};
use super::extract::Params;
use crate::policies::{DeadLetterPolicy, are_entry_filters};

/// Property of the record.
pub(super) const BACKLOG_QUOTAS: &str = "backlog_quota_map";

/// Last part of the path, property of the record, and what may be in it: Pulsar's tools read the record back into typed
/// classes.
pub(super) type Policy = (&'static str, &'static str, Kind);

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A whole number that is not negative.
    Count,
    Flag,
    Text,
    List,
    Object,
    /// A [`DeadLetterPolicy`].
    DeadLetters,
    /// Names of the filters that a broker has.
    EntryFilters,
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Kind::Count => value.is_u64(),
            Kind::Flag => value.is_boolean(),
            Kind::Text => value.is_string(),
            Kind::List => value.is_array(),
            Kind::Object => value.is_object(),
            Kind::DeadLetters => DeadLetterPolicy::deserialize(value).is_ok(),
            Kind::EntryFilters => are_entry_filters(value),
        }
    }

    fn called(self) -> &'static str {
        match self {
            Kind::Count => "a whole number from 0",
            Kind::Flag => "true or false",
            Kind::Text => "a JSON string",
            Kind::List => "a JSON array",
            Kind::Object => "a JSON object",
            Kind::EntryFilters => r#"{"entryFilterNames": "properties"}: the only filter there is"#,
            Kind::DeadLetters => {
                r#"{"maxRedeliverCount": 3}, with "deadLetterTopic" if it is not to be {topic}-{subscription}-DLQ"#
            }
        }
    }
}

/// The policy that a path ends with.
#[derive(Deserialize)]
pub(super) struct PolicyPath {
    pub(super) policy: String,
}

impl PolicyPath {
    /// Its property, or 404.
    pub(super) fn find(&self, table: &'static [Policy]) -> AdminResult<(&'static str, Kind)> {
        let found = table.iter().find(|(path, ..)| *path == self.policy);
        let (_, property, kind) =
            found.ok_or_else(|| AdminError::not_found(format!("a policy called {}", self.policy)))?;
        Ok((property, *kind))
    }

    /// Its property with the value it is to have; `null` unsets it. 412 for a value that it cannot have.
    pub(super) fn checked(
        &self,
        table: &'static [Policy],
        value: Value,
    ) -> AdminResult<(&'static str, Value)> {
        let (property, kind) = self.find(table)?;
        match value.is_null() || kind.fits(&value) {
            true => Ok((property, value)),
            false => Err(AdminError::precondition(format!("{} is set to {}", self.policy, kind.called()))),
        }
    }
}

/// 204 for what is not set.
pub(super) fn or_nothing(value: Option<Value>) -> Response {
    value.map_or_else(|| NoContent.into_response(), |value| Json(value).into_response())
}

fn quota_type(params: &Params) -> AdminResult<&str> {
    match params.get("backlogQuotaType") {
        None => Ok("destination_storage"),
        Some(kind @ ("destination_storage" | "message_age")) => Ok(kind),
        Some(other) => Err(AdminError::precondition(format!(
            "{other} is no backlog quota type; use destination_storage or message_age"
        ))),
    }
}

/// Sets the backlog quota of the kind that the query names.
pub(super) fn with_quota(
    params: &Params,
    quota: Map<String, Value>,
) -> AdminResult<impl Fn(&mut Map<String, Value>) + use<>> {
    let kind = quota_type(params)?.to_owned();
    Ok(move |record: &mut Map<String, Value>| {
        object_at(record, BACKLOG_QUOTAS).insert(kind.clone(), Value::Object(quota.clone()));
    })
}

/// Takes it away.
pub(super) fn without_quota(params: &Params) -> AdminResult<impl Fn(&mut Map<String, Value>) + use<>> {
    let kind = quota_type(params)?.to_owned();
    Ok(move |record: &mut Map<String, Value>| {
        if let Some(Value::Object(quotas)) = record.get_mut(BACKLOG_QUOTAS) {
            quotas.remove(&kind);
        }
    })
}

/// The object below a property; made anew if there is none.
pub(super) fn object_at<'a>(
    record: &'a mut Map<String, Value>,
    property: &str,
) -> &'a mut Map<String, Value> {
    let value = record.entry(property).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("made an object just above")
}
