//! The cookie: a bookie's proof that it still has the disks it wrote to. The same text lies in each of its directories and
//! in the metadata store.
//!
//! ```text
//! 5
//! bookieHost: "127.0.0.1:3181"
//! journalDir: "/data/journal"
//! ledgerDirs: "1\t/data/ledgers"
//! instanceId: "3f1c…"
//! ```
//! The first line is the layout version; the rest is protobuf's text format.

use std::fmt::Write;

/// Layout version that is written; others are refused.
const LAYOUT_VERSION: &str = "5";

/// What identifies a bookie's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The bookie id.
    pub bookie_id: String,
    /// Journal directories.
    pub journal_dirs: Vec<String>,
    /// Ledger directories.
    pub ledger_dirs: Vec<String>,
    /// Index directories, where they are not the ledger directories.
    pub index_dirs: Option<Vec<String>>,
    /// The cluster, as in its INSTANCEID record.
    pub instance_id: Option<String>,
}

/// The text is no cookie.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// Written by another version of the layout.
    #[error("cookie layout version {0:?} is not supported (expected {LAYOUT_VERSION})")]
    Version(String),
    /// A line is not `name: "text"`, or its text is malformed.
    #[error("malformed cookie line {0:?}")]
    Line(String),
    /// A line is missing.
    #[error("cookie lacks {0}")]
    Missing(&'static str),
}

impl Cookie {
    /// The cookie's text.
    pub fn encode(&self) -> String {
        let mut out = format!("{LAYOUT_VERSION}\n");
        put_line(&mut out, "bookieHost", &self.bookie_id);
        put_line(&mut out, "journalDir", &self.journal_dirs.join(","));
        put_line(&mut out, "ledgerDirs", &join_dirs(&self.ledger_dirs));
        if let Some(instance_id) = &self.instance_id {
            put_line(&mut out, "instanceId", instance_id);
        }
        if let Some(dirs) = &self.index_dirs {
            put_line(&mut out, "indexDirs", &join_dirs(dirs));
        }
        out
    }

    /// Reads a cookie. Unknown lines are ignored.
    pub fn decode(text: &str) -> Result<Self, CookieError> {
        let (version, body) = text.split_once('\n').unwrap_or((text, ""));
        if version.trim_end() != LAYOUT_VERSION {
            return Err(CookieError::Version(version.chars().take(16).collect()));
        }
        let (mut host, mut journal, mut ledger, mut index, mut instance) = (None, None, None, None, None);
        for line in body.lines().filter(|line| !line.trim().is_empty()) {
            let (name, value) =
                parse_line(line).ok_or_else(|| CookieError::Line(line.chars().take(256).collect()))?;
            match name {
                "bookieHost" => host = Some(value),
                "journalDir" => journal = Some(value),
                "ledgerDirs" => ledger = Some(split_dirs(&value).ok_or(CookieError::Line(value))?),
                "indexDirs" => index = Some(split_dirs(&value).ok_or(CookieError::Line(value))?),
                "instanceId" => instance = Some(value),
                _ => {}
            }
        }
        Ok(Self {
            bookie_id: host.ok_or(CookieError::Missing("bookieHost"))?,
            journal_dirs: journal
                .ok_or(CookieError::Missing("journalDir"))?
                .split(',')
                .map(str::to_owned)
                .collect(),
            ledger_dirs: ledger.ok_or(CookieError::Missing("ledgerDirs"))?,
            index_dirs: index,
            instance_id: instance,
        })
    }
}

pub(super) fn put_line(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, "{name}: \"");
    for byte in value.bytes() {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'"' => out.push_str("\\\""),
            b'\'' => out.push_str("\\'"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\{byte:03o}");
            }
        }
    }
    out.push_str("\"\n");
}

pub(super) fn parse_line(line: &str) -> Option<(&str, String)> {
    let (name, value) = line.split_once(':')?;
    let quoted = value.trim().strip_prefix('"')?.strip_suffix('"')?;
    Some((name.trim(), unescape(quoted)?))
}

fn unescape(quoted: &str) -> Option<String> {
    let mut out = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next()? {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            digit @ b'0'..=b'7' => {
                let mut value = u32::from(digit - b'0');
                for _ in 0..2 {
                    if let Some(next) = bytes.next_if(|next| (b'0'..=b'7').contains(next)) {
                        value = value * 8 + u32::from(next - b'0');
                    }
                }
                out.push(u8::try_from(value).ok()?);
            }
            quoted @ (b'"' | b'\'' | b'\\') => out.push(quoted),
            _ => return None,
        }
    }
    String::from_utf8(out).ok()
}

fn join_dirs(dirs: &[String]) -> String {
    let mut out = dirs.len().to_string();
    for dir in dirs {
        out.push('\t');
        out.push_str(dir);
    }
    out
}

fn split_dirs(text: &str) -> Option<Vec<String>> {
    let mut parts = text.split('\t');
    let count: usize = parts.next()?.parse().ok()?;
    let dirs: Vec<String> = parts.map(str::to_owned).collect();
    (dirs.len() == count).then_some(dirs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_that_of_upstream() {
        let cookie = Cookie {
            bookie_id: "bk1:3181".into(),
            journal_dirs: vec!["/j".into()],
            ledger_dirs: vec!["/a".into(), "/b".into()],
            index_dirs: None,
            instance_id: Some("uuid".into()),
        };
        let text = "5\nbookieHost: \"bk1:3181\"\njournalDir: \"/j\"\nledgerDirs: \"2\\t/a\\t/b\"\ninstanceId: \"uuid\"\n";
        assert_eq!(cookie.encode(), text);
        assert_eq!(Cookie::decode(text).unwrap(), cookie);
    }

    #[test]
    fn a_wrong_count_or_version_is_refused() {
        let head = "bookieHost: \"b\"\njournalDir: \"/j\"\nledgerDirs: \"2\\t/a\"\n";
        assert!(matches!(Cookie::decode(&format!("5\n{head}")), Err(CookieError::Line(_))));
        assert!(matches!(Cookie::decode(&format!("4\n{head}")), Err(CookieError::Version(_))));
        assert_eq!(Cookie::decode("5\n"), Err(CookieError::Missing("bookieHost")));
    }

    proptest! {
        #[test]
        fn decode_reverses_encode(
            bookie_id: String,
            journal in prop::collection::vec("[^,]*", 1..3),
            ledger in prop::collection::vec("[^\t]*", 0..3),
            index in prop::option::of(prop::collection::vec("[^\t]*", 0..3)),
            instance: Option<String>,
        ) {
            let cookie = Cookie {
                bookie_id,
                journal_dirs: journal,
                ledger_dirs: ledger,
                index_dirs: index,
                instance_id: instance,
            };
            prop_assert_eq!(Cookie::decode(&cookie.encode()), Ok(cookie));
        }

        #[test]
        fn any_text_is_a_cookie_or_an_error(text: String) {
            let _ = Cookie::decode(&text);
            let _ = Cookie::decode(&format!("5\n{text}"));
        }
    }
}
