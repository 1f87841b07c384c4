//! The strategies, over all kinds of schemas.

use magnetar_proto::pulsar::api;
use magnetar_proto::pulsar::api::schema::Type;

use super::strategy::Strategy;
use super::{avro, key_value, protobuf};

/// Why a schema may not follow another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schema does not follow version {version} ({strategy}): {reason}")]
pub struct Incompatible {
    /// The earlier version that stands against it.
    pub version: u64,
    /// Pulsar's name of the strategy.
    pub strategy: &'static str,
    /// Which part of it, and why.
    pub reason: String,
}

/// Whether `new` may follow the versions that are there, oldest first.
pub fn check(
    strategy: Strategy,
    versions: &[(u64, &api::Schema)],
    new: &api::Schema,
) -> Result<(), Incompatible> {
    let Some(latest) = versions.last() else { return Ok(()) };
    let against = if strategy.is_transitive() { versions } else { std::slice::from_ref(latest) };
    for (version, old) in against.iter().rev() {
        let verdict = match strategy {
            Strategy::AlwaysCompatible => Ok(()),
            Strategy::AlwaysIncompatible => Err("nothing may follow the first schema".to_owned()),
            _ => pairwise(strategy, old, new),
        };
        let incompatible = |reason| Incompatible { version: *version, strategy: strategy.name(), reason };
        verdict.map_err(incompatible)?;
    }
    Ok(())
}

/// Whether a consumer with the schema `reader` can read what is in the topic.
pub fn check_consumer(
    strategy: Strategy,
    versions: &[(u64, &api::Schema)],
    reader: &api::Schema,
) -> Result<(), Incompatible> {
    let strategy = match strategy {
        Strategy::Backward | Strategy::Forward | Strategy::ForwardTransitive | Strategy::Full => {
            Strategy::Backward
        }
        Strategy::FullTransitive => Strategy::BackwardTransitive,
        other => other,
    };
    check(strategy, versions, reader)
}

fn pairwise(strategy: Strategy, old: &api::Schema, new: &api::Schema) -> Result<(), String> {
    if strategy.reads_backward() {
        can_read(new, old)?;
    }
    if strategy.reads_forward() {
        can_read(old, new)
            .map_err(|reason| format!("the earlier schema cannot read the new one: {reason}"))?;
    }
    Ok(())
}

/// Whether what is written with `writer` can be read with `reader`.
fn can_read(reader: &api::Schema, writer: &api::Schema) -> Result<(), String> {
    if reader.r#type != writer.r#type {
        return Err(format!("type {:?} is not {:?}", reader.r#type(), writer.r#type()));
    }
    match reader.r#type() {
        Type::Json => json(reader, writer),
        Type::Avro | Type::Protobuf => avro::can_read(&parse(reader)?, &parse(writer)?),
        Type::ProtobufNative => protobuf::can_read(&native(reader)?, &native(writer)?),
        Type::KeyValue => {
            let (reader, writer) = (pair(reader)?, pair(writer)?);
            for (part, (reader, writer)) in ["key", "value"].iter().zip(reader.iter().zip(&writer)) {
                can_read(reader, writer).map_err(|reason| format!("{part}: {reason}"))?;
            }
            Ok(())
        }
        // Primitive types, and what is kept elsewhere, have nothing to compare.
        _ => Ok(()),
    }
}

fn parse(schema: &api::Schema) -> Result<avro::Schema, String> {
    avro::Schema::parse(&schema.schema_data)
        .map_err(|reason| format!("a schema cannot be understood: {reason}"))
}

fn native(schema: &api::Schema) -> Result<protobuf::Schema, String> {
    protobuf::Schema::parse(&schema.schema_data)
        .map_err(|reason| format!("a schema cannot be understood: {reason}"))
}

fn pair(schema: &api::Schema) -> Result<[api::Schema; 2], String> {
    key_value::halves(schema).ok_or_else(|| "a schema is no pair of key and value".to_owned())
}

/// Clients describe JSON in Avro's form; very old ones by a JSON schema, which says too little to compare two.
fn json(reader: &api::Schema, writer: &api::Schema) -> Result<(), String> {
    let is_json =
        |schema: &api::Schema| serde_json::from_slice::<serde_json::Value>(&schema.schema_data).is_ok();
    match (avro::Schema::parse(&reader.schema_data), avro::Schema::parse(&writer.schema_data)) {
        (Ok(reader), Ok(writer)) => avro::can_read(&reader, &writer),
        (Err(_), Err(_)) if is_json(reader) && is_json(writer) => Ok(()),
        // From the old form to the new one, or back: a client was updated.
        (Ok(_), Err(_)) if is_json(writer) => Ok(()),
        (Err(_), Ok(_)) if is_json(reader) => Ok(()),
        (Err(reason), _) | (_, Err(reason)) => Err(format!("a schema cannot be understood: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(of: Type, data: impl Into<Vec<u8>>) -> api::Schema {
        api::Schema {
            name: "t".into(),
            schema_data: data.into().into(),
            r#type: of.into(),
            properties: vec![],
        }
    }

    fn record(fields: &[(&str, bool)]) -> String {
        let field = |(name, default): &(&str, bool)| {
            let default = if *default { r#","default":0"# } else { "" };
            format!(r#"{{"name":"{name}","type":"int"{default}}}"#)
        };
        let fields: Vec<String> = fields.iter().map(field).collect();
        format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, fields.join(","))
    }

    fn verdict(strategy: Strategy, versions: &[String], new: &str, of: Type) -> Result<(), u64> {
        let versions: Vec<api::Schema> = versions.iter().map(|text| schema(of, text.as_str())).collect();
        let numbered: Vec<(u64, &api::Schema)> = (0..).zip(&versions).collect();
        check(strategy, &numbered, &schema(of, new)).map_err(|incompatible| incompatible.version)
    }

    #[test]
    fn each_strategy_asks_its_own_question() {
        use Strategy::*;
        let one = [record(&[("a", false)])];
        let added = record(&[("a", false), ("b", false)]);
        let optional = record(&[("a", false), ("b", true)]);
        let removed = record(&[]);
        let cases = [
            (AlwaysCompatible, &added, true),
            (AlwaysIncompatible, &one[0], false),
            (Backward, &added, false),
            (Backward, &optional, true),
            (Backward, &removed, true),
            (Forward, &added, true),
            (Forward, &removed, false),
            (Full, &added, false),
            (Full, &optional, true),
            (Full, &removed, false),
        ];
        for of in [Type::Avro, Type::Json, Type::Protobuf] {
            for (strategy, new, expected) in &cases {
                assert_eq!(verdict(*strategy, &one, new, of).is_ok(), *expected, "{strategy:?} {new}");
            }
        }
        assert_eq!(verdict(Full, &[], &added, Type::Avro), Ok(()));
    }

    #[test]
    fn transitive_strategies_look_at_every_version() {
        let versions = [record(&[]), record(&[("a", true)])];
        let new = record(&[("a", false)]);
        assert_eq!(verdict(Strategy::Backward, &versions, &new, Type::Avro), Ok(()));
        assert_eq!(verdict(Strategy::BackwardTransitive, &versions, &new, Type::Avro), Err(0));
    }

    #[test]
    fn types_do_not_change_and_primitives_need_no_more() {
        let text = schema(Type::String, "");
        assert_eq!(check(Strategy::Full, &[(3, &text)], &text), Ok(()));
        let other = check(Strategy::Full, &[(3, &text)], &schema(Type::Int32, ""));
        assert_eq!(
            other.unwrap_err().to_string(),
            "the schema does not follow version 3 (FULL): type Int32 is not String"
        );
    }

    #[test]
    fn old_json_schemas_are_taken_and_garbage_is_not() {
        let (old, new) = (r#"{"type":"object","properties":{}}"#.to_owned(), record(&[("a", false)]));
        assert_eq!(verdict(Strategy::Full, std::slice::from_ref(&old), &new, Type::Json), Ok(()));
        assert_eq!(verdict(Strategy::Full, std::slice::from_ref(&old), &old, Type::Json), Ok(()));
        assert_eq!(verdict(Strategy::Full, &[old], "{", Type::Json), Err(0));
    }

    #[test]
    fn both_halves_of_a_pair_count() {
        let pair = |key: &str, value: &str| {
            let mut data = Vec::new();
            for part in [key, value] {
                data.extend_from_slice(&(part.len() as u32).to_be_bytes());
                data.extend_from_slice(part.as_bytes());
            }
            let property = |key: &str| api::KeyValue { key: key.into(), value: "AVRO".into() };
            let properties = vec![property("key.schema.type"), property("value.schema.type")];
            api::Schema { properties, ..schema(Type::KeyValue, data) }
        };
        let (plain, added) = (record(&[("a", false)]), record(&[("a", false), ("b", false)]));
        let before = pair(&plain, &plain);
        assert_eq!(check(Strategy::Full, &[(0, &before)], &before), Ok(()));
        for (new, part) in [(pair(&added, &plain), "key"), (pair(&plain, &added), "value")] {
            let refused = check(Strategy::Backward, &[(0, &before)], &new).unwrap_err();
            assert!(refused.reason.starts_with(part), "{refused}");
        }
    }

    #[test]
    fn a_consumer_must_read_what_is_there_and_need_not_be_read() {
        let written = schema(Type::Avro, record(&[("a", false)]));
        let fewer = schema(Type::Avro, record(&[]));
        let more = schema(Type::Avro, record(&[("a", false), ("b", false)]));
        for strategy in [Strategy::Full, Strategy::Forward, Strategy::FullTransitive] {
            assert_eq!(check_consumer(strategy, &[(0, &written)], &fewer), Ok(()));
            assert!(check_consumer(strategy, &[(0, &written)], &more).is_err());
        }
        assert_eq!(check_consumer(Strategy::AlwaysCompatible, &[(0, &written)], &more), Ok(()));
    }
}
