//! One authenticated request, as handlers get it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{StatusCode, header};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::headers::text;
use super::problem::Problem;
use super::router_state::RouterState;
use crate::admin::{Actor, By, Console, Face, Permission};
use crate::seam::Seam;

/// The largest body of a request: 2 MiB.
const MAX_BODY: usize = 2 << 20;

/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// One request that passed the checks of its [route](super::route::Route).
pub(crate) struct Call {
    pub(crate) state: Arc<RouterState>,
    /// The actor. Public routes have one without permissions.
    pub(crate) actor: Actor,
    pub(crate) parts: Parts,
    /// The parameters of the path, decoded.
    pub(crate) params: Vec<(String, String)>,
    /// The fields of the query string, decoded, in their order.
    pub(crate) query: Vec<(String, String)>,
    /// The path under which the router is mounted, without a slash at its end: empty, or `/admin/tasks`.
    pub(crate) base: String,
    /// The address of the client, if the server provides it.
    pub(crate) remote: Option<Arc<str>>,
    pub(crate) face: Face,
    /// The body, until it is read. It is behind a lock because threads share a call, and a [`Body`] alone cannot be shared.
    pub(crate) body: Mutex<Body>,
}

impl Call {
    pub(crate) fn console(&self) -> &Console {
        &self.state.site.console
    }

    pub(crate) fn seam(&self) -> &Seam {
        self.console().seam()
    }

    /// Now, to the microsecond.
    pub(crate) fn now(&self) -> SystemTime {
        self.console().now()
    }

    pub(crate) fn may(&self, permission: Permission) -> bool {
        self.actor.may(permission)
    }

    /// The actor as the audit log names it.
    pub(crate) fn by(&self) -> By {
        let mut by = By::new(self.actor.clone(), self.face);
        by.remote.clone_from(&self.remote);
        by
    }

    /// The same call without its body, for the page of an error.
    pub(crate) fn sketch(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            actor: self.actor.clone(),
            parts: self.parts.clone(),
            params: self.params.clone(),
            query: self.query.clone(),
            base: self.base.clone(),
            remote: self.remote.clone(),
            face: self.face,
            body: Mutex::new(Body::empty()),
        }
    }

    /// A parameter of the path, which the route must have.
    pub(crate) fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    /// The id in the path.
    pub(crate) fn id(&self) -> Result<crate::TaskId, Problem> {
        let text = self.param("id");
        text.parse().map_err(|_| Problem::not_found(format!("`{text}` is not an id: an id is a UUID")))
    }

    /// The first field of that name in the query string.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn header(&self, name: &header::HeaderName) -> Option<&str> {
        text(&self.parts.headers, name)
    }

    /// The body as JSON; an empty one counts as `{}`. Only `application/json` is accepted: a form of another site cannot send
    /// that.
    pub(crate) async fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let kind = self.header(&CONTENT_TYPE).unwrap_or_default();
        if !is(kind, "application/json") {
            let detail = "the body must be JSON, with `Content-Type: application/json`";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::new(status, "invalid", "The body is not JSON", detail));
        }
        let bytes = self.bytes(MAX_BODY).await?;
        let bytes = if bytes.is_empty() { &b"{}"[..] } else { &bytes[..] };
        serde_json::from_slice(bytes).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => {
                let title = "A field is invalid";
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, error.to_string())
            }
            _ => Problem::bad_request(format!("the body is not JSON: {error}")),
        })
    }

    /// The fields of the form in the body, in their order.
    #[cfg(feature = "dashboard")]
    pub(crate) async fn form(&self) -> Result<Vec<(String, String)>, Problem> {
        let kind = self.header(&CONTENT_TYPE).unwrap_or_default();
        if !is(kind, "application/x-www-form-urlencoded") {
            let detail = "the body must be a form, `application/x-www-form-urlencoded`";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::new(status, "invalid", "The body is not a form", detail));
        }
        let bytes = self.bytes(MAX_BODY).await?;
        Ok(form_urlencoded::parse(&bytes).into_owned().collect())
    }

    /// The body, if it has at most `limit` bytes and arrives within 30 s. It can be read once.
    pub(crate) async fn bytes(&self, limit: usize) -> Result<axum::body::Bytes, Problem> {
        let body = std::mem::take(&mut *self.body.lock());
        match self.seam().timeout(BODY_WITHIN, axum::body::to_bytes(body, limit)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(_)) => {
                Err(Problem::too_large(format!("the body is longer than {limit} bytes, or broke off")))
            }
            Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "invalid",
                "The body did not arrive",
                "the body did not arrive within 30 s",
            )),
        }
    }
}

/// Whether a content type is of this kind, whatever its parameters.
fn is(content_type: &str, kind: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind)
}

/// A response with this value as JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let bytes = serde_json::to_vec(value).expect("the value has no map with keys that are not text");
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A redirect (303): the browser gets the other page with `GET`.
#[cfg(feature = "dashboard")]
pub(crate) fn see_other(location: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    // A location is built from paths and encoded query strings. Only the `next` of a login may be an invalid header.
    let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("."));
    response.headers_mut().insert(header::LOCATION, location);
    response
}
