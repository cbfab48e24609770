//! Logging in and out.

use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::{self, HeaderValue};
use sha2::{Digest, Sha256};

use super::access::secret::{hex, random};
use super::access::session::{cookie, key_of, set_cookie};
use super::call::Call;
use super::problem::Problem;
use crate::admin::{Actor, AuditOutcome, By, Permission, Session, throttle};

/// The longest name or password that is checked, in bytes.
const MAX_FIELD: usize = 1024;

/// Logs in. Returns the cookie to set and the actor.
pub(crate) async fn log_in(
    call: &Call,
    name: &str,
    password: String,
) -> Result<(HeaderValue, Actor), Problem> {
    let (access, site) = (&call.state.access, &call.state.site);
    let Some(users) = access.some_users() else {
        return Err(Problem::not_found("nobody logs in here with a password"));
    };
    let wrong = || {
        let detail = "the name or the password is wrong";
        Problem::new(http::StatusCode::UNAUTHORIZED, "unauthenticated", "You are not logged in", detail)
    };
    if name.len() > MAX_FIELD || password.len() > MAX_FIELD {
        return Err(wrong());
    }
    // The key has the hash of the name, because names that do not exist are counted too, and can be any text.
    let mut keys = vec![format!("user:{}", hex(&Sha256::digest(name)[..16]))];
    keys.extend(call.remote.as_ref().map(|remote| format!("from:{remote}")));
    if !throttle::may_try(&site.console, &keys).await? {
        note(call, name, AuditOutcome::Refused, Some("too many tries")).await;
        let detail = "too many tries for this name or from this address: wait a minute";
        return Err(Problem::too_many(detail, throttle::WINDOW.as_secs()));
    }
    let Some(user) = users.check(site.console.seam(), name, password).await else {
        note(call, name, AuditOutcome::Failed, None).await;
        return Err(wrong());
    };
    throttle::succeeded(&site.console, &keys).await;
    let secret = BASE64_URL_SAFE_NO_PAD.encode(random());
    let agent = call.header(&header::USER_AGENT).unwrap_or_default();
    let session = Session {
        user: name.to_owned(),
        password: user.password(),
        created_at: site.console.seam().now(),
        user_agent: agent[..agent.floor_char_boundary(200)].to_owned(),
    };
    site.sessions.begin(&site.console, key_of(&secret), &session).await?;
    // A session that this browser had before ends: the browser gets a new secret.
    if let Some(old) = cookie(&call.parts, site) {
        site.sessions.end(&site.console, &key_of(&old)).await?;
    }
    note(call, name, AuditOutcome::Ok, None).await;
    Ok((set_cookie(&call.parts, site, &secret, 7 * 24 * 3600)?, user.actor().clone()))
}

/// Ends the session of this request in all processes; with `everywhere`, all sessions of its user. Returns the cookie to set.
pub(crate) async fn log_out(call: &Call, everywhere: bool) -> Result<HeaderValue, Problem> {
    let (access, site) = (&call.state.access, &call.state.site);
    if let Some(secret) = cookie(&call.parts, site) {
        site.sessions.end(&site.console, &key_of(&secret)).await?;
    }
    let has_session = access.some_users().is_some_and(|users| users.find(call.actor.name()).is_some());
    if everywhere && has_session {
        site.sessions.end_all(&site.console, call.actor.name()).await?;
    }
    set_cookie(&call.parts, site, "", 0)
}

async fn note(call: &Call, name: &str, outcome: AuditOutcome, detail: Option<&str>) {
    let nobody = Actor::with(name, Vec::<Permission>::new());
    let mut entry = call.console().entry(&By { actor: nobody, ..call.by() }, "login");
    entry.outcome = outcome;
    entry.detail = detail.map(str::to_owned);
    call.console().record(entry).await;
}

/// The response with that cookie.
pub(crate) fn with_cookie(mut response: Response, cookie: HeaderValue) -> Response {
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// Whether this is a path on this server, so that a login may redirect to it.
#[cfg(any(test, feature = "dashboard"))]
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
