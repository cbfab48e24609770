//! Adds tasks from axum handlers, so that they run after the response. With the features `api` and `dashboard` it also has the
//! REST API and the dashboard: [`Admin`].
//!
//! Every request to these passes one table of routes. The table says whether the request needs an actor or a permission; a
//! request that changes something must also come from a page of the same origin, or from a program with a bearer token.
//! The OpenAPI document at `/api/v1/openapi.json` is made from the same table.
//!
//! # Errors of the API
//! An error is `application/problem+json`, with a `code` that never changes and, for a wrong request, the `field`.
//!
//! | code | status | |
//! |---|---|---|
//! | `unauthenticated` | 401 | no token or session, or a wrong one; a wrong name or password |
//! | `forbidden` | 403 | the permission is missing, or `Access::loopback` lets in only this machine |
//! | `cross_origin` | 403 | the request comes from another origin, or does not say from which |
//! | `not_found`, `unknown_queue`, `unknown_schedule` | 404, 422 | there is no such thing, or the actor may not see it |
//! | `not_found` | 405 | the path does not answer to this method |
//! | `not_retryable`, `not_ended`, `key_taken`, `declared` | 409 | the task or schedule does not allow it now |
//! | `sealed` | 409 | this process lacks the key for a sealed part, or the part was changed or damaged |
//! | `changed` | 409 | the number of matching tasks differs from the expected one by more than a tenth |
//! | `unknown_task` | 409 | no live process knows the task that is to be added |
//! | `invalid`, `empty_filter` | 400, 408, 415, 422 | a field or the body is invalid, or the body did not arrive in time |
//! | `refused`, `hook_failed` | 422, 500 | a hook on adds refused the task, or panicked |
//! | `too_large` | 413, 414 | the body is over 2 MiB or broke off, the query string is over 8 KiB, or the task is too large |
//! | `too_many`, `queue_full` | 429, 503 | too many tries to log in, streams or tasks |
//! | `degraded` | 503 | the store failed or did not answer in time, the manager was shut down, or any other error |

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
mod headers;
#[cfg(feature = "api")]
mod health;
mod layer;
#[cfg(feature = "api")]
mod live;
#[cfg(feature = "api")]
mod login;
#[cfg(feature = "api")]
mod origin;
#[cfg(feature = "api")]
mod problem;
mod request;
mod response;
#[cfg(feature = "api")]
mod route;
#[cfg(feature = "api")]
mod router_state;
#[cfg(feature = "api")]
mod routes;
#[cfg(feature = "api")]
mod site;
#[cfg(feature = "api")]
mod stream;

#[cfg(feature = "api")]
pub use crate::admin::{Actor, Args, Permission, Role};
#[cfg(feature = "api")]
pub use access::{Access, AccessError, Token, User};
#[cfg(feature = "api")]
pub use admin::Admin;
pub use background::{BackgroundTasks, BackgroundTasksRejection};
pub use layer::{BackgroundTasksLayer, BackgroundTasksService, ResponseFuture};
pub use response::ResponseBody;
#[cfg(feature = "api")]
pub use router_state::Accent;
