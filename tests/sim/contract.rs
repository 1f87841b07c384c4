//! What one bookie promises by its answers, whatever happens to it short of losing its disks: an entry that it has
//! acknowledged is never denied, and a ledger that it has answered a fence of takes no more of its writer's entries.

use super::messages::CallId;
use magnetar_proto::bookkeeper::Code;
use magnetar_proto::bookkeeper::v2::{Request, Response};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Default)]
pub(super) struct Contract {
    acknowledged: BTreeSet<(LedgerId, EntryId)>,
    /// Fencing reads that were not answered at once.
    fencing: BTreeMap<CallId, LedgerId>,
    fenced: BTreeSet<LedgerId>,
    pub(super) broken: Option<String>,
}

impl Contract {
    /// A request came, and was answered at once or not.
    pub(super) fn on_request(&mut self, call: CallId, request: &Request, response: Option<&Response>) {
        match request {
            Request::Add { ledger_id, entry_id, flags, .. } => {
                let refused = matches!(response, Some(Response::Add { code, .. }) if *code != Code::Ok);
                if !flags.recovery_add && self.fenced.contains(ledger_id) && !refused {
                    let what = format!("takes entry {ledger_id}:{entry_id}, having answered a fence");
                    self.broken.get_or_insert(what);
                }
            }
            Request::Read { ledger_id, flags, .. } if flags.fencing => {
                self.fencing.insert(call, *ledger_id);
            }
            _ => {}
        }
        if let Some(response) = response {
            self.on_answer(call, response);
        }
    }

    /// An answer leaves.
    pub(super) fn on_answer(&mut self, call: CallId, response: &Response) {
        self.fenced.extend(self.fencing.remove(&call));
        match response {
            Response::Add { code: Code::Ok, ledger_id, entry_id } => {
                self.acknowledged.insert((*ledger_id, *entry_id));
            }
            Response::Read {
                code: Code::NoEntry | Code::NoLedger, ledger_id, entry_id: Some(entry), ..
            } if self.acknowledged.contains(&(*ledger_id, *entry)) => {
                let what = format!("denies entry {ledger_id}:{entry}, which it acknowledged");
                self.broken.get_or_insert(what);
            }
            _ => {}
        }
    }

    /// A new process owes nobody an answer.
    pub(super) fn on_started(&mut self) {
        self.fencing.clear();
    }
}
