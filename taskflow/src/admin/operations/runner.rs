use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::control;
use super::liveness;
use super::operation::{KIND, Operation, OperationState, Selection, Verb, freeze};
use super::pace::Pace;
use super::preview::{check_number, deliberate};

use crate::admin::words::Words;
use crate::admin::{Actor, AdminError, AuditOutcome, By, Console, grammar};
use crate::model::{CancelOutcome, Cursor, Error, TaskFilter, TaskId, limits};
use crate::seam::{Instant, Seam};
use crate::store::{Document, DocumentQuery, Reopen};

/// How many tasks one batch acts on.
const BATCH: usize = 100;

/// How often the state is written.
const WRITE_EVERY: Duration = Duration::from_millis(500);

/// How many times the runner tries to write its end, while others write the operation or the store fails.
const END_WRITES: usize = 10;

/// For how long the batches may fail before the operation fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to wait after an error of the store.
const BACKOFF: Duration = Duration::from_millis(500);

/// An operation that runs in this process.
#[derive(Debug)]
pub struct Running {
    operation: watch::Receiver<Operation>,
    seam: Seam,
}

impl Running {
    /// The operation as it is now.
    #[must_use]
    pub fn now(&self) -> Operation {
        self.operation.borrow().clone()
    }

    /// Waits until the operation is over, at most this long. The operation also runs if nobody waits.
    pub async fn within(&mut self, length: Duration) -> Operation {
        let over = self.operation.wait_for(|operation| operation.state.is_over());
        let _ = self.seam.timeout(length, over).await;
        self.now()
    }
}

impl Console {
    /// Begins an act on many tasks. Pass the `frozen_at` of the [preview](Self::preview), and as `expect` the number that it
    /// showed.
    ///
    /// # Errors
    /// Those of [`preview`](Self::preview), and [`AdminError::Changed`] if the number of tasks differs from `expect` by more than
    /// a tenth. A number that is not exact is not compared.
    pub async fn begin(
        &self,
        by: &By,
        verb: Verb,
        selection: Selection,
        frozen_at: Option<SystemTime>,
        expect: Option<u64>,
    ) -> Result<Running, AdminError> {
        self.begin_spread(by, verb, selection, frozen_at, expect, None).await
    }

    /// Begins to retry tasks, and spreads their new runs evenly over this time: the newest task first, or in the order of the
    /// ids. Thousands of runs at once may overload a service that has just come back. The rest is as for [`begin`](Self::begin).
    ///
    /// # Errors
    /// Those of [`begin`](Self::begin), and [`AdminError::Invalid`] for a time of more than a century.
    pub async fn begin_retry_over(
        &self,
        by: &By,
        spread: Duration,
        selection: Selection,
        frozen_at: Option<SystemTime>,
        expect: Option<u64>,
    ) -> Result<Running, AdminError> {
        limits::length(spread).map_err(|_| AdminError::Invalid {
            field: "spread".to_owned(),
            message: "a length of time is at most a century (36525 days)".to_owned(),
        })?;
        let spread = Some(spread).filter(|spread| !spread.is_zero());
        self.begin_spread(by, Verb::Retry, selection, frozen_at, expect, spread).await
    }

    async fn begin_spread(
        &self,
        by: &By,
        verb: Verb,
        selection: Selection,
        frozen_at: Option<SystemTime>,
        expect: Option<u64>,
        spread: Option<Duration>,
    ) -> Result<Running, AdminError> {
        let frozen_at = frozen_at.unwrap_or_else(|| self.now());
        let mut entry = self.entry(by, &format!("{}_many", verb.as_str()));
        entry.filter = match &selection {
            Selection::Filter(filter) => words(&grammar::pairs(filter)),
            Selection::Ids(_) => None,
        };
        let act = async {
            let preview = self.preview_at(&by.actor, verb, &selection, frozen_at).await?;
            let expected = expect.unwrap_or(preview.matching);
            if preview.exact && expected.abs_diff(preview.matching) * 10 > expected {
                let now = usize::try_from(preview.matching).unwrap_or(usize::MAX);
                let expected = usize::try_from(expected).unwrap_or(usize::MAX);
                return Err(AdminError::Changed { expected, now });
            }
            let (filter, ids) = match selection {
                Selection::Filter(filter) => {
                    let filter = freeze(deliberate(&by.actor, &filter)?, verb, frozen_at);
                    (grammar::pairs(&filter), Vec::new())
                }
                Selection::Ids(ids) => {
                    check_number(ids.len())?;
                    (Vec::new(), ids)
                }
            };
            let now = self.now();
            let operation = Operation {
                id: TaskId::new(),
                verb,
                state: OperationState::Running,
                filter,
                ids,
                frozen_at,
                acted: 0,
                skipped: 0,
                of: preview.matching,
                of_exact: preview.exact,
                actor: by.actor.name().to_owned(),
                reason: by.reason.clone(),
                spread,
                started_at: now,
                updated_at: now,
                error: None,
                runner: TaskId::new(),
                cursor: None,
            };
            let writes = vec![operation.write().expected(0), liveness::sign(&operation)];
            let version = self.tasks().write_documents(writes).await?;
            Ok((operation, version.into_iter().next().flatten().unwrap_or(1)))
        };
        let (operation, version) = match act.await {
            Ok(begun) => begun,
            Err(error) => return Err(self.refused(entry, error).await),
        };
        entry.filter = words(&operation.filter);
        entry.target = Some(operation.id.to_string());
        let over = operation.spread.map(|spread| format!(", spread over {}", Words::TERMINAL.length(spread)));
        entry.detail = Some(format!("begins with {} tasks{}", operation.of, over.unwrap_or_default()));
        self.record(entry).await;
        Ok(self.spawn(by.clone(), operation, version))
    }

    /// Resumes an operation that was broken off, was stopped, or failed.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`], [`AdminError::NotFound`], [`AdminError::Invalid`] for an operation that is running, stopping or
    /// done or that somebody else resumes at the same time, and when the store fails.
    pub async fn resume_operation(&self, by: &By, id: TaskId) -> Result<Running, AdminError> {
        let (mut operation, version) = match self.stored_operation(id).await {
            Ok(found) => found,
            Err(error) => return Err(self.refused_operation(by, "resume_operation", id, error).await),
        };
        let permission = operation.verb.permission();
        let act = async {
            if !operation.is_seen_by(&by.actor) {
                return Err(AdminError::NotFound { what: "operation", name: id.to_string() });
            }
            match operation.state {
                OperationState::BrokenOff | OperationState::Stopped | OperationState::Failed => {}
                state => {
                    let message = format!("the operation is {}", state.as_str());
                    return Err(AdminError::Invalid { field: "id".to_owned(), message });
                }
            }
            operation.state = OperationState::Running;
            operation.runner = TaskId::new();
            operation.updated_at = self.now();
            operation.error = None;
            let writes = vec![operation.write().expected(version), liveness::sign(&operation)];
            match self.tasks().write_documents(writes).await?.into_iter().next().flatten() {
                Some(version) => Ok(version),
                None => {
                    let message = "somebody else has gone on with it at this moment".to_owned();
                    Err(AdminError::Invalid { field: "id".to_owned(), message })
                }
            }
        };
        let version = self.audited(by, permission, "resume_operation", &id.to_string(), None, act).await?;
        Ok(self.spawn(by.clone(), operation, version))
    }

    fn spawn(&self, by: By, operation: Operation, version: u64) -> Running {
        let (shown, watched) = watch::channel(operation.clone());
        let runner = Runner {
            console: self.clone(),
            by,
            operation,
            version,
            shown,
            written: self.seam().instant(),
            pace: None,
        };
        self.tasks().spawn(runner.run());
        Running { operation: watched, seam: self.seam().clone() }
    }
}

/// The text of a filter, as the search box writes it. `None` if it has no condition.
fn words(filter: &[(String, String)]) -> Option<String> {
    let text = grammar::text(filter.iter().map(|(word, value)| (&**word, &**value)));
    Some(text).filter(|text| !text.is_empty())
}

struct Runner {
    console: Console,
    by: By,
    operation: Operation,
    /// The version of the document that this runner has last written or accepted.
    version: u64,
    shown: watch::Sender<Operation>,
    written: Instant,
    pace: Option<Pace>,
}

/// What the stored operation tells its runner to do, or that a write of it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    GoOn,
    /// Somebody has asked it to stop.
    Stop,
    /// It was taken for dead, and another runner has taken over.
    Leave,
    /// The state could not be written.
    Unwritten,
}

impl Runner {
    async fn run(mut self) {
        let beating = liveness::keep(self.console.clone(), self.operation.clone());
        let end = tokio::select! {
            end = self.work() => end,
            never = beating => match never {},
        };
        let operation = &self.operation;
        let mut entry = self.console.entry(&self.by, &format!("{}_many", operation.verb.as_str()));
        entry.filter = words(&operation.filter);
        entry.target = Some(operation.id.to_string());
        entry.count = Some(operation.acted);
        entry.detail = Some(end.as_str().to_owned());
        if matches!(end, OperationState::Failed | OperationState::BrokenOff) {
            entry.outcome = AuditOutcome::Failed;
        }
        self.console.record(entry).await;
        // A caller that waits for the end may then end the process, so show the end only after everything is written.
        self.shown.send_replace(self.operation.clone());
    }

    /// Acts on all tasks, writes the final state, and returns it.
    async fn work(&mut self) -> OperationState {
        let Some(end) = self.act_on_all().await else { return self.leave() };
        let seam = self.console.seam().clone();
        // The end overwrites a request to stop.
        for _ in 0..END_WRITES {
            match self.save(end).await {
                Word::GoOn => break,
                Word::Stop => {}
                Word::Leave => return self.leave(),
                Word::Unwritten => seam.sleep(BACKOFF).await,
            }
        }
        end
    }

    /// Acts on all tasks, batch by batch. Returns the final state; `None` if another runner has taken over.
    async fn act_on_all(&mut self) -> Option<OperationState> {
        let seam = self.console.seam().clone();
        let mut failing_since: Option<Instant> = None;
        loop {
            let began = seam.instant();
            match self.batch().await {
                Ok(false) => return Some(OperationState::Done),
                Ok(true) => failing_since = None,
                Err(error) => {
                    self.operation.error = Some(error.to_string());
                    if seam.since(*failing_since.get_or_insert(began)) > PATIENCE {
                        return Some(OperationState::Failed);
                    }
                    seam.sleep(BACKOFF).await;
                }
            }
            let took = seam.since(began);
            let is_due = seam.since(self.written) >= WRITE_EVERY;
            let word = match self.word().await {
                Word::GoOn if is_due => self.save(OperationState::Running).await,
                word => word,
            };
            match word {
                Word::Stop => return Some(OperationState::Stopped),
                Word::Leave => return None,
                Word::GoOn | Word::Unwritten => {}
            }
            // Use about half of the time, so that the workers can use the store in between.
            seam.sleep(took).await;
        }
    }

    /// Leaves the operation to the runner that has taken it over.
    fn leave(&mut self) -> OperationState {
        self.operation.state = OperationState::BrokenOff;
        self.operation.error = Some(
            "this process gave no sign of life for some seconds, and somebody has resumed the operation"
                .to_owned(),
        );
        self.operation.state
    }

    /// Acts on the next batch of tasks. Returns `false` if no more are left.
    async fn batch(&mut self) -> Result<bool, Error> {
        if let (Some(spread), None) = (self.operation.spread, self.pace) {
            self.count().await?;
            let now = self.console.seam().instant();
            self.pace = Some(Pace::new(spread, self.operation.of, self.seen(), now));
        }
        if !self.operation.ids.is_empty() {
            let number = self.operation.ids.len().min(BATCH);
            let ids = self.operation.ids[..number].to_vec();
            let ids = self.visible(ids).await?;
            self.act(ids).await?;
            self.operation.ids.drain(..number);
            return Ok(true);
        }
        if self.operation.filter.is_empty() {
            return Ok(false);
        }
        let Some(filter) = self.rest(BATCH) else { return Ok(false) };
        let page = self.console.tasks().list_outlines(&filter).await?;
        self.act(page.items.iter().map(|record| record.id).collect()).await?;
        self.operation.cursor = page.next.map(Cursor::id).or(self.operation.cursor);
        Ok(page.next.is_some())
    }

    /// The filter for the tasks that are left; `None` if it acts on chosen ids.
    fn rest(&self, limit: usize) -> Option<TaskFilter> {
        if self.operation.filter.is_empty() {
            return None;
        }
        let pairs = self.operation.filter.iter().map(|(word, value)| (&**word, &**value));
        // The words were made from a filter, so they can be read back.
        let filter = grammar::filter(pairs, self.operation.frozen_at).ok()?;
        let mut filter = self.by.actor.narrow(filter).limit(limit);
        filter.after = self.operation.cursor.map(Cursor::after);
        Some(filter)
    }

    /// How many tasks it has acted on or skipped.
    fn seen(&self) -> u64 {
        self.operation.acted + self.operation.skipped
    }

    /// Counts all tasks of the operation, if the preview could not.
    async fn count(&mut self) -> Result<(), Error> {
        let Some(mut filter) = self.rest(TaskFilter::MAX_LIMIT).filter(|_| !self.operation.of_exact) else {
            return Ok(());
        };
        let mut of = self.seen();
        loop {
            let page = self.console.tasks().list_outlines(&filter).await?;
            of += page.items.len() as u64;
            let Some(next) = page.next else { break };
            filter.after = Some(next);
        }
        (self.operation.of, self.operation.of_exact) = (of, true);
        Ok(())
    }

    /// Retries of these tasks: each due at the time that the pace gives it, or all at once if they are not spread.
    fn in_turn(&self, ids: Vec<TaskId>) -> Vec<Reopen> {
        match &self.pace {
            Some(pace) => pace.in_turn(self.seen(), ids, self.console.seam()),
            None => Reopen::at_once(ids),
        }
    }

    /// Keeps the tasks that the actor may see.
    async fn visible(&self, ids: Vec<TaskId>) -> Result<Vec<TaskId>, Error> {
        let actor: &Actor = &self.by.actor;
        if actor.sees_all_queues() {
            return Ok(ids);
        }
        let mut visible = Vec::with_capacity(ids.len());
        for id in ids {
            if self.console.tasks().get(id).await?.is_some_and(|record| actor.sees(&record)) {
                visible.push(id);
            }
        }
        Ok(visible)
    }

    async fn act(&mut self, ids: Vec<TaskId>) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let tasks = self.console.tasks();
        let number = ids.len();
        let acted = match self.operation.verb {
            Verb::Retry => {
                tasks.retry_these(self.in_turn(ids)).await?.iter().filter(|answer| answer.is_ok()).count()
            }
            Verb::Cancel => {
                let acted =
                    |it: &&CancelOutcome| matches!(it, CancelOutcome::Cancelled | CancelOutcome::Requested);
                tasks.cancel_these(ids).await?.iter().filter(acted).count()
            }
            Verb::Delete => tasks.delete_these(ids).await?,
        };
        self.operation.acted += acted as u64;
        self.operation.skipped += number.saturating_sub(acted) as u64;
        Ok(())
    }

    /// Reads what others have written to the operation meanwhile.
    async fn word(&mut self) -> Word {
        let query = DocumentQuery::one(KIND, self.operation.id.to_string());
        // What cannot be read now is read after the next batch.
        let documents = self.console.tasks().documents(query).await.unwrap_or_default();
        documents.first().map_or(Word::GoOn, |document| self.said(document))
    }

    /// What a stored operation means for this runner. Others write it only to ask it to stop or to resume it.
    fn said(&mut self, document: &Document) -> Word {
        let is_known = document.version == self.version;
        let stored = control::read(document);
        if stored.as_ref().is_some_and(|stored| stored.runner != self.operation.runner) {
            return Word::Leave;
        }
        self.version = document.version;
        // A new version without a request to stop is this runner's own write, whose answer was lost.
        let is_own = stored.is_some_and(|stored| stored.state != OperationState::Stopping);
        if is_known || is_own { Word::GoOn } else { Word::Stop }
    }

    /// Writes the state, unless others have written meanwhile.
    async fn save(&mut self, state: OperationState) -> Word {
        self.written = self.console.seam().instant();
        self.operation.state = state;
        self.operation.updated_at = self.console.now();
        let write = self.operation.write().expected(self.version);
        let tasks = self.console.tasks().clone();
        match tasks.write_documents(vec![write]).await {
            Ok(versions) => match versions.into_iter().next().flatten() {
                Some(version) => self.version = version,
                None => {
                    let query = DocumentQuery::one(KIND, self.operation.id.to_string());
                    let documents = tasks.documents(query).await.unwrap_or_default();
                    return match documents.first().map_or(Word::Stop, |document| self.said(document)) {
                        Word::GoOn => Word::Unwritten,
                        word => word,
                    };
                }
            },
            // A state that is not written now is written after a later batch.
            Err(error) => {
                tracing::debug!(%error, "the state of an operation was not written");
                return Word::Unwritten;
            }
        }
        if !state.is_over() {
            self.shown.send_replace(self.operation.clone());
        }
        Word::GoOn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TaskFilter, TaskStatus};

    #[test]
    fn a_frozen_filter_reaches_nothing_that_came_later() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let filter = freeze(TaskFilter::new().name("a"), Verb::Retry, at);
        assert_eq!(filter.frozen_at, Some(at));
        assert!(!filter.statuses.contains(&TaskStatus::Success));
        let earlier = at - Duration::from_secs(1);
        let filter = freeze(TaskFilter::new().frozen(earlier), Verb::Cancel, at);
        assert_eq!(filter.frozen_at, Some(earlier));
        assert_eq!(filter.statuses, [TaskStatus::Pending, TaskStatus::Running]);
        let filter = freeze(TaskFilter::new().status(TaskStatus::Success), Verb::Cancel, at);
        assert_eq!(filter.queues, [""]);
    }
}
