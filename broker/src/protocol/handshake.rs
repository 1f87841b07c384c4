//! CONNECT: what the client may expect of this broker, and what the broker learns about the client.

use magnetar_proto::pulsar::api;

use super::outbound::ClientInfo;

/// Newest protocol version spoken here.
const PROTOCOL_VERSION: i32 = 21;

/// Tools print it, nobody parses it.
const SERVER_VERSION: &str = concat!("Magnetar ", env!("CARGO_PKG_VERSION"));

/// What a name of a client library may reasonably take in logs and statistics.
const CLIENT_VERSION_CHARS_MAX: usize = 256;

/// What CONNECT says about the client. Without authentication every other field is to be ignored, whatever it holds.
pub(super) fn client_info(connect: &api::CommandConnect, address: &str, now_ms: u64) -> ClientInfo {
    ClientInfo {
        version: connect.client_version.chars().take(CLIENT_VERSION_CHARS_MAX).collect(),
        protocol: connect.protocol_version().clamp(0, PROTOCOL_VERSION),
        address: address.to_owned(),
        feature_flags: connect.feature_flags.unwrap_or_default(),
        connected_since_ms: now_ms,
    }
}

/// The answer. Only features that work here are offered: an offered one is used.
pub(super) fn connected(client: &ClientInfo, max_message_bytes: usize) -> api::CommandConnected {
    let feature_flags = api::FeatureFlags {
        supports_topic_watchers: Some(true),
        supports_get_partitioned_metadata_without_auto_creation: Some(true),
        ..api::FeatureFlags::default()
    };
    api::CommandConnected {
        server_version: SERVER_VERSION.to_owned(),
        protocol_version: Some(client.protocol),
        max_message_size: Some(i32::try_from(max_message_bytes).unwrap_or(i32::MAX)),
        feature_flags: Some(feature_flags),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_peer_decides_the_protocol_version() {
        let connect = |version| api::CommandConnect { protocol_version: Some(version), ..Default::default() };
        let spoken = |version| client_info(&connect(version), "peer", 0).protocol;
        assert_eq!((spoken(12), spoken(21), spoken(99), spoken(-1)), (12, 21, 21, 0));
    }
}
