//! The actor itself, and its session.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::body::Fields;
use super::tasks::empty;
use crate::admin::{Actor, Permission, Role};
use crate::web::call::{Call, json};
use crate::web::login;
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

pub(super) async fn log_in(call: Call) -> Result<Response, Problem> {
    let mut fields = Fields::read(&call, &["name", "password"]).await?;
    let missing = |field| move || Problem::invalid(field, "it is missing");
    let name = fields.text("name")?.ok_or_else(missing("name"))?;
    let password = fields.text("password")?.ok_or_else(missing("password"))?;
    let (cookie, actor) = login::log_in(&call, &name, password).await?;
    Ok(login::with_cookie(json(StatusCode::OK, &Me::of(&actor)), cookie))
}

/// Ends the session, and with `everywhere` all sessions of this user.
pub(super) async fn log_out(call: Call) -> Result<Response, Problem> {
    let mut fields = Fields::read(&call, &["everywhere"]).await?;
    let everywhere = fields.take("everywhere", "`true` or `false`")?.unwrap_or(false);
    let cookie = login::log_out(&call, everywhere).await?;
    Ok(login::with_cookie(empty(), cookie))
}
