//! The leader's task: looks at the reports every few seconds and has bundles moved and split by their owners.

use std::sync::Arc;
use std::time::Duration;

use super::{BrokerService, peer};
use crate::balance::{Action, Balancer, Limits, View};
use crate::namespace::Cluster;

/// Between two rounds: longer than between two reports.
const ROUND: Duration = Duration::from_secs(10);

/// Runs until the broker leaves the cluster. What was decided and could not be done is decided again, or not.
pub(super) async fn balance(service: Arc<BrokerService>, cluster: Arc<Cluster>) {
    let mut balancer = Balancer::new(Limits::default());
    loop {
        tokio::select! {
            () = cluster.left() => return,
            () = service.clock.sleep(ROUND) => {}
        }
        if !cluster.is_leader() {
            balancer = Balancer::new(Limits::default());
            continue;
        }
        let brokers = cluster.directory().now();
        let view = View::of(brokers.values());
        let isolation = match cluster.isolation().await {
            Ok(isolation) => isolation,
            // Then moves would be in vain too.
            Err(error) => {
                tracing::debug!(%error, "read the isolation policies");
                continue;
            }
        };
        let may = |bundle: &str, broker: &str| {
            let namespace = bundle.rsplit_once('/').map_or(bundle, |(namespace, _)| namespace);
            isolation.may(namespace, broker, brokers.keys().map(String::as_str))
        };
        for action in balancer.decide(service.clock.now(), &view, may) {
            perform(&service, &cluster, &action).await;
        }
    }
}

async fn perform(service: &BrokerService, cluster: &Cluster, action: &Action) {
    let (owner, path) = match action {
        Action::Move { bundle, from, to } => {
            cluster.intend(bundle, to);
            (from, format!("/admin/v2/namespaces/{bundle}/unload?destinationBroker={to}"))
        }
        Action::Split { bundle, owner } => {
            let by_topics = "splitAlgorithmName=topic_count_equally_divide";
            (owner, format!("/admin/v2/namespaces/{bundle}/split?{by_topics}"))
        }
    };
    let brokers = cluster.directory().now();
    let Some(record) = brokers.get(owner) else { return };
    match peer::call(&service.environment, &record.web_service_url, "PUT", &path, b"").await {
        Ok(answer) if answer.status < 300 => tracing::info!(?action, "balanced"),
        Ok(answer) => {
            let said = String::from_utf8_lossy(&answer.body);
            tracing::info!(?action, status = answer.status, %said, "the owner did not");
        }
        Err(error) => tracing::warn!(?action, %error, "the owner did not answer"),
    }
}
