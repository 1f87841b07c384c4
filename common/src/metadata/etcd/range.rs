//! Listing: pages of a key range, all read at one revision, so that a listing is what was there at one moment.

use super::super::Result;
use super::super::error::MetadataError;
use super::super::ops::Value;
use super::link::{Link, no_header};
use super::transaction::version_of;
use crate::metadata::LeaseId;
use bytes::Bytes;
use etcd_client::{GetOptions, KeyValue, KvClient};
use std::collections::BTreeSet;

/// Keys in a page without values.
const NAMES_PAGE: usize = 1000;
/// Keys in a page with values: few enough for the largest answer taken, enough to keep round trips few.
const VALUES_PAGE: usize = 128;
/// Listings begun anew because their revision was compacted away meanwhile: etcd compacts every few minutes at most.
const RESTARTS: usize = 3;

/// A value as etcd gives it.
pub(super) fn value_of(found: KeyValue) -> Value {
    let version = version_of(&found);
    let lease = Some(found.lease()).filter(|lease| *lease != 0).map(LeaseId);
    Value { bytes: Bytes::from(found.into_key_value().1), version, lease }
}

pub(super) fn key_of(found: &KeyValue) -> Result<String> {
    let text = found.key_str().map(str::to_owned);
    text.map_err(|_| MetadataError::Corrupt(format!("etcd: a key that is no text: {:?}", found.key())))
}

/// The smallest key greater than every key with this prefix; etcd's "\0" means that there is none.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

fn just_after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// What is listed: keys of `[from, end)`, at the revision of the first page.
struct Listing<'a> {
    link: &'a Link,
    from: Vec<u8>,
    end: Vec<u8>,
    revision: Option<i64>,
}

/// The outcome of a page.
enum Page {
    Read {
        found: Vec<KeyValue>,
        more: bool,
    },
    /// The listing's revision was compacted away: its other pages are lost.
    Overtaken,
}

impl<'a> Listing<'a> {
    fn new(link: &'a Link, from: Vec<u8>, end: Vec<u8>) -> Self {
        Self { link, from, end, revision: None }
    }

    async fn page(&mut self, options: GetOptions) -> Result<Page> {
        let options = options.with_range(self.end.clone()).with_revision(self.revision.unwrap_or(0));
        let read = |mut kv: KvClient| {
            let (from, options) = (self.from.clone(), options.clone());
            async move { kv.get(from, Some(options)).await }
        };
        let Some(mut answer) = self.link.ask_at_revision(read).await? else { return Ok(Page::Overtaken) };
        self.link.saw(answer.header());
        // The header tells the newest revision, which is the one that was read only while none is asked for.
        let newest = answer.header().ok_or_else(no_header)?.revision();
        self.revision.get_or_insert(newest);
        Ok(Page::Read { more: answer.more(), found: answer.take_kvs() })
    }
}

/// Lists, from the beginning whenever the revision is compacted away meanwhile.
async fn restarting<T, F: Future<Output = Result<Option<T>>>>(list: impl Fn() -> F) -> Result<T> {
    for _ in 0..RESTARTS {
        if let Some(listed) = list().await? {
            return Ok(listed);
        }
    }
    Err(MetadataError::Unavailable("etcd: compacted faster than a listing could be read".into()))
}

/// See [`MetadataStore::children`](super::super::MetadataStore::children). Deep subtrees are skipped: a page is read per
/// child that has more keys below it than a page holds, not a page per thousand of them.
pub(super) async fn children(link: &Link, key: &str) -> Result<Vec<String>> {
    let prefix = format!("{}/", key.trim_end_matches('/'));
    restarting(|| children_once(link, &prefix)).await
}

async fn children_once(link: &Link, prefix: &str) -> Result<Option<Vec<String>>> {
    let mut listing = Listing::new(link, prefix.into(), after_prefix(prefix.as_bytes()));
    let options = || GetOptions::new().with_keys_only().with_limit(NAMES_PAGE as i64);
    let mut names = BTreeSet::new();
    loop {
        let Page::Read { found, more } = listing.page(options()).await? else { return Ok(None) };
        let mut next = None;
        for key in &found {
            let key = key_of(key)?;
            let below = &key[prefix.len()..];
            let name = below.split('/').next().unwrap_or(below);
            // '0' follows '/' in ASCII: everything below the child lies before "<child>0".
            let skipped = format!("{prefix}{name}0").into_bytes();
            next = Some(if name.len() < below.len() { skipped } else { just_after(key.as_bytes()) });
            names.insert(name.to_owned());
        }
        match next {
            Some(next) if more => listing.from = next,
            _ => return Ok(Some(names.into_iter().collect())),
        }
    }
}

/// See [`MetadataStore::scan`](super::super::MetadataStore::scan).
pub(super) async fn scan(
    link: &Link,
    prefix: &str,
    start_after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Value)>> {
    let from = match start_after {
        Some(key) if key >= prefix => just_after(key.as_bytes()),
        _ if prefix.is_empty() => vec![0],
        _ => prefix.into(),
    };
    let end = after_prefix(prefix.as_bytes());
    if limit == 0 || (end != [0] && from >= end) {
        return Ok(Vec::new());
    }
    restarting(|| scan_once(Listing::new(link, from.clone(), end.clone()), limit)).await
}

async fn scan_once(mut listing: Listing<'_>, limit: usize) -> Result<Option<Vec<(String, Value)>>> {
    let mut all: Vec<(String, Value)> = Vec::new();
    loop {
        let page = VALUES_PAGE.min(limit - all.len());
        let options = GetOptions::new().with_limit(page as i64);
        let Page::Read { found, more } = listing.page(options).await? else { return Ok(None) };
        for found in found {
            all.push((key_of(&found)?, value_of(found)));
        }
        match all.last() {
            Some((last, _)) if more && all.len() < limit => listing.from = just_after(last.as_bytes()),
            _ => return Ok(Some(all)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_first_key_behind_it() {
        assert_eq!(after_prefix(b"/a/"), b"/a0");
        assert_eq!(after_prefix(b"a\xff\xff"), b"b");
        assert_eq!(after_prefix(b""), b"\0");
        assert_eq!(after_prefix(b"\xff"), b"\0");
    }
}
