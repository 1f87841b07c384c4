//! Establishes who this bookie is: its directories' stamps and the cookie in the metadata store must agree. The cookie
//! carries the directories' instance id as its `instanceId`.

use std::path::Path;
use std::sync::Arc;

use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError, SharedMetadata};
use magnetar_common::random::SharedRandom;
use magnetar_common::storage::Storage;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::cookie::Cookie;

use crate::bookie::{StartError, Welcome};
use crate::identity::{self, DataDir, Found, Identity, IdentityError, InstanceId};

pub(crate) struct Claim {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dirs: Vec<DataDir>,
    pub(crate) metadata: SharedMetadata,
    pub(crate) random: SharedRandom,
    /// Asked before the first start of a bookie under this name.
    pub(crate) welcome: Welcome,
}

impl Claim {
    /// Locks the directories, checks their stamps against the cookie, and on the first start makes both: stamps first,
    /// so that a crash in between leaves directories that can still prove that nothing was stored.
    pub(crate) async fn establish(
        self,
        configured: Option<BookieId>,
        advertised: &str,
    ) -> Result<(Identity, identity::Locks), StartError> {
        let Claim { storage, dirs, metadata, random, welcome } = self;
        let (locks, found, dirs) = {
            let storage = storage.clone();
            let inspect = move || {
                let dirs = Arc::new(identity::present(&*storage, dirs));
                let locks = identity::lock(&storage, &dirs)?;
                Ok::<_, IdentityError>((locks, identity::inspect(&storage, &dirs)?, dirs))
            };
            tokio::task::spawn_blocking(inspect).await.map_err(|_| StartError::Interrupted)??
        };
        let bookie = choose_id(configured, &found, &dirs[0].path, advertised)?;
        let known = known_instance(&metadata, &bookie).await?;
        if let Some(identity) = judge(&bookie, &found, known.as_deref())? {
            return Ok((identity, locks));
        }
        welcome(bookie.clone()).await.map_err(StartError::Unwelcome)?;
        let instance = match found {
            Found::Stamped { identity, .. } => identity.instance,
            Found::Empty => InstanceId::random(&*random),
        };
        let identity = Identity { instance, bookie };
        let stamped = (storage, dirs.clone(), identity.clone());
        let stamp = move || identity::stamp(&stamped.0, &stamped.1, &stamped.2);
        tokio::task::spawn_blocking(stamp).await.map_err(|_| StartError::Interrupted)??;
        put_cookie(&metadata, &dirs, &identity).await?;
        Ok((identity, locks))
    }
}

/// Whether directories of which this was found may be those of the bookie that the cluster knows as instance `known`:
/// its identity, `None` if this is its first start.
pub(crate) fn judge(
    bookie: &BookieId,
    found: &Found,
    known: Option<&str>,
) -> Result<Option<Identity>, IdentityError> {
    let bookie = bookie.clone();
    match (found, known) {
        (Found::Stamped { identity, .. }, Some(known)) if known == identity.instance.to_string() => {
            Ok(Some(identity.clone()))
        }
        (Found::Stamped { identity, .. }, Some(expected)) => {
            Err(IdentityError::Impostor { bookie, expected: expected.to_owned(), found: identity.instance })
        }
        (Found::Stamped { data: true, .. }, None) => Err(IdentityError::UnknownToCluster { bookie }),
        (Found::Empty, Some(_)) => Err(IdentityError::DataLost { bookie }),
        (Found::Empty | Found::Stamped { data: false, .. }, None) => Ok(None),
    }
}

/// The configured id, else the stamped one, else the address.
fn choose_id(
    configured: Option<BookieId>,
    found: &Found,
    dir: &Path,
    advertised: &str,
) -> Result<BookieId, StartError> {
    match (configured, found) {
        (Some(expected), Found::Stamped { identity, .. }) if identity.bookie != expected => {
            let (dir, found) = (dir.to_owned(), identity.bookie.clone());
            Err(IdentityError::WrongBookie { dir, found, expected }.into())
        }
        (Some(id), _) => Ok(id),
        (None, Found::Stamped { identity, .. }) => Ok(identity.bookie.clone()),
        (None, Found::Empty) => BookieId::new(advertised)
            .map_err(|_| StartError::Config(format!("'{advertised}' cannot be a bookie id: set one"))),
    }
}

/// The instance that the cluster knows under this id.
pub(crate) async fn known_instance(
    metadata: &SharedMetadata,
    bookie: &BookieId,
) -> Result<Option<String>, MetadataError> {
    let key = layout::cookie(bookie);
    let Some(value) = metadata.get(&key).await? else { return Ok(None) };
    let text = std::str::from_utf8(&value.bytes).ok();
    let cookie = text.and_then(|text| Cookie::decode(text).ok());
    let corrupt = || MetadataError::Corrupt(format!("the cookie at {key} cannot be read"));
    Ok(Some(cookie.and_then(|cookie| cookie.instance_id).ok_or_else(corrupt)?))
}

async fn put_cookie(
    metadata: &SharedMetadata,
    dirs: &[DataDir],
    identity: &Identity,
) -> Result<(), StartError> {
    let paths: Vec<String> = dirs.iter().map(|dir| dir.path.display().to_string()).collect();
    let cookie = Cookie {
        bookie_id: identity.bookie.to_string(),
        journal_dirs: paths[..1].to_vec(),
        ledger_dirs: paths[1..].to_vec(),
        index_dirs: None,
        instance_id: Some(identity.instance.to_string()),
    };
    let put = metadata.put(&layout::cookie(&identity.bookie), cookie.encode().into(), Expect::Missing).await;
    match put {
        Ok(_) => Ok(()),
        // Another bookie took the id since we looked.
        Err(MetadataError::Conflict { .. }) => {
            let expected = known_instance(metadata, &identity.bookie).await?.unwrap_or_default();
            let (bookie, found) = (identity.bookie.clone(), identity.instance);
            Err(IdentityError::Impostor { bookie, expected, found }.into())
        }
        Err(error) => Err(error.into()),
    }
}
