//! The metrics of this process and of its store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::core::Core;
use super::worker::Worker;
use crate::model::{Error, Histogram, InstanceInfo, QueueInfo, ScheduleInfo, time};
use crate::observe::{Counter, Family, Labels, OUTCOMES, SOURCES, STATUSES};

/// The most queues, and the most schedules, that have samples of their own. `taskflow_queues` and `taskflow_schedules` count
/// all of them.
const MOST: usize = 1_000;

/// How long the gauges that were read from the store are shown again, so that all scrapers of a process share one read.
const FRESH: Duration = Duration::from_secs(5);

/// How long a scrape waits for the store. Without its answer it shows what the process itself knows.
const WITHIN: Duration = Duration::from_secs(2);

/// The state of the store, from which its gauges are made.
#[derive(Debug)]
pub(crate) struct StoreState {
    pub(crate) queues: Vec<QueueInfo>,
    /// Each with the tick after its last handled one.
    pub(crate) schedules: Vec<(ScheduleInfo, Option<SystemTime>)>,
    pub(crate) instances: Vec<InstanceInfo>,
}

/// The counters and histograms of this process.
pub(crate) fn of_process(core: &Core, worker: Option<&Worker>) -> Vec<Family> {
    let cells = core.meter.read();
    let labels = |at: usize| -> Labels {
        let (name, queue, _) = &cells[at];
        vec![("task", name.to_string()), ("queue", queue.to_string())]
    };
    let counter = |name, help, of: Counter| {
        let used = cells.iter().enumerate().filter(|(_, (.., values))| values.get(of) > 0);
        Family::counter(name, help, used.map(|(at, (.., values))| (labels(at), values.get(of))).collect())
    };
    // A counter with one more label, such as the outcome. Each of `words` is a value of that label.
    let split = |name, help, label: &'static str, words: &[(Counter, &str)]| {
        let mut samples = Vec::new();
        for (at, (.., values)) in cells.iter().enumerate() {
            for (of, word) in words.iter().filter(|(of, _)| values.get(*of) > 0) {
                let mut labels = labels(at);
                labels.push((label, (*word).to_owned()));
                samples.push((labels, values.get(*of)));
            }
        }
        Family::counter(name, help, samples)
    };
    let used = |lengths: Histogram| Some(lengths).filter(|lengths| lengths.count() > 0);
    let waits = cells.iter().enumerate();
    let waits = waits.filter_map(|(at, (.., values))| Some((labels(at), used(values.waits())?))).collect();
    let runs = cells.iter().enumerate().flat_map(|(at, (.., values))| {
        [(true, "ok"), (false, "error")].map(|(is_ok, word)| (at, word, values.runs(is_ok)))
    });
    let runs = runs.filter_map(|(at, word, lengths)| {
        let mut labels = labels(at);
        labels.push(("outcome", word.to_owned()));
        Some((labels, used(lengths)?))
    });
    let runs = runs.collect();
    let plain = |name, help, value: u64| Family::counter(name, help, vec![(Vec::new(), value)]);
    let gauge = |name, help, value: f64| Family::gauge(name, help, vec![(Vec::new(), value)]);
    let (claimed, running) = core.runs.count();
    let health = core.health.show(claimed, running);
    let calls = core.calls.read();
    let operation = |what: &str| {
        // The phrase of a log line without its article: "an insert".
        let words = what.split_once(' ').map_or(what, |(_, words)| words);
        vec![("operation", words.replace(' ', "_"))]
    };
    let mut families = vec![
        split("taskflow_tasks_added_total", "Tasks that this process added, by source.", "source", &SOURCES),
        Family::counter(
            "taskflow_adds_refused_total",
            "Adds of this process that were refused, by reason.",
            core.refusals
                .read()
                .into_iter()
                .map(|(reason, count)| (vec![("reason", reason.to_owned())], count))
                .collect(),
        ),
        split(
            "taskflow_attempts_total",
            "Attempts of this process that ended, by outcome. The process that finds an attempt lost counts it.",
            "outcome",
            &OUTCOMES,
        ),
        counter(
            "taskflow_retries_total",
            "Attempts of this process that failed and are followed by another.",
            Counter::Retried,
        ),
        split(
            "taskflow_tasks_ended_total",
            "Tasks that an attempt of this process ended, by status.",
            "status",
            &STATUSES,
        ),
        Family::histogram(
            "taskflow_task_wait_seconds",
            "How long tasks waited for their first attempt, since they were added or due.",
            waits,
        ),
        Family::histogram("taskflow_task_run_seconds", "How long the bodies of attempts ran.", runs),
        gauge("taskflow_running", "Tasks that run in this process now.", count(running)),
        Family::histogram(
            "taskflow_store_seconds",
            "How long calls of the store took, by operation. One call is of many tasks.",
            calls.iter().map(|(name, counted)| (operation(name), counted.took.clone())).collect(),
        ),
        Family::counter(
            "taskflow_store_errors_total",
            "Calls of the store that failed, by operation.",
            calls.iter().map(|(name, counted)| (operation(name), counted.errors)).collect(),
        ),
        plain(
            "taskflow_stale_writes_total",
            "Results and releases of held tasks that the store dropped, mostly because the lease had been lost.",
            health.stale_writes,
        ),
        plain(
            "taskflow_lost_leases_total",
            "Attempts of this process that lost their lease.",
            health.lost_leases,
        ),
        gauge(
            "taskflow_degraded",
            "1 while the store cannot be reached or refuses writes.",
            f64::from(u8::from(health.degraded_since.is_some())),
        ),
        plain(
            "taskflow_observer_dropped_total",
            "Events that were dropped because an observer was too slow.",
            core.observers.dropped(),
        ),
        plain(
            "taskflow_engine_restarts_total",
            "Parts of the engine that panicked and were restarted.",
            health.engine_restarts,
        ),
    ];
    #[cfg(feature = "api")]
    families.extend(of_faces(core));
    if let Some(worker) = worker {
        families.push(gauge(
            "taskflow_slots",
            "How many tasks this process can run at once.",
            count(worker.slots.total()),
        ));
    }
    families
}

/// The metrics of the use of this process's API and dashboard.
#[cfg(feature = "api")]
fn of_faces(core: &Core) -> [Family; 2] {
    let answered = core.faces.read().into_iter().map(|((method, path, status), count)| {
        let route = if method.is_empty() { path.to_owned() } else { format!("{method} {path}") };
        (vec![("route", route), ("code", status.to_string())], count)
    });
    [
        Family::gauge(
            "taskflow_dashboard_viewers",
            "Streams of events that this process has open to pages and programs.",
            vec![(Vec::new(), count(core.faces.viewers()))],
        ),
        Family::counter(
            "taskflow_admin_requests_total",
            "Requests that the API and the dashboard of this process answered, by route and status.",
            answered.collect(),
        ),
    ]
}

/// The gauges of the store. They are the same in every process.
pub(crate) fn of_store(state: &StoreState, now: SystemTime) -> Vec<Family> {
    let StoreState { queues, schedules, instances } = state;
    let queue = |queue: &QueueInfo| ("queue", queue.name.clone());
    let shown = || queues.iter().take(MOST);
    let phases = shown().flat_map(|info| {
        let phases = [("waiting", info.waiting()), ("scheduled", info.scheduled), ("running", info.running)];
        phases.map(|(phase, tasks)| (vec![queue(info), ("phase", phase.to_owned())], tasks as f64))
    });
    let limits = shown().flat_map(|info| {
        let limits = [
            ("concurrency", info.concurrency),
            ("global_concurrency", info.global_concurrency),
            ("key_concurrency", info.key_concurrency),
            ("max_size", info.max_size),
        ];
        let set = limits.into_iter().filter_map(|(limit, most)| Some((limit, most?)));
        set.map(|(limit, most)| (vec![queue(info), ("limit", limit.to_owned())], count(most)))
            .collect::<Vec<_>>()
    });
    let mut versions = std::collections::BTreeMap::<&str, usize>::new();
    for instance in instances.iter().filter(|instance| instance.runs) {
        *versions.entry(&instance.version).or_default() += 1;
    }
    let named = || schedules.iter().take(MOST);
    let seconds = |at: SystemTime| time::to_micros(at) as f64 / 1e6;
    let schedule = |info: &ScheduleInfo| vec![("schedule", info.name.clone())];
    let late = |(info, due): &(ScheduleInfo, Option<SystemTime>)| {
        Some((schedule(info), now.duration_since((*due)?).unwrap_or_default().as_secs_f64()))
    };
    vec![
        Family::gauge(
            "taskflow_queue_tasks",
            "Tasks of a queue that have not ended, by phase. A task that waits for another attempt is scheduled until it is due.",
            phases.collect(),
        ),
        Family::gauge(
            "taskflow_queue_oldest_waiting_seconds",
            "For how long the oldest waiting task of a queue has been able to run; 0 if none waits.",
            shown()
                .map(|info| (vec![queue(info)], info.oldest_waiting.unwrap_or_default().as_secs_f64()))
                .collect(),
        ),
        Family::gauge(
            "taskflow_queue_paused",
            "1 while a queue is paused.",
            shown().map(|info| (vec![queue(info)], f64::from(u8::from(info.paused)))).collect(),
        ),
        Family::gauge("taskflow_queue_limit", "The limits of a queue, by limit.", limits.collect()),
        Family::gauge(
            "taskflow_queue_workers",
            "Processes that run tasks of a queue.",
            shown().map(|info| (vec![queue(info)], count(info.served_by))).collect(),
        ),
        Family::gauge("taskflow_queues", "All queues of the store.", vec![(Vec::new(), count(queues.len()))]),
        Family::gauge(
            "taskflow_instances",
            "Live processes that run tasks, by their version of taskflow.",
            versions
                .into_iter()
                .map(|(version, of)| (vec![("version", version.to_owned())], count(of)))
                .collect(),
        ),
        Family::gauge(
            "taskflow_schedule_last_tick_timestamp_seconds",
            "When a schedule last ticked, in seconds since 1970.",
            named().filter_map(|(info, _)| Some((schedule(info), seconds(info.last_run?)))).collect(),
        ),
        Family::gauge(
            "taskflow_schedule_late_seconds",
            "How long the tick after the last handled one has been due; 0 if it is not. Not shown for a paused schedule, or for one that no live program has.",
            named().filter_map(late).collect(),
        ),
        Family::gauge(
            "taskflow_schedules",
            "All schedules of the store.",
            vec![(Vec::new(), count(schedules.len()))],
        ),
    ]
}

fn count(number: usize) -> f64 {
    number as f64
}

/// The gauges of the store, at most [`FRESH`] old. Empty if the store failed or did not answer in
/// time; an empty answer is kept as long as any other.
pub(crate) async fn last_gauges(
    core: &Core,
    read: impl Future<Output = Result<StoreState, Error>>,
) -> Arc<[Family]> {
    let mut last = core.last_gauges.lock().await;
    if let Some((at, families)) = &*last
        && core.seam.instant().duration_since(*at) < FRESH
    {
        return families.clone();
    }
    let families: Arc<[Family]> = match core.seam.timeout(WITHIN, read).await {
        Ok(Ok(state)) => of_store(&state, core.seam.now()).into(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the metrics lack those of the store, which could not be read");
            Arc::default()
        }
        Err(_) => {
            tracing::warn!("the metrics lack those of the store, which did not answer within {WITHIN:?}");
            Arc::default()
        }
    };
    *last = Some((core.seam.instant(), families.clone()));
    families
}
