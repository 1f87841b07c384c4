//! Service URLs: `pulsar://host[:port]`.
//!
//! Called by: the client, for what the user typed and for what lookups answer.
//! Must never know: how to reach the address.

use std::str::FromStr;

use super::ClientError;

const DEFAULT_PORT: u16 = 6650;

/// The address in a service URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceUrl {
    address: String,
}

impl ServiceUrl {
    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl FromStr for ServiceUrl {
    type Err = ClientError;

    fn from_str(url: &str) -> Result<Self, ClientError> {
        let refuse = |reason| Err(ClientError::Url { url: url.to_owned(), reason });
        let Some((scheme, rest)) = url.split_once("://") else {
            return refuse("it must begin with pulsar://");
        };
        match scheme {
            "pulsar" => {}
            "pulsar+ssl" => return refuse("TLS is not available in this build"),
            _ => return refuse("it must begin with pulsar://"),
        }
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', ',', ' ', '@']) {
            return refuse("it must name one host");
        }
        // A bracketed IPv6 address has colons of its own.
        let after_host = authority.rfind(']').map_or(authority, |end| &authority[end..]);
        let address = match after_host.rsplit_once(':') {
            None => format!("{authority}:{DEFAULT_PORT}"),
            Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port != 0) => authority.to_owned(),
            Some(_) => return refuse("its port is not a number from 1 to 65535"),
        };
        Ok(Self { address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_addresses_or_are_refused() {
        for (url, address) in [
            ("pulsar://localhost", Some("localhost:6650")),
            ("pulsar://10.0.0.1:7000/", Some("10.0.0.1:7000")),
            ("pulsar://[::1]", Some("[::1]:6650")),
            ("pulsar://[::1]:1", Some("[::1]:1")),
            ("pulsar://host:0", None),
            ("pulsar://host:x", None),
            ("pulsar://", None),
            ("pulsar://a:1,b:2", None),
            ("pulsar+ssl://host", None),
            ("http://host", None),
            ("host:6650", None),
        ] {
            let parsed = url.parse::<ServiceUrl>().ok().map(|parsed| parsed.address);
            assert_eq!(parsed.as_deref(), address, "{url}");
        }
    }
}
