//! `admin tenants …`

use anyhow::Result;
use serde_json::{Value, json};

use super::TENANT;
use crate::admin::call::Method::{Delete, Get, Post, Put};
use crate::admin::verb::{Arg, Values, Verb, flag, option};

const ROLES: Arg =
    option("admin-roles", Some('r'), "Who administers it (stored only); a list with commas").many();
const CLUSTERS: Arg =
    option("allowed-clusters", Some('c'), "Clusters it may use; a list with commas").many().required();

fn info(values: &Values) -> Result<Option<Value>> {
    let (roles, clusters) = (values.all("admin-roles"), values.all("allowed-clusters"));
    Ok(Some(json!({"adminRoles": roles, "allowedClusters": clusters})))
}

pub(super) const VERBS: &[Verb] = &[
    Verb::new("list", Get, "/admin/v2/tenants", &[], "All tenants"),
    Verb::new("get", Get, "/admin/v2/tenants/{tenant}", &[TENANT], "Administrators and clusters of a tenant"),
    Verb::new("create", Put, "/admin/v2/tenants/{tenant}", &[TENANT, ROLES, CLUSTERS], "Create a tenant")
        .body(info),
    Verb::new("update", Post, "/admin/v2/tenants/{tenant}", &[TENANT, ROLES, CLUSTERS], "Change a tenant")
        .body(info),
    Verb::new(
        "delete",
        Delete,
        "/admin/v2/tenants/{tenant}",
        &[TENANT, flag("force", Some('f'), "With its namespaces and topics")],
        "Delete a tenant",
    )
    .query(&[("force", "force")]),
];
