//! A store around another, which a test makes slow, fail or panic.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use taskflow::store::{
    Capabilities, Claim, Claims, Document, DocumentQuery, DocumentWrite, Finish, Finished, Fire, Fired,
    HintStream, Immediate, InsertBatch, Inserted, QueueState, Recovered, Refusal, Release, Renewal, Renewed,
    Reopen, ReplaceArgs, Report, Retention, RunRef, ScheduleChange, ScheduleChanges, ScheduleState,
    StoreFuture, TaskEnd,
};
use taskflow::{
    CancelOutcome, Counts, Error, InstanceInfo, LogLine, Page, QueueConfig, QueueInfo, Store, TaskFilter,
    TaskId, TaskRecord,
    model::{InstanceId, StoreError, StoreErrorKind},
};

/// What happens before a call, and instead of it if that is an error.
pub(crate) type Before = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// Told the name of each call: what it does happens as the call is made, what it returns when that is awaited.
type Hook = Arc<dyn Fn(&'static str) -> Before + Send + Sync>;

/// Told the name of each call that went well: whether its answer is lost.
type Loses = Arc<dyn Fn(&'static str) -> bool + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Wrapper {
    inner: Arc<dyn Store>,
    hook: Hook,
    before_insert: Option<InsertHook>,
    loses: Loses,
    inserted: InsertAnswer,
    before_insert_now: Option<InsertNowHook>,
}

/// Told each batch that is to be inserted at once.
type InsertNowHook = Arc<dyn Fn(&InsertBatch) + Send + Sync>;

/// The answer of a store to an insert.
pub(crate) type InsertAnswers = Vec<Result<Vec<Inserted>, Refusal>>;

/// Changes the answer to an insert.
pub(crate) type InsertAnswer = fn(InsertAnswers) -> InsertAnswers;

/// Told each batch that is to be inserted.
type InsertHook = Arc<dyn Fn(&InsertBatch) -> Before + Send + Sync>;

impl Wrapper {
    pub(crate) fn new(
        inner: Arc<dyn Store>,
        hook: impl Fn(&'static str) -> Before + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            hook: Arc::new(hook),
            before_insert: None,
            loses: Arc::new(|_| false),
            inserted: |answer| answer,
            before_insert_now: None,
        }
    }

    /// Inserts at once, as the store inside does.
    #[must_use]
    pub(crate) fn inserting_now(self, hook: impl Fn(&InsertBatch) + Send + Sync + 'static) -> Self {
        Self { before_insert_now: Some(Arc::new(hook)), ..self }
    }

    /// Changes only inserts, and sees what each is to insert.
    pub(crate) fn of_inserts(
        inner: Arc<dyn Store>,
        hook: impl Fn(&InsertBatch) -> Before + Send + Sync + 'static,
    ) -> Self {
        let before_insert: Option<InsertHook> = Some(Arc::new(hook));
        Self { before_insert, ..Self::new(inner, |_| go_on()) }
    }

    /// Calls of which this says so are done, and their answers are lost.
    #[must_use]
    pub(crate) fn losing(self, loses: impl Fn(&'static str) -> bool + Send + Sync + 'static) -> Self {
        Self { loses: Arc::new(loses), ..self }
    }

    /// Does inserts, and changes their answers.
    #[must_use]
    pub(crate) fn answering_inserts(self, inserted: InsertAnswer) -> Self {
        Self { inserted, ..self }
    }

    fn answer<T>(&self, call: &'static str, answer: T) -> Result<T, StoreError> {
        match (self.loses)(call) {
            true => Err(StoreError::new(StoreErrorKind::Unknown, "the answer was lost")),
            false => Ok(answer),
        }
    }
}

/// The call goes on at once.
pub(crate) fn go_on() -> Before {
    Box::pin(std::future::ready(Ok(())))
}

impl fmt::Debug for Wrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wrapper").field(&self.inner).finish()
    }
}

macro_rules! wrapped {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> StoreFuture<'_, $answer> {
            let before = (self.hook)(stringify!($name));
            Box::pin(async move {
                before.await?;
                let answer = self.inner.$name($($argument),*).await?;
                self.answer(stringify!($name), answer)
            })
        })*
    };
}

impl Immediate for Wrapper {
    fn insert_now(&self, batch: &InsertBatch) -> InsertAnswers {
        self.before_insert_now.as_ref().expect("it inserts at once")(batch);
        self.inner.immediate().expect("so does the store inside").insert_now(batch)
    }
}

impl Store for Wrapper {
    fn immediate(&self) -> Option<&dyn Immediate> {
        self.before_insert_now.is_some().then_some(self)
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn join<'a>(&'a self, instance: &'a InstanceInfo) -> StoreFuture<'a, ()> {
        let before = (self.hook)("join");
        Box::pin(async move {
            before.await?;
            self.inner.join(instance).await
        })
    }

    fn insert(&self, batch: Arc<InsertBatch>) -> StoreFuture<'_, Vec<Result<Vec<Inserted>, Refusal>>> {
        let before = (self.hook)("insert");
        let before_insert = self.before_insert.as_ref().map_or_else(go_on, |hook| hook(&batch));
        Box::pin(async move {
            before.await?;
            before_insert.await?;
            let answer = self.inner.insert(batch).await?;
            self.answer("insert", (self.inserted)(answer))
        })
    }

    fn listen(&self) -> HintStream {
        drop((self.hook)("listen"));
        self.inner.listen()
    }

    wrapped! {
        migrate() -> ();
        check() -> ();
        leave(instance: InstanceId) -> ();
        claim(claim: Claim) -> Claims;
        finish(finishes: Arc<Vec<Finish>>) -> Vec<Finished>;
        turn(finishes: Arc<Vec<Finish>>, claim: Claim) -> (Vec<Finished>, Claims);
        release(releases: Arc<Vec<Release>>) -> Vec<bool>;
        report(reports: Arc<Vec<Report>>) -> Vec<bool>;
        renew(renewal: Renewal) -> Renewed;
        asked_to_stop(instance: InstanceId) -> Vec<RunRef>;
        recover(by: InstanceId) -> Vec<Recovered>;
        get(id: TaskId) -> Option<TaskRecord>;
        ends(ids: Vec<TaskId>) -> Vec<TaskEnd>;
        logs(id: TaskId) -> Option<Vec<LogLine>>;
        list(filter: TaskFilter) -> Page<TaskRecord>;
        list_outlines(filter: TaskFilter) -> Page<TaskRecord>;
        counts() -> Counts;
        queues() -> Vec<QueueInfo>;
        instances() -> Vec<InstanceInfo>;
        cancel(ids: Vec<TaskId>, reason: String) -> Vec<CancelOutcome>;
        cancel_by_run_key(run_key: String) -> Vec<TaskId>;
        retry(tasks: Vec<Reopen>) -> Vec<Result<(), Error>>;
        delete(ids: Vec<TaskId>) -> usize;
        queue_states() -> Vec<QueueState>;
        set_queue(queue: String, config: Option<QueueConfig>) -> ();
        replace_queue(queue: String, from: Option<QueueConfig>, to: Option<QueueConfig>) -> bool;
        set_schedule(schedule: String, change: ScheduleChange) -> bool;
        replace_args(replacements: Arc<Vec<ReplaceArgs>>) -> Vec<bool>;
        set_paused(queue: String, paused: bool) -> ();
        prune(retention: Retention, limit: usize) -> usize;
        write_documents(writes: Vec<DocumentWrite>) -> Vec<Option<u64>>;
        documents(query: DocumentQuery) -> Vec<Document>;
        fire(fire: Fire) -> Fired;
        schedules() -> Vec<ScheduleState>;
        schedule(name: String) -> Option<ScheduleState>;
        schedule_changes(since: u64) -> ScheduleChanges;
    }
}
