use std::sync::Arc;

use axum::Router;
use tokio::sync::Semaphore;

use super::access::Access;
use super::router_state::{Accent, Link, MAX_FOLLOWED, RouterState};
use super::routes;
use super::site::Site;
use crate::admin::{Args, Console, Sessions};
use crate::manager::TaskManager;

/// The dashboard and the API of a task manager, as an axum router. It always needs an [`Access`].
///
/// ```
/// use axum::Router;
/// use taskflow::TaskManager;
/// use taskflow::web::{Access, Accent, Admin, Args};
///
/// # fn demo(tasks: &TaskManager) -> Router {
/// let admin = Admin::new(tasks, Access::loopback())
///     .title("shop")
///     .environment("staging", Accent::Orange)
///     .args(Args::redact(["password", "token", "card"]))
///     .link("runbook", "https://wiki.example/{name}");
/// Router::new().nest("/admin/tasks", admin.router())
/// # }
/// ```
///
/// The API is at `/api/v1` of the router, with `/healthz`, `/readyz` and `/metrics` beside it. With the feature `dashboard`, the
/// pages are at its root.
#[derive(Debug)]
#[must_use = "an `Admin` does nothing until its `router()` is served"]
pub struct Admin {
    state: RouterState,
}

impl Admin {
    /// The dashboard and the API of these tasks. `access` decides who may use them.
    pub fn new(tasks: &TaskManager, access: Access) -> Self {
        if access.is_open() {
            tracing::warn!(
                "the dashboard and the API of the tasks are open to anyone who reaches this server"
            );
        }
        Self {
            state: RouterState {
                site: Site {
                    console: Console::new(tasks),
                    sessions: Sessions::default(),
                    public_origin: None,
                    insecure_cookies: false,
                },
                access,
                title: "taskflow".into(),
                environment: None,
                args: Args::default(),
                links: Vec::new(),
                live: Default::default(),
                followed: Arc::new(Semaphore::new(MAX_FOLLOWED)),
                #[cfg(feature = "dashboard")]
                cache: Default::default(),
            },
        }
    }

    /// The title of the pages; default `taskflow`.
    pub fn title(mut self, title: impl Into<Arc<str>>) -> Self {
        self.state.title = title.into();
        self
    }

    /// Shows the name of the environment on each page, in a colour, so that nobody takes production for staging.
    pub fn environment(mut self, name: impl Into<String>, accent: Accent) -> Self {
        self.state.environment = Some((name.into(), accent));
        self
    }

    /// Which arguments and results are shown; default all.
    pub fn args(mut self, args: Args) -> Self {
        self.state.args = args;
        self
    }

    /// Adds a link to the page of each task. `{name}`, `{queue}`, `{id}`, `{trace_id}` and `{tag.k}` in the URL are replaced; a
    /// missing tag by nothing. A task without a trace has no link with `{trace_id}`. A URL must begin with `http://` or
    /// `https://`.
    pub fn link(mut self, label: impl Into<String>, url: impl Into<String>) -> Self {
        self.state.links.push(Link { label: label.into(), template: url.into() });
        self
    }

    /// The origin under which browsers know this server, such as `https://shop.example`, if a proxy changes the `Host`.
    pub fn public_origin(mut self, origin: impl Into<String>) -> Self {
        self.state.site.public_origin = Some(origin.into());
        self
    }

    /// Allows the session's cookie over plain http to other hosts than loopback. Anybody who can read the traffic can then
    /// take over the session.
    pub fn insecure_cookies(mut self) -> Self {
        self.state.site.insecure_cookies = true;
        self
    }

    /// The router: nest it under a path, or serve it at the root.
    pub fn router(self) -> Router {
        routes::router(Arc::new(self.state), cfg!(feature = "dashboard"))
    }

    /// The API alone, without pages.
    pub fn api(self) -> Router {
        routes::router(Arc::new(self.state), false)
    }
}
