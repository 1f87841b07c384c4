//! Paths of the REST out of what an operator types.

use anyhow::{Context, Result};
use magnetar_common::topic_name::{NamespaceName, TopicName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::convert;
use super::verb::Values;

/// Fills a template; each value is one segment of the path, a topic or namespace the segments it stands for.
pub(super) fn fill(template: &str, values: &Values) -> Result<String> {
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, name, after)) = next(rest) {
        path.push_str(before);
        path.push_str(&segment(name, values)?);
        rest = after;
    }
    path.push_str(rest);
    Ok(path)
}

/// The text before the first `{name}`, the name, and the text behind it.
fn next(template: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = template.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    Some((before, name, after))
}

/// Every name in a template.
#[cfg(test)]
pub(super) fn names(template: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some((_, name, after)) = next(rest) {
        names.push(name);
        rest = after;
    }
    names
}

/// The argument behind a name: `{time:ago}` is the argument `time`.
pub(super) fn argument_of(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

fn segment(name: &str, values: &Values) -> Result<String> {
    let argument = argument_of(name);
    let value = values.get(argument)?;
    Ok(match name {
        "topic" => topic(value)?,
        "topic:name" => {
            let path = topic(value)?;
            path.split_once('/').map_or_else(String::new, |(_domain, rest)| rest.to_owned())
        }
        "namespace" => namespace(value)?,
        "time:ago" => convert::time_ago(values)?.to_string(),
        "expireTime:seconds" => convert::seconds(value)?.to_string(),
        _ => encode(value),
    })
}

/// `persistent/tenant/namespace/topic` with the topic's local name in one segment. Short names mean `public/default`.
fn topic(text: &str) -> Result<String> {
    let topic: TopicName = text
        .parse()
        .with_context(|| format!("'{text}' is no topic: e.g. persistent://tenant/namespace/topic"))?;
    let namespace = topic.namespace();
    Ok(format!(
        "{}/{}/{}/{}",
        topic.domain().as_str(),
        namespace.tenant(),
        namespace.local(),
        encode(topic.local())
    ))
}

fn namespace(text: &str) -> Result<String> {
    let wrong = || format!("'{text}' is no namespace: e.g. tenant/namespace");
    let (tenant, name) = text.split_once('/').with_context(wrong)?;
    NamespaceName::new(tenant, name).with_context(wrong)?;
    Ok(format!("{}/{}", encode(tenant), encode(name)))
}

/// All but what RFC 3986 leaves as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A value as one segment of a path, or as a value of a query.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}
