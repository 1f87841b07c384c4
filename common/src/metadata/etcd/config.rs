//! Where an etcd cluster is and how to be let in: the URL forms and the settings beside them.

use std::time::Duration;

/// Scheme of a plain `host:port` list.
const OURS: &str = "etcd://";
/// Scheme before full `http(s)://` endpoints, as Pulsar writes it.
const PULSARS: &str = "etcd:";
/// What BookKeeper's side of Pulsar puts before that.
const BOOKKEEPERS: &str = "metadata-store:";
/// etcd's own port for clients.
const PORT: u16 = 2379;

/// How to reach an etcd cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Members as `http://host:port` or `https://host:port`, at least one. Requests go to any that answers.
    pub endpoints: Vec<String>,
    /// Name and password, where etcd's authentication is on.
    pub user: Option<EtcdUser>,
    /// How to prove who talks to whom. Needed for `https` endpoints, refused for others.
    pub tls: Option<EtcdTls>,
    /// How long an operation may take in all, retries included, before it is
    /// [`Unavailable`](crate::metadata::MetadataError::Unavailable). Default 10 s: a change of etcd's leader takes up to 3 s.
    pub limit: Duration,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for EtcdUser {
    /// Never shows the password: settings end up in logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "EtcdUser({})", self.name)
    }
}

/// PEM texts for TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// The authorities that etcd's certificate may come from.
    pub authority: Vec<u8>,
    /// Our certificate and its key, where etcd asks clients for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for EtcdTls {
    /// Never shows the key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EtcdTls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

/// A URL that names no etcd cluster. The text is one line that says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{url}' names no etcd cluster: {reason}: write etcd://host:2379[,host:2379...]")]
pub struct EtcdUrlError {
    url: String,
    reason: String,
}

impl EtcdConfig {
    /// A cluster with these members and the defaults for all else.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self { endpoints, user: None, tls: None, limit: Duration::from_secs(10) }
    }

    /// Reads `etcd://host:port,…` and Pulsar's `etcd:http://host:port,…` (also with `metadata-store:` before it and with
    /// `;` between members). A missing port is etcd's 2379.
    pub fn parse(url: &str) -> Result<Self, EtcdUrlError> {
        let refused = |reason: &str| EtcdUrlError { url: url.to_owned(), reason: reason.to_owned() };
        let rest = url.strip_prefix(BOOKKEEPERS).unwrap_or(url);
        let plain = rest.strip_prefix(OURS);
        let list =
            plain.or_else(|| rest.strip_prefix(PULSARS)).ok_or_else(|| refused("it is no etcd: URL"))?;
        let members = list.split([',', ';']);
        let endpoints = members.map(|member| endpoint(member, plain.is_some()));
        let endpoints: Result<Vec<_>, _> = endpoints.collect();
        endpoints.map(Self::new).map_err(|reason| refused(&reason))
    }
}

/// One member as a full `http(s)://host:port`.
fn endpoint(member: &str, plain: bool) -> Result<String, String> {
    let (scheme, address) = match member.split_once("://") {
        Some((scheme @ ("http" | "https"), address)) => (scheme, address),
        None if plain => ("http", member),
        _ => return Err(format!("'{member}' must begin with http:// or https://")),
    };
    let address = address.trim_end_matches('/');
    // Behind a bracketed IPv6 address a port follows the bracket; any other address has one colon at most.
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| format!("'{port}' is no port"))?)
        }
        _ => (address, PORT),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host.contains(['/', '@', '?', '#', ' ']) || (host.contains(':') && !bracketed) {
        return Err(format!("'{member}' is no host:port"));
    }
    Ok(format!("{scheme}://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(url: &str) -> Vec<String> {
        EtcdConfig::parse(url).expect(url).endpoints
    }

    #[test]
    fn both_forms_of_the_url_name_the_same_members() {
        let two = ["http://h1:2379", "http://h2:2380"];
        assert_eq!(endpoints("etcd://h1:2379,h2:2380"), two);
        assert_eq!(endpoints("etcd://h1,h2:2380/"), two);
        assert_eq!(endpoints("etcd:http://h1:2379,http://h2:2380"), two);
        assert_eq!(endpoints("metadata-store:etcd:http://h1:2379;http://h2:2380"), two);
        assert_eq!(endpoints("etcd:https://h1"), ["https://h1:2379"]);
        assert_eq!(endpoints("etcd://https://h1:1"), ["https://h1:1"]);
        assert_eq!(endpoints("etcd://[::1]:2379,[::2]"), ["http://[::1]:2379", "http://[::2]:2379"]);
    }

    #[test]
    fn what_names_no_member_is_refused_in_one_line() {
        for url in [
            "",
            "zk:host:2181",
            "etcd://",
            "etcd:h1:2379",
            "etcd://h1:port",
            "etcd://h1:2379,,h2:2379",
            "etcd://user:secret@h1:2379",
            "etcd://::1:2379",
            "etcd://h1:2379/path",
            "etcd:ftp://h1:2379",
        ] {
            let error = EtcdConfig::parse(url).map(|config| config.endpoints).expect_err(url).to_string();
            assert!(error.contains("etcd://host:2379") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let user = EtcdUser { name: "root".into(), password: "hunter2".into() };
        let tls = EtcdTls { authority: Vec::new(), identity: Some((vec![1], b"hunter2".to_vec())) };
        let config = EtcdConfig { user: Some(user), tls: Some(tls), ..EtcdConfig::new(Vec::new()) };
        let text = format!("{config:?}");
        assert!(text.contains("root") && !text.contains("hunter2") && !text.contains("104"), "{text}");
    }
}
