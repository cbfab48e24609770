//! The login. It says nothing about which names exist.

use std::sync::Arc;

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use crate::web::call::{Call, see_other};
use crate::web::dashboard::{assets, frame};
use crate::web::login;
use crate::web::problem::Problem;

#[derive(Template)]
#[template(path = "login.html")]
struct View {
    base: String,
    site: Arc<str>,
    environment: Option<String>,
    accent: &'static str,
    icon: String,
    css: &'static str,
    js: &'static str,
    problem: String,
    next: String,
    name: String,
}

fn view(call: &Call, problem: String, next: &str, name: &str) -> View {
    let environment = call.state.environment.as_ref();
    let accent = environment.map_or("", |(_, accent)| accent.as_str());
    View {
        base: call.base.clone(),
        site: Arc::clone(&call.state.title),
        environment: environment.map(|(name, _)| name.clone()),
        accent,
        icon: assets::icon_name(accent),
        css: &assets::CSS_NAME,
        js: &assets::JS_NAME,
        problem,
        next: next.to_owned(),
        name: name.chars().take(200).collect(),
    }
}

pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    if !call.state.access.has_users() {
        return Ok(see_other(frame::home(&call.base)));
    }
    frame::page(StatusCode::OK, &view(&call, String::new(), call.field("next").unwrap_or_default(), ""))
}

pub(crate) async fn log_in(call: Call) -> Result<Response, Problem> {
    let form = call.form().await?;
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let (name, next) = (field("name"), field("next"));
    match login::log_in(&call, name, field("password").to_owned()).await {
        Ok((cookie, _)) => {
            let next = if login::is_local(next) { next } else { frame::home(&call.base) };
            Ok(login::with_cookie(see_other(next), cookie))
        }
        Err(problem)
            if problem.status == StatusCode::UNAUTHORIZED
                || problem.status == StatusCode::TOO_MANY_REQUESTS =>
        {
            let mut response =
                frame::page(problem.status, &view(&call, sentence(&problem.detail), next, name))?;
            problem.add_headers(&mut response);
            response.headers_mut().remove(http::header::WWW_AUTHENTICATE);
            Ok(response)
        }
        Err(problem) => Err(problem),
    }
}

/// The text with a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), chars.as_str()))
}

pub(crate) async fn log_out(call: Call) -> Result<Response, Problem> {
    let form = call.form().await.unwrap_or_default();
    let everywhere = form.iter().any(|(key, value)| key == "everywhere" && value == "true");
    let cookie = login::log_out(&call, everywhere).await?;
    let login = format!("{}/login", call.base);
    let to = if call.state.access.has_users() { &login } else { frame::home(&call.base) };
    Ok(login::with_cookie(see_other(to), cookie))
}
