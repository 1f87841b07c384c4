//! A lease and the task that keeps it alive, until it is given up, etcd has ended it, or it must be taken for ended.

use super::super::error::MetadataError;
use super::super::lease::{Lease, LeaseId};
use super::failure::{Repeat, describe};
use super::link::{Link, within};
use crate::shutdown::Signal;
use etcd_client::{Error, LeaseKeepAliveStream, LeaseKeeper};
use std::time::Duration;
use tokio::sync::watch;

/// The shortest lease that etcd's whole seconds allow.
const TTL_MIN_S: i64 = 1;
/// Renewals in the life of a lease: two may be lost.
const RENEWALS: u32 = 3;
/// Between two tries to renew over a new stream.
const PAUSE: Duration = Duration::from_millis(300);
/// For giving up a lease; a cluster that is away longer ends it by itself.
const REVOKE_MAX: Duration = Duration::from_secs(3);

/// Grants a lease and keeps it alive on `runtime`.
pub(super) async fn grant(
    link: Link,
    ttl: Duration,
    runtime: &tokio::runtime::Handle,
) -> Result<Lease, MetadataError> {
    let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(TTL_MIN_S);
    let asked = link.clock().now();
    // Repeated freely: a lease that nobody heard of ends by itself.
    let grant = |_| {
        let mut leases = link.client().lease_client();
        async move { leases.grant(seconds, None).await }
    };
    let granted = link.ask(Repeat::Freely, grant).await?;
    let ttl = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or(0));
    let (ended, lost) = watch::channel(false);
    let given_up = Signal::new();
    let keeper = Keeper { link, id: granted.id(), ttl, renewed: asked };
    runtime.spawn(keeper.run(given_up.clone(), ended));
    Ok(Lease::new(LeaseId(granted.id()), lost, move || given_up.give()))
}

/// Keeps one lease alive.
struct Keeper {
    link: Link,
    id: i64,
    ttl: Duration,
    /// When the last renewal that was answered was sent: etcd counts from then on or later.
    renewed: Duration,
}

impl Keeper {
    async fn run(mut self, given_up: Signal, ended: watch::Sender<bool>) {
        tokio::select! {
            () = given_up.given() => {}
            () = self.keep() => {}
        }
        if given_up.is_given() {
            self.revoke().await;
        }
        let _ = ended.send(true);
    }

    /// How long the lease lives for certain: from then on etcd can have given its keys to others.
    fn left(&self) -> Duration {
        (self.renewed + self.ttl).saturating_sub(self.link.clock().now())
    }

    /// Returns once the lease has ended, or may have.
    async fn keep(&mut self) {
        // A member that has just started answers renewals before it has caught up, and then knows no lease of the last
        // moments before: what it says counts once it has answered a read, which waits until it has.
        let mut caught_up = false;
        loop {
            match self.renew_over_a_stream().await {
                Ended::Expired if caught_up => {
                    return tracing::warn!(lease = self.id, "etcd has ended a lease");
                }
                Ended::Expired => caught_up = self.answered(self.link.read_newest()).await.is_ok(),
                Ended::Broken(reason) => {
                    tracing::debug!(lease = self.id, reason, "renewing again");
                    caught_up = false;
                }
            }
            if self.left().is_zero() {
                return tracing::warn!(lease = self.id, "etcd was away for longer than a lease lives");
            }
            self.link.clock().sleep(PAUSE.min(self.left())).await;
        }
    }

    /// What etcd answers to a renewal, if it does in time for another try elsewhere.
    async fn answered<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Ended> {
        let limit = self.left().min(self.ttl / RENEWALS);
        match within(&**self.link.clock(), limit, answer).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(Error::LeaseKeepAliveError(_))) => Err(Ended::Expired),
            Some(Err(error)) => Err(Ended::Broken(describe(error).to_string())),
            None => Err(Ended::Broken("no answer".into())),
        }
    }

    async fn renew_over_a_stream(&mut self) -> Ended {
        let sent = self.link.clock().now();
        let mut leases = self.link.client().lease_client();
        let (mut keeper, mut answers) = match self.answered(leases.keep_alive(self.id)).await {
            Ok(stream) => stream,
            Err(ended) => return ended,
        };
        self.renewed = sent;
        loop {
            self.link.clock().sleep(self.ttl / RENEWALS).await;
            if let Err(ended) = self.renew(&mut keeper, &mut answers).await {
                return ended;
            }
        }
    }

    async fn renew(
        &mut self,
        keeper: &mut LeaseKeeper,
        answers: &mut LeaseKeepAliveStream,
    ) -> Result<(), Ended> {
        let sent = self.link.clock().now();
        let exchange = async {
            keeper.keep_alive().await?;
            answers.message().await
        };
        match self.answered(exchange).await? {
            Some(answer) if answer.ttl() > 0 => {
                self.renewed = sent;
                Ok(())
            }
            Some(_) => Err(Ended::Expired),
            None => Err(Ended::Broken("the member ended the stream".into())),
        }
    }

    async fn revoke(&self) {
        let mut leases = self.link.client().lease_client();
        let revoke = async {
            loop {
                match leases.revoke(self.id).await.map_err(describe) {
                    Ok(answer) => return self.link.saw(answer.header()),
                    Err(MetadataError::LeaseLost) => return,
                    Err(error) => tracing::debug!(lease = self.id, %error, "giving up a lease again"),
                }
                self.link.clock().sleep(PAUSE).await;
            }
        };
        if within(&**self.link.clock(), REVOKE_MAX, revoke).await.is_none() {
            tracing::warn!(lease = self.id, "etcd did not take a lease back; its keys go when it ends");
        }
    }
}

/// Why a stream of renewals ended.
enum Ended {
    /// etcd knows no such lease.
    Expired,
    /// The connection or the member failed.
    Broken(String),
}
