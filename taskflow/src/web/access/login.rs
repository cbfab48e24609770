//! Logging in and out: a cookie with a secret, and a session under the secret's hash in the store.

use std::time::SystemTime;

use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::{self, HeaderValue};
use http::request::Parts;
use sha2::{Digest, Sha256};

use super::tokens::{hex, random};
use super::users::Users;
use crate::admin::{Actor, AuditOutcome, By, Permission, Session, Throttle};
use crate::web::call::Call;
use crate::web::desk::Desk;
use crate::web::origin::host;
use crate::web::problem::Problem;

/// The cookie. With this prefix, browsers take it only over TLS, for the whole host, from the host itself.
const COOKIE: &str = "__Host-taskflow";

/// The cookie on plain http.
const INSECURE_COOKIE: &str = "taskflow";

/// The longest name and password that are tried, in bytes.
const MAX_FIELD: usize = 1024;

/// The actor of the session that the request's cookie names.
pub(super) async fn session(users: &Users, parts: &Parts, desk: &Desk) -> Result<Option<Actor>, Problem> {
    let Some(secret) = cookie(parts, desk) else { return Ok(None) };
    let session = desk.sessions.get(&desk.console, &key_of(&secret)).await?;
    let user = session.as_ref().and_then(|session| users.find(&session.user));
    let is_current = session.is_some_and(|it| user.is_some_and(|user| user.password() == it.password));
    Ok(user.filter(|_| is_current).map(|user| user.actor().clone()))
}

/// Logs in. Answers the cookie to set and the actor.
pub(crate) async fn log_in(
    call: &Call,
    name: &str,
    password: String,
) -> Result<(HeaderValue, Actor), Problem> {
    let desk = &call.desk;
    let Some(users) = desk.access.some_users() else {
        return Err(Problem::not_found("nobody logs in here with a password"));
    };
    let wrong = || {
        let detail = "the name or the password is wrong";
        Problem::new(http::StatusCode::UNAUTHORIZED, "unauthenticated", "You are not logged in", detail)
    };
    if name.len() > MAX_FIELD || password.len() > MAX_FIELD {
        return Err(wrong());
    }
    // The hash of the name: names that do not exist are counted too, and may be anything.
    let mut keys = vec![format!("user:{}", hex(&Sha256::digest(name)[..16]))];
    keys.extend(call.remote.as_ref().map(|remote| format!("from:{remote}")));
    if !Throttle::may_try(&desk.console, &keys).await? {
        note(call, name, AuditOutcome::Refused, Some("too many tries")).await;
        let detail = "too many tries for this name or from this address: wait a minute";
        return Err(Problem::too_many(detail, crate::admin::THROTTLE_WINDOW.as_secs()));
    }
    let Some(user) = users.check(name, password).await else {
        note(call, name, AuditOutcome::Failed, None).await;
        return Err(wrong());
    };
    Throttle::succeeded(&desk.console, &keys).await;
    let secret = BASE64_URL_SAFE_NO_PAD.encode(random());
    let agent = call.header(header::USER_AGENT).unwrap_or_default();
    let session = Session {
        user: name.to_owned(),
        password: user.password(),
        created_at: SystemTime::now(),
        user_agent: agent[..agent.floor_char_boundary(200)].to_owned(),
    };
    desk.sessions.begin(&desk.console, key_of(&secret), &session).await?;
    // A session that this browser had before ends: it gets a new secret.
    if let Some(old) = cookie(&call.parts, desk) {
        desk.sessions.end(&desk.console, &key_of(&old)).await?;
    }
    note(call, name, AuditOutcome::Ok, None).await;
    Ok((set_cookie(&call.parts, desk, &secret, 7 * 24 * 3600)?, user.actor().clone()))
}

/// Logs out, in all processes, and everywhere if `everywhere` is set. Answers the cookie to set.
pub(crate) async fn log_out(call: &Call, everywhere: bool) -> Result<HeaderValue, Problem> {
    let desk = &call.desk;
    if let Some(secret) = cookie(&call.parts, desk) {
        desk.sessions.end(&desk.console, &key_of(&secret)).await?;
    }
    let has_session = desk.access.some_users().is_some_and(|users| users.find(call.actor.name()).is_some());
    if everywhere && has_session {
        desk.sessions.end_all(&desk.console, call.actor.name()).await?;
    }
    set_cookie(&call.parts, desk, "", 0)
}

async fn note(call: &Call, name: &str, outcome: AuditOutcome, detail: Option<&str>) {
    let nobody = Actor::with(name, Vec::<Permission>::new());
    let mut entry = By { actor: nobody, ..call.by() }.entry("login");
    entry.outcome = outcome;
    entry.detail = detail.map(str::to_owned);
    call.console().record(entry).await;
}

/// The key of a session in the store: the store never sees the secret.
fn key_of(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

fn cookie(parts: &Parts, desk: &Desk) -> Option<String> {
    let names = if is_plain(parts, desk) { &[COOKIE, INSECURE_COOKIE][..] } else { &[COOKIE][..] };
    let headers = parts.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = headers.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.find(|(name, value)| names.contains(name) && value.len() <= 64);
    found.map(|(_, value)| value.to_owned())
}

/// Whether cookies may go over plain http: on this machine, or if the program says so.
fn is_plain(parts: &Parts, desk: &Desk) -> bool {
    desk.insecure_cookies
        || (!is_tls(parts, desk) && super::loopback::names_loopback(host(parts).unwrap_or_default()))
}

fn is_tls(parts: &Parts, desk: &Desk) -> bool {
    let scheme = parts.uri.scheme_str();
    let public = desk.public_origin.as_deref().is_some_and(|origin| origin.starts_with("https://"));
    public || scheme == Some("https")
}

fn set_cookie(parts: &Parts, desk: &Desk, secret: &str, max_age: u32) -> Result<HeaderValue, Problem> {
    let (name, secure) = if is_plain(parts, desk) { (INSECURE_COOKIE, "") } else { (COOKIE, "; Secure") };
    // `Lax`: a link from a chat opens the dashboard. Requests that change something are checked by their origin.
    let cookie = format!("{name}={secret}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age}{secure}");
    HeaderValue::try_from(cookie).map_err(|_| Problem::bad_request("the cookie cannot be set"))
}

/// The response with that cookie.
pub(crate) fn with_cookie(mut response: Response, cookie: HeaderValue) -> Response {
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// Whether a path is one of this router, so that a login may lead there.
pub(crate) fn is_local(next: &str) -> bool {
    let is_path = next.starts_with('/') && !next.starts_with("//") && !next.starts_with("/\\");
    is_path && next.len() <= 2048 && !next.chars().any(|c| c.is_control() || c == '\\')
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn a_login_leads_only_to_paths_of_this_site() {
        for next in ["/", "/admin/tasks?status=failed", "/a//b"] {
            assert!(is_local(next), "{next}");
        }
        for next in
            ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a\nb", "tasks", "\\evil"]
        {
            assert!(!is_local(next), "{next:?}");
        }
    }
}
