//! Calls to the admin REST of the process under test.

use anyhow::{Context, Result};
use serde_json::Value;
use std::time::Duration;

/// An answer: the status code and the body as text.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The whole body.
    pub body: String,
    /// Where a redirect leads.
    pub location: Option<String>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {} {}", self.status, self.body))
    }
}

/// Longer than any answer takes; else a test of what never answers would never end.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0);
    config.timeout_global(Some(ANSWER_LIMIT)).build().into()
}

fn answer(response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let status = response.status().as_u16();
    let location =
        response.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = response.into_body().read_to_string().context("read the answer's body")?;
    Ok(Answer { status, body, location })
}

/// GET.
pub fn get(url: &str) -> Result<Answer> {
    answer(agent().get(url).call().with_context(|| format!("GET {url}"))?)
}

/// PUT with an optional JSON body.
pub fn put(url: &str, body: Option<&Value>) -> Result<Answer> {
    let request = agent().put(url);
    answer(
        match body {
            Some(body) => request.send_json(body),
            None => request.send_empty(),
        }
        .with_context(|| format!("PUT {url}"))?,
    )
}

/// POST with an optional JSON body.
pub fn post(url: &str, body: Option<&Value>) -> Result<Answer> {
    let request = agent().post(url);
    answer(
        match body {
            Some(body) => request.send_json(body),
            None => request.send_empty(),
        }
        .with_context(|| format!("POST {url}"))?,
    )
}

/// DELETE.
pub fn delete(url: &str) -> Result<Answer> {
    answer(agent().delete(url).call().with_context(|| format!("DELETE {url}"))?)
}
