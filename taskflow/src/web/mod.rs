//! Adding tasks from axum handlers, so that they run after the response; and, with the features `api` and `dashboard`, the
//! faces for people and programs: [`Admin`].

#[cfg(feature = "api")]
mod access;
#[cfg(feature = "api")]
mod admin;
#[cfg(feature = "api")]
mod api;
mod background;
#[cfg(feature = "api")]
mod call;
#[cfg(feature = "dashboard")]
mod dashboard;
#[cfg(feature = "api")]
mod desk;
#[cfg(feature = "api")]
mod headers;
#[cfg(feature = "api")]
mod health;
mod layer;
#[cfg(feature = "api")]
mod live;
#[cfg(feature = "api")]
mod origin;
#[cfg(feature = "api")]
mod problem;
mod request;
mod response;
#[cfg(feature = "api")]
mod route;
#[cfg(feature = "api")]
mod routes;

#[cfg(feature = "api")]
pub use crate::admin::{Actor, Args, Permission, Role};
#[cfg(feature = "api")]
pub use access::{Access, AccessError, Token, User};
#[cfg(feature = "api")]
pub use admin::Admin;
pub use background::{BackgroundTasks, BackgroundTasksRejection};
#[cfg(feature = "api")]
pub use desk::Accent;
pub use layer::{BackgroundTasksLayer, BackgroundTasksService, ResponseFuture};
pub use response::ResponseBody;
