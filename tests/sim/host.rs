//! A bookie and its disk: the real storage engine over files in memory, which dies and comes back.

use super::contract::Contract;
use super::defect::Defect;
use super::messages::CallId;
use bytes::Bytes;
use magnetar_bookie::simulated::{LEDGERS, SteppedBookie};
use magnetar_common::clock::ManualClock;
use magnetar_common::random::Random;
use magnetar_common::storage::{MemoryStorage, Storage, Unsynced};
use magnetar_proto::bookkeeper::v2::{Flags, Request, Response};
use magnetar_proto::bookkeeper::{BookieId, Code};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// See the module.
pub(super) struct Host {
    pub(super) id: BookieId,
    storage: MemoryStorage,
    /// `None`: the process does not run.
    process: Option<SteppedBookie>,
    /// What the metadata store remembers of this bookie.
    cookie: Option<String>,
    /// Counts processes: what belongs to an earlier one means nothing to this one.
    pub(super) life: u64,
    /// What the clients believe.
    pub(super) registered: bool,
    /// It has lost acknowledged entries, or can no longer read them.
    pub(super) lossy: bool,
    pub(super) sync_is_due: bool,
    defect: Option<Defect>,
    contract: Contract,
}

/// What came of starting a bookie.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Started {
    Serves,
    /// Its directories are not those that the cluster knows.
    Refused,
}

impl Host {
    pub(super) fn new(number: usize, defect: Option<Defect>) -> Self {
        Self {
            id: BookieId::new(&format!("b{number}")).expect("a valid id"),
            storage: MemoryStorage::new(),
            process: None,
            cookie: None,
            life: 0,
            registered: false,
            lossy: false,
            sync_is_due: false,
            defect,
            contract: Contract::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Starts the process; once more if the disk fails meanwhile. An error is a violation: nothing else that happens to a
    /// bookie here but the loss of its disks may keep it from starting.
    pub(super) fn start(&mut self, random: &dyn Random) -> Result<Started, String> {
        let mut started = self.start_once(random);
        if started.is_err() {
            self.crash(Unsynced::Torn { seed: random.next_u64() });
            started = self.start_once(random);
        }
        self.contract.on_started();
        started
    }

    /// What the bookie has done that no bookie may do, whatever else happens.
    pub(super) fn broken_promise(&mut self) -> Option<String> {
        self.contract.broken.take().map(|broken| format!("bookie {} {broken}", self.id))
    }

    fn start_once(&mut self, random: &dyn Random) -> Result<Started, String> {
        if self.defect == Some(Defect::WipedBookieServes) && self.lossy {
            self.cookie = None;
        }
        let storage: Arc<dyn Storage> = Arc::new(self.storage.clone());
        let synced = self.defect != Some(Defect::SyncSkipped);
        let clock = ManualClock::new();
        match SteppedBookie::start(storage, &self.id, &mut self.cookie, synced, clock, random) {
            Ok(process) => {
                self.process = Some(process);
                Ok(Started::Serves)
            }
            Err(_) if self.lossy => Ok(Started::Refused),
            Err(error) => Err(format!("bookie {} does not start: {error}", self.id)),
        }
    }

    /// Takes a request; `None`: the answer comes with a later sync, or never.
    pub(super) fn handle(&mut self, call: CallId, request: &Request) -> Option<Response> {
        let process = self.process.as_mut()?;
        let response = match (self.defect, request) {
            (Some(Defect::FenceIgnoredOnReads), Request::Read { ledger_id, entry_id: Some(entry), .. }) => {
                process.handle(call, &plain_read(*ledger_id, Some(*entry)))
            }
            (Some(Defect::FenceAnsweredEarly), Request::Read { ledger_id, entry_id, .. }) => {
                let fenced = process.handle(call, request);
                fenced.or_else(|| process.handle(call, &plain_read(*ledger_id, *entry_id)))
            }
            (
                Some(Defect::FenceIgnoredOnAdds),
                Request::Add { master_key, body, ledger_id, entry_id, flags },
            ) => {
                let (master_key, body) = (*master_key, body.clone());
                let flags = Flags { recovery_add: true, ..*flags };
                let (ledger_id, entry_id) = (*ledger_id, *entry_id);
                process.handle(call, &Request::Add { master_key, body, ledger_id, entry_id, flags })
            }
            (Some(Defect::AckBeforeSync), Request::Add { ledger_id, entry_id, .. }) => {
                let (ledger_id, entry_id) = (*ledger_id, *entry_id);
                let accepted = Response::Add { code: Code::Ok, ledger_id, entry_id };
                process.handle(call, request).or(Some(accepted))
            }
            _ => process.handle(call, request),
        };
        let response = response.map(|response| self.tell(response));
        self.contract.on_request(call, request, response.as_ref());
        response
    }

    /// What the defect makes of an answer.
    fn tell(&self, mut response: Response) -> Response {
        if self.defect == Some(Defect::DamageTakenForAbsence)
            && let Response::Read { code: code @ Code::Io, .. } = &mut response
        {
            *code = Code::NoEntry;
        }
        response
    }

    pub(super) fn is_owing(&self) -> bool {
        self.process.as_ref().is_some_and(SteppedBookie::is_owing)
    }

    /// Syncs the journal, and flushes the write cache if told to. `None`: the disk failed, and the process has ended.
    pub(super) fn sync(&mut self, flush: bool) -> Option<Vec<(CallId, Response)>> {
        let process = self.process.as_mut()?;
        let answers = if flush { process.flush() } else { process.sync() };
        if process.has_failed() {
            self.process = None;
            return None;
        }
        let answers: Vec<_> =
            answers.into_iter().map(|(call, response)| (call, self.tell(response))).collect();
        answers.iter().for_each(|(call, response)| self.contract.on_answer(*call, response));
        Some(answers)
    }

    /// The process dies, and the disk keeps what `unsynced` says.
    pub(super) fn crash(&mut self, unsynced: Unsynced) {
        self.process = None;
        self.life += 1;
        self.sync_is_due = false;
        self.storage = self.storage.crash(unsynced);
    }

    /// A sync from now fails, or a write.
    pub(super) fn fail_soon(&mut self, nth: u64, sync: bool) {
        if sync {
            self.storage.fail_nth_sync(nth);
        } else {
            self.storage.fail_nth_write(nth, io::ErrorKind::Other);
        }
    }

    /// The disks are replaced by empty ones. The process must have died before.
    pub(super) fn wipe(&mut self) {
        self.storage = MemoryStorage::new();
        self.lossy = true;
    }

    /// Flips a bit in an entry log; false when there is none.
    pub(super) fn rot(&mut self, random: &dyn Random) -> bool {
        let names = self.storage.list(Path::new(LEDGERS)).unwrap_or_default();
        let logs: Vec<_> = names.iter().filter(|name| name.ends_with(".elog")).collect();
        let Some(name) = logs.get(random.below(logs.len() as u64) as usize) else { return false };
        let path = Path::new(LEDGERS).join(name);
        let mut bytes = self.storage.read(&path).expect("a log that is listed");
        let Some(byte) = (!bytes.is_empty()).then(|| random.below(bytes.len() as u64) as usize) else {
            return false;
        };
        bytes[byte] ^= 1 << random.below(8);
        self.storage.overwrite(&path, &bytes).expect("a log that is listed");
        self.lossy = true;
        true
    }

    /// What the bookie would answer to a plain read, for the checker.
    pub(super) fn peek(&mut self, ledger: LedgerId, entry: EntryId) -> Option<Bytes> {
        match self.process.as_mut()?.handle(CallId::MAX, &plain_read(ledger, Some(entry))) {
            Some(Response::Read { body, .. }) => body,
            _ => None,
        }
    }
}

fn plain_read(ledger_id: LedgerId, entry_id: Option<EntryId>) -> Request {
    Request::Read { ledger_id, entry_id, flags: Flags::NONE, master_key: None }
}
