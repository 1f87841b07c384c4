//! Lists of a namespace's topics as clients ask for them: filtered by a pattern, with a hash to compare.

use magnetar_common::topic_name::TopicName;
use magnetar_proto::checksum::crc32c;
use regex::{Regex, RegexBuilder};

/// Longer patterns are left to the client to evaluate.
const PATTERN_CHARS_MAX: usize = 50;

/// Memory a compiled pattern may take: it comes from a client.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Kept by the system for itself; not offered to pattern subscriptions.
pub fn is_system(topic: &TopicName) -> bool {
    let base = topic.without_partition();
    let local = base.local();
    local == "__change_events"
        || local.starts_with("__transaction_buffer_snapshot")
        || local.ends_with("__transaction_pending_ack")
        || local.starts_with("__transaction_log_")
}

/// Compiles a client's pattern; `None` if the client has to filter by itself: too long, or not our dialect.
pub fn compile(pattern: &str) -> Option<Regex> {
    if pattern.is_empty() || pattern.chars().count() > PATTERN_CHARS_MAX {
        return None;
    }
    let bare = without_scheme(pattern);
    RegexBuilder::new(&format!("^(?:{bare})$")).size_limit(PATTERN_BYTES_MAX).build().ok()
}

/// Does the topic's name, without scheme and partition suffix, match as a whole?
pub fn matches(pattern: &Regex, topic: &TopicName) -> bool {
    pattern.is_match(without_scheme(topic.without_partition().as_str()))
}

/// CRC-32C over the sorted names joined by commas, as the hex of its little-endian bytes (as Guava prints a hash).
pub fn hash(topics: &[TopicName]) -> String {
    let mut names: Vec<&str> = topics.iter().map(TopicName::as_str).collect();
    names.sort_unstable();
    format!("{:08x}", crc32c(names.join(",").as_bytes()).swap_bytes())
}

fn without_scheme(text: &str) -> &str {
    text.split_once("://").map_or(text, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        name.parse().expect("a topic name")
    }

    #[test]
    fn a_pattern_matches_whole_names_without_scheme_and_partition() {
        let pattern = compile("persistent://public/default/a.*").expect("a pattern");
        assert!(matches(&pattern, &topic("ab")));
        assert!(matches(&pattern, &topic("a-partition-3")));
        assert!(!matches(&pattern, &topic("ba")));
        assert!(!matches(&pattern, &topic("other/ns/a")));
    }

    #[test]
    fn what_is_no_pattern_of_ours_is_left_to_the_client() {
        assert!(compile("(").is_none());
        assert!(compile(&"a".repeat(51)).is_none());
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order() {
        let (a, b) = (topic("a"), topic("b"));
        assert_eq!(hash(&[a.clone(), b.clone()]), hash(&[b, a]));
        // CRC-32C of nothing is 0.
        assert_eq!(hash(&[]), "00000000");
    }

    #[test]
    fn what_the_system_keeps_is_not_listed() {
        assert!(is_system(&topic("__change_events")));
        assert!(!is_system(&topic("events")));
    }
}
