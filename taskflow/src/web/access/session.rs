//! Sessions: a cookie with a secret, and a session under the secret's hash in the store.

use http::header::{self, HeaderValue};
use http::request::Parts;
use sha2::{Digest, Sha256};

use super::loopback::names_loopback;
use super::secret::hex;
use super::users::Users;
use crate::admin::Actor;
use crate::web::origin::host;
use crate::web::problem::Problem;
use crate::web::site::Site;

/// The cookie over TLS. With the prefix `__Host-`, browsers accept it only over TLS, for all paths, from the host itself.
const COOKIE: &str = "__Host-taskflow";

/// The cookie on plain http.
const INSECURE_COOKIE: &str = "taskflow";

/// The actor of the session that the request's cookie names.
pub(super) async fn actor(users: &Users, parts: &Parts, site: &Site) -> Result<Option<Actor>, Problem> {
    let Some(secret) = cookie(parts, site) else { return Ok(None) };
    let session = site.sessions.get(&site.console, &key_of(&secret)).await?;
    let user = session.as_ref().and_then(|session| users.find(&session.user));
    let is_current = session.is_some_and(|it| user.is_some_and(|user| user.password() == it.password));
    Ok(user.filter(|_| is_current).map(|user| user.actor().clone()))
}

/// The key of a session in the store: the store never sees the secret.
pub(crate) fn key_of(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

pub(crate) fn cookie(parts: &Parts, site: &Site) -> Option<String> {
    let names = if is_plain(parts, site) { &[COOKIE, INSECURE_COOKIE][..] } else { &[COOKIE][..] };
    let headers = parts.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = headers.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.find(|(name, value)| names.contains(name) && value.len() <= 64);
    found.map(|(_, value)| value.to_owned())
}

/// Whether cookies may go over plain http: on this machine, or if the program says so.
fn is_plain(parts: &Parts, site: &Site) -> bool {
    site.insecure_cookies || (!is_tls(parts, site) && names_loopback(host(parts).unwrap_or_default()))
}

fn is_tls(parts: &Parts, site: &Site) -> bool {
    let scheme = parts.uri.scheme_str();
    let public = site.public_origin.as_deref().is_some_and(|origin| origin.starts_with("https://"));
    public || scheme == Some("https")
}

pub(crate) fn set_cookie(
    parts: &Parts,
    site: &Site,
    secret: &str,
    max_age: u32,
) -> Result<HeaderValue, Problem> {
    let (name, secure) = if is_plain(parts, site) { (INSECURE_COOKIE, "") } else { (COOKIE, "; Secure") };
    // `Lax`: a link from a chat opens the dashboard. Requests that change something are checked by their origin.
    let cookie = format!("{name}={secret}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age}{secure}");
    HeaderValue::try_from(cookie).map_err(|_| Problem::bad_request("the cookie cannot be set"))
}
