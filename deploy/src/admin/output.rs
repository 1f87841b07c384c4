//! Answers for eyes or for programs.

use serde_json::{Map, Value};

/// How an answer is printed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Output {
    /// Lists a line each, objects as columns or as "name: value"
    Table,
    /// JSON as the broker gave it, indented
    Json,
}

impl Output {
    /// The text to print; empty for an answer without one. What is no JSON stays as it is.
    pub(super) fn text(self, answer: &str) -> String {
        let Ok(value) = serde_json::from_str::<Value>(answer) else { return answer.trim_end().to_owned() };
        match self {
            Output::Json => serde_json::to_string_pretty(&value).unwrap_or_else(|_| answer.to_owned()),
            Output::Table => table(&value),
        }
    }
}

fn table(value: &Value) -> String {
    match value {
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => columns(items),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) => {
            let mut lines = Vec::new();
            flatten("", fields, &mut lines);
            let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
            let line =
                |(name, value): &(String, String)| format!("{name:<width$}  {value}").trim_end().to_owned();
            lines.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        _ => plain(value),
    }
}

/// Objects within objects become "outer.inner".
fn flatten(prefix: &str, fields: &Map<String, Value>, lines: &mut Vec<(String, String)>) {
    for (name, value) in fields {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Object(fields) if !fields.is_empty() => flatten(&name, fields, lines),
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (at, item) in items.iter().enumerate() {
                    match item {
                        Value::Object(fields) => flatten(&format!("{name}[{at}]"), fields, lines),
                        _ => lines.push((format!("{name}[{at}]"), plain(item))),
                    }
                }
            }
            _ => lines.push((name, plain(value))),
        }
    }
}

fn columns(rows: &[Value]) -> String {
    let mut head: Vec<&str> = Vec::new();
    for name in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !head.contains(&name.as_str()) {
            head.push(name);
        }
    }
    let cells = |row: &Value| {
        head.iter().map(|name| row.get(name).map_or_else(String::new, plain)).collect::<Vec<_>>()
    };
    let mut lines = vec![head.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(cells));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_lines_columns_or_names_with_values() {
        for (answer, expected) in [
            ("", ""),
            ("ok", "ok"),
            (r#"["a","b"]"#, "a\nb"),
            (r#"{"a":1,"bb":{"c":[1,2],"d":[{"e":null}]}}"#, "a          1\nbb.c       1,2\nbb.d[0].e  -"),
            (r#"[{"a":"x"},{"a":"yy","b":2}]"#, "A   B\nx\nyy  2"),
        ] {
            assert_eq!(Output::Table.text(answer), expected, "{answer}");
        }
        assert_eq!(Output::Json.text(r#"{"a":1}"#), "{\n  \"a\": 1\n}");
    }
}
