//! The actor itself, and its session.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::{Actor, Permission, Role};
use crate::web::access::login;
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

#[derive(Serialize)]
struct Me<'a> {
    name: &'a str,
    role: Option<Role>,
    permissions: Vec<Permission>,
}

impl<'a> Me<'a> {
    fn of(actor: &'a Actor) -> Self {
        Self { name: actor.name(), role: actor.role(), permissions: actor.permissions().collect() }
    }
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &Me::of(&call.actor)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    name: String,
    password: String,
}

pub(super) async fn log_in(call: Call) -> Result<Response, Problem> {
    let Login { name, password } = call.json().await?;
    let (cookie, actor) = login::log_in(&call, &name, password).await?;
    Ok(login::with_cookie(json(StatusCode::OK, &Me::of(&actor)), cookie))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Logout {
    /// Ends all sessions of this user.
    #[serde(default)]
    everywhere: bool,
}

pub(super) async fn log_out(call: Call) -> Result<Response, Problem> {
    let Logout { everywhere } = call.json().await?;
    let cookie = login::log_out(&call, everywhere).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(login::with_cookie(response, cookie))
}
