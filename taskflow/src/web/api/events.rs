//! The pulse (counts and queues, as they change) as server-sent events.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use futures_util::StreamExt;
use serde::Serialize;

use crate::model::Counts;
use crate::web::call::Call;
use crate::web::problem::Problem;
use crate::web::stream::{answer, event};

#[derive(Serialize)]
struct Pulse<'a> {
    /// Of the whole store; `null` if the actor does not see all queues.
    counts: Option<Counts>,
    queues: BTreeMap<&'a str, Queue>,
    /// Whether tasks have changed since the last pulse, as far as the counts and the queues show it.
    changed: bool,
    /// The error of the store, if the last read failed. The numbers are then those of the last successful one.
    degraded: Option<&'a str>,
}

#[derive(Serialize)]
struct Queue {
    waiting: u64,
    scheduled: u64,
    running: u64,
    finished_last_minute: u64,
    paused: bool,
}

/// The numbers of the store as they change. A slow client gets only the latest ones.
pub(super) async fn pulse(call: Call) -> Result<Response, Problem> {
    let call = Arc::new(call);
    let beats = call.state.live.stream(call.console().tasks())?;
    let actor = call.actor.clone();
    let events = beats.map(move |(last, beat)| {
        let queues = beat.queues.iter().filter(|queue| actor.sees_queue(&queue.name)).map(|queue| {
            let numbers = Queue {
                waiting: queue.waiting(),
                scheduled: queue.scheduled,
                running: queue.running,
                finished_last_minute: queue.finished_last_minute,
                paused: queue.paused,
            };
            (queue.name.as_str(), numbers)
        });
        let pulse = Pulse {
            counts: Some(beat.counts).filter(|_| actor.sees_all_queues()),
            queues: queues.collect(),
            changed: last.is_some_and(|last| beat.differs(&last)),
            degraded: beat.away.as_deref(),
        };
        event("pulse", Some(beat.number), &pulse)
    });
    Ok(answer(call, events))
}
