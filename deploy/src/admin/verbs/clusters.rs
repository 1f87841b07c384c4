//! `admin clusters …`

use anyhow::Result;
use serde_json::{Value, json};

use crate::admin::call::Method::{Delete, Get, Post, Put};
use crate::admin::verb::{Arg, Values, Verb, option, word};

const CLUSTER: Arg = word("cluster", "Name of the cluster");
const URL: Arg = option("url", None, "Its REST, e.g. http://host:8080").required();
const BROKER_URL: Arg = option("broker-url", None, "Its brokers, e.g. pulsar://host:6650").required();

fn data(values: &Values) -> Result<Option<Value>> {
    Ok(Some(json!({"serviceUrl": values.get("url")?, "brokerServiceUrl": values.get("broker-url")?})))
}

pub(super) const VERBS: &[Verb] = &[
    Verb::new("list", Get, "/admin/v2/clusters", &[], "All clusters"),
    Verb::new("get", Get, "/admin/v2/clusters/{cluster}", &[CLUSTER], "Addresses of a cluster"),
    Verb::new(
        "create",
        Put,
        "/admin/v2/clusters/{cluster}",
        &[CLUSTER, URL, BROKER_URL],
        "Make a cluster known",
    )
    .body(data),
    Verb::new(
        "update",
        Post,
        "/admin/v2/clusters/{cluster}",
        &[CLUSTER, URL, BROKER_URL],
        "Change a cluster's addresses",
    )
    .body(data),
    Verb::new("delete", Delete, "/admin/v2/clusters/{cluster}", &[CLUSTER], "Forget a cluster"),
];
