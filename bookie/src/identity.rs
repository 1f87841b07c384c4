//! Who a data directory belongs to: a random instance id, stamped into each directory and bound to the bookie id in
//! the metadata store. A bookie that came up with a wrong or an empty directory would deny entries it had acknowledged
//! and take adds it had fenced; it must not start.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use magnetar_common::random::Random;
use magnetar_common::storage::{DirLock, Storage};
use magnetar_proto::bookkeeper::BookieId;

use crate::files::create_afresh;

/// Format of the stamp and of the whole directory.
pub(crate) const FORMAT_VERSION: u32 = 1;

const TITLE: &str = "magnetar bookie directory";

/// Random id of one set of data directories, made at their first start.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceId([u8; 16]);

impl InstanceId {
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        InstanceId(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn random(random: &dyn Random) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&random.next_u64().to_be_bytes());
        bytes[8..].copy_from_slice(&random.next_u64().to_be_bytes());
        InstanceId(*uuid::Builder::from_random_bytes(bytes).as_uuid().as_bytes())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(InstanceId(*uuid::Uuid::parse_str(text).ok()?.as_bytes()))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is stamped into every directory of a bookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) instance: InstanceId,
    pub(crate) bookie: BookieId,
}

/// Why the data directories cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot use data directory {}: {error}", dir.display())]
    Io { dir: PathBuf, error: io::Error },
    #[error("no permission to write in data directory {}: change its owner or choose another directory", dir.display())]
    Permission { dir: PathBuf },
    #[error("data directory {} is in use by another process", dir.display())]
    InUse { dir: PathBuf },
    #[error("data directory {} has format version {version}, newer than this program understands ({FORMAT_VERSION}): use the newer program", dir.display())]
    Newer { dir: PathBuf, version: u32 },
    #[error("data directory {} is not empty and was not made by a bookie: choose another directory", dir.display())]
    NotOurs { dir: PathBuf },
    #[error("the identity file in {} is damaged", dir.display())]
    Damaged { dir: PathBuf },
    #[error("data directory {} belongs to bookie {found}, not to {expected}", dir.display())]
    WrongBookie { dir: PathBuf, found: BookieId, expected: BookieId },
    #[error("data directories {} and {} belong to different instances", first.display(), other.display())]
    Mixed { first: PathBuf, other: PathBuf },
    #[error("data directory {} is empty although others of this bookie are not: bring back its data, or, if its disk is lost, remove the directory to start without it", dir.display())]
    Missing { dir: PathBuf },
    #[error(
        "bookie {bookie} is known to the cluster, but its data directories are empty: bring back its data, or remove its cookie after its ledgers were re-replicated"
    )]
    DataLost { bookie: BookieId },
    #[error(
        "bookie {bookie} is known to the cluster with instance {expected}, but its data directories hold instance {found}"
    )]
    Impostor { bookie: BookieId, expected: String, found: InstanceId },
    #[error(
        "the data directories of bookie {bookie} hold data, but the cluster does not know it: is this the right metadata store?"
    )]
    UnknownToCluster { bookie: BookieId },
}

/// One data directory and the name of its stamp, which tells its role: swapped directories do not pass.
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
    pub(crate) stamp: String,
}

/// The directories of a configuration.
pub(crate) fn data_dirs(journal_dir: &Path, ledger_dirs: &[PathBuf]) -> Vec<DataDir> {
    let journal = DataDir { path: journal_dir.to_owned(), stamp: "journal.identity".into() };
    let ledgers = ledger_dirs.iter().enumerate();
    let ledgers =
        ledgers.map(|(at, path)| DataDir { path: path.clone(), stamp: format!("ledgers-{at}.identity") });
    std::iter::once(journal).chain(ledgers).collect()
}

/// What the directories say together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// None has a stamp and none holds anything.
    Empty,
    /// All are stamped alike. Without `data` they were stamped but never used.
    Stamped { identity: Identity, data: bool },
}

impl DataDir {
    fn io(&self, error: io::Error) -> IdentityError {
        let dir = self.path.clone();
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                IdentityError::Permission { dir }
            }
            _ => IdentityError::Io { dir, error },
        }
    }

    /// The stamp, and whether the directory holds anything else. Blocks.
    pub(crate) fn inspect(&self, storage: &dyn Storage) -> Result<(Option<Identity>, bool), IdentityError> {
        let names = storage.list(&self.path).map_err(|error| self.io(error))?;
        let data = names.iter().any(|name| {
            !name.ends_with(".identity")
                && !name.ends_with(".identity.tmp")
                && !IGNORED.contains(&name.as_str())
        });
        if !names.contains(&self.stamp) {
            return Ok((None, data));
        }
        let file = storage.open(&self.path.join(&self.stamp)).map_err(|error| self.io(error))?;
        let mut bytes = vec![0; file.len().map_err(|error| self.io(error))? as usize];
        file.read_exact_at(&mut bytes, 0).map_err(|error| self.io(error))?;
        let identity = parse(&bytes).map_err(|problem| match problem {
            Problem::Damaged => IdentityError::Damaged { dir: self.path.clone() },
            Problem::Newer(version) => IdentityError::Newer { dir: self.path.clone(), version },
        })?;
        Ok((Some(identity), data))
    }

    /// Replaces the stamp; durable when this returns. Blocks.
    pub(crate) fn write_stamp(&self, storage: &dyn Storage, identity: &Identity) -> io::Result<()> {
        let temporary = self.path.join(format!("{}.tmp", self.stamp));
        let file = create_afresh(storage, &temporary)?;
        file.write_all_at(encode(identity).as_bytes(), 0)?;
        file.sync_data()?;
        storage.rename(&temporary, &self.path.join(&self.stamp))?;
        storage.sync_dir(&self.path)
    }
}

/// Name of the file that a running bookie keeps locked in each of its directories.
pub(crate) const LOCK: &str = "LOCK";

/// Names that do not make a directory a used one; the second stands in the root of a fresh ext4 mount.
const IGNORED: [&str; 2] = [LOCK, "lost+found"];

/// The directories of a running bookie; another process cannot take them until this is dropped.
pub(crate) struct Locks {
    _locks: Vec<Box<dyn DirLock>>,
}

/// The directories to go on with: without ledger directories that are gone or cannot be read, as long as another one
/// of this bookie is there. A directory that is there but empty is none of these: an operator who replaced a disk says
/// so by removing the directory. Blocks.
pub(crate) fn present(storage: &dyn Storage, dirs: Vec<DataDir>) -> Vec<DataDir> {
    let listed: Vec<_> = dirs.iter().map(|dir| storage.list(&dir.path)).collect();
    let stamped =
        |at: usize| at > 0 && listed[at].as_ref().is_ok_and(|names| names.contains(&dirs[at].stamp));
    if !(0..dirs.len()).any(stamped) {
        return dirs;
    }
    let lost = |at: usize| {
        let Err(error) = &listed[at] else { return false };
        // These are mistakes to be told, not disks that died.
        let mistake = matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::NotADirectory
        );
        at > 0 && !mistake
    };
    let lost: Vec<bool> = (0..dirs.len()).map(lost).collect();
    dirs.into_iter().zip(lost).filter(|(_, lost)| !lost).map(|(dir, _)| dir).collect()
}

/// Makes the directories if they do not exist and locks each of them. Blocks.
pub(crate) fn lock(storage: &Arc<dyn Storage>, dirs: &[DataDir]) -> Result<Locks, IdentityError> {
    let mut locks = Vec::new();
    for (at, dir) in dirs.iter().enumerate() {
        storage.create_dir_all(&dir.path).map_err(|error| dir.io(error))?;
        if dirs[..at].iter().any(|other| other.path == dir.path) {
            continue;
        }
        locks.push(storage.lock(&dir.path.join(LOCK)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => IdentityError::InUse { dir: dir.path.clone() },
            _ => dir.io(error),
        })?);
    }
    Ok(Locks { _locks: locks })
}

/// Reads the stamps of directories that exist. Blocks.
pub(crate) fn inspect(storage: &Arc<dyn Storage>, dirs: &[DataDir]) -> Result<Found, IdentityError> {
    let mut stamped: Option<(Identity, &Path)> = None;
    let mut unstamped = None;
    let mut holds_data = false;
    for dir in dirs {
        let (identity, data) = dir.inspect(&**storage)?;
        match (identity, &stamped) {
            (Some(identity), None) => stamped = Some((identity, &dir.path)),
            (Some(identity), Some((first, path))) if *first != identity => {
                return Err(IdentityError::Mixed { first: path.to_path_buf(), other: dir.path.clone() });
            }
            (Some(_), Some(_)) => {}
            (None, _) if data && !shared(dirs, dir) => {
                return Err(IdentityError::NotOurs { dir: dir.path.clone() });
            }
            (None, _) => unstamped = Some(dir),
        }
        holds_data |= data;
    }
    match (stamped, unstamped) {
        (None, _) => Ok(Found::Empty),
        // Stamping was cut short by a crash: nothing has been stored yet.
        (Some((identity, _)), Some(_)) if !holds_data => Ok(Found::Stamped { identity, data: false }),
        (Some(_), Some(dir)) => Err(IdentityError::Missing { dir: dir.path.clone() }),
        (Some((identity, _)), None) => Ok(Found::Stamped { identity, data: holds_data }),
    }
}

/// Whether another role uses the same path.
fn shared(dirs: &[DataDir], dir: &DataDir) -> bool {
    dirs.iter().filter(|other| other.path == dir.path).count() > 1
}

/// Stamps every directory; durable when this returns. Blocks.
pub(crate) fn stamp(
    storage: &Arc<dyn Storage>,
    dirs: &[DataDir],
    identity: &Identity,
) -> Result<(), IdentityError> {
    for dir in dirs {
        dir.write_stamp(&**storage, identity).map_err(|error| dir.io(error))?;
    }
    Ok(())
}

/// The stamp's bytes.
pub(crate) fn encode(identity: &Identity) -> String {
    format!("{TITLE}\nformat {FORMAT_VERSION}\ninstance {}\nbookie {}\n", identity.instance, identity.bookie)
}

enum Problem {
    Damaged,
    Newer(u32),
}

fn parse(bytes: &[u8]) -> Result<Identity, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::Damaged)?;
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err(Problem::Damaged);
    }
    let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    let version = field("format").and_then(|text| text.parse().ok()).ok_or(Problem::Damaged)?;
    if version > FORMAT_VERSION {
        return Err(Problem::Newer(version));
    }
    let instance = field("instance").and_then(|text| InstanceId::parse(&text)).ok_or(Problem::Damaged)?;
    let bookie = field("bookie").and_then(|text| BookieId::new(&text).ok()).ok_or(Problem::Damaged)?;
    Ok(Identity { instance, bookie })
}
