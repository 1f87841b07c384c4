//! The table: a file for each noun, a row for each verb, under the names that pulsar-admin has for them.

mod brokers;
mod bundles;
mod clusters;
mod dead_letters;
mod namespaces;
mod policies;
mod schemas;
mod subscriptions;
mod tenants;
mod topics;

use super::verb::{Arg, Verb, word};

/// Noun, what it is about, its verbs.
pub(in crate::admin) type Noun = (&'static str, &'static str, &'static [&'static [Verb]]);

/// Every noun.
pub(in crate::admin) const NOUNS: &[Noun] = &[
    ("brokers", "Brokers of the cluster", &[brokers::VERBS]),
    ("bundles", "Which broker serves what", &[bundles::VERBS]),
    ("clusters", "Clusters that tenants may use", &[clusters::VERBS]),
    ("tenants", "Tenants, their administrators and clusters", &[tenants::VERBS]),
    (
        "namespaces",
        "Namespaces, their bundles and policies",
        &[namespaces::VERBS, policies::VERBS, dead_letters::OF_NAMESPACES],
    ),
    (
        "topics",
        "Topics, their partitions and subscriptions",
        &[topics::VERBS, subscriptions::VERBS, dead_letters::OF_TOPICS],
    ),
    ("schemas", "Schemas of topics", &[schemas::VERBS]),
];

/// The verb of that name.
pub(in crate::admin) fn find(noun: &str, name: &str) -> Option<&'static Verb> {
    let (.., verbs) = NOUNS.iter().find(|(known, ..)| *known == noun)?;
    verbs.iter().copied().flatten().find(|verb| verb.name == name)
}

const TENANT: Arg = word("tenant", "Name of the tenant");
const NAMESPACE: Arg = word("namespace", "The namespace, as tenant/namespace");
const TOPIC: Arg = word("topic", "The topic, e.g. events or persistent://public/default/events");
