//! Following one task: its log lines, its progress and its status as they come, as server-sent events.
//!
//! The reader of the stream drives it: nothing is read ahead, so a slow reader costs no memory. Between two reads of the store
//! it rests for at least 20 times as long as the last one took.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::response::Response;
use http::header::HeaderName;

use super::events::{STILL_HERE, event, is_let_in, stream, too_many};
use super::logs::after_line;
use super::query::number;
use super::row::Row;
use crate::model::{Progress, TaskId, TaskPhase, TaskStatus};
use crate::web::call::Call;
use crate::web::problem::Problem;

/// The most open streams of one process.
const MAX_STREAMS: usize = 64;

/// The shortest and the longest rest between two reads.
const REST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How many times as long as a read took the reader rests.
const DUTY: u32 = 20;

/// After how long without an event a comment shows that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often the stream checks that its actor may still see it.
const RECHECK: Duration = Duration::from_secs(60);

/// The most lines of one event.
const LINES: usize = 500;

static STREAMS: AtomicUsize = AtomicUsize::new(0);

/// One of the open streams of this process.
#[derive(Debug)]
struct Seat;

impl Seat {
    fn take() -> Option<Self> {
        let more = |open: usize| (open < MAX_STREAMS).then_some(open + 1);
        STREAMS.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Self)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(super) async fn follow(call: Call) -> Result<Response, Problem> {
    let id = call.id()?;
    let after = number(&call, "after", 0..=usize::MAX)?;
    let last = call.header(&HeaderName::from_static("last-event-id"));
    let after = after.or_else(|| last?.parse().ok()).unwrap_or(0);
    call.console().task(&call.actor, id).await?;
    let seat = Seat::take();
    let seat =
        seat.ok_or_else(|| too_many(format!("{MAX_STREAMS} streams of tasks are open in this process")))?;
    let following = Following {
        _seat: seat,
        call,
        id,
        after,
        shown: None,
        waiting: VecDeque::new(),
        rest: Duration::ZERO,
        spoke: Instant::now(),
        checked: Instant::now(),
        is_over: false,
    };
    Ok(stream(futures_util::stream::unfold(following, |mut following| async {
        let event = following.next().await?;
        Some((Ok(event), following))
    })))
}

/// What the reader knows of the task: status, phase, attempt and progress.
type Told = (TaskStatus, TaskPhase, u32, Option<Progress>);

struct Following {
    _seat: Seat,
    call: Call,
    id: TaskId,
    /// The number of the last line that was sent.
    after: usize,
    /// What was sent last.
    shown: Option<Told>,
    waiting: VecDeque<Bytes>,
    rest: Duration,
    spoke: Instant,
    checked: Instant,
    is_over: bool,
}

impl Following {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.spoke = Instant::now();
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            tokio::time::sleep(self.rest).await;
            if self.checked.elapsed() >= RECHECK {
                self.checked = Instant::now();
                if !is_let_in(&self.call).await {
                    return None;
                }
            }
            let began = Instant::now();
            self.read().await;
            self.rest = (began.elapsed() * DUTY).clamp(REST.0, REST.1);
            if self.waiting.is_empty() && self.spoke.elapsed() >= KEEP_ALIVE {
                self.spoke = Instant::now();
                return Some(Bytes::from_static(STILL_HERE));
            }
        }
    }

    /// Reads the task, and queues what is new.
    async fn read(&mut self) {
        let record = match self.call.console().task(&self.call.actor, self.id).await {
            Ok(record) => record,
            Err(error) if error.code() == "not_found" => {
                self.waiting.push_back(event("gone", None, &()));
                self.is_over = true;
                return;
            }
            // The store is away: the next read comes after a rest.
            Err(_) => return,
        };
        // The lines are read after the record, so an ended task has all its lines here.
        let Ok(lines) = after_line(self.call.console(), self.id, self.after).await else { return };
        let is_whole = lines.len() <= LINES;
        for line in lines.into_iter().take(LINES) {
            self.after = line.n;
            self.waiting.push_back(event("log", Some(line.n as u64), &line));
        }
        let now = (record.status, record.phase(), record.attempt, record.progress.clone());
        let before = self.shown.replace(now.clone());
        let told = |shown: &Told| (shown.0, shown.1, shown.2);
        let differs = before.as_ref().map(told) != Some(told(&now));
        if let Some(progress) = &record.progress
            && before.as_ref().is_none_or(|before| before.3.as_ref() != Some(progress))
        {
            self.waiting.push_back(event("progress", None, progress));
        }
        // An end is told after the last line.
        if differs && (is_whole || !record.status.is_final()) {
            self.waiting.push_back(event("status", None, &Row::of(&record)));
        } else if !is_whole {
            self.shown = before;
        }
        self.is_over = record.status.is_final() && is_whole;
        if !is_whole {
            self.rest = Duration::ZERO;
        }
    }
}
