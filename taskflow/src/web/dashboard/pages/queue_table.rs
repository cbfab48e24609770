//! The table of queues.

use askama::Template;
use askama::filters::HtmlSafe;

pub(crate) use crate::admin::attention::limit;
use crate::model::QueueInfo;
use crate::web::dashboard::frame::segment;
use crate::web::dashboard::words::{Mark, length, number};

/// The table of queues.
#[derive(Clone, Debug, Template)]
#[template(path = "queue_table.html")]
pub(crate) struct QueueTable {
    pub(crate) queues: Vec<Queue>,
}

// The template escapes its own fields.
impl HtmlSafe for QueueTable {}

/// One queue.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) href: String,
    pub(crate) waiting: String,
    pub(crate) later: String,
    pub(crate) running: String,
    pub(crate) limit: String,
    /// Running tasks and their limit, for the meter.
    pub(crate) busy: Option<(u64, u64)>,
    pub(crate) oldest: String,
    pub(crate) rate: String,
    pub(crate) spark: String,
    pub(crate) states: Vec<Mark>,
}

impl Queue {
    pub(crate) fn new(base: &str, queue: &QueueInfo, spark: String) -> Self {
        Self {
            name: queue.name.clone(),
            href: format!("{base}/queues/{}", segment(&queue.name)),
            waiting: number(queue.waiting()),
            later: number(queue.scheduled),
            running: number(queue.running),
            limit: limit(queue).map(|limit| number(limit as u64)).unwrap_or_default(),
            busy: limit(queue).map(|limit| (queue.running.min(limit as u64), limit as u64)),
            oldest: queue.oldest_waiting.map_or("–".to_owned(), length),
            rate: number(queue.finished_last_minute),
            spark,
            states: states(queue),
        }
    }
}

/// Marks for a queue that is paused, has no worker, is full, or is at its limit.
pub(crate) fn states(queue: &QueueInfo) -> Vec<Mark> {
    let mark = |class, word| Mark { class, word };
    let mut states = Vec::new();
    if queue.paused {
        states.push(mark("cancelled", "paused"));
    }
    if queue.served_by == 0 && queue.pending > 0 {
        states.push(mark("rejected", "no worker"));
    }
    if queue.is_full() {
        states.push(mark("failed", "full"));
    }
    if queue.waiting() > 0 && limit(queue).is_some_and(|limit| queue.running >= limit as u64) {
        states.push(mark("retrying", "at its limit"));
    }
    states
}
