use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::request::Parts;

use crate::web::origin::host;

/// Whether a request comes from this machine, to a name of this machine.
pub(super) enum Loopback {
    Is,
    IsNot(&'static str),
}

impl Loopback {
    pub(super) fn of(parts: &Parts) -> Self {
        let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() else {
            return Self::IsNot(
                "this server does not tell the address of its clients: serve the router with \
                 `into_make_service_with_connect_info::<SocketAddr>()`, or choose another access than `loopback`",
            );
        };
        if !is_loopback(peer.ip()) {
            return Self::IsNot("this dashboard answers only to clients on its own machine");
        }
        // Another site may point its own name to 127.0.0.1 (DNS rebinding). Then the host is that name.
        match host(parts) {
            Some(host) if names_loopback(host) => Self::Is,
            _ => Self::IsNot(
                "ask for `localhost`, `127.0.0.1` or `[::1]`: this dashboard answers to no other name",
            ),
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

pub(super) fn names_loopback(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let ip = rest.split_once(']').and_then(|(ip, _)| ip.parse().ok());
        return ip.is_some_and(is_loopback);
    }
    let name = host.split(':').next().unwrap_or_default();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::names_loopback;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in
            ["localhost", "LOCALHOST:3000", "127.0.0.1", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]"]
        {
            assert!(names_loopback(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "10.0.0.1:80", "[::2]", "127.0.0.1.evil.example"]
        {
            assert!(!names_loopback(host), "{host}");
        }
    }
}
