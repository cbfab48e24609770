//! The dashboard.

use axum::response::Response;

use super::call::Call;
use super::problem::Problem;
use super::routes::Route;

pub(crate) static ROUTES: &[Route] = &[];

/// The page of an error.
pub(crate) fn failed(_call: &Call, problem: Problem) -> Response {
    problem.into_json()
}
