//! `admin brokers …`

use crate::admin::call::Method::Get;
use crate::admin::verb::{Verb, option, word};

pub(super) const VERBS: &[Verb] = &[
    Verb::new(
        "list",
        Get,
        "/admin/v2/brokers/{cluster}",
        &[word("cluster", "Name of the cluster")],
        "Brokers that serve now",
    ),
    Verb::new(
        "leader-broker",
        Get,
        "/admin/v2/brokers/leaderBroker",
        &[],
        "The broker that balances the load",
    ),
    Verb::new(
        "namespaces",
        Get,
        "/admin/v2/brokers/{cluster}/{url}/ownedNamespaces",
        &[
            word("cluster", "Name of the cluster"),
            option("url", None, "The broker, as `brokers list` names it").required(),
        ],
        "Bundles that a broker serves",
    ),
    Verb::new(
        "healthcheck",
        Get,
        "/admin/v2/brokers/health",
        &[],
        "Whether this broker reaches its metadata",
    ),
    Verb::new("version", Get, "/admin/v2/brokers/version", &[], "Version of this broker"),
    Verb::new(
        "get-internal-config",
        Get,
        "/admin/v2/brokers/internal-configuration",
        &[],
        "Where this broker's metadata is",
    ),
    Verb::new(
        "get-runtime-config",
        Get,
        "/admin/v2/brokers/configuration/runtime",
        &[],
        "Configuration this broker runs with",
    ),
];
