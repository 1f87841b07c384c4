//! `admin schemas …`

use anyhow::{Context, Result};
use serde_json::Value;

use super::TOPIC;
use crate::admin::call::Method::{Delete, Get, Post};
use crate::admin::verb::{Values, Verb, flag, option};

/// The file holds what the REST takes: `{"type": "AVRO", "schema": "…", "properties": {}}`.
fn file(values: &Values) -> Result<Option<Value>> {
    let name = values.get("filename")?;
    let text = std::fs::read_to_string(name).with_context(|| format!("{name} cannot be read"))?;
    Ok(Some(serde_json::from_str(&text).with_context(|| format!("{name} is no JSON"))?))
}

/// The path of the REST names a schema's topic without its domain.
pub(super) const VERBS: &[Verb] = &[
    Verb::new(
        "get",
        Get,
        "/admin/v2/schemas/{topic:name}/schema",
        &[TOPIC, option("version", None, "Which version; without it, the latest")],
        "A topic's schema",
    )
    .or("version", "/admin/v2/schemas/{topic:name}/schema/{version}"),
    Verb::new(
        "get-all",
        Get,
        "/admin/v2/schemas/{topic:name}/schemas",
        &[TOPIC],
        "Every version of a topic's schema",
    ),
    Verb::new(
        "upload",
        Post,
        "/admin/v2/schemas/{topic:name}/schema",
        &[TOPIC, option("filename", Some('f'), "A JSON file with type, schema and properties").required()],
        "Give a topic a new schema",
    )
    .body(file),
    Verb::new(
        "compatibility",
        Post,
        "/admin/v2/schemas/{topic:name}/compatibility",
        &[TOPIC, option("filename", Some('f'), "A JSON file with type, schema and properties").required()],
        "Whether a schema would be let in",
    )
    .body(file),
    Verb::new(
        "delete",
        Delete,
        "/admin/v2/schemas/{topic:name}/schema",
        &[TOPIC, flag("force", Some('f'), "Also what is stored of it")],
        "Delete a topic's schema",
    )
    .query(&[("force", "force")]),
];
