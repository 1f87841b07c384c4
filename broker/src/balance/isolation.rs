//! Namespaces that stay on brokers of their own: which brokers may serve a namespace.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Memory a compiled pattern may take: it comes from an operator, through REST.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// One policy, in Pulsar's JSON. Patterns match whole names: of a namespace, or of a broker's host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IsolationPolicy {
    pub namespaces: Vec<String>,
    pub primary: Vec<String>,
    /// Serve as well while too few primary brokers are there.
    pub secondary: Vec<String>,
    pub auto_failover_policy: AutoFailover,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// When secondary brokers serve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AutoFailover {
    /// `min_available`
    pub policy_type: String,
    /// `min_limit`: primary brokers below which secondary ones serve too; 1 if it says nothing.
    pub parameters: BTreeMap<String, String>,
}

/// The policies of a cluster by name.
pub type IsolationPolicies = BTreeMap<String, IsolationPolicy>;

/// The policies with their patterns compiled.
#[derive(Debug, Default)]
pub struct Isolation {
    policies: Vec<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    namespaces: Vec<Regex>,
    primary: Vec<Regex>,
    secondary: Vec<Regex>,
    min_limit: usize,
}

/// A pattern is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no regular expression of reasonable size")]
pub struct InvalidPattern(String);

impl Isolation {
    pub fn compile(policies: &IsolationPolicies) -> Result<Self, InvalidPattern> {
        let all = |patterns: &Vec<String>| {
            patterns.iter().map(|pattern| compile(pattern)).collect::<Result<Vec<_>, _>>()
        };
        let one = |policy: &IsolationPolicy| {
            let limit = policy.auto_failover_policy.parameters.get("min_limit");
            Ok(Compiled {
                namespaces: all(&policy.namespaces)?,
                primary: all(&policy.primary)?,
                secondary: all(&policy.secondary)?,
                min_limit: limit.and_then(|text| text.parse().ok()).unwrap_or(1),
            })
        };
        Ok(Self { policies: policies.values().map(one).collect::<Result<_, _>>()? })
    }

    /// Whether a broker (`host:port`) may serve a namespace, with these brokers there. A namespace that no policy names is
    /// served by brokers that no policy names as primary ones; only without any of those by every broker.
    pub fn may<'a>(
        &self,
        namespace: &str,
        broker: &str,
        brokers: impl Iterator<Item = &'a str> + Clone,
    ) -> bool {
        let named: Vec<&Compiled> =
            self.policies.iter().filter(|policy| any(&policy.namespaces, namespace)).collect();
        if named.is_empty() {
            let reserved =
                |broker: &str| self.policies.iter().any(|policy| any(&policy.primary, host(broker)));
            return !reserved(broker) || brokers.clone().all(reserved);
        }
        named.iter().any(|policy| {
            let is_primary = |broker: &str| any(&policy.primary, host(broker));
            let primaries = brokers.clone().filter(|broker| is_primary(broker)).count();
            is_primary(broker) || (primaries < policy.min_limit && any(&policy.secondary, host(broker)))
        })
    }
}

fn compile(pattern: &str) -> Result<Regex, InvalidPattern> {
    let whole = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN_BYTES_MAX).build();
    whole.map_err(|_| InvalidPattern(pattern.to_owned()))
}

fn any(patterns: &[Regex], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.is_match(text))
}

fn host(broker: &str) -> &str {
    broker.rsplit_once(':').map_or(broker, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn isolation(json: &str) -> Isolation {
        let policies: IsolationPolicies = serde_json::from_str(json).expect("policies");
        Isolation::compile(&policies).expect("patterns")
    }

    const POLICIES: &str = r#"{"gold":{"namespaces":["gold/.*"],"primary":["g[12]"],"secondary":["s1"],
        "auto_failover_policy":{"policy_type":"min_available","parameters":{"min_limit":"2","usage_threshold":"80"}}}}"#;

    #[test]
    fn a_namespace_stays_with_its_primary_brokers_while_enough_are_there() {
        let isolation = isolation(POLICIES);
        let may = |namespace: &str, brokers: &[&str]| -> Vec<String> {
            let there = || brokers.iter().copied();
            there().filter(|broker| isolation.may(namespace, broker, there())).map(str::to_owned).collect()
        };
        assert_eq!(may("gold/a", &["g1:8080", "g2:8080", "s1:8080", "x:8080"]), ["g1:8080", "g2:8080"]);
        assert_eq!(may("gold/a", &["g1:8080", "s1:8080", "x:8080"]), ["g1:8080", "s1:8080"]);
        assert_eq!(may("gold/a", &["x:8080"]), [""; 0]);
        assert_eq!(may("other/a", &["g1:8080", "s1:8080", "x:8080"]), ["s1:8080", "x:8080"]);
        assert_eq!(may("other/a", &["g1:8080"]), ["g1:8080"], "better than not at all");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let policies = IsolationPolicies::from([(
            "p".into(),
            IsolationPolicy { primary: vec!["(".into()], ..IsolationPolicy::default() },
        )]);
        assert_eq!(Isolation::compile(&policies).err(), Some(InvalidPattern("(".into())));
    }
}
