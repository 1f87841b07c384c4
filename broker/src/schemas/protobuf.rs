//! Protobuf descriptors: field numbers must not change their meaning.

use std::collections::BTreeMap;

use magnetar_proto::pulsar::base64;
use prost::Message;
use serde_json::Value;

/// What is read of a `FileDescriptorSet`.
#[derive(Clone, PartialEq, Message)]
struct FileSet {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, optional, tag = "2")]
    package: Option<String>,
    #[prost(message, repeated, tag = "4")]
    messages: Vec<Descriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(message, repeated, tag = "2")]
    fields: Vec<Field>,
    #[prost(message, repeated, tag = "3")]
    nested: Vec<Descriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct Field {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(int32, optional, tag = "3")]
    number: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    label: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    kind: Option<i32>,
    #[prost(string, optional, tag = "6")]
    type_name: Option<String>,
}

const REQUIRED: i32 = 2;
const REPEATED: i32 = 3;

/// A PROTOBUF_NATIVE schema: the root message's name, and all messages by full name.
pub(super) struct Schema {
    root: String,
    messages: BTreeMap<String, Descriptor>,
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
        let set = FileSet::decode(set).map_err(|error| format!("the descriptors: {error}"))?;
        let mut messages = BTreeMap::new();
        for file in set.files {
            collect(file.package.as_deref().unwrap_or(""), file.messages, &mut messages);
        }
        match messages.contains_key(&root) {
            true => Ok(Schema { root, messages }),
            false => Err(format!("message {root} is not among the descriptors")),
        }
    }
}

fn collect(scope: &str, messages: Vec<Descriptor>, into: &mut BTreeMap<String, Descriptor>) {
    for mut message in messages {
        let name = message.name.clone().unwrap_or_default();
        let full = if scope.is_empty() { name } else { format!("{scope}.{name}") };
        collect(&full, std::mem::take(&mut message.nested), into);
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
        for field in &read.fields {
            let other = written.fields.iter().find(|other| other.number == field.number);
            check_field(field, other).map_err(|reason| format!("{name}.{}: {reason}", field.name()))?;
        }
    }
    Ok(())
}

fn check_field(read: &Field, written: Option<&Field>) -> Result<(), String> {
    let Some(written) = written else {
        return match read.label() == REQUIRED {
            true => Err("it is required and was not written".into()),
            false => Ok(()),
        };
    };
    if encoding(read) != encoding(written) {
        return Err(format!("number {} had another type", read.number()));
    }
    if read.label() == REQUIRED && written.label() != REQUIRED {
        return Err("it is required and could be left out before".into());
    }
    if (read.label() == REPEATED) != (written.label() == REPEATED) {
        return Err("a list is no single value".into());
    }
    Ok(())
}

/// Types of the same number are read from each other's bytes without changing what they mean.
fn encoding(field: &Field) -> (i32, Option<&str>) {
    const DOUBLE: i32 = 1;
    const FLOAT: i32 = 2;
    let class = match field.kind() {
        // int64, uint64, int32, bool, uint32, enum
        3 | 4 | 5 | 8 | 13 | 14 => 3,
        // fixed64, sfixed64
        6 | 16 => 6,
        // fixed32, sfixed32
        7 | 15 => 7,
        // string, bytes
        9 | 12 => 9,
        // sint32, sint64
        17 | 18 => 17,
        DOUBLE => DOUBLE,
        FLOAT => FLOAT,
        // group, message
        other => return (other, field.type_name.as_deref()),
    };
    (class, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, number: i32, kind: i32, label: i32) -> Field {
        Field {
            name: Some(name.into()),
            number: Some(number),
            label: Some(label),
            kind: Some(kind),
            type_name: (kind == 11).then(|| ".p.Other".into()),
        }
    }

    fn schema(root: &str, fields: Vec<Field>) -> Schema {
        let message = Descriptor { name: Some("M".into()), fields, nested: Vec::new() };
        Schema { root: root.into(), messages: BTreeMap::from([("p.M".to_owned(), message)]) }
    }

    #[test]
    fn a_field_number_keeps_its_encoding() {
        let base = || schema("p.M", vec![field("a", 1, 5, 1), field("b", 2, 9, 1)]);
        let reads = |fields| can_read(&schema("p.M", fields), &base());
        assert_eq!(
            reads(vec![field("a", 1, 3, 1), field("renamed", 2, 12, 1), field("c", 3, 11, 3)]),
            Ok(())
        );
        assert_eq!(reads(vec![]), Ok(()));
        assert_eq!(reads(vec![field("a", 1, 17, 1)]).unwrap_err(), "p.M.a: number 1 had another type");
        assert!(reads(vec![field("a", 1, 5, 3)]).unwrap_err().contains("a list"));
        assert!(reads(vec![field("c", 3, 5, 2)]).unwrap_err().contains("required"));
        assert!(can_read(&schema("p.N", vec![]), &base()).unwrap_err().contains("root"));
    }
}
