//! The address under which others reach this machine, where nobody has named one.

use std::io;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

use anyhow::Context;

/// The address that this machine uses towards the metadata store: who shares that store can be expected to reach it. Nothing
/// is sent.
pub(crate) async fn towards(endpoints: Vec<String>) -> anyhow::Result<IpAddr> {
    let find = move || endpoints.iter().map(|endpoint| local_address(endpoint)).reduce(Result::or);
    let found = tokio::task::spawn_blocking(find).await?.context("no metadata store is named")?;
    found.context("no address of this machine to tell others: name one with --advertise host:port")
}

fn local_address(endpoint: &str) -> io::Result<IpAddr> {
    let address = endpoint.split_once("://").map_or(endpoint, |(_, address)| address);
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for remote in address.to_socket_addrs()? {
        let unspecified: IpAddr = if remote.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let connected = UdpSocket::bind((unspecified, 0)).and_then(|socket| {
            socket.connect(remote)?;
            socket.local_addr()
        });
        match connected {
            Ok(local) => return Ok(local.ip()),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

/// With brackets around an IPv6 address, so that a port can follow it.
pub(crate) fn bracketed(advertise: &str) -> String {
    match advertise.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => advertise.to_owned(),
    }
}

/// The host of `host[:port]`.
pub(crate) fn host(advertise: &str) -> &str {
    match advertise.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        _ => advertise,
    }
}

/// `host:port`, with this port unless one is named.
pub(crate) fn with_port(advertise: &str, port: u16) -> String {
    if host(advertise) == advertise { format!("{advertise}:{port}") } else { advertise.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_by_the_way_to_the_store() {
        assert_eq!(local_address("http://127.0.0.1:2379").unwrap(), IpAddr::from([127, 0, 0, 1]));
        assert!(local_address("http://nowhere.invalid:2379").is_err());
    }

    #[test]
    fn the_host_is_told_from_the_port_in_each_form() {
        for (advertise, expected) in [
            ("b1", "b1"),
            ("b1:3181", "b1"),
            ("10.0.0.1", "10.0.0.1"),
            ("[::1]:3181", "[::1]"),
            ("::1", "[::1]"),
        ] {
            assert_eq!(host(&bracketed(advertise)), expected);
        }
        assert_eq!((with_port("b1", 7), with_port("b1:9", 7)), ("b1:7".into(), "b1:9".into()));
        assert_eq!(with_port("[::1]", 7), "[::1]:7");
    }
}
