//! Where lost copies are recorded, and how: keys and records below `/ledgers/underreplication`, as BookKeeper's auditor and
//! replication workers keep them.
//!
//! A mark stands for one ledger and names the bookies that may lack copies of it; whoever works on it holds an ephemeral
//! lock beside it. Both records are protobuf's text format.

use super::cookie::{parse_line, put_line};
use super::paths::ROOT;
use crate::ids::LedgerId;
use std::collections::BTreeSet;

/// The record that tells how marks are laid out.
pub const LAYOUT: &str = "type: \"BASIC\"\nversion: 1\n";

/// Parent of everything here.
pub fn base() -> String {
    format!("{ROOT}/underreplication")
}

/// The key of [`LAYOUT`].
pub fn layout_path() -> String {
    format!("{}/LAYOUT", base())
}

/// Parent of the marks.
pub fn marks_path() -> String {
    format!("{}/ledgers", base())
}

/// The key of a ledger's mark: that of ledger 1 is `…/ledgers/0000/0000/0000/0001/urL0000000001`.
pub fn mark_path(ledger: LedgerId) -> String {
    let id = ledger.0;
    let group = |shift: u32| format!("{:04x}", (id >> shift) & 0xffff);
    format!("{}/{}/{}/{}/{}/urL{id:010}", marks_path(), group(48), group(32), group(16), group(0))
}

/// The ledger that a key marks; `None` for any other key. Only canonical keys are accepted.
pub fn parse_mark_path(path: &str) -> Option<LedgerId> {
    let (_, digits) = path.rsplit_once("/urL")?;
    let ledger = LedgerId::from_wire(digits.parse().ok()?)?;
    (mark_path(ledger) == path).then_some(ledger)
}

/// The key of the lock of whoever works on a ledger: ephemeral.
pub fn lock_path(ledger: LedgerId) -> String {
    format!("{}/locks/urL{:010}", base(), ledger.0)
}

/// The key that names the auditor, as a JSON string: ephemeral.
pub fn leader_path() -> String {
    format!("{}/leader", base())
}

/// As long as this key exists nobody looks for lost copies or makes new ones.
pub fn disable_path() -> String {
    format!("{}/disable", base())
}

/// The key of the seconds, in decimal digits, for which a bookie may be away before its copies count as lost.
pub fn delay_path() -> String {
    format!("{}/lostBookieRecoveryDelay", base())
}

/// What a mark says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Ids of the bookies that may lack copies.
    pub replicas: BTreeSet<String>,
    /// When the ledger was marked first, in milliseconds since 1970.
    pub ctime_ms: Option<i64>,
}

impl Mark {
    /// The record.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        self.replicas.iter().for_each(|replica| put_line(&mut out, "replica", replica));
        if let Some(ctime) = self.ctime_ms {
            out.push_str(&format!("ctime: {ctime}\n"));
        }
        out
    }

    /// Reads a record. What is not understood is left out: the ledger is marked whatever the record says.
    pub fn decode(text: &str) -> Self {
        let mut mark = Self::default();
        for line in text.lines() {
            match parse_line(line) {
                Some(("replica", replica)) => drop(mark.replicas.insert(replica)),
                Some(_) => {}
                None => {
                    let ctime = line.split_once(':').filter(|(name, _)| name.trim() == "ctime");
                    mark.ctime_ms = ctime.and_then(|(_, ctime)| ctime.trim().parse().ok()).or(mark.ctime_ms);
                }
            }
        }
        mark
    }
}

/// The record of a lock.
pub fn encode_lock(bookie: &str) -> String {
    let mut out = String::new();
    put_line(&mut out, "bookieId", bookie);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_those_of_upstream() {
        let marks = "/ledgers/underreplication/ledgers";
        for (id, key) in [
            (1, "0000/0000/0000/0001/urL0000000001"),
            (0x1234_5678, "0000/0000/1234/5678/urL0305419896"),
            (0x0123_4567_89ab_cdef, "0123/4567/89ab/cdef/urL81985529216486895"),
        ] {
            let path = format!("{marks}/{key}");
            assert_eq!(mark_path(LedgerId(id)), path);
            assert_eq!(parse_mark_path(&path), Some(LedgerId(id)));
        }
        assert_eq!(lock_path(LedgerId(7)), "/ledgers/underreplication/locks/urL0000000007");
        for path in ["", "/urL1", "/ledgers/underreplication/ledgers/0000/urL0000000001"] {
            assert_eq!(parse_mark_path(path), None, "{path}");
        }
    }

    #[test]
    fn text_is_that_of_upstream() {
        let mark =
            Mark { replicas: ["b:1".to_owned(), "a:1".to_owned()].into(), ctime_ms: Some(1_700_000_000_000) };
        let text = "replica: \"a:1\"\nreplica: \"b:1\"\nctime: 1700000000000\n";
        assert_eq!(mark.encode(), text);
        assert_eq!(Mark::decode(text), mark);
        assert_eq!(encode_lock("a:1"), "bookieId: \"a:1\"\n");
    }

    proptest! {
        #[test]
        fn decode_reverses_encode(replicas: BTreeSet<String>, ctime_ms: Option<i64>) {
            let mark = Mark { replicas, ctime_ms };
            prop_assert_eq!(Mark::decode(&mark.encode()), mark);
        }

        #[test]
        fn any_text_is_a_mark(text: String) {
            let _ = Mark::decode(&text);
            let _ = parse_mark_path(&text);
        }
    }
}
