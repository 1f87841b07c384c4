//! A whole bookie in the caller's thread, for simulations: the storage engine, its directories' identity and the rules of
//! the wire, with the journal synced and the write cache flushed only when the caller says so. Not part of the crate's
//! interface: it may change at any time.
//!
//! Missing against a bookie that serves: sockets, the threads, garbage collection, the control ports and the registration.

use std::collections::BTreeMap;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BytesMut};
use magnetar_common::clock::SharedClock;
use magnetar_common::random::Random;
use magnetar_common::storage::Storage;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::v2::{Request, Response, encode_request};

use crate::bookie::StartError;
use crate::cookie;
use crate::engine::{Disk, Engine, Limits};
use crate::identity::{self, Found, Identity, InstanceId, Locks};
use crate::journal::DeviceOptions;
use crate::metrics::Metrics;
use crate::server::{Owed, Taken, take};

/// Where the journal lies in the bookie's storage.
pub const JOURNAL: &str = "/journal";
/// Where the entry logs lie.
pub const LEDGERS: &str = "/ledgers";

const WRITE_CACHE_BYTES: usize = 1 << 20;
const READ_CACHE_BYTES: usize = 64 << 10;
const JOURNAL_BYTES: u64 = 64 << 20;
/// Small, so that segments end within a short run.
const SEGMENT_BYTES: u64 = 8 << 10;

/// See the module. Dropping it is what a crash does to the process; what it does to the disk is up to the storage.
pub struct SteppedBookie {
    engine: Arc<Engine<u64>>,
    durable: Arc<Mutex<Vec<u64>>>,
    owed: BTreeMap<u64, (u64, Owed)>,
    next_token: u64,
    _locks: Locks,
}

impl SteppedBookie {
    /// Starts on what `storage` holds, as `bookie`. `cookie` is what the cluster remembers of this bookie: its instance,
    /// set at the first start. Directories that are not that instance's are refused. Not `synced`: what is acknowledged
    /// is lost in a power cut, as with the setting `journal_unsafe_no_sync`.
    pub fn start(
        storage: Arc<dyn Storage>,
        bookie: &BookieId,
        cookie: &mut Option<String>,
        synced: bool,
        clock: SharedClock,
        random: &dyn Random,
    ) -> Result<Self, StartError> {
        let ledger_dirs = vec![PathBuf::from(LEDGERS)];
        let dirs = identity::data_dirs(Path::new(JOURNAL), &ledger_dirs);
        let dirs = identity::present(&*storage, dirs);
        let locks = identity::lock(&storage, &dirs)?;
        let found = identity::inspect(&storage, &dirs)?;
        let identity = match cookie::judge(bookie, &found, cookie.as_deref())? {
            Some(identity) => identity,
            None => {
                let instance = match found {
                    Found::Stamped { identity, .. } => identity.instance,
                    Found::Empty => InstanceId::random(random),
                };
                let identity = Identity { instance, bookie: bookie.clone() };
                identity::stamp(&storage, &dirs, &identity)?;
                *cookie = Some(instance.to_string());
                identity
            }
        };
        let disk = Disk { storage, journal_dir: JOURNAL.into(), ledger_dirs, instance: identity.instance };
        let limits = Limits {
            write_cache_bytes: WRITE_CACHE_BYTES,
            read_cache_bytes: READ_CACHE_BYTES,
            journal_bytes: JOURNAL_BYTES,
            segment_bytes: SEGMENT_BYTES,
            journal_device: DeviceOptions { unsafe_no_sync: !synced, ..DeviceOptions::default() },
            free_bytes_min: 0,
        };
        let durable = Arc::new(Mutex::new(Vec::new()));
        let completed = durable.clone();
        let complete = Box::new(move |tokens: &mut Vec<u64>| {
            completed.lock().unwrap_or_else(PoisonError::into_inner).append(tokens);
        });
        let engine = Engine::open_stepped(disk, limits, Metrics::new(clock), complete)?;
        Ok(Self { engine, durable, owed: BTreeMap::new(), next_token: 0, _locks: locks })
    }

    /// Takes a request. `None`: it is answered under `tag` by a later [`sync`](Self::sync), if ever.
    pub fn handle(&mut self, tag: u64, request: &Request) -> Option<Response> {
        let mut frame = BytesMut::new();
        encode_request(request, &mut frame);
        frame.advance(size_of::<u32>());
        let token = self.next_token;
        self.next_token += 1;
        match take(&self.engine, frame.freeze(), token) {
            Taken::Answered(response) => Some(response),
            Taken::Owed(owed) => {
                self.owed.insert(token, (tag, owed));
                None
            }
            Taken::Unsupported => None,
        }
    }

    /// Whether requests wait for a sync.
    pub fn is_owing(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Writes and syncs what has been accepted, and gives the answers that waited for it. After a failed write or sync
    /// there are none, ever: see [`has_failed`](Self::has_failed).
    pub fn sync(&mut self) -> Vec<(u64, Response)> {
        while self.engine.step_journal() {}
        let tokens = mem::take(&mut *self.durable.lock().unwrap_or_else(PoisonError::into_inner));
        let paid = tokens.into_iter().filter_map(|token| self.owed.remove(&token));
        let paid = paid.filter_map(|(tag, owed)| Some((tag, owed.pay(&self.engine)?)));
        paid.collect()
    }

    /// Writes the write cache into an entry log, checkpoints and frees journal segments. Syncs the journal first, which
    /// must not have failed.
    pub fn flush(&mut self) -> Vec<(u64, Response)> {
        let answers = self.sync();
        if !self.has_failed()
            && let Err(error) = self.engine.flush_now()
        {
            self.engine.fail(error);
        }
        answers
    }

    /// The process must end.
    pub fn has_failed(&self) -> bool {
        self.engine.failure().borrow().is_some()
    }
}
