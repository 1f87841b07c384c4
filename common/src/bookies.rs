//! Which bookies there are, and where: their registrations in the metadata store.
//!
//! A bookie registers with [`register`]; the ledger client follows a [`BookieDirectory`]. Keys and records are those of
//! BookKeeper, so that others find our bookies and we find theirs.

use crate::layout;
use crate::metadata::{Expect, LeaseId, MetadataError, SharedMetadata, Value, Version, Watch};
use bytes::Bytes;
use futures_util::FutureExt;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::metadata_format::{
    BookieServiceInfoFormat, bookie_service_info_format::Endpoint,
};
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// The protocol name that BookKeeper's clients look for.
const BOOKIE_PROTOCOL: &str = "bookie-rpc";
/// The property of a registration that tells where the bookie stands.
const RACK: &str = "rack";
/// The extension of an endpoint that upgrades connections on request.
const TLS: &str = "tls";
/// How long a failed listing waits for the store to come back: short beside a ledger client's patience with a bookie.
const RETRY: Duration = Duration::from_secs(1);
/// Who wants a new list waits beyond so many others.
const ASKING_MAX: usize = 16;

/// Where a bookie is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    /// Name or address that clients can dial.
    pub host: String,
    /// The port of the BookKeeper protocol.
    pub port: u16,
    /// Connections are upgraded to TLS on request.
    pub tls: bool,
    /// Where the bookie says that it stands, as `/rack` or `/region/rack`. What operators have recorded of it wins.
    pub rack: Option<String>,
}

impl ServiceInfo {
    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn encode(&self) -> Bytes {
        let endpoint = Endpoint {
            id: "bookie".into(),
            port: i32::from(self.port),
            host: self.host.clone(),
            protocol: BOOKIE_PROTOCOL.into(),
            extensions: if self.tls { vec![TLS.into()] } else { Vec::new() },
            ..Endpoint::default()
        };
        let properties = self.rack.iter().map(|rack| (RACK.to_owned(), rack.clone())).collect();
        BookieServiceInfoFormat { endpoints: vec![endpoint], properties }.encode_to_vec().into()
    }

    /// Reads a registration. An empty one is the older form: the id itself is `host:port`.
    fn decode(id: &BookieId, bytes: Bytes) -> Option<Self> {
        if bytes.is_empty() {
            let (host, port) = id.as_str().rsplit_once(':')?;
            return Some(Self { host: host.to_owned(), port: port.parse().ok()?, tls: false, rack: None });
        }
        let mut info = BookieServiceInfoFormat::decode(bytes).ok()?;
        let rack = info.properties.remove(RACK);
        let endpoint = info.endpoints.into_iter().find(|endpoint| endpoint.protocol == BOOKIE_PROTOCOL)?;
        let tls = endpoint.extensions.iter().any(|extension| extension == TLS);
        Some(Self { host: endpoint.host, port: u16::try_from(endpoint.port).ok()?, tls, rack })
    }
}

/// Announces a writable bookie for as long as the lease lives, and no longer as read-only. A registration left by an
/// earlier lease is replaced: identity is proved by the cookie, not by the registration.
pub async fn register(
    store: &SharedMetadata,
    id: &BookieId,
    info: &ServiceInfo,
    lease: LeaseId,
) -> Result<(), MetadataError> {
    store.put_ephemeral(&layout::bookie(id), info.encode(), Expect::Any, lease).await?;
    delete_if_there(store, &layout::bookie_read_only(id)).await
}

/// Announces a bookie as read-only, and no longer as writable.
pub async fn register_read_only(
    store: &SharedMetadata,
    id: &BookieId,
    info: &ServiceInfo,
    lease: LeaseId,
) -> Result<(), MetadataError> {
    store.put_ephemeral(&layout::bookie_read_only(id), info.encode(), Expect::Any, lease).await?;
    delete_if_there(store, &layout::bookie(id)).await
}

async fn delete_if_there(store: &SharedMetadata, key: &str) -> Result<(), MetadataError> {
    match store.delete(key, Expect::Any).await {
        Err(MetadataError::NotFound { .. }) => Ok(()),
        other => other,
    }
}

/// The bookies registered at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bookies {
    writable: BTreeMap<BookieId, Registered>,
    read_only: BTreeMap<BookieId, Registered>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Registered {
    info: ServiceInfo,
    version: Version,
    /// See [`Bookies::registration`].
    number: u64,
}

impl Bookies {
    /// Those that take new ledgers, in the order of their ids.
    pub fn writable(&self) -> impl Iterator<Item = (&BookieId, &ServiceInfo)> {
        self.writable.iter().map(|(id, registered)| (id, &registered.info))
    }

    /// Those that serve reads but take no new entries, in the order of their ids.
    pub fn read_only(&self) -> impl Iterator<Item = (&BookieId, &ServiceInfo)> {
        self.read_only.iter().map(|(id, registered)| (id, &registered.info))
    }

    /// What a registered bookie says of itself.
    pub fn info(&self, id: &BookieId) -> Option<&ServiceInfo> {
        self.registered(id).map(|registered| &registered.info)
    }

    /// A number that differs from every earlier one of this directory once the bookie has registered anew, as it does when
    /// it has started; `None` while it is not registered.
    pub fn registration(&self, id: &BookieId) -> Option<u64> {
        self.registered(id).map(|registered| registered.number)
    }

    fn registered(&self, id: &BookieId) -> Option<&Registered> {
        self.writable.get(id).or_else(|| self.read_only.get(id))
    }

    /// Whether a bookie serves now, writable or read-only, as far as is known.
    pub fn is_registered(&self, id: &BookieId) -> bool {
        self.writable.contains_key(id) || self.read_only.contains_key(id)
    }

    /// Where a bookie is reached for reads and writes. An unregistered id of the form `host:port` resolves to itself.
    pub fn resolve(&self, id: &BookieId) -> Option<String> {
        let info = self.info(id).cloned().or_else(|| ServiceInfo::decode(id, Bytes::new()))?;
        Some(info.address())
    }
}

/// Follows the registrations. Clones share one background task, which ends with the last clone.
#[derive(Clone, Debug)]
pub struct BookieDirectory {
    bookies: watch::Receiver<Arc<Bookies>>,
    ask: mpsc::Sender<Ask>,
}

/// Somebody waits for a list that is read from now on.
type Ask = oneshot::Sender<Result<(), MetadataError>>;

impl BookieDirectory {
    /// Lists the bookies and keeps following them. Must be called within a tokio runtime with its timer on.
    pub async fn follow(store: SharedMetadata) -> Result<Self, MetadataError> {
        let watch = store.watch(layout::BOOKIES);
        let mut list = Listing { store, registrations: 0, before: Arc::default() };
        let (sender, bookies) = watch::channel(list.again().await?);
        let (ask, asked) = mpsc::channel(ASKING_MAX);
        tokio::spawn(keep_following(list, watch, asked, sender));
        Ok(Self { bookies, ask })
    }

    /// Reads the list again, now: afterwards the directory is no older than this call. Without it, what others have written
    /// of a bookie may be newer than what is known of it here. Cancel-safe.
    pub async fn refresh(&self) -> Result<(), MetadataError> {
        let (ask, answer) = oneshot::channel();
        let ended = || MetadataError::Unavailable("the bookies are not followed any more".into());
        self.ask.send(ask).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// The bookies as of now, as far as changes have been told.
    pub fn now(&self) -> Arc<Bookies> {
        self.bookies.borrow().clone()
    }

    /// Where a bookie is reached.
    pub fn resolve(&self, id: &BookieId) -> Option<String> {
        self.bookies.borrow().resolve(id)
    }

    /// Resolves when the bookies have changed since the last call. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.bookies.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves once the bookies are others than `known`; at once if they are already. Cancel-safe.
    pub async fn changed_from(&self, known: &Bookies) {
        if self.bookies.clone().wait_for(|now| **now != *known).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Resolves once at least `count` bookies are writable. Cancel-safe.
    pub async fn wait_for_writable(&self, count: usize) {
        let _ = self.bookies.clone().wait_for(|bookies| bookies.writable.len() >= count).await;
    }
}

async fn keep_following(
    mut list: Listing,
    mut watch: Watch,
    mut asked: mpsc::Receiver<Ask>,
    sender: watch::Sender<Arc<Bookies>>,
) {
    let mut stale = false;
    loop {
        let mut asking = Vec::new();
        let changed = async {
            // A list that could not be read is tried again even if nothing more changes.
            let wait = if stale { RETRY } else { Duration::MAX };
            match tokio::time::timeout(wait, watch.next()).await {
                Ok(event) => event.is_some(),
                Err(_elapsed) => true,
            }
        };
        tokio::select! {
            alive = changed => if !alive { return },
            Some(ask) = asked.recv() => asking.push(ask),
            () = sender.closed() => return,
        }
        // Whatever changed: the list is short, and listing again is right for every kind of event. What has gathered
        // meanwhile is answered by the same list.
        while watch.next().now_or_never().flatten().is_some() {}
        asking.extend(std::iter::from_fn(|| asked.try_recv().ok()));
        let listed = list.again().await;
        stale = listed.is_err();
        let answer = listed.map(|bookies| drop(sender.send_replace(bookies)));
        if let Err(error) = &answer {
            tracing::warn!(%error, "cannot list the bookies; keeping the last list");
        }
        for ask in asking {
            // Who does not wait any more needs no answer.
            let _ = ask.send(answer.clone());
        }
    }
}

/// Lists the registrations, and tells those that are new.
struct Listing {
    store: SharedMetadata,
    /// How many there have been.
    registrations: u64,
    before: Arc<Bookies>,
}

impl Listing {
    async fn again(&mut self) -> Result<Arc<Bookies>, MetadataError> {
        let prefix = format!("{}/", layout::BOOKIES);
        let mut bookies = Bookies::default();
        for (key, value) in self.store.scan(&prefix, None, usize::MAX).await? {
            self.add(&mut bookies, &key, value);
        }
        self.before = Arc::new(bookies);
        Ok(self.before.clone())
    }

    fn add(&mut self, bookies: &mut Bookies, key: &str, value: Value) {
        if key == layout::BOOKIES_READ_ONLY {
            return;
        }
        let Some((parent, name)) = key.rsplit_once('/') else { return };
        let of = match parent {
            layout::BOOKIES => &mut bookies.writable,
            layout::BOOKIES_READ_ONLY => &mut bookies.read_only,
            _ => return,
        };
        let Ok(id) = BookieId::new(name) else {
            tracing::warn!(name, "a registration that is no bookie id; ignoring it");
            return;
        };
        let version = value.version;
        let Some(info) = ServiceInfo::decode(&id, value.bytes) else {
            tracing::warn!(bookie = %id, "a registration without an address; ignoring it");
            return;
        };
        let before = self.before.registered(&id).filter(|before| before.version == version);
        let number = before.map_or_else(
            || {
                self.registrations += 1;
                self.registrations
            },
            |before| before.number,
        );
        of.insert(id, Registered { info, version, number });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::MemoryStore;

    #[tokio::test]
    async fn the_directory_follows_bookies_that_come_go_and_turn_read_only() {
        let store: SharedMetadata = Arc::new(MemoryStore::new());
        let mut directory = BookieDirectory::follow(store.clone()).await.expect("a directory");
        let id = BookieId::new("b1").expect("an id");
        let info = ServiceInfo { host: "h".into(), port: 3181, tls: true, rack: None };
        let lease = store.grant_lease(Duration::from_secs(9)).await.expect("a lease");
        register(&store, &id, &info, lease.id()).await.expect("register");
        directory.wait_for_writable(1).await;
        assert_eq!(directory.resolve(&id), Some("h:3181".into()));
        register_read_only(&store, &id, &info, lease.id()).await.expect("register");
        while directory.now().writable().count() != 0 {
            directory.changed().await;
        }
        assert_eq!(directory.resolve(&id), Some("h:3181".into()));
        register(&store, &id, &info, lease.id()).await.expect("register");
        directory.wait_for_writable(1).await;
        assert_eq!(store.get(&layout::bookie_read_only(&id)).await, Ok(None));
        register_read_only(&store, &id, &info, lease.id()).await.expect("register");
        lease.revoke().await;
        while directory.resolve(&id).is_some() {
            directory.changed().await;
        }
    }

    #[tokio::test]
    async fn a_bookie_that_registers_again_is_told_from_one_that_stayed() {
        let store: SharedMetadata = Arc::new(MemoryStore::new());
        let mut directory = BookieDirectory::follow(store.clone()).await.expect("a directory");
        let (one, other) = (BookieId::new("b1").expect("an id"), BookieId::new("b2").expect("an id"));
        let info = ServiceInfo { host: "h".into(), port: 3181, tls: false, rack: None };
        let lease = store.grant_lease(Duration::from_secs(9)).await.expect("a lease");
        for id in [&one, &other] {
            register(&store, id, &info, lease.id()).await.expect("register");
        }
        directory.wait_for_writable(2).await;
        let first = directory.now();
        // At once, over the registration of its earlier life; and after that has gone.
        for goes_first in [false, true] {
            let before = directory.now();
            if goes_first {
                store.delete(&layout::bookie(&one), Expect::Any).await.expect("delete");
                while directory.now().is_registered(&one) {
                    directory.changed().await;
                }
            }
            register(&store, &one, &info, lease.id()).await.expect("register");
            while !directory.now().is_registered(&one)
                || directory.now().registration(&one) == before.registration(&one)
            {
                directory.changed().await;
            }
        }
        assert_ne!(directory.now().registration(&one), first.registration(&one));
        assert_eq!(directory.now().registration(&other), first.registration(&other));
    }

    #[tokio::test]
    async fn what_is_refreshed_does_not_wait_for_news() {
        let store: SharedMetadata = Arc::new(MemoryStore::new());
        let directory = BookieDirectory::follow(store.clone()).await.expect("a directory");
        let id = BookieId::new("b1").expect("an id");
        let info = ServiceInfo { host: "h".into(), port: 3181, tls: false, rack: None };
        let lease = store.grant_lease(Duration::from_secs(9)).await.expect("a lease");
        register(&store, &id, &info, lease.id()).await.expect("register");
        assert!(!directory.now().is_registered(&id), "nobody has had the time to tell");
        directory.refresh().await.expect("read");
        assert!(directory.now().is_registered(&id));
        store.delete(&layout::bookie(&id), Expect::Any).await.expect("delete");
        let (one, other) = tokio::join!(directory.refresh(), directory.refresh());
        assert_eq!((one, other), (Ok(()), Ok(())));
        assert!(!directory.now().is_registered(&id));
    }

    #[test]
    fn a_registration_tells_whether_tls_is_offered_and_where_the_bookie_stands() {
        let id = BookieId::new("b1").expect("an id");
        for (tls, rack) in [(false, None), (true, Some("/eu/r1".to_owned()))] {
            let info = ServiceInfo { host: "h".into(), port: 3181, tls, rack };
            assert_eq!(ServiceInfo::decode(&id, info.encode()), Some(info));
        }
    }

    #[test]
    fn an_id_of_host_and_port_resolves_to_itself() {
        let id = BookieId::new("10.0.0.1:3181").expect("an id");
        assert_eq!(Bookies::default().resolve(&id), Some("10.0.0.1:3181".into()));
    }
}
