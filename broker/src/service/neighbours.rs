//! Handing a bundle to another broker, over its HTTP port.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::Environment;
use magnetar_common::bundles::BundleRange;
use magnetar_common::topic_name::NamespaceName;

use super::peer;
use crate::namespace::{self, BrokerRecord, HandOver};

/// The brokers that this process can call.
pub(super) struct Neighbours(pub(super) Environment);

impl namespace::Neighbours for Neighbours {
    fn take_over<'a>(
        &'a self,
        broker: &'a BrokerRecord,
        namespace: &'a NamespaceName,
        range: BundleRange,
        request: &'a HandOver,
    ) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let path = format!("/admin/v2/namespaces/{namespace}/{range}/takeOver");
            let body = serde_json::to_vec(request).map_err(|error| error.to_string())?;
            let answer = peer::call(&self.0, &broker.web_service_url, "PUT", &path, &body).await;
            match answer.map_err(|error| error.to_string())? {
                answer if answer.status < 300 => Ok(()),
                answer => Err(String::from_utf8_lossy(&answer.body).into_owned()),
            }
        }
        .boxed()
    }
}
