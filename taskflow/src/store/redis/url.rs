//! Parses the URL of a store: `redis://user:password@host:port/0?namespace=NAME`, or `rediss://` for TLS.

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionInfo, IntoConnectionInfo};

use super::tls;
use crate::store::url::{check_server, unknown_key};

/// The namespace of a URL without one.
const DEFAULT_NAMESPACE: &str = "default";

/// The parts of a URL.
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) namespace: String,
    /// The location without the password.
    pub(super) location: String,
}

/// Parses a URL, or answers what is wrong with it.
pub(super) fn parse(url: &str) -> Result<Place, String> {
    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    let scheme = match server.split_once("://") {
        Some((scheme @ ("redis" | "rediss"), rest)) if !rest.starts_with('/') && !rest.is_empty() => scheme,
        _ => return Err("write `redis://host:6379/0`, or `rediss://` for TLS".to_owned()),
    };
    check_server(url)?;
    if scheme == "rediss" {
        tls::prepare()?;
        // With `#insecure`, the driver would not check the certificate.
        if server.contains('#') {
            return Err(
                "remove the `#` and the text after it; the server's certificate is always checked".to_owned()
            );
        }
    }
    let mut namespace = DEFAULT_NAMESPACE.to_owned();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("namespace", name) => namespace = checked(name)?,
            (other, _) => {
                return Err(format!(
                    "{}the only key is `namespace=NAME`",
                    unknown_key(other, &["namespace"])
                ));
            }
        }
    }
    // The driver's message about a URL it cannot read may contain the password.
    let refused = |_| {
        "it is not of the form `redis://user:password@host:port/database`; percent-encode special characters in the password"
            .to_owned()
    };
    let info: ConnectionInfo = server.into_connection_info().map_err(refused)?;
    // Small requests must not wait for the answers before them.
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let location = format!("{scheme}://{}/{}?namespace={namespace}", info.addr(), info.redis_settings().db());
    let client = Client::open(info).map_err(refused)?;
    Ok(Place { client, namespace, location })
}

/// Checks a namespace, which becomes part of the hash tag of every key.
fn checked(name: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 100 || !name.chars().all(is_plain) {
        return Err(format!(
            "`namespace` cannot be `{}`; it is 1 to 100 letters, digits, `-`, `_` and `.`",
            name.escape_default()
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_and_a_namespace() {
        let place = parse("redis://me:s3cret@db.example:7000/2?namespace=app-1")
            .unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(place.location, "redis://db.example:7000/2?namespace=app-1");
        let place = parse("redis://localhost").unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(place.location, "redis://localhost:6379/0?namespace=default");
    }

    #[cfg(not(feature = "redis-tls"))]
    #[test]
    fn without_tls_the_feature_is_named() {
        let refused = parse("rediss://me:s3cret@localhost").err().expect("this build has no TLS");
        assert!(refused.contains("`redis-tls`"), "{refused}");
    }

    #[cfg(feature = "redis-tls")]
    #[test]
    fn tls_is_in_the_scheme_and_never_without_a_check() {
        let place = parse("rediss://me:s3cret@db.example/2").unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(place.location, "rediss://db.example:6379/2?namespace=default");
        let refused = parse("rediss://db.example/0#insecure").err().expect("the certificate is checked");
        assert!(refused.contains("always checked"), "{refused}");
    }

    #[test]
    fn an_invalid_url_is_refused_with_its_remedy() {
        let refused = |url| parse(url).err().expect(url);
        assert!(refused("redis:localhost").contains("redis://host:6379"));
        assert!(refused("redis://").contains("redis://host:6379"));
        assert!(refused("rediss:localhost").contains("`rediss://` for TLS"));
        assert!(refused("redis://localhost?namespce=a").contains("`namespce`"));
        assert!(refused("redis://localhost?namespace={a}").contains("letters"));
        assert!(refused("redis://localhost?namespace=").contains("1 to 100"));
        let bad = refused("redis://me:s3cret@localhost:port");
        assert!(bad.contains("redis://user") && !bad.contains("s3cret"), "{bad}");
    }
}
