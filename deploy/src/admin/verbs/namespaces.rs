//! `admin namespaces …`, but for the policies.

use anyhow::Result;
use serde_json::{Value, json};

use super::{NAMESPACE, TENANT};
use crate::admin::call::Method::{Delete, Get, Post, Put};
use crate::admin::verb::{Arg, Values, Verb, flag, option};

const ROLE: Arg = option("role", None, "Who").required();
const BUNDLE: Arg = option("bundle", Some('b'), "One bundle only, e.g. 0x00000000_0x40000000");
const SUBSCRIPTION: Arg = option("sub", Some('s'), "Name of the subscription");

fn bundles(values: &Values) -> Result<Option<Value>> {
    Ok(match values.find("bundles") {
        Some(_) => Some(json!({"bundles": {"numBundles": values.count("bundles")?}})),
        None => None,
    })
}

fn actions(values: &Values) -> Result<Option<Value>> {
    Ok(Some(json!(values.all("actions"))))
}

pub(super) const VERBS: &[Verb] = &[
    Verb::new("list", Get, "/admin/v2/namespaces/{tenant}", &[TENANT], "Namespaces of a tenant"),
    Verb::new(
        "topics",
        Get,
        "/admin/v2/namespaces/{namespace}/topics",
        &[NAMESPACE],
        "Topics of a namespace",
    ),
    Verb::new(
        "policies",
        Get,
        "/admin/v2/namespaces/{namespace}",
        &[NAMESPACE],
        "All policies of a namespace",
    ),
    Verb::new(
        "create",
        Put,
        "/admin/v2/namespaces/{namespace}",
        &[NAMESPACE, option("bundles", Some('b'), "Into how many bundles its topics are divided")],
        "Create a namespace",
    )
    .body(bundles),
    Verb::new(
        "delete",
        Delete,
        "/admin/v2/namespaces/{namespace}",
        &[NAMESPACE, flag("force", Some('f'), "With its topics")],
        "Delete a namespace",
    )
    .query(&[("force", "force")]),
    Verb::new(
        "bundles",
        Get,
        "/admin/v2/namespaces/{namespace}/bundles",
        &[NAMESPACE],
        "Boundaries of the bundles",
    ),
    Verb::new(
        "unload",
        Put,
        "/admin/v2/namespaces/{namespace}/unload",
        &[NAMESPACE, BUNDLE],
        "Let other brokers take the namespace's bundles, or one of them",
    )
    .or("bundle", "/admin/v2/namespaces/{namespace}/{bundle}/unload"),
    Verb::new(
        "split-bundle",
        Put,
        "/admin/v2/namespaces/{namespace}/{bundle}/split",
        &[
            NAMESPACE,
            BUNDLE.required(),
            flag("unload", Some('u'), "Let other brokers take the halves"),
            option("split-algorithm-name", None, "Where to split, e.g. range_equally_divide"),
        ],
        "Split a bundle",
    )
    .query(&[("unload", "unload"), ("split-algorithm-name", "splitAlgorithmName")]),
    Verb::new(
        "clear-backlog",
        Post,
        "/admin/v2/namespaces/{namespace}/clearBacklog",
        &[NAMESPACE, SUBSCRIPTION],
        "Skip all messages of every subscription, or of one name",
    )
    .or("sub", "/admin/v2/namespaces/{namespace}/clearBacklog/{sub}"),
    Verb::new(
        "unsubscribe",
        Post,
        "/admin/v2/namespaces/{namespace}/unsubscribe/{sub}",
        &[NAMESPACE, SUBSCRIPTION.required()],
        "Delete a subscription from every topic",
    ),
    Verb::new(
        "permissions",
        Get,
        "/admin/v2/namespaces/{namespace}/permissions",
        &[NAMESPACE],
        "Who may do what (stored only; nobody is authenticated)",
    ),
    Verb::new(
        "grant-permission",
        Post,
        "/admin/v2/namespaces/{namespace}/permissions/{role}",
        &[
            NAMESPACE,
            ROLE,
            option("actions", None, "produce, consume, …; a list with commas").many().required(),
        ],
        "Let a role do something (stored only; nobody is authenticated)",
    )
    .body(actions),
    Verb::new(
        "revoke-permission",
        Delete,
        "/admin/v2/namespaces/{namespace}/permissions/{role}",
        &[NAMESPACE, ROLE],
        "Take all permissions from a role",
    ),
];
