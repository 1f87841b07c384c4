//! One request of the admin REST, and its answer.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Brokers send clients on to the owner; more hops mean that they do not agree on who that is.
const REDIRECTS_MAX: usize = 10;

/// Deleting a large namespace takes a while; nothing takes longer.
const TIMEOUT: Duration = Duration::from_secs(120);

/// An answer is shown to a person.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Put,
    Post,
    Delete,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// With the query.
    pub(super) path: String,
    pub(super) body: Option<Value>,
}

struct Answer {
    status: u16,
    location: Option<String>,
    text: String,
}

impl Call {
    /// Gives the body of a good answer. Blocks until it is there, at most two minutes a hop.
    pub(super) fn send(&self, base: &str) -> Result<String> {
        let mut url = format!("{}{}", base.trim_end_matches('/'), self.path);
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.send_to(&url).with_context(|| {
                format!(
                    "{url} does not answer; check that a broker serves there, or name one with --admin-url"
                )
            })?;
            match (answer.status, answer.location) {
                (200..=299, _) => return Ok(answer.text),
                (301 | 302 | 307 | 308, Some(location)) => url = location,
                (status, _) => bail!("{}", refusal(status, &answer.text)),
            }
        }
        bail!("the brokers send each other's callers in a circle; try again in a moment")
    }

    fn send_to(&self, url: &str) -> Result<Answer> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(TIMEOUT));
        let agent: ureq::Agent = config.build().into();
        let response = match (self.method, &self.body) {
            (Method::Get, _) => agent.get(url).call(),
            (Method::Delete, _) => agent.delete(url).call(),
            (Method::Put, Some(body)) => agent.put(url).send_json(body),
            (Method::Put, None) => agent.put(url).send_empty(),
            (Method::Post, Some(body)) => agent.post(url).send_json(body),
            (Method::Post, None) => agent.post(url).send_empty(),
        }?;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        Ok(Answer {
            status: response.status().as_u16(),
            location: location.map(str::to_owned),
            text: response.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_string()?,
        })
    }
}

/// Pulsar's brokers put the reason into JSON.
fn refusal(status: u16, text: &str) -> String {
    let reason = serde_json::from_str::<Value>(text).ok();
    let reason = reason.as_ref().and_then(|reason| reason.get("reason")).and_then(Value::as_str);
    match reason.unwrap_or(text.trim()) {
        "" => format!("refused with HTTP {status}"),
        reason => format!("{reason} (HTTP {status})"),
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.method {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        };
        write!(f, "{method} {}", self.path)?;
        self.body.as_ref().map_or(Ok(()), |body| write!(f, " {body}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_the_reason_however_it_was_given() {
        assert_eq!(refusal(404, r#"{"reason":"no such topic"}"#), "no such topic (HTTP 404)");
        assert_eq!(refusal(500, "oh\n"), "oh (HTTP 500)");
        assert_eq!(refusal(503, ""), "refused with HTTP 503");
    }
}
