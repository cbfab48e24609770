//! Routes for load balancers (does the process answer, does its store answer?) and for Prometheus (the metrics).

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use super::call::Call;
use super::problem::Problem;
use super::route::{Route, route};

pub(crate) static ROUTES: &[Route] = &[
    route!(Api, GET "/healthz", Nothing => alive; "Whether the process answers" [] 200 "text/plain"),
    route!(Api, GET "/readyz", Nothing => ready; "Whether the process is healthy and its store answers" [] 200 "text/plain"),
    route!(Api, GET "/metrics", Metrics => metrics; "The metrics of this process and of its store, for Prometheus" [] 200 "text/plain"),
];

/// How long the store may take.
const WITHIN: Duration = Duration::from_secs(1);

async fn alive(_call: Call) -> Result<Response, Problem> {
    Ok(plain(StatusCode::OK, "ok"))
}

/// 200 if this process is healthy and its store answers within a second, else 503. It says nothing more, since anybody may
/// ask.
async fn ready(call: Call) -> Result<Response, Problem> {
    let tasks = call.console().tasks();
    let answers = async { tasks.counts().await.is_ok() && tasks.health().is_healthy() };
    Ok(match tasks.seam().timeout(WITHIN, answers).await {
        Ok(true) => plain(StatusCode::OK, "ready"),
        _ => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    })
}

async fn metrics(call: Call) -> Result<Response, Problem> {
    let text = call.console().tasks().metrics().await;
    Ok(of_type(StatusCode::OK, text, "text/plain; version=0.0.4; charset=utf-8"))
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    of_type(status, text, "text/plain; charset=utf-8")
}

fn of_type(status: StatusCode, text: impl Into<Body>, content: &'static str) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    response
}
