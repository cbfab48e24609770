//! Queues and their limits.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::body::{self, Fields};
use super::row::Listed;
use crate::admin::{Actor, AdminError};
use crate::model::{QueueConfig, QueueInfo, RateLimit};
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

const LIMITS: [&str; 7] = [
    "concurrency",
    "global_concurrency",
    "key_concurrency",
    "rate_limit",
    "max_size",
    "record_rejected",
    "reason",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Warning {
    Paused,
    NoWorker,
    Full,
}

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    info: QueueInfo,
    waiting: u64,
    full: bool,
    warning: Option<Warning>,
}

impl Shown {
    fn of(info: QueueInfo) -> Self {
        let full = info.max_size.is_some_and(|size| info.pending >= size as u64);
        let warning = match &info {
            info if info.paused => Some(Warning::Paused),
            info if info.served_by == 0 => Some(Warning::NoWorker),
            _ => full.then_some(Warning::Full),
        };
        Self { waiting: info.waiting(), full, warning, info }
    }
}

/// The queues that the actor may see.
pub(super) async fn seen(call: &Call) -> Result<Vec<QueueInfo>, Problem> {
    let mut queues = call.console().tasks().queues().await?;
    queues.retain(|queue| call.actor.sees_queue(&queue.name));
    Ok(queues)
}

pub(super) fn shown(queues: Vec<QueueInfo>) -> Vec<Shown> {
    queues.into_iter().map(Shown::of).collect()
}

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &Listed::all(shown(seen(&call).await?))))
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &Shown::of(one(&call, &call.actor).await?)))
}

async fn one(call: &Call, actor: &Actor) -> Result<QueueInfo, Problem> {
    let name = call.param("queue");
    let queues = call.console().tasks().queues().await?;
    let found = queues.into_iter().find(|queue| queue.name == name && actor.sees_queue(name));
    found.ok_or_else(|| AdminError::NotFound { what: "queue", name: name.to_owned() }.into())
}

pub(super) async fn pause(call: Call) -> Result<Response, Problem> {
    let by = body::by(&call).await?;
    call.console().pause_queue(&by, call.param("queue")).await?;
    show(call).await
}

pub(super) async fn resume(call: Call) -> Result<Response, Problem> {
    let by = body::by(&call).await?;
    call.console().resume_queue(&by, call.param("queue")).await?;
    show(call).await
}

/// Changes the limits that the body names, and leaves the others.
pub(super) async fn set(call: Call) -> Result<Response, Problem> {
    let mut fields = Fields::read(&call, &LIMITS).await?;
    let by = fields.by(&call)?;
    let queue = one(&call, &call.actor).await?;
    let before = queue.config();
    // Everything is read before anything is stored.
    let config = changed(before.clone(), &mut fields)?;
    if config != before {
        call.console().set_queue(&by, &queue.name, config).await?;
    }
    show(call).await
}

fn changed(mut config: QueueConfig, fields: &mut Fields) -> Result<QueueConfig, Problem> {
    let what = "a whole number, or `null` for no limit";
    let numbers = [
        ("concurrency", &mut config.concurrency),
        ("global_concurrency", &mut config.global_concurrency),
        ("key_concurrency", &mut config.key_concurrency),
        ("max_size", &mut config.max_size),
    ];
    for (field, limit) in numbers {
        if let Some(new) = fields.take_or_null(field, what)? {
            *limit = new;
        }
    }
    if let Some(record) = fields.take_or_null("record_rejected", "`true` or `false`")? {
        config.record_rejected =
            record.ok_or_else(|| Problem::invalid("record_rejected", "it must be `true` or `false`"))?;
    }
    if fields.is_null("rate_limit") {
        config.rate_limit = None;
    } else if let Some(mut rate) = fields.within("rate_limit", &["starts", "per"])? {
        let starts = rate.take("starts", "a whole number")?;
        let per: Option<Duration> = rate.seconds("per")?;
        match (starts, per) {
            (Some(starts), Some(per)) => config.rate_limit = Some(RateLimit::new(starts, per)),
            (None, _) => return Err(Problem::invalid("rate_limit.starts", "it is missing")),
            (_, None) => {
                return Err(Problem::invalid("rate_limit.per", "it is missing: a number of seconds"));
            }
        }
    }
    Ok(config)
}

/// Removes the stored limits, so that those of the programs apply again.
pub(super) async fn reset(call: Call) -> Result<Response, Problem> {
    let by = body::by(&call).await?;
    call.console().reset_queue(&by, call.param("queue")).await?;
    show(call).await
}
