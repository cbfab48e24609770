//! The one table of routes, and the checks that each request passes before its handler runs.
//!
//! The router is built from the table, so each route says which permission it needs, or that it needs none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, OriginalUri, RawPathParams, Request};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use http::{Method, StatusCode};
use parking_lot::Mutex;

use super::call::Call;
#[cfg(feature = "dashboard")]
use super::dashboard;
use super::headers::secure;
use super::origin::is_own;
use super::problem::Problem;
use super::route::{Needs, Route};
use super::router_state::RouterState;
use super::{api, health};
use crate::admin::{Actor, AuditOutcome, Face, Permission};

/// The longest query string, in bytes.
const MAX_QUERY: usize = 8192;

/// How metrics name the requests to a path or method that no route has.
const OTHER: &str = "other";

/// How long a read may take while the store is well. A search through 20,000 records takes less.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// How long a read may take while the store is known to be in trouble.
const DEGRADED_WITHIN: Duration = Duration::from_millis(800);

/// All routes.
pub(crate) fn all(with_pages: bool) -> Vec<&'static Route> {
    #[cfg(feature = "dashboard")]
    let pages = dashboard::ROUTES.iter().filter(|_| with_pages);
    #[cfg(not(feature = "dashboard"))]
    let pages = std::iter::empty().filter(|_: &&Route| with_pages);
    health::ROUTES.iter().chain(api::ROUTES).chain(pages).collect()
}

/// The router of these routes.
pub(crate) fn router(state: Arc<RouterState>, with_pages: bool) -> Router {
    api::describe(health::ROUTES.iter().chain(api::ROUTES));
    let mut router = Router::new();
    for route in all(with_pages) {
        let method = Method::from_bytes(route.method.as_bytes()).expect("the table has standard methods");
        let filter = MethodFilter::try_from(method).expect("the table has standard methods");
        let state = Arc::clone(&state);
        let handler = move |params: Result<RawPathParams, RawPathParamsRejection>, request: Request| {
            let state = Arc::clone(&state);
            async move { answer(state, route, params.ok(), request).await }
        };
        router = router.route(route.path, on(filter, handler));
    }
    let (unknown, wrong) = (Arc::clone(&state), state);
    router
        .fallback(move |request: Request| {
            lost(Arc::clone(&unknown), with_pages, request, StatusCode::NOT_FOUND)
        })
        .method_not_allowed_fallback(move |request: Request| {
            lost(Arc::clone(&wrong), with_pages, request, StatusCode::METHOD_NOT_ALLOWED)
        })
}

/// Answers a request to a path or a method that no route has. A request without an actor is refused as on any other route.
async fn lost(state: Arc<RouterState>, with_pages: bool, request: Request, status: StatusCode) -> Response {
    let face = match request.uri().path().starts_with("/api/") || !with_pages {
        true => Face::Api,
        false => Face::Dashboard,
    };
    let (parts, body) = request.into_parts();
    let mut call = call(state, face, Vec::new(), parts, body);
    let problem = match admit(&mut call, Needs::Actor).await {
        Err(problem) => problem,
        Ok(()) if status == StatusCode::METHOD_NOT_ALLOWED => {
            let detail = format!("this path does not answer to {}", call.parts.method);
            Problem::new(status, "not_found", "Not this method", detail)
        }
        Ok(()) => Problem::not_found(format!("there is nothing at {}", call.parts.uri.path())),
    };
    let response = failed(&call.state.clone(), Some(&call), face, problem);
    call.console().tasks().faces().answered("", OTHER, response.status().as_u16());
    response
}

/// Answers a request to a route, and counts it.
async fn answer(
    state: Arc<RouterState>,
    route: &'static Route,
    params: Option<RawPathParams>,
    request: Request,
) -> Response {
    let faces = Arc::clone(state.site.console.tasks().faces());
    let response = answered(state, route, params, request).await;
    faces.answered(route.method, route.path, response.status().as_u16());
    response
}

async fn answered(
    state: Arc<RouterState>,
    route: &'static Route,
    params: Option<RawPathParams>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let is_read = parts.method.is_safe();
    let is_text = params.is_some();
    let params = params.iter().flatten().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let mut call = call(Arc::clone(&state), route.face, params, parts, body);
    let checks = async {
        admit(&mut call, route.needs).await?;
        if !is_text {
            return Err(Problem::bad_request("the path is not UTF-8 behind its percent signs"));
        }
        let docs = route.docs.filter(|_| route.needs != Needs::Nothing);
        docs.map_or(Ok(()), |docs| docs.check(&call.query))
    };
    if let Err(problem) = checks.await {
        return failed(&state, Some(&call), route.face, problem);
    }
    let shown = call.sketch();
    let within = match state.site.console.tasks().health().is_healthy() {
        true => READ_WITHIN,
        false => DEGRADED_WITHIN,
    };
    let seam = state.site.console.seam().clone();
    let work = (route.handler)(call);
    let answer = match is_read {
        true => seam.timeout(within, work).await.unwrap_or_else(|_| {
            Err(Problem::degraded(format!("the store did not answer within {} ms", within.as_millis())))
        }),
        // An act has no time limit: it must not be broken off.
        false => work.await,
    };
    match answer {
        Ok(mut response) => {
            secure(&mut response);
            response
        }
        Err(problem) => failed(&state, Some(&shown), route.face, problem),
    }
}

fn call(
    state: Arc<RouterState>,
    face: Face,
    params: Vec<(String, String)>,
    parts: http::request::Parts,
    body: Body,
) -> Call {
    let within = parts.uri.path();
    let outer = parts.extensions.get::<OriginalUri>().map_or(within, |uri| uri.path());
    // The root of a nested router is requested without a slash at its end.
    let base = if within == "/" { outer } else { outer.strip_suffix(within).unwrap_or_default() };
    let base = base.trim_end_matches('/').to_owned();
    let query = parts.uri.query().unwrap_or_default();
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let remote = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let remote = remote.map(|ConnectInfo(address)| address.ip().to_canonical().to_string().into());
    let nobody = Actor::with("nobody", Vec::<Permission>::new());
    Call { state, actor: nobody, parts, params, query, base, remote, face, body: Mutex::new(body) }
}

/// Checks the request against what its route needs, before its body is read.
async fn admit(call: &mut Call, needs: Needs) -> Result<(), Problem> {
    if call.parts.uri.query().is_some_and(|query| query.len() > MAX_QUERY) {
        let detail = format!("the query string is longer than {MAX_QUERY} bytes");
        return Err(Problem::new(StatusCode::URI_TOO_LONG, "too_large", "The address is too long", detail));
    }
    let state = Arc::clone(&call.state);
    if !is_own(&call.parts, state.site.public_origin.as_deref()) {
        let detail = "the request comes from another site, or does not say from which; a program sends \
                      `Authorization: Bearer`";
        return Err(Problem::new(StatusCode::FORBIDDEN, "cross_origin", "Not from this site", detail));
    }
    if needs == Needs::Nothing {
        return Ok(());
    }
    let within = call.seam().timeout(READ_WITHIN, state.access.actor(&call.parts, &state.site));
    let actor = within.await.unwrap_or_else(|_| Err(Problem::degraded("the access check took over 10 s")))?;
    call.actor = actor.ok_or_else(Problem::unauthenticated)?;
    if let Needs::Permission(permission) = needs
        && !call.may(permission)
    {
        if !call.parts.method.is_safe() {
            let mut entry = call.console().entry(&call.by(), "refused");
            entry.target = Some(format!("{} {}", call.parts.method, call.parts.uri.path()));
            entry.outcome = AuditOutcome::Refused;
            entry.detail = Some(format!("it needs the permission `{permission}`"));
            state.site.console.record(entry).await;
        }
        let detail = format!("{} may not do this: it needs the permission `{permission}`", call.actor.name());
        let problem = Problem::new(StatusCode::FORBIDDEN, "forbidden", "You may not do this", detail);
        return Err(problem.with("permission", permission.as_str()));
    }
    Ok(())
}

/// The response to a request that failed: a page for people, JSON for programs.
fn failed(_desk: &Arc<RouterState>, call: Option<&Call>, face: Face, problem: Problem) -> Response {
    let mut response = match (face, call) {
        #[cfg(feature = "dashboard")]
        (Face::Dashboard, Some(call)) => dashboard::failed(call, problem),
        _ => problem.into_json(),
    };
    secure(&mut response);
    response
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tower_service::Service;

    use super::*;
    use crate::manager::TaskManager;
    use crate::web::{Access, Admin, Role};

    /// The actor whom the request names.
    fn named(parts: &http::request::Parts) -> std::future::Ready<Option<Actor>> {
        let name = parts.headers.get("x-actor").and_then(|name| name.to_str().ok());
        let role = Role::ALL.into_iter().find(|role| Some(role.as_str()) == name);
        std::future::ready(role.map(|role| Actor::new(role.as_str(), role)))
    }

    async fn asked(router: &Router, route: &Route, actor: Option<Role>, origin: Option<&str>) -> StatusCode {
        let id = crate::TaskId::new().to_string();
        let path = route.path.split('/').map(|part| match part {
            "{id}" => id.as_str(),
            part if part.starts_with('{') => "default",
            part => part,
        });
        let mut request = Request::builder()
            .method(route.method)
            .uri(path.collect::<Vec<_>>().join("/"))
            .header("host", "shop.example");
        request = actor.into_iter().fold(request, |request, role| request.header("x-actor", role.as_str()));
        request = origin.into_iter().fold(request, |request, origin| request.header("origin", origin));
        let answer = router.clone().call(request.body(Body::empty()).expect("a request")).await;
        let answer = answer.unwrap_or_else(|never| match never {});
        let policy = answer.headers().get(http::header::CONTENT_SECURITY_POLICY);
        assert!(policy.is_some_and(|policy| policy.as_bytes().starts_with(b"default-src 'none'")));
        answer.status()
    }

    #[tokio::test]
    async fn each_route_lets_in_who_has_its_permission_and_comes_from_this_site() {
        const OWN: Option<&str> = Some("http://shop.example");
        let tasks = TaskManager::builder().store("memory:").connect().await.expect("a memory store opens");
        let router = Admin::new(&tasks, Access::from_request(named)).router();
        for route in all(true) {
            let is_read = matches!(route.method, "GET" | "HEAD");
            let told = format!("{} {}", route.method, route.path);
            for role in Role::ALL.into_iter().map(Some).chain([None]) {
                let own = asked(&router, route, role, OWN).await;
                let may = match (route.needs, role) {
                    (Needs::Nothing, _) | (Needs::Actor, Some(_)) => true,
                    (Needs::Permission(needed), Some(role)) => role.permissions().contains(&needed),
                    (_, None) => false,
                };
                match (may, role) {
                    // A login without a password is refused by itself.
                    (true, _) if route.needs == Needs::Nothing => {
                        assert_ne!(own, StatusCode::FORBIDDEN, "{told}")
                    }
                    (true, _) => {
                        assert!(!matches!(own.as_u16(), 401 | 403 | 500), "{told} as {role:?}: {own}");
                    }
                    (false, None) => assert_eq!(own, StatusCode::UNAUTHORIZED, "{told}"),
                    (false, Some(_)) => assert_eq!(own, StatusCode::FORBIDDEN, "{told} as {role:?}"),
                }
                for origin in [Some("https://evil.example"), Some("null"), None] {
                    let other = asked(&router, route, role, origin).await;
                    let wanted = if is_read { own } else { StatusCode::FORBIDDEN };
                    assert_eq!(other, wanted, "{told} as {role:?} from {origin:?}");
                }
            }
        }
    }
}
