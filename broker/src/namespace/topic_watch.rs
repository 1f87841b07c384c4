//! What one watcher of a namespace's topics knows, and what it is to be told next (PIP-145). A plain state machine.

use magnetar_common::topic_name::TopicName;
use regex::Regex;

use super::topic_list::{hash, is_system, matches};

/// One watcher: a pattern, and the topics that it was told of.
pub struct TopicWatch {
    pattern: Regex,
    /// Sorted, each once.
    known: Vec<TopicName>,
}

/// How what matches differs from what was told before; never empty.
#[derive(Debug, PartialEq, Eq)]
pub struct TopicChange {
    pub new: Vec<TopicName>,
    pub deleted: Vec<TopicName>,
    /// Of everything that matches now, as [`hash`] gives it.
    pub hash: String,
}

impl TopicWatch {
    /// `listed` are the namespace's topics, sorted; those that match count as told.
    pub fn new(pattern: Regex, listed: &[TopicName]) -> Self {
        let known = matching(&pattern, listed);
        TopicWatch { pattern, known }
    }

    /// What matches, sorted.
    pub fn known(&self) -> &[TopicName] {
        &self.known
    }

    /// Takes a newer list, sorted. `None`: nothing of it concerns this watcher.
    pub fn on_listed(&mut self, listed: &[TopicName]) -> Option<TopicChange> {
        let now = matching(&self.pattern, listed);
        let without = |all: &[TopicName], others: &[TopicName]| -> Vec<TopicName> {
            all.iter().filter(|topic| others.binary_search(topic).is_err()).cloned().collect()
        };
        let (new, deleted) = (without(&now, &self.known), without(&self.known, &now));
        if new.is_empty() && deleted.is_empty() {
            return None;
        }
        let hash = hash(&now);
        self.known = now;
        Some(TopicChange { new, deleted, hash })
    }
}

fn matching(pattern: &Regex, listed: &[TopicName]) -> Vec<TopicName> {
    listed.iter().filter(|topic| !is_system(topic) && matches(pattern, topic)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::topic_list::compile;
    use super::*;

    fn topics(names: &[&str]) -> Vec<TopicName> {
        names.iter().map(|name| name.parse().expect("a topic name")).collect()
    }

    fn watch(listed: &[&str]) -> TopicWatch {
        TopicWatch::new(compile("public/default/a.*").expect("a pattern"), &topics(listed))
    }

    #[test]
    fn a_watcher_is_told_of_what_matches_and_of_nothing_else() {
        let mut watch = watch(&["a", "b"]);
        assert_eq!(watch.known(), topics(&["a"]));
        assert_eq!(watch.on_listed(&topics(&["__change_events", "a", "b", "c"])), None);
        let change = watch.on_listed(&topics(&["a-partition-0", "a-partition-1", "b"])).expect("a change");
        assert_eq!(change.new, topics(&["a-partition-0", "a-partition-1"]));
        assert_eq!(change.deleted, topics(&["a"]));
        assert_eq!(change.hash, hash(watch.known()));
    }

    #[test]
    fn nothing_is_told_twice() {
        let mut watch = watch(&[]);
        assert!(watch.on_listed(&topics(&["a"])).is_some());
        assert_eq!(watch.on_listed(&topics(&["a"])), None);
    }
}
