//! A schema's JSON as a graph of types: a reference by name is the type that it names.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// A type of a schema.
pub(super) type Id = usize;

/// Types in one schema: it comes from a client.
const TYPES_MAX: usize = 20_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Primitive {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
}

impl Primitive {
    fn parse(name: &str) -> Option<Primitive> {
        Some(match name {
            "null" => Primitive::Null,
            "boolean" => Primitive::Boolean,
            "int" => Primitive::Int,
            "long" => Primitive::Long,
            "float" => Primitive::Float,
            "double" => Primitive::Double,
            "bytes" => Primitive::Bytes,
            "string" => Primitive::String,
            _ => return None,
        })
    }
}

/// Names of a record, enum or fixed.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Names {
    /// Without its namespace.
    pub(super) simple: String,
    pub(super) full: String,
    /// Full names.
    pub(super) aliases: Vec<String>,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) of: Id,
    pub(super) has_default: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Type {
    Primitive(Primitive),
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
    Enum { names: Names, symbols: Vec<String>, has_default: bool },
    Fixed { names: Names, size: u64 },
    Record { names: Names, fields: Vec<Field> },
}

/// A parsed schema.
#[derive(Debug)]
pub(in crate::schemas) struct Schema {
    types: Vec<Type>,
    pub(super) root: Id,
}

impl Schema {
    /// Reads the JSON of a schema; the error says what is wrong with it.
    pub(in crate::schemas) fn parse(text: &[u8]) -> Result<Schema, String> {
        let json: Value = serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"))?;
        let mut parser = Parser::default();
        let root = parser.parse(&json, "")?;
        Ok(Schema { types: parser.types, root })
    }

    pub(super) fn get(&self, id: Id) -> &Type {
        &self.types[id]
    }
}

#[derive(Default)]
struct Parser {
    types: Vec<Type>,
    /// By full name.
    named: HashMap<String, Id>,
}

impl Parser {
    fn push(&mut self, of: Type) -> Result<Id, String> {
        if self.types.len() >= TYPES_MAX {
            return Err(format!("more than {TYPES_MAX} types"));
        }
        self.types.push(of);
        Ok(self.types.len() - 1)
    }

    fn parse(&mut self, json: &Value, namespace: &str) -> Result<Id, String> {
        match json {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.parse(branch, namespace));
                let branches = branches.collect::<Result<Vec<Id>, _>>()?;
                self.push(Type::Union(branches))
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(kind)) => self.complex(kind, object, namespace),
                // A type in braces, as some tools write it.
                Some(nested) => self.parse(nested, namespace),
                None => Err("a type without \"type\"".into()),
            },
            other => Err(format!("{other} is no type")),
        }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<Id, String> {
        if let Some(primitive) = Primitive::parse(name) {
            return self.push(Type::Primitive(primitive));
        }
        let known = self.named.get(&full_name(name, namespace)).or_else(|| self.named.get(name));
        known.copied().ok_or_else(|| format!("type {name} is used before it is defined"))
    }

    fn complex(&mut self, kind: &str, object: &Map<String, Value>, namespace: &str) -> Result<Id, String> {
        match kind {
            "array" => {
                let items = self.parse(member(object, "items")?, namespace)?;
                self.push(Type::Array(items))
            }
            "map" => {
                let values = self.parse(member(object, "values")?, namespace)?;
                self.push(Type::Map(values))
            }
            "enum" => {
                let names = names(object, namespace)?;
                let symbols = strings(member(object, "symbols")?);
                self.define(Type::Enum { names, symbols, has_default: object.contains_key("default") })
            }
            "fixed" => {
                let names = names(object, namespace)?;
                let size = member(object, "size")?.as_u64().ok_or("the size of a fixed is no number")?;
                self.define(Type::Fixed { names, size })
            }
            "record" | "error" => self.record(object, namespace),
            // A logical type is what it is stored as.
            name => self.named(name, namespace),
        }
    }

    fn define(&mut self, of: Type) -> Result<Id, String> {
        let (Type::Enum { names, .. } | Type::Fixed { names, .. } | Type::Record { names, .. }) = &of else {
            return self.push(of);
        };
        let full = names.full.clone();
        let id = self.push(of)?;
        match self.named.insert(full.clone(), id) {
            None => Ok(id),
            Some(_) => Err(format!("type {full} is defined twice")),
        }
    }

    /// The record is known by its name before its fields are, which may be of its own type.
    fn record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Id, String> {
        let names = names(object, namespace)?;
        let inner = names.full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let id = self.define(Type::Record { names: names.clone(), fields: Vec::new() })?;
        let declared = member(object, "fields")?.as_array().ok_or("the fields of a record are no list")?;
        let mut fields = Vec::with_capacity(declared.len());
        for field in declared {
            let field = field.as_object().ok_or("a field is no object")?;
            fields.push(Field {
                name: text(field, "name")?.to_owned(),
                aliases: field.get("aliases").map(strings).unwrap_or_default(),
                of: self.parse(member(field, "type")?, &inner)?,
                has_default: field.contains_key("default"),
            });
        }
        self.types[id] = Type::Record { names, fields };
        Ok(id)
    }
}

fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a Value, String> {
    object.get(name).ok_or_else(|| format!("\"{name}\" is missing"))
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    member(object, name)?.as_str().ok_or_else(|| format!("\"{name}\" is no text"))
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn full_name(name: &str, namespace: &str) -> String {
    match name.contains('.') || namespace.is_empty() {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

fn names(object: &Map<String, Value>, namespace: &str) -> Result<Names, String> {
    let name = text(object, "name")?;
    let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
    let full = full_name(name, namespace);
    let simple = full.rsplit('.').next().unwrap_or(name).to_owned();
    let aliases = object.get("aliases").map(strings).unwrap_or_default();
    let aliases = aliases.iter().map(|alias| full_name(alias, namespace)).collect();
    Ok(Names { simple, full, aliases })
}
