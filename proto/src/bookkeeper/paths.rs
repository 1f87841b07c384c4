//! Where a ledger's metadata lies in the metadata store.
//!
//! Ids below 2^31-1 have ten digits, split 2-4-4; the others nineteen, split 3-4-4-4-4. The last part carries an `L`.

use crate::ids::LedgerId;

/// Root of everything that BookKeeper keeps in the metadata store.
pub const ROOT: &str = "/ledgers";

/// First id that takes the long form.
const FIRST_LONG_ID: u64 = i32::MAX as u64;

/// The key of a ledger's metadata: ledger 1 is at `/ledgers/00/0000/L0001`.
pub fn ledger_path(ledger_id: LedgerId) -> String {
    let id = ledger_id.0;
    if id < FIRST_LONG_ID {
        let digits = format!("{id:010}");
        format!("{ROOT}/{}/{}/L{}", &digits[..2], &digits[2..6], &digits[6..])
    } else {
        let digits = format!("{id:019}");
        let (head, tail) = digits.split_at(15);
        format!("{ROOT}/{}/{}/{}/{}/L{tail}", &head[..3], &head[3..7], &head[7..11], &head[11..])
    }
}

/// The ledger whose metadata is at `path`; `None` if the key belongs to something else. Only canonical paths are accepted.
pub fn parse_ledger_path(path: &str) -> Option<LedgerId> {
    let below_root = path.strip_prefix(ROOT)?.strip_prefix('/')?;
    let (directories, last) = below_root.rsplit_once('/')?;
    let digits = directories.replace('/', "") + last.strip_prefix('L')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let id = LedgerId::from_wire(digits.parse().ok()?)?;
    (ledger_path(id) == path).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn published_examples() {
        let cases = [
            (0, "/ledgers/00/0000/L0000"),
            (1, "/ledgers/00/0000/L0001"),
            (2_147_483_646, "/ledgers/21/4748/L3646"),
            (2_147_483_647, "/ledgers/000/0000/0021/4748/L3647"),
            (i64::MAX as u64, "/ledgers/922/3372/0368/5477/L5807"),
        ];
        for (id, path) in cases {
            assert_eq!(ledger_path(LedgerId(id)), path);
            assert_eq!(parse_ledger_path(path), Some(LedgerId(id)));
        }
    }

    #[test]
    fn other_keys_are_no_ledgers() {
        for path in [
            "/ledgers/LAYOUT",
            "/ledgers/available/bk:3181",
            "/ledgers/idgen/ID-1",
            "/ledgers/00/0000/0001",
            "/ledgers/0/00000/L0001",
            "/ledgers/00/0000/L+001",
            "/other/00/0000/L0001",
        ] {
            assert_eq!(parse_ledger_path(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn every_id_has_one_path(id in 0..=i64::MAX as u64) {
            prop_assert_eq!(parse_ledger_path(&ledger_path(LedgerId(id))), Some(LedgerId(id)));
        }

        #[test]
        fn any_text_parses_or_not(path: String) {
            let _ = parse_ledger_path(&path);
            let _ = parse_ledger_path(&format!("/ledgers/{path}"));
        }
    }
}
