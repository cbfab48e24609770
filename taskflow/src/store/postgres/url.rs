//! Parses the URL of a store: `postgres://user:password@host/database?namespace=NAME&listen=off`.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use super::sql::Sql;
use crate::store::url::{check_server, unknown_key};

/// The keys of a URL that sqlx accepts.
const OF_SQLX: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

const FORM: &str =
    "write `postgres://user:password@host/database`, and percent-encode special characters in the password";

/// The default number of connections for calls, besides the two for leases and hints.
pub(super) const CONNECTIONS: usize = 4;

/// The parts of a URL. Not `Debug`, because sqlx shows the password.
pub(super) struct Parsed {
    pub(super) options: PgConnectOptions,
    pub(super) namespace: Option<String>,
    pub(super) listens: bool,
    pub(super) connections: usize,
}

pub(super) fn parse(url: &str) -> Result<Parsed, String> {
    check_server(url)?;
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut namespace, mut listens, mut connections) = (None, true, CONNECTIONS);
    let mut rest = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "namespace" => {
                Sql::check(value)?;
                namespace = Some(value.to_owned());
            }
            "listen" => {
                listens = match value {
                    "on" => true,
                    "off" => false,
                    other => {
                        return Err(format!("`listen` cannot be `{other}`; it is `on` or `off`"));
                    }
                }
            }
            "connections" => {
                connections = value.parse().ok().filter(|n| (1..=1000).contains(n)).ok_or_else(|| {
                    format!("`connections` cannot be `{value}`; it is a number from 1 to 1000")
                })?;
            }
            _ if OF_SQLX.contains(&key) || key.starts_with("options[") => rest.push(pair),
            _ => {
                let known = [&["namespace", "listen", "connections"][..], &OF_SQLX].concat();
                return Err(format!(
                    "{}the keys are `namespace=NAME`, `listen=on|off`, `connections=N`, and those of sqlx: {}",
                    unknown_key(key, &known),
                    OF_SQLX.join(", ")
                ));
            }
        }
    }
    let separator = if rest.is_empty() { "" } else { "?" };
    let options = PgConnectOptions::from_str(&format!("{base}{separator}{}", rest.join("&")));
    // The errors of sqlx do not repeat the URL.
    let options = options.map_err(|error| match error {
        sqlx::Error::Configuration(error) => format!("{error}; {FORM}"),
        _ => FORM.to_owned(),
    })?;
    Ok(Parsed { options, namespace, listens, connections })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_taken_out_and_the_rest_is_left_to_sqlx() {
        let parsed =
            parse("postgres://app:s3cret@db:5433/shop?namespace=shop&application_name=web&listen=off")
                .unwrap();
        assert_eq!((parsed.namespace.as_deref(), parsed.listens), (Some("shop"), false));
        let options = &parsed.options;
        assert_eq!(
            (options.get_host(), options.get_port(), options.get_database()),
            ("db", 5433, Some("shop"))
        );
        assert_eq!(options.get_application_name(), Some("web"));
        assert_eq!(parse("postgres://localhost/app?connections=9").unwrap().connections, 9);
    }

    #[test]
    fn an_invalid_url_is_refused_with_its_remedy() {
        let refused = |query: &str| parse(&format!("postgres://app:s3cret@db/shop?{query}")).err().unwrap();
        assert!(refused("namspace=shop").contains("`namespace=NAME`"));
        assert!(refused("namespace=A-b").contains("a to z"));
        assert!(refused("listen=yes").contains("`on` or `off`"));
        assert!(refused("connections=0").contains("from 1"));
        let text = parse("postgres://app:s3cret@db:port/shop").err().unwrap();
        assert!(
            text.contains("postgres://user:password@host/database") && !text.contains("s3cret"),
            "{text}"
        );
    }
}
