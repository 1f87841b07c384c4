//! The stats of partitions as one topic's.
//!
//! Works on the JSON, so that a value added to a topic's stats is summed without a line here.

use serde_json::{Map, Number, Value, json};

/// Sums, except for points in time, ages and limits, of which the largest counts, or the earliest where its name says so.
pub(super) fn stats<'a>(partitions: impl Iterator<Item = &'a Value>) -> Map<String, Value> {
    let mut all = Map::new();
    for partition in partitions.filter_map(Value::as_object) {
        merge_object(&mut all, partition);
    }
    if let (Some(bytes), Some(messages)) = (number(&all, "bytesInCounter"), number(&all, "msgInCounter")) {
        let average = if messages > 0.0 { bytes / messages } else { 0.0 };
        all.insert("averageMsgSize".into(), json!(average));
    }
    all
}

fn number(of: &Map<String, Value>, name: &str) -> Option<f64> {
    of.get(name)?.as_f64()
}

fn merge_object(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (name, value) in from {
        match into.get_mut(name) {
            Some(present) => merge_value(name, present, value),
            None => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}

fn merge_value(name: &str, into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => merge_object(into, from),
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (Value::Bool(into), Value::Bool(from)) => *into |= from,
        (Value::Number(into), Value::Number(from)) => *into = merge_number(name, into, from),
        (Value::String(into), Value::String(from)) if into.is_empty() => into.clone_from(from),
        // A text that differs between partitions (a consumer's name) stays that of the first one.
        _ => {}
    }
}

fn merge_number(name: &str, a: &Number, b: &Number) -> Number {
    if name.starts_with("earliest")
        && let (Some(a), Some(b)) = (a.as_u64(), b.as_u64())
    {
        // 0 stands for none.
        return [a, b].into_iter().filter(|at| *at > 0).min().unwrap_or(0).into();
    }
    let of_the_largest = is_no_amount(name);
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) if of_the_largest => a.max(b).into(),
        (Some(a), Some(b)) => a.saturating_add(b).into(),
        _ => {
            let (x, y) = (a.as_f64().unwrap_or_default(), b.as_f64().unwrap_or_default());
            let merged = if of_the_largest { x.max(y) } else { x + y };
            Number::from_f64(merged).unwrap_or_else(|| a.clone())
        }
    }
}

fn is_no_amount(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with("timestamp")
        || name.starts_with("oldest")
        || name.contains("QuotaLimit")
        || matches!(name, "topicEpoch" | "lastOffloadLedgerId" | "avgMessagesPerEntry")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_summed_times_are_the_latest_and_lists_are_joined() {
        let partitions = [
            json!({"msgInCounter": 2, "bytesInCounter": 20, "lastPublishTimeStamp": 7, "msgRateIn": 0.5,
                   "earliestMsgPublishTimeInBacklogs": 0, "oldestBacklogMessageAgeSeconds": -1,
                   "publishers": [{"producerId": 1}], "subscriptions": {"s": {"msgBacklog": 1, "type": "Shared"}}}),
            json!({"msgInCounter": 3, "bytesInCounter": 80, "lastPublishTimeStamp": 5, "msgRateIn": 1.0,
                   "earliestMsgPublishTimeInBacklogs": 8, "oldestBacklogMessageAgeSeconds": 3,
                   "publishers": [{"producerId": 2}],
                   "subscriptions": {"s": {"msgBacklog": 4, "type": "Shared"}, "t": {"msgBacklog": 9}}}),
        ];
        let expected = json!({
            "msgInCounter": 5, "bytesInCounter": 100, "averageMsgSize": 20.0, "lastPublishTimeStamp": 7, "msgRateIn": 1.5,
            "earliestMsgPublishTimeInBacklogs": 8, "oldestBacklogMessageAgeSeconds": 3,
            "publishers": [{"producerId": 1}, {"producerId": 2}],
            "subscriptions": {"s": {"msgBacklog": 5, "type": "Shared"}, "t": {"msgBacklog": 9}},
        });
        assert_eq!(Value::Object(stats(partitions.iter())), expected);
    }
}
