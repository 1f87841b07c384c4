//! Names of tenants, namespaces and topics.
//!
//! A full name is `persistent://tenant/namespace/local`; `local` alone means `persistent://public/default/local`, and
//! `tenant/namespace/local` a persistent topic. `…-partition-N` is partition N of the topic without that suffix. A local
//! name may contain '/', so the older form with a cluster between tenant and namespace is not told apart: its cluster is
//! taken for the namespace. (Rules: Pulsar's `TopicName`, which reads every name of four parts in the older way.)

use magnetar_proto::checksum;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What Java's URL encoder does not keep. A space, which it writes as '+', is replaced afterwards.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b' ');
/// A longer local name could not be a part of a path everywhere.
const LOCAL_BYTES_MAX: usize = 4096;
const PARTITION_SUFFIX: &str = "-partition-";

/// Encodes one path component as topics and cursors appear in metadata keys and Java's REST paths: form encoding, byte
/// for byte that of Java's `URLEncoder`, so that brokers of both kinds find each other's records.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string().replace(' ', "+")
}

/// Undoes [`encode`]; `None` when the bytes are not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let spaces = text.replace('+', " ");
    Some(percent_decode_str(&spaces).decode_utf8().ok()?.into_owned())
}

/// The text is no valid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no valid {what}: {reason}")]
pub struct InvalidName {
    name: String,
    what: &'static str,
    reason: &'static str,
}

/// Whether a topic's messages are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// In ledgers.
    Persistent,
    /// Nowhere: who is not connected misses them.
    NonPersistent,
}

impl Domain {
    /// As in names and paths.
    pub fn as_str(self) -> &'static str {
        match self {
            Domain::Persistent => "persistent",
            Domain::NonPersistent => "non-persistent",
        }
    }
}

impl FromStr for Domain {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text {
            "persistent" => Ok(Domain::Persistent),
            "non-persistent" => Ok(Domain::NonPersistent),
            _ => Err(invalid(text, "topic domain", "use persistent or non-persistent")),
        }
    }
}

/// A valid `tenant/namespace`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceName {
    full: Arc<str>,
    tenant_bytes: usize,
}

/// A valid topic name. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName {
    full: Arc<str>,
    domain: Domain,
    namespace: NamespaceName,
}

fn invalid(name: &str, what: &'static str, reason: &'static str) -> InvalidName {
    InvalidName { name: name.to_owned(), what, reason }
}

/// Checks a tenant, cluster or namespace's own name.
pub fn check_part(name: &str, what: &'static str) -> Result<(), InvalidName> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-=:._".contains(character);
    if !name.is_empty() && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(invalid(name, what, "use letters, digits and - = : . _"))
    }
}

impl NamespaceName {
    /// Checks and joins a tenant and a namespace's own name.
    pub fn new(tenant: &str, namespace: &str) -> Result<Self, InvalidName> {
        check_part(tenant, "tenant")?;
        check_part(namespace, "namespace")?;
        Ok(Self { full: format!("{tenant}/{namespace}").into(), tenant_bytes: tenant.len() })
    }

    /// `public/default`.
    pub fn default_namespace() -> Self {
        Self { full: "public/default".into(), tenant_bytes: "public".len() }
    }

    /// The tenant.
    pub fn tenant(&self) -> &str {
        &self.full[..self.tenant_bytes]
    }

    /// The namespace's own name.
    pub fn local(&self) -> &str {
        &self.full[self.tenant_bytes + 1..]
    }

    /// `tenant/namespace`.
    pub fn as_str(&self) -> &str {
        &self.full
    }
}

impl FromStr for NamespaceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.split_once('/') {
            Some((tenant, namespace)) => Self::new(tenant, namespace),
            None => Err(invalid(text, "namespace", "write tenant/namespace")),
        }
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.full)
    }
}

impl fmt::Debug for NamespaceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.full)
    }
}

impl TopicName {
    /// Checks and joins the parts.
    pub fn new(domain: Domain, namespace: NamespaceName, local: &str) -> Result<Self, InvalidName> {
        let full = format!("{}://{namespace}/{local}", domain.as_str());
        if local.is_empty() || local.len() > LOCAL_BYTES_MAX || local.contains(char::is_control) {
            return Err(invalid(
                &full,
                "topic name",
                "the part after the namespace must have 1 to 4096 printable characters",
            ));
        }
        Ok(Self { full: full.into(), domain, namespace })
    }

    /// The whole name, with scheme and partition suffix.
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// Whether its messages are stored.
    pub fn domain(&self) -> Domain {
        self.domain
    }

    /// Where it belongs.
    pub fn namespace(&self) -> &NamespaceName {
        &self.namespace
    }

    /// The part after the namespace.
    pub fn local(&self) -> &str {
        let before = self.domain.as_str().len() + "://".len() + self.namespace.as_str().len() + "/".len();
        &self.full[before..]
    }

    /// N, when this is partition N of a topic.
    pub fn partition(&self) -> Option<u32> {
        let (base, digits) = self.full.rsplit_once(PARTITION_SUFFIX)?;
        let canonical =
            digits == "0" || (!digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()));
        let partition: u32 = if canonical { digits.parse().ok()? } else { return None };
        // Java's brokers count partitions in an i32.
        let partition = Some(partition).filter(|number| *number <= i32::MAX.unsigned_abs())?;
        // "-partition-3" alone is a topic of that name, not a partition of the topic "".
        (!base.ends_with('/')).then_some(partition)
    }

    /// The topic this is a partition of, or the topic itself.
    pub fn without_partition(&self) -> Self {
        match (self.partition(), self.full.rsplit_once(PARTITION_SUFFIX)) {
            (Some(_), Some((base, _))) => Self { full: base.into(), ..self.clone() },
            _ => self.clone(),
        }
    }

    /// Partition `number` of this topic.
    pub fn with_partition(&self, number: u32) -> Self {
        Self { full: format!("{}{PARTITION_SUFFIX}{number}", self.full).into(), ..self.clone() }
    }

    /// The managed ledger's name: `tenant/namespace/persistent/<encoded local>`.
    pub fn managed_ledger_name(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.domain.as_str(), encode(self.local()))
    }

    /// Where the topic falls among its namespace's bundles: CRC-32 (IEEE) of the whole name.
    pub fn bundle_hash(&self) -> u32 {
        checksum::crc32(self.full.as_bytes())
    }
}

impl FromStr for TopicName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let wrong = |reason| invalid(text, "topic name", reason);
        let (domain, rest) = match text.split_once("://") {
            Some((domain, rest)) => (
                domain.parse().map_err(|_| wrong("it must start with persistent:// or non-persistent://"))?,
                rest,
            ),
            None if !text.contains('/') => {
                return Self::new(Domain::Persistent, NamespaceName::default_namespace(), text);
            }
            None => (Domain::Persistent, text),
        };
        let mut parts = rest.splitn(3, '/');
        let (Some(tenant), Some(namespace), Some(local)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("write persistent://tenant/namespace/topic"));
        };
        let namespace = NamespaceName::new(tenant, namespace)
            .map_err(|_| wrong("tenant and namespace consist of letters, digits and - = : . _"))?;
        Self::new(domain, namespace, local)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.full)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> TopicName {
        text.parse().expect("a topic name")
    }

    #[test]
    fn short_forms_are_completed() {
        assert_eq!(parse("a").as_str(), "persistent://public/default/a");
        assert_eq!(parse("t/n/a").as_str(), "persistent://t/n/a");
        assert_eq!(parse("non-persistent://t/n/a/b").local(), "a/b");
        assert_eq!(parse("t/n/a").namespace().tenant(), "t");
        assert_eq!(parse("t/n/a").namespace().local(), "n");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "a/b",
            "t//a",
            "t/n/",
            "ftp://t/n/a",
            "persistent://a",
            "persistent://t/n",
            "t n/x/a",
            "a\nb",
        ] {
            assert!(text.parse::<TopicName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn partitions_know_their_topic() {
        let partition = parse("a-partition-12");
        assert_eq!(partition.partition(), Some(12));
        assert_eq!(partition.without_partition(), parse("a"));
        assert_eq!(parse("a").with_partition(12), partition);
        for text in [
            "a",
            "a-partition-",
            "a-partition-01",
            "a-partition-x",
            "-partition-1",
            "a-partition--1",
            "a-partition-2147483648",
        ] {
            assert_eq!(parse(text).partition(), None, "{text}");
            assert_eq!(parse(text).without_partition(), parse(text));
        }
    }

    #[test]
    fn the_managed_ledger_name_is_one_path_component() {
        assert_eq!(parse("t/n/a/b c").managed_ledger_name(), "t/n/persistent/a%2Fb+c");
    }

    #[test]
    fn encoding_is_that_of_javas_url_encoder() {
        assert_eq!(encode("a/b c+d~e*f-g_h.i%é!'()"), "a%2Fb+c%2Bd%7Ee*f-g_h.i%25%C3%A9%21%27%28%29");
        assert_eq!(decode("a+b%20c%2B").as_deref(), Some("a b c+"));
        assert_eq!(decode("%ff"), None);
    }

    #[test]
    fn the_bundle_hash_is_the_crc32_of_the_whole_name() {
        // Python: zlib.crc32(b"persistent://public/default/a-partition-0")
        assert_eq!(parse("a-partition-0").bundle_hash(), 0x948d_05fd);
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_an_error(text in ".*") {
            if let Ok(name) = text.parse::<TopicName>() {
                prop_assert_eq!(name.as_str().parse::<TopicName>(), Ok(name.clone()));
                prop_assert_eq!(name.with_partition(3).without_partition(), name);
            }
        }

        #[test]
        fn parts_come_back_out_of_a_name(
            tenant in "[-=:._a-zA-Z0-9]{1,9}", namespace in "[-=:._a-zA-Z0-9]{1,9}", local in "[^\\p{Cc}]{1,20}", persistent: bool,
        ) {
            let domain = if persistent { Domain::Persistent } else { Domain::NonPersistent };
            let text = format!("{}://{tenant}/{namespace}/{local}", domain.as_str());
            let name: TopicName = text.parse().expect("a topic name");
            prop_assert_eq!(name.as_str(), &text);
            prop_assert_eq!((name.domain(), name.local()), (domain, local.as_str()));
            prop_assert_eq!((name.namespace().tenant(), name.namespace().local()), (&*tenant, &*namespace));
            let managed_ledger = name.managed_ledger_name();
            prop_assert_eq!(managed_ledger.split('/').count(), 4);
            prop_assert_eq!(managed_ledger.rsplit('/').next().and_then(decode), Some(local));
        }

        #[test]
        fn a_partition_keeps_its_number(number in 0..=i32::MAX.unsigned_abs()) {
            let partition = parse("a").with_partition(number);
            prop_assert_eq!(partition.partition(), Some(number));
            prop_assert_eq!(partition.as_str().parse::<TopicName>(), Ok(partition.clone()));
        }

        #[test]
        fn encoding_is_undone_by_decoding(text in ".*") {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.*+%".contains(&byte)));
            prop_assert_eq!(decode(&encoded), Some(text));
        }
    }
}
