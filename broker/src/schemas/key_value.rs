//! Schemas that are a pair of schemas.

use magnetar_proto::pulsar::api;

/// The two halves of a KEY_VALUE schema; `None` for data that is no pair.
pub(super) fn halves(schema: &api::Schema) -> Option<[api::Schema; 2]> {
    let (key, rest) = take(&schema.schema_data)?;
    let (value, _) = take(rest)?;
    let half = |data: &[u8], property: &str| api::Schema {
        name: schema.name.clone(),
        schema_data: data.to_vec().into(),
        r#type: kind(schema, property).into(),
        properties: Vec::new(),
    };
    Some([half(key, "key.schema.type"), half(value, "value.schema.type")])
}

/// A length that is not positive stands for a half without schema.
fn take(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
    rest.split_at_checked(length)
}

fn kind(schema: &api::Schema, property: &str) -> api::schema::Type {
    use api::schema::Type;
    let named = schema.properties.iter().find(|pair| pair.key == property);
    match named.map(|pair| pair.value.as_str()) {
        Some("JSON") => Type::Json,
        Some("AVRO") => Type::Avro,
        Some("PROTOBUF") => Type::Protobuf,
        Some("PROTOBUF_NATIVE") => Type::ProtobufNative,
        Some("STRING") => Type::String,
        Some("BOOLEAN") => Type::Bool,
        Some("INT8") => Type::Int8,
        Some("INT16") => Type::Int16,
        Some("INT32") => Type::Int32,
        Some("INT64") => Type::Int64,
        Some("FLOAT") => Type::Float,
        Some("DOUBLE") => Type::Double,
        _ => Type::None,
    }
}
