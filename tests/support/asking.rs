//! Asking the dashboard and the API as people and programs do, without a socket.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use serde_json::Value;
use taskflow::TaskManager;
use taskflow::web::{Access, Actor, Admin, Role, Token};
use tower::ServiceExt;

use crate::support::soon;

/// The site of these tests.
pub(crate) const HOST: &str = "127.0.0.1:3000";

/// The origin of that site.
pub(crate) const ORIGIN: &str = "http://127.0.0.1:3000";

/// A router, and the secrets of the tokens that it knows.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) router: Router,
    tokens: Vec<(String, String)>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {:?}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The JSON of an answer with that status.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self.json()
    }

    /// The problem of a refusal: its code and its field.
    #[track_caller]
    pub(crate) fn refused(self, status: u16) -> (String, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let json = self.is(status);
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(json["status"], status);
        assert!(!text("title").is_empty() && !text("detail").is_empty(), "{json}");
        (text("code"), text("field"))
    }
}

impl App {
    /// An API with a token for each role, named like it, and one for each of these actors.
    pub(crate) fn of(tasks: &TaskManager, actors: impl IntoIterator<Item = Actor>) -> Self {
        Self::with(tasks, actors, |admin| admin)
    }

    pub(crate) fn with(
        tasks: &TaskManager,
        actors: impl IntoIterator<Item = Actor>,
        change: impl FnOnce(Admin) -> Admin,
    ) -> Self {
        let roles = Role::ALL.map(|role| Actor::new(role.as_str(), role));
        let (mut tokens, mut secrets) = (Vec::new(), Vec::new());
        for actor in roles.into_iter().chain(actors) {
            let (secret, sha256) = Token::generate();
            secrets.push((actor.name().to_owned(), secret));
            tokens.push(Token::of(sha256, actor));
        }
        let admin = change(Admin::new(tasks, Access::tokens(tokens).unwrap()));
        Self { router: admin.router(), tokens: secrets }
    }

    /// The same API under a path.
    pub(crate) fn under(mut self, path: &str) -> Self {
        self.router = Router::new().nest(path, self.router);
        self
    }

    pub(crate) fn bearer(&self, name: &str) -> String {
        let (_, secret) = self.tokens.iter().find(|(token, _)| token == name).unwrap();
        format!("Bearer {secret}")
    }

    /// Asks as the actor of that name. The body is JSON, or nothing.
    pub(crate) async fn ask(&self, name: &str, method: &str, path: &str, body: Option<&str>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", HOST);
        request = request.header("authorization", self.bearer(name));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        send(&self.router, request.body(Body::from(body.unwrap_or_default().to_owned())).unwrap()).await
    }

    pub(crate) async fn get(&self, name: &str, path: &str) -> Answer {
        self.ask(name, "GET", path, None).await
    }
}

/// Sends a request, and reads the whole answer.
pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let (parts, body) = soon(router.clone().oneshot(request)).await.unwrap().into_parts();
    let body = soon(to_bytes(body, usize::MAX)).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Sends a request without reading the body of the answer: a stream may never end.
pub(crate) async fn head(router: &Router, request: Request<Body>) -> Answer {
    let (parts, _) = soon(router.clone().oneshot(request)).await.unwrap().into_parts();
    Answer { status: parts.status, headers: parts.headers, body: Bytes::new() }
}
