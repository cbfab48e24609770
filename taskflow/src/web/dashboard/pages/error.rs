//! The page of an error, in the frame; and the redirect to the login.

use askama::Template;
use axum::response::Response;
use http::{Method, StatusCode};

use crate::web::call::{Call, see_other};
use crate::web::dashboard::frame::{self, Frame};
use crate::web::problem::Problem;

#[derive(Template)]
#[template(path = "error.html")]
struct View {
    f: Frame,
    title: &'static str,
    detail: String,
    status: String,
    is_retryable: bool,
    here: String,
}

/// The page of this problem. A browser that is not logged in is redirected to the login, if there is one, and from there back.
pub(crate) fn page(call: &Call, problem: Problem) -> Response {
    let path = call.parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let here = if path == "/" { frame::home(&call.base).to_owned() } else { format!("{}{path}", call.base) };
    let is_page = call.parts.method == Method::GET;
    if problem.status == StatusCode::UNAUTHORIZED
        && call.state.access.has_users()
        && call.field("part").is_none()
    {
        // After a form there is nothing to come back to: its data is gone.
        let next = if is_page { frame::query([("next", &here)]) } else { String::new() };
        return see_other(&format!("{}/login{next}", call.base));
    }
    let view = View {
        f: Frame::new(call, problem.title, "", None),
        title: problem.title,
        detail: problem.detail.clone(),
        status: format!("{} · {}", problem.status.as_u16(), problem.code),
        is_retryable: is_page && problem.status == StatusCode::SERVICE_UNAVAILABLE,
        here,
    };
    match frame::page(problem.status, &view) {
        Ok(mut response) => {
            problem.add_headers(&mut response);
            // With this header, a browser may show a password dialog of its own.
            response.headers_mut().remove(http::header::WWW_AUTHENTICATE);
            response
        }
        Err(_) => problem.into_json(),
    }
}
