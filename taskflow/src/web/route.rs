//! One route: its path, its permission, its handler, and for the API its documentation.

use std::pin::Pin;

use axum::response::Response;

use super::call::Call;
use super::problem::Problem;
use crate::admin::{Face, Permission, grammar};
use crate::model::spelling::closest;

/// What a request needs to reach a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing. Only health checks, the login and assets have this.
    Nothing,
    /// Any actor.
    Actor,
    /// An actor with this permission.
    Permission(Permission),
}

/// A handler.
pub(crate) type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send>>;

/// One route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// The path within the router, with parameters in braces.
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    pub(crate) face: Face,
    pub(crate) handler: Handler,
    /// The documentation. Routes of the API have one, pages have none.
    pub(crate) docs: Option<Docs>,
}

/// What the OpenAPI document says about a route, and which fields its query string may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Docs {
    pub(crate) summary: &'static str,
    /// The fields of the query string. [`FILTER`] stands for the words of filters.
    pub(crate) query: &'static [&'static str],
    /// The schema of the body.
    pub(crate) body: Option<&'static str>,
    /// The answers when all goes well: the status, and a schema or a media type.
    pub(crate) answers: &'static [(u16, &'static str)],
}

/// Stands for the words of filters among the fields of a query string.
pub(crate) const FILTER: &str = "<filter>";

/// The answer has no body.
pub(crate) const EMPTY: &str = "";

impl Docs {
    /// Refuses a query string with a field that the route does not have.
    ///
    /// # Errors
    /// 422 for the first such field, with the closest one that the route has.
    pub(crate) fn check(&self, query: &[(String, String)]) -> Result<(), Problem> {
        for (field, _) in query {
            if self.query.contains(&FILTER) {
                grammar::check_word(field, &self.query[1..])?;
            } else if !self.query.contains(&field.as_str()) {
                let message = match closest(field, self.query.iter().copied()) {
                    Some(one) => format!("there is no such field; did you mean `{one}`?"),
                    None if self.query.is_empty() => {
                        "this route has no fields in its query string".to_owned()
                    }
                    None => format!("there is no such field; there are {}", self.query.join(", ")),
                };
                return Err(Problem::invalid(field, message));
            }
        }
        Ok(())
    }
}

/// Writes a [`Route`]: `route!(Api, GET "/api/v1/tasks", View => tasks::list)`, and for the API also what it takes and
/// answers: `; "Tasks, newest first" [FILTER, "limit"] ("Body") 200 "TaskPage"`. `FILTER` comes first.
macro_rules! route {
    (
        $face:ident, $method:ident $path:literal, $needs:ident => $handler:path
        $(; $summary:literal [$($query:expr),*] $(($body:literal))? $($status:literal $answer:expr),+)?
    ) => {
        $crate::web::route::Route {
            method: stringify!($method),
            path: $path,
            needs: $crate::web::route::route!(@needs $needs),
            face: $crate::admin::Face::$face,
            handler: |call| Box::pin($handler(call)),
            docs: $crate::web::route::route!(@docs $($summary [$($query),*] [$($body)?] $($status $answer),+)?),
        }
    };
    (@needs Nothing) => { $crate::web::route::Needs::Nothing };
    (@needs Actor) => { $crate::web::route::Needs::Actor };
    (@needs $permission:ident) => {
        $crate::web::route::Needs::Permission($crate::admin::Permission::$permission)
    };
    (@docs) => { None };
    (@docs $summary:literal [$($query:expr),*] [$($body:literal)?] $($status:literal $answer:expr),+) => {
        Some($crate::web::route::Docs {
            summary: $summary,
            query: &[$($query),*],
            body: $crate::web::route::route!(@body $($body)?),
            answers: &[$(($status, $answer)),+],
        })
    };
    (@body) => { None };
    (@body $body:literal) => { Some($body) };
}
pub(crate) use route;
