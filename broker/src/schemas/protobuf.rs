//! Protobuf descriptors: field numbers must not change their meaning.

use std::collections::BTreeMap;

use magnetar_proto::pulsar::base64;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use serde_json::Value;

/// A PROTOBUF_NATIVE schema: the root message's name, and all messages by full name.
pub(super) struct Schema {
    root: String,
    messages: BTreeMap<String, DescriptorProto>,
}

impl Schema {
    /// Reads Pulsar's JSON around a base64 `FileDescriptorSet`.
    pub(super) fn parse(data: &[u8]) -> Result<Schema, String> {
        let json: Value = serde_json::from_slice(data).map_err(|error| format!("not JSON: {error}"))?;
        let text = |name: &str| {
            json.get(name).and_then(Value::as_str).ok_or_else(|| format!("\"{name}\" is missing"))
        };
        let root = text("rootMessageTypeName")?.to_owned();
        let set =
            base64::decode(text("fileDescriptorSet")?.as_bytes()).ok_or("the descriptors are no base64")?;
        let set = FileDescriptorSet::decode(set).map_err(|error| format!("the descriptors: {error}"))?;
        let mut messages = BTreeMap::new();
        for file in set.file {
            collect(file.package.as_deref().unwrap_or_default(), file.message_type, &mut messages);
        }
        match messages.contains_key(&root) {
            true => Ok(Schema { root, messages }),
            false => Err(format!("message {root} is not among the descriptors")),
        }
    }
}

fn collect(scope: &str, messages: Vec<DescriptorProto>, into: &mut BTreeMap<String, DescriptorProto>) {
    for mut message in messages {
        let name = message.name.clone().unwrap_or_default();
        let full = if scope.is_empty() { name } else { format!("{scope}.{name}") };
        collect(&full, std::mem::take(&mut message.nested_type), into);
        into.insert(full, message);
    }
}

/// Whether messages written with `writer` can be read with `reader`.
pub(super) fn can_read(reader: &Schema, writer: &Schema) -> Result<(), String> {
    if reader.root != writer.root {
        return Err(format!("the root message is {} instead of {}", reader.root, writer.root));
    }
    for (name, read) in &reader.messages {
        let Some(written) = writer.messages.get(name) else { continue };
        for field in &read.field {
            let other = written.field.iter().find(|other| other.number == field.number);
            check_field(field, other).map_err(|reason| format!("{name}.{}: {reason}", field.name()))?;
        }
    }
    Ok(())
}

fn check_field(read: &FieldDescriptorProto, written: Option<&FieldDescriptorProto>) -> Result<(), String> {
    let Some(written) = written else {
        return match read.label() == Label::Required {
            true => Err("it is required and was not written".into()),
            false => Ok(()),
        };
    };
    if encoding(read) != encoding(written) {
        return Err(format!("number {} had another type", read.number()));
    }
    if read.label() == Label::Required && written.label() != Label::Required {
        return Err("it is required and could be left out before".into());
    }
    if (read.label() == Label::Repeated) != (written.label() == Label::Repeated) {
        return Err("a list is no single value".into());
    }
    Ok(())
}

/// Types of one class are read from each other's bytes without changing what they mean.
fn encoding(field: &FieldDescriptorProto) -> (Type, Option<&str>) {
    let class = match field.r#type() {
        Type::Int64 | Type::Uint64 | Type::Int32 | Type::Bool | Type::Uint32 | Type::Enum => Type::Int64,
        Type::Fixed64 | Type::Sfixed64 => Type::Fixed64,
        Type::Fixed32 | Type::Sfixed32 => Type::Fixed32,
        Type::String | Type::Bytes => Type::Bytes,
        Type::Sint32 | Type::Sint64 => Type::Sint64,
        kind @ (Type::Double | Type::Float) => kind,
        kind @ (Type::Group | Type::Message) => return (kind, field.type_name.as_deref()),
    };
    (class, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, number: i32, kind: Type, label: Label) -> FieldDescriptorProto {
        FieldDescriptorProto {
            name: Some(name.into()),
            number: Some(number),
            label: Some(label as i32),
            r#type: Some(kind as i32),
            type_name: (kind == Type::Message).then(|| ".p.Other".into()),
            ..Default::default()
        }
    }

    fn schema(root: &str, field: Vec<FieldDescriptorProto>) -> Schema {
        let message = DescriptorProto { name: Some("M".into()), field, ..Default::default() };
        Schema { root: root.into(), messages: BTreeMap::from([("p.M".to_owned(), message)]) }
    }

    #[test]
    fn a_field_number_keeps_its_encoding() {
        use Label::{Optional, Repeated, Required};
        use Type::{Bytes, Int32, Int64, Message, Sint32, String};
        let base = || schema("p.M", vec![field("a", 1, Int32, Optional), field("b", 2, String, Optional)]);
        let reads = |fields| can_read(&schema("p.M", fields), &base());
        let renamed = field("renamed", 2, Bytes, Optional);
        assert_eq!(
            reads(vec![field("a", 1, Int64, Optional), renamed, field("c", 3, Message, Repeated)]),
            Ok(())
        );
        assert_eq!(reads(vec![]), Ok(()));
        let other = reads(vec![field("a", 1, Sint32, Optional)]);
        assert_eq!(other.unwrap_err(), "p.M.a: number 1 had another type");
        assert!(reads(vec![field("a", 1, Int32, Repeated)]).unwrap_err().contains("a list"));
        assert!(reads(vec![field("c", 3, Int32, Required)]).unwrap_err().contains("required"));
        assert!(can_read(&schema("p.N", vec![]), &base()).unwrap_err().contains("root"));
    }

    /// As clients describe a message: Pulsar's JSON around the descriptors of its file and those that it imports. Here message
    /// `p.Out` with a field and message `In` nested in it.
    #[test]
    fn pulsars_json_is_read_with_messages_nested_in_others() {
        const DESCRIPTORS: &str = "ChsSAXAiFgoDT3V0EgkKAWEYASABKAUaBAoCSW4=";
        let parse = |root: &str| {
            let json = serde_json::json!({ "fileDescriptorSet": DESCRIPTORS, "rootMessageTypeName": root });
            Schema::parse(json.to_string().as_bytes())
        };
        let schema = parse("p.Out").expect("a schema");
        assert_eq!(schema.messages.keys().collect::<Vec<_>>(), ["p.Out", "p.Out.In"]);
        assert_eq!(schema.messages["p.Out"].field, [field("a", 1, Type::Int32, Label::Optional)]);
        assert_eq!(can_read(&schema, &schema), Ok(()));
        assert!(parse("p.Other").is_err());
    }
}
