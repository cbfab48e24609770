//! Errors as responses: `application/problem+json` of RFC 9457 for programs. (For people, the dashboard makes a page of them.)

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::admin::AdminError;
use crate::model::{AddError, Error};

/// Why a request was refused or failed.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) detail: String,
    /// More members of the JSON, such as the invalid field.
    pub(crate) more: Map<String, Value>,
    pub(crate) retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), more: Map::new(), retry_after: None }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// A field of the request is invalid.
    pub(crate) fn invalid(field: &str, message: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid",
            "A field is invalid",
            format!("`{field}`: {message}"),
        )
        .with("field", field)
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", "The request cannot be read", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    pub(crate) fn unauthenticated() -> Self {
        let detail = "send `Authorization: Bearer <token>`, or log in";
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "You are not logged in", detail)
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The request is too large", detail)
    }

    pub(crate) fn too_many(detail: impl Into<String>, retry_after: u64) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", "Too many requests", detail);
        problem.retry_after = Some(retry_after);
        problem
    }

    /// The most streams are open already.
    pub(crate) fn too_many_streams(detail: impl Into<String>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut problem = Self::new(status, "too_many", "Too many streams", detail);
        problem.retry_after = Some(5);
        problem
    }

    /// The store does not answer. Also for every error that has no code of its own.
    pub(crate) fn degraded(detail: impl Into<String>) -> Self {
        let title = "The store does not answer";
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "degraded", title, detail);
        problem.retry_after = Some(2);
        problem
    }

    /// The response for programs.
    pub(crate) fn into_json(self) -> Response {
        #[derive(Serialize)]
        struct Shape<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            code: &'a str,
            detail: &'a str,
            #[serde(flatten)]
            more: &'a Map<String, Value>,
        }
        let r#type = format!("https://docs.rs/taskflow/latest/taskflow/web/index.html#{}", self.code);
        let shape = Shape {
            r#type,
            title: self.title,
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            more: &self.more,
        };
        let json = serde_json::to_vec(&shape).expect("the members are text and JSON");
        let mut response = Response::new(Body::from(json));
        *response.status_mut() = self.status;
        self.add_headers(&mut response);
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }

    /// Adds the headers that this error needs, whatever its body is.
    pub(crate) fn add_headers(&self, response: &mut Response) {
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer realm=\"taskflow\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        let mut detail = error.to_string();
        let (status, title) = match error.code() {
            "forbidden" => (StatusCode::FORBIDDEN, "You may not do this"),
            "not_found" => (StatusCode::NOT_FOUND, "Not found"),
            "unknown_schedule" => (StatusCode::NOT_FOUND, "There is no such schedule"),
            "unknown_queue" => (StatusCode::NOT_FOUND, "There is no such queue"),
            "invalid" => (StatusCode::UNPROCESSABLE_ENTITY, "A field is invalid"),
            "empty_filter" => (StatusCode::UNPROCESSABLE_ENTITY, "The filter has no condition"),
            "changed" => (StatusCode::CONFLICT, "The matching tasks have changed"),
            "sealed" => (StatusCode::CONFLICT, "It cannot be opened here"),
            "declared" => (StatusCode::CONFLICT, "The program declares this schedule"),
            "unknown_task" => {
                detail.push_str(" (`\"force\": true` adds it nevertheless)");
                (StatusCode::CONFLICT, "No process knows this task")
            }
            "not_retryable" => (StatusCode::CONFLICT, "The task is not retryable"),
            "key_taken" => (StatusCode::CONFLICT, "Another task has the key"),
            "not_ended" => (StatusCode::CONFLICT, "The task has not ended"),
            "queue_full" => (StatusCode::TOO_MANY_REQUESTS, "The queue is full"),
            "refused" => (StatusCode::UNPROCESSABLE_ENTITY, "A hook of the program refused the task"),
            "hook_failed" => (StatusCode::INTERNAL_SERVER_ERROR, "A hook of the program panicked"),
            "too_large" => (StatusCode::PAYLOAD_TOO_LARGE, "It is too large"),
            _ => return Self::degraded(detail),
        };
        let mut problem = Self::new(status, error.code(), title, detail);
        match &error {
            AdminError::Invalid { field, .. } => problem = problem.with("field", field.as_str()),
            AdminError::Task(Error::Config { option, .. }) => problem = problem.with("field", *option),
            AdminError::Add(error) | AdminError::Task(Error::Add(error)) => match error {
                AddError::Option { option, .. } => problem = problem.with("field", *option),
                AddError::TooLarge { what, .. } => problem = problem.with("field", *what),
                AddError::UnknownQueue { .. } => problem = problem.with("field", "queue"),
                _ => {}
            },
            AdminError::NoTask { id } => problem = problem.with("id", id.to_string()),
            AdminError::UnknownTask { .. } => problem = problem.with("field", "name"),
            AdminError::Changed { now, .. } => problem = problem.with("matching", *now),
            _ => {}
        }
        problem
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        AdminError::from(error).into()
    }
}

impl From<AddError> for Problem {
    fn from(error: AddError) -> Self {
        AdminError::from(error).into()
    }
}
