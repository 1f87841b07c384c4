//! What the unit tests of several modules share: files to damage, and entries to store.

mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use magnetar_common::clock::SystemClock;
use magnetar_common::storage::{MemoryStorage, Storage};
use magnetar_proto::ids::{EntryId, LedgerId};

use crate::engine::Add;
use crate::files::create_afresh;
use crate::identity::InstanceId;
use crate::metrics::Metrics;

pub(crate) use self::store::{BODY_BYTES, JOURNAL, LEDGERS, Store, copy_of, log_bytes};

pub(crate) const KEY: [u8; 20] = [1; 20];

/// Counts for nobody.
pub(crate) fn metrics() -> Arc<Metrics> {
    Metrics::new(Arc::new(SystemClock::default()))
}

pub(crate) fn instance() -> InstanceId {
    InstanceId::from_bytes([7; 16])
}

pub(crate) fn memory(dirs: &[&str]) -> Arc<dyn Storage> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::default());
    for dir in dirs {
        storage.create_dir_all(Path::new(dir)).unwrap();
    }
    storage
}

/// An entry body whose payload tells ledger and entry.
pub(crate) fn body(ledger: u64, entry: u64) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u64(ledger);
    body.put_u64(entry);
    body.put_i64(entry as i64 - 1);
    body.put_u64(0);
    body.put_slice(format!("payload of {ledger}:{entry}").as_bytes());
    body.freeze()
}

pub(crate) fn add(ledger: u64, entry: u64) -> Add {
    Add {
        ledger: LedgerId(ledger),
        entry: EntryId(entry),
        last_add_confirmed: entry.checked_sub(1).map(EntryId),
        master_key: KEY,
        recovery: false,
        body: body(ledger, entry),
    }
}

pub(crate) fn content(storage: &Arc<dyn Storage>, path: &Path) -> Vec<u8> {
    let file = storage.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Replaces a file's content, durably.
pub(crate) fn overwrite(storage: &Arc<dyn Storage>, path: &Path, bytes: &[u8]) {
    let file = create_afresh(&**storage, path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    storage.sync_dir(path.parent().unwrap()).unwrap();
}

/// The files of a directory whose names end in `suffix`.
pub(crate) fn files(storage: &Arc<dyn Storage>, dir: &str, suffix: &str) -> Vec<PathBuf> {
    let names = storage.list(Path::new(dir)).unwrap();
    let mut paths: Vec<_> =
        names.iter().filter(|n| n.ends_with(suffix)).map(|n| Path::new(dir).join(n)).collect();
    paths.sort();
    paths
}
