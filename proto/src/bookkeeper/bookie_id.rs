//! A bookie's identity: opaque text, by default `host:port`.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

/// Longer ids are refused: they become a file name and a metadata key.
const MAX_BYTES: usize = 255;

/// The name of a directory among the registered bookies.
const RESERVED: &str = "readonly";

/// A valid bookie id. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BookieId(Arc<str>);

/// The text is no bookie id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no bookie id: use letters, digits and . - _ :, but not {RESERVED:?}")]
pub struct InvalidBookieId {
    /// The offending text.
    pub text: String,
}

impl BookieId {
    /// Accepts upstream's character set: letters, digits, `.`, `-`, and everything between `:` and `_` in ASCII.
    pub fn new(text: &str) -> Result<Self, InvalidBookieId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':'..=b'_');
        let valid =
            !text.is_empty() && text.len() <= MAX_BYTES && text != RESERVED && text.bytes().all(allowed);
        if valid { Ok(Self(text.into())) } else { Err(InvalidBookieId { text: text.to_owned() }) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BookieId {
    type Err = InvalidBookieId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl Deref for BookieId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BookieId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BookieId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_or_a_plain_name_is_valid() {
        for text in ["127.0.0.1:3181", "bookie-1", "a.b_c:1", "[::1]:3181"] {
            assert_eq!(BookieId::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_would_break_a_key_or_a_directory_is_refused() {
        for text in ["", "readonly", "a/b", "a b", "ä", "a\tb", &"x".repeat(256)] {
            assert!(BookieId::new(text).is_err(), "{text:?}");
        }
    }
}
