//! Queues and their limits.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;

use super::body::{self, Fields};
use crate::admin::views::{Listed, QueueView};
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

/// The queues that the actor may see.
pub(super) async fn seen(call: &Call) -> Result<Vec<QueueInfo>, Problem> {
    let mut queues = call.console().tasks().queues().await?;
    queues.retain(|queue| call.actor.sees_queue(&queue.name));
    Ok(queues)
}

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &Listed::all(QueueView::each(seen(&call).await?))))
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &QueueView::of(one(&call, &call.actor).await?)))
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
    // Everything is read before anything is stored.
    let patch = Patch::read(&mut fields)?;
    if patch.apply(queue.config()) != queue.config() {
        call.console().change_queue(&by, &queue.name, |limits| patch.apply(limits)).await?;
    }
    show(call).await
}

/// The limits in a body: for each limit its new value, or `None` if the body does not name it.
#[derive(Debug)]
struct Patch {
    concurrency: Option<Option<usize>>,
    global_concurrency: Option<Option<usize>>,
    key_concurrency: Option<Option<usize>>,
    max_size: Option<Option<usize>>,
    record_rejected: Option<bool>,
    rate_limit: Option<Option<RateLimit>>,
}

impl Patch {
    fn read(fields: &mut Fields) -> Result<Self, Problem> {
        let mut number = |field| fields.take_or_null(field, "a whole number, or `null` for no limit");
        let (concurrency, global_concurrency) = (number("concurrency")?, number("global_concurrency")?);
        let (key_concurrency, max_size) = (number("key_concurrency")?, number("max_size")?);
        let what = "`true` or `false`";
        let record = fields.take_or_null("record_rejected", what)?;
        let record = record.map(|record| {
            record.ok_or_else(|| Problem::invalid("record_rejected", format!("it must be {what}")))
        });
        let record_rejected = record.transpose()?;
        let rate_limit = Self::rate_limit(fields)?;
        Ok(Self { concurrency, global_concurrency, key_concurrency, max_size, record_rejected, rate_limit })
    }

    fn rate_limit(fields: &mut Fields) -> Result<Option<Option<RateLimit>>, Problem> {
        if fields.is_null("rate_limit") {
            return Ok(Some(None));
        }
        let Some(mut rate) = fields.within("rate_limit", &["starts", "per"])? else { return Ok(None) };
        let starts = rate.take("starts", "a whole number")?;
        let per: Option<Duration> = rate.seconds("per")?;
        match (starts, per) {
            (Some(starts), Some(per)) => Ok(Some(Some(RateLimit::new(starts, per)))),
            (None, _) => Err(Problem::invalid("rate_limit.starts", "it is missing")),
            (_, None) => Err(Problem::invalid("rate_limit.per", "it is missing: a number of seconds")),
        }
    }

    fn apply(&self, mut limits: QueueConfig) -> QueueConfig {
        let numbers = [
            (&mut limits.concurrency, self.concurrency),
            (&mut limits.global_concurrency, self.global_concurrency),
            (&mut limits.key_concurrency, self.key_concurrency),
            (&mut limits.max_size, self.max_size),
        ];
        for (limit, new) in numbers {
            *limit = new.unwrap_or(*limit);
        }
        limits.record_rejected = self.record_rejected.unwrap_or(limits.record_rejected);
        limits.rate_limit = self.rate_limit.unwrap_or(limits.rate_limit);
        limits
    }
}

/// Removes the stored limits, so that those of the programs apply again.
pub(super) async fn reset(call: Call) -> Result<Response, Problem> {
    let by = body::by(&call).await?;
    call.console().reset_queue(&by, call.param("queue")).await?;
    show(call).await
}
