//! `grpc.health.v1`: SERVING exactly while the bookie is announced and works, also when it is read-only.

use std::sync::Arc;

use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};

use super::service::Service;
use crate::control::Control;
use crate::control_api::bookie_control_server::BookieControlServer;

/// The service, and what keeps it true; that never ends.
pub(super) async fn service(
    control: Arc<Control>,
) -> (HealthServer<impl Health>, impl Future<Output = ()> + Send) {
    let reporter = HealthReporter::new();
    let service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    // Before anybody can ask.
    tell(&reporter, false).await;
    (service, follow(control, reporter))
}

async fn tell(reporter: &HealthReporter, ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in ["", BookieControlServer::<Service>::NAME] {
        reporter.set_service_status(name, status).await;
    }
}

async fn follow(control: Arc<Control>, reporter: HealthReporter) {
    let mut phase = control.phase.subscribe();
    let mut failure = control.engine.failure();
    let mut told = false;
    loop {
        phase.mark_unchanged();
        failure.mark_unchanged();
        let ready = control.is_ready();
        if ready != told {
            tell(&reporter, ready).await;
            told = ready;
        }
        // Neither can end: this holds the one's sender, and the engine the other's.
        tokio::select! {
            _ = phase.changed() => {}
            _ = failure.changed() => {}
        }
    }
}
