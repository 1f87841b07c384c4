//! Avro's schema resolution: can every value written with one schema be read with another?

use std::collections::HashSet;

use super::parse::{Field, Id, Names, Primitive, Schema, Type};

/// Whether values written with `writer` can be read with `reader`. The error names the place and the reason.
pub(in crate::schemas) fn can_read(reader: &Schema, writer: &Schema) -> Result<(), String> {
    Resolution { reader, writer, seen: HashSet::new() }.check(reader.root, writer.root)
}

struct Resolution<'a> {
    reader: &'a Schema,
    writer: &'a Schema,
    /// Pairs that are compatible if the rest is: types may refer to themselves.
    seen: HashSet<(Id, Id)>,
}

impl Resolution<'_> {
    fn check(&mut self, reader: Id, writer: Id) -> Result<(), String> {
        if !self.seen.insert((reader, writer)) {
            return Ok(());
        }
        let checked = self.check_types(reader, writer);
        if checked.is_err() {
            // Another branch of a union must not find it here as good.
            self.seen.remove(&(reader, writer));
        }
        checked
    }

    fn check_types(&mut self, reader: Id, writer: Id) -> Result<(), String> {
        let (readers, writers) = (self.reader, self.writer);
        match (readers.get(reader), writers.get(writer)) {
            (_, Type::Union(branches)) => branches.iter().try_for_each(|branch| self.check(reader, *branch)),
            (Type::Union(branches), written) => {
                let found = branches.iter().any(|branch| self.check(*branch, writer).is_ok());
                found.then_some(()).ok_or_else(|| format!("no branch of the union reads {}", name(written)))
            }
            (Type::Primitive(read), Type::Primitive(written)) if promotes(*written, *read) => Ok(()),
            (Type::Array(read), Type::Array(written)) => {
                self.check(*read, *written).map_err(|reason| format!("items: {reason}"))
            }
            (Type::Map(read), Type::Map(written)) => {
                self.check(*read, *written).map_err(|reason| format!("values: {reason}"))
            }
            (
                Type::Enum { names: read, symbols, has_default },
                Type::Enum { names: written, symbols: needed, .. },
            ) => {
                same_name(read, written)?;
                match needed.iter().find(|symbol| !symbols.contains(symbol)) {
                    Some(missing) if !has_default => {
                        Err(format!("enum {} has no symbol {missing}, and no default", read.full))
                    }
                    _ => Ok(()),
                }
            }
            (Type::Fixed { names: read, size }, Type::Fixed { names: written, size: other }) => {
                same_name(read, written)?;
                match size == other {
                    true => Ok(()),
                    false => Err(format!("fixed {} has {size} bytes instead of {other}", read.full)),
                }
            }
            (Type::Record { names: read, fields }, Type::Record { names: written, fields: there }) => {
                same_name(read, written)?;
                fields.iter().try_for_each(|field| self.check_field(field, there))
            }
            (read, written) => Err(format!("{} cannot be read as {}", name(written), name(read))),
        }
    }

    fn check_field(&mut self, field: &Field, written: &[Field]) -> Result<(), String> {
        let called = |name: &String| written.iter().find(|other| other.name == *name);
        match std::iter::once(&field.name).chain(&field.aliases).find_map(called) {
            Some(other) => {
                self.check(field.of, other.of).map_err(|reason| format!("{}: {reason}", field.name))
            }
            None if field.has_default => Ok(()),
            None => Err(format!("field {} is not written and has no default", field.name)),
        }
    }
}

/// Namespaces do not count, as in Avro's own check.
fn same_name(reader: &Names, writer: &Names) -> Result<(), String> {
    match reader.simple == writer.simple || reader.aliases.contains(&writer.full) {
        true => Ok(()),
        false => Err(format!("type {} was called {}, and has no such alias", reader.full, writer.full)),
    }
}

fn promotes(written: Primitive, read: Primitive) -> bool {
    use Primitive::*;
    written == read
        || matches!(
            (written, read),
            (Int, Long | Float | Double)
                | (Long, Float | Double)
                | (Float, Double)
                | (String, Bytes)
                | (Bytes, String)
        )
}

fn name(of: &Type) -> String {
    match of {
        Type::Primitive(primitive) => format!("{primitive:?}").to_lowercase(),
        Type::Array(_) => "an array".into(),
        Type::Map(_) => "a map".into(),
        Type::Union(_) => "a union".into(),
        Type::Enum { names, .. } => format!("enum {}", names.full),
        Type::Fixed { names, .. } => format!("fixed {}", names.full),
        Type::Record { names, .. } => format!("record {}", names.full),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(reader: &str, writer: &str) -> Result<(), String> {
        let parse =
            |text: &str| Schema::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        can_read(&parse(reader), &parse(writer))
    }

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"R","namespace":"n","fields":[{fields}]}}"#)
    }

    const A: &str = r#"{"name":"a","type":"int"}"#;

    #[test]
    fn numbers_widen_and_text_and_bytes_are_each_other() {
        let names = ["int", "long", "float", "double", "string", "bytes", "boolean", "null"];
        let yes = [
            ("long", "int"),
            ("float", "int"),
            ("double", "int"),
            ("float", "long"),
            ("double", "long"),
            ("double", "float"),
            ("bytes", "string"),
            ("string", "bytes"),
        ];
        for reader in names {
            for writer in names {
                let expected = reader == writer || yes.contains(&(reader, writer));
                let verdict = reads(&format!("{reader:?}"), &format!("{writer:?}"));
                assert_eq!(verdict.is_ok(), expected, "{reader} reads {writer}: {verdict:?}");
            }
        }
    }

    #[test]
    fn a_field_may_come_with_a_default_and_go_at_any_time() {
        let with = |more: &str| record(&format!("{A},{more}"));
        let plain = with(r#"{"name":"b","type":"string"}"#);
        let defaulted = with(r#"{"name":"b","type":"string","default":""}"#);
        assert_eq!(reads(&plain, &record(A)).unwrap_err(), "field b is not written and has no default");
        assert_eq!(reads(&defaulted, &record(A)), Ok(()));
        assert_eq!(reads(&record(A), &plain), Ok(()));
        let renamed = with(r#"{"name":"c","aliases":["b"],"type":"bytes"}"#);
        assert_eq!(reads(&renamed, &plain), Ok(()));
        let retyped = with(r#"{"name":"b","type":"int"}"#);
        assert_eq!(reads(&retyped, &plain).unwrap_err(), "b: string cannot be read as int");
    }

    #[test]
    fn unions_are_read_branch_by_branch() {
        assert_eq!(reads(r#"["null","string"]"#, r#""string""#), Ok(()));
        assert_eq!(reads(r#"["null","long"]"#, r#"["int","null"]"#), Ok(()));
        assert!(reads(r#""string""#, r#"["null","string"]"#).is_err());
        assert_eq!(reads(r#""string""#, r#"["string"]"#), Ok(()));
        assert!(reads(r#"["null","int"]"#, r#"["null","int","string"]"#).is_err());
    }

    #[test]
    fn named_types_keep_their_names_symbols_and_sizes() {
        let symbols =
            |list: &str, more: &str| format!(r#"{{"type":"enum","name":"E","symbols":[{list}]{more}}}"#);
        let (two, three) = (symbols(r#""A","B""#, ""), symbols(r#""A","B","C""#, ""));
        assert_eq!(reads(&three, &two), Ok(()));
        assert!(reads(&two, &three).unwrap_err().contains("no symbol C"));
        assert_eq!(reads(&symbols(r#""A","B""#, r#","default":"A""#), &three), Ok(()));
        let fixed = |name: &str, size: u32| format!(r#"{{"type":"fixed","name":"{name}","size":{size}}}"#);
        assert!(
            reads(&fixed("F", 4), &fixed("F", 8)).is_err() && reads(&fixed("G", 4), &fixed("F", 4)).is_err()
        );
        let alias = r#"{"type":"fixed","name":"G","aliases":["F"],"size":4}"#;
        assert_eq!(reads(alias, &fixed("F", 4)), Ok(()));
        let moved = record(A).replace(r#""namespace":"n""#, r#""namespace":"m""#);
        assert_eq!(reads(&moved, &record(A)), Ok(()));
        assert!(reads(&record(A).replace(r#""R""#, r#""S""#), &record(A)).is_err());
    }

    #[test]
    fn a_type_that_refers_to_itself_ends() {
        let list = |of: &str| {
            record(&format!(r#"{{"name":"v","type":"{of}"}},{{"name":"next","type":["null","R"]}}"#))
        };
        assert_eq!(reads(&list("long"), &list("int")), Ok(()));
        assert!(reads(&list("int"), &list("long")).is_err());
    }

    #[test]
    fn a_type_defined_here_and_referred_to_there_is_the_same() {
        let x = r#"{"type":"record","name":"X","fields":[{"name":"i","type":"int"}]}"#;
        let before = record(&format!(r#"{{"name":"a","type":{x}}}"#));
        let after = record(&format!(
            r#"{{"name":"n","type":["null",{x}],"default":null}},{{"name":"a","type":"X"}}"#
        ));
        assert_eq!(reads(&after, &before), Ok(()));
        assert_eq!(reads(&before, &after), Ok(()));
        let other = after.replace(r#""type":"int""#, r#""type":"string""#);
        assert!(reads(&other, &before).is_err() && reads(&before, &other).is_err());
    }

    #[test]
    fn logical_types_are_what_they_are_stored_as() {
        let stamp = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
        assert_eq!(reads(stamp, r#""int""#), Ok(()));
        let array = |items: &str| format!(r#"{{"type":"array","items":{items}}}"#);
        assert_eq!(reads(&array(stamp), &array(r#""long""#)), Ok(()));
        assert!(reads(&array(r#""int""#), r#"{"type":"map","values":"int"}"#).is_err());
    }

    #[test]
    fn what_is_no_schema_is_refused_with_a_reason() {
        let bad =
            ["", "{", "5", r#""unknown""#, r#"{"type":"record","name":"R"}"#, r#"{"type":"array"}"#, "{}"];
        for text in bad {
            assert!(Schema::parse(text.as_bytes()).is_err(), "{text}");
        }
        let twice = format!(r#"[{},{}]"#, record(A), record(A));
        assert!(Schema::parse(twice.as_bytes()).unwrap_err().contains("twice"));
    }
}
