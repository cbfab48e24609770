//! Reads the store for `taskflow top`, and acts on it.

use std::time::{Duration, SystemTime};

use taskflow::admin::{AuditFilter, Selection, Verb, grammar};
use taskflow::model::StatsFilter;
use taskflow::{CancelOutcome, TaskFilter};

use super::state::{Act, Event, State, Tab};
use crate::cli::failure::{Failure, Result};
use crate::cli::output::words::counted;
use crate::cli::select;
use crate::cli::session::Session;
use crate::cli::verbs::attention::attention;
use crate::cli::verbs::stats;

/// How many tasks a page shows.
const TASKS: usize = 100;

/// How long the chart of the overview looks back.
const CHART: Duration = Duration::from_secs(60 * 60);

/// A task that has been due for longer makes its queue unhealthy.
const MAX_WAIT: Duration = Duration::from_secs(300);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads what the open page shows.
pub(super) async fn read(session: &Session, state: &State) -> Event {
    match event(session, state).await {
        Ok(event) => event,
        // A wrong filter is an answer to the person, not a store that is away.
        Err(failure) if failure.code == crate::cli::failure::Code::Usage => Event::Failed(failure.message),
        Err(failure) => Event::Away(failure.message),
    }
}

async fn event(session: &Session, state: &State) -> Result<Event> {
    let tasks = session.tasks();
    if let Some(open) = &state.open {
        let mut record = tasks.get(open.id).await?;
        let mut log = tasks.logs(open.id).await?.unwrap_or_default();
        record.iter_mut().for_each(taskflow::TaskRecord::hide_sealed);
        log.iter_mut().for_each(taskflow::LogLine::hide_sealed);
        return Ok(Event::Task(open.id, record.map(Box::new), log));
    }
    let mut data = state.data.clone();
    data.tab = Some(state.tab);
    let seen = session.console.situation(session.actor()).await?;
    match state.tab {
        Tab::Overview => {
            data.attention = attention(session, &seen, MAX_WAIT).await?;
            let stats = tasks.stats(StatsFilter::last(CHART).step(Duration::from_secs(60))).await?;
            data.throughput =
                stats.series.first().map(|series| stats::bars(&stats, series)).unwrap_or_default();
        }
        Tab::Tasks => {
            let mut filter = filter(session, &state.filter).await?.limit(TASKS);
            for _ in 0..state.page {
                match tasks.list_outlines(&filter).await?.next {
                    Some(next) => filter = filter.after(next),
                    None => break,
                }
            }
            let page = tasks.list_outlines(&filter).await?;
            (data.tasks, data.has_more) = (page.items, page.next.is_some());
        }
        Tab::Failures => {
            let since = SystemTime::now().checked_sub(DAY).unwrap_or(SystemTime::UNIX_EPOCH);
            let filter = TaskFilter::new().finished_after(since);
            data.failures = session.console.failures(session.actor(), filter, DAY).await?;
        }
        Tab::Audit => data.audit = session.console.audit(AuditFilter::default()).await?.items,
        Tab::Queues | Tab::Schedules | Tab::Workers => {}
    }
    (data.counts, data.queues) = (seen.counts, seen.queues);
    (data.instances, data.schedules) = (seen.instances, seen.schedules);
    Ok(Event::Data(Box::new(data)))
}

async fn filter(session: &Session, text: &str) -> Result<TaskFilter> {
    let search = grammar::Search::parse(text)?;
    if let Some(id) = search.id {
        return Err(Failure::usage(format!("this is an id: `:show {id}`")));
    }
    let words: Vec<String> =
        search.pairs.iter().map(|(word, value)| grammar::text([(word.as_str(), value.as_str())])).collect();
    select::filter(session, &[words, search.bare].concat()).await
}

/// The filter of a verb on all matching tasks. An empty text means every task.
async fn deliberate(session: &Session, text: &str) -> Result<TaskFilter> {
    if text.is_empty() { Ok(TaskFilter::all()) } else { filter(session, text).await }
}

/// How many tasks a verb would reach.
pub(super) async fn count(session: &Session, verb: Verb, text: &str) -> Event {
    let counted = async {
        let selection = Selection::Filter(deliberate(session, text).await?);
        let preview = session.console.preview(session.actor(), verb, &selection).await?;
        if preview.matching == 0 {
            return Err(Failure::nothing("it applies to none of these tasks"));
        }
        let least = if preview.exact { "" } else { "at least " };
        Ok(format!("{least}{}", counted(preview.matching, "task")))
    };
    match counted.await {
        Ok(count) => Event::Counted(verb, text.to_owned(), count),
        Err(failure) => Event::Failed(failure.message),
    }
}

/// Acts, and answers what was done.
pub(super) async fn act(session: &Session, act: Act) -> Event {
    match acted(session, act).await {
        Ok(text) => Event::Done(text),
        Err(failure) => Event::Failed(failure.message),
    }
}

async fn acted(session: &Session, act: Act) -> Result<String> {
    let (console, by) = (&session.console, &session.by);
    match act {
        Act::Tasks(verb, ids) => {
            let number = ids.len();
            let (mut acted, mut refused) = (0, None);
            for id in ids {
                let answer = match verb {
                    Verb::Retry => console.retry(by, id).await.map_err(Failure::from),
                    Verb::Delete => console.delete(by, id).await.map_err(Failure::from),
                    _ => match console.cancel(by, id).await {
                        Ok(CancelOutcome::AlreadyFinished) => {
                            Err(Failure::nothing(format!("task {id} has already ended")))
                        }
                        answer => answer.map(drop).map_err(Failure::from),
                    },
                };
                match answer {
                    Ok(()) => acted += 1,
                    Err(failure) => refused = Some(failure),
                }
            }
            match refused {
                Some(failure) if number == 1 => Err(failure),
                Some(failure) => Ok(format!(
                    "{} of {number}; the others were refused: {}",
                    done(verb, acted),
                    failure.message
                )),
                None => Ok(done(verb, acted)),
            }
        }
        Act::Matching(verb, text) => {
            let selection = Selection::Filter(deliberate(session, &text).await?);
            let mut running = console.begin(by, verb, selection, None, None).await?;
            let mut operation = running.now();
            while !operation.state.is_over() {
                operation = running.within(Duration::from_secs(60)).await;
            }
            Ok(format!("{}: {}", done(verb, operation.acted), operation.state.as_str().replace('_', " ")))
        }
        Act::PauseQueue(name) => {
            Ok(console.pause_queue(by, &name).await.map(|()| format!("queue {name} is paused"))?)
        }
        Act::ResumeQueue(name) => {
            Ok(console.resume_queue(by, &name).await.map(|()| format!("queue {name} goes on"))?)
        }
        Act::PauseSchedule(name) => {
            Ok(console.pause_schedule(by, &name).await.map(|()| format!("schedule {name} is paused"))?)
        }
        Act::ResumeSchedule(name) => {
            Ok(console.resume_schedule(by, &name).await.map(|()| format!("schedule {name} goes on"))?)
        }
        Act::RunSchedule(name) => {
            let task = console.run_schedule(by, &name).await?;
            Ok(format!("schedule {name} has added task {task}"))
        }
    }
}

fn done(verb: Verb, acted: u64) -> String {
    let word = match verb {
        Verb::Retry => "retried",
        Verb::Cancel => "cancelled or asked to stop",
        _ => "deleted",
    };
    format!("{word}: {}", counted(acted, "task"))
}
