//! The store: how each call of the contract is carried out.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::PgConnection;
use sqlx::postgres::{PgConnectOptions, PgPool};

use super::connections::Connections;
use super::error::Fault;
use super::executor::{CallKind, Shared, ended};
use super::options::PostgresOptions;
use super::session::{SETTINGS, Session};
use super::sql::Sql;
use super::{
    claim, control, documents, finish, insert, instance, lease, lease_connection, list, listener, liveness,
    queue, queue_stats, read, recover, schedule, schema, search_sql, url, within,
};
use crate::model::{
    CancelOutcome, Counts, Error, InstanceId, InstanceInfo, LogLine, Page, QueueConfig, QueueInfo,
    StoreError, TaskFilter, TaskId, TaskRecord,
};
use crate::store::hint_set::HintSet;
use crate::store::{
    Claim, Claims, Document, DocumentQuery, DocumentWrite, Finish, Finished, Fire, Fired, HintStream,
    InsertBatch, Inserted, LivenessStream, QueueState, Recovered, Refusal, Release, Renewal, Renewed, Reopen,
    ReplaceArgs, Report, Retention, RunRef, ScheduleChange, ScheduleChanges, ScheduleState, Store,
    StoreFuture, TaskEnd, document,
};

/// A store in a PostgreSQL database, version 13 or later.
///
/// It is a cheap handle. The database may be an application's own: every name in it begins with `taskflow_`, or with
/// `taskflow_NAME_` if the URL has `?namespace=NAME`, so that several applications can share one database. Any number
/// of processes on any number of machines may use it at once. All times are the server's, so the clocks of the
/// machines need not agree.
///
/// | key of the URL | meaning |
/// |---|---|
/// | `namespace=NAME` | a separate store in the same database: 1 to 32 of `a`–`z`, `0`–`9`, `_` |
/// | `connections=N` | the maximum number of connections for calls (default 4); none is held while a task runs |
/// | `listen=off` | for PgBouncer in transaction mode: no `LISTEN`, nothing that outlives a transaction |
///
/// Besides the connections for calls there is one on which leases are renewed and one that listens for hints: six in
/// all by default, three at least. Each further manager on the same store value that runs tasks renews its leases on one
/// more. With `listen=off` none listens, and the work of other processes is found by polling, within a second.
///
/// The session of the connection that renews leases holds an advisory lock whose first number is 1952544108. When the
/// lock has been gone for 2.5 s, its process counts as dead, and those of its runs that may be repeated start
/// elsewhere. With `listen=off`, and after a restart of the server until the lock is taken again, dead processes are
/// noticed only when their leases end.
///
/// **Text with NUL characters** is stored, though PostgreSQL's text cannot hold any: in keys, names, errors and log
/// messages a NUL is written as `␀0`, and `␀` as `␀␀`. Arguments, results and labels are JSON, which has its own
/// escape for it.
///
/// **From other languages** a task is added by `SELECT taskflow_add('send_email', '{"to":"someone@example.com"}')`,
/// in any transaction, also in a trigger and under any `search_path`. The payload is `text`, `json` or `jsonb`; the
/// function also takes a queue, a priority, an instant, a number of attempts, an instant after which the task is not
/// started, and a concurrency key. It refuses invalid values as an add does, and a full queue if its `max_size` is stored. It
/// knows nothing of the tasks, queues and limits that programs declare.
///
/// **Damaged rows.** A task whose row was damaged by other programs or by hand ends as failed; its error names the
/// column. Nothing else is affected.
///
/// **Limits over all processes** serialize the claims from their queue, and concurrency keys serialize the ends of
/// tasks that have one; queues and tasks without them pay nothing for it. A transaction of your own that
/// [adds](Self::insert_within) to a queue with a `max_size`, or replaces a waiting task that has a concurrency key,
/// locks that queue until it ends: such claims, such ends, and adds under a `max_size` wait for it.
///
/// ```no_run
/// use taskflow::TaskManager;
///
/// # async fn example() -> Result<(), taskflow::Error> {
/// let tasks = TaskManager::builder().store("postgres://app@db.example/shop?namespace=shop").connect().await?;
/// # drop(tasks);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore {
    shared: Arc<Shared>,
}

impl PostgresStore {
    /// Makes a store from a URL, without connecting yet. The schema is created when a manager that runs tasks
    /// starts on it, or by [`migrate`](Store::migrate).
    ///
    /// # Errors
    /// [`Error::StoreUrl`] for a URL that is not valid.
    pub fn open(url: impl AsRef<str>) -> Result<Self, Error> {
        let url = url.as_ref();
        let parsed = url::parse(url)
            .map_err(|message| Error::StoreUrl { url: crate::store::url::without_password(url), message })?;
        let mut options = parsed.options;
        if parsed.listens {
            options = options.options(SETTINGS);
        } else {
            options = options.statement_cache_capacity(0).extra_float_digits(None);
        }
        let location = location(&options, parsed.namespace.as_deref());
        let connections = Connections::new(options, location.clone(), parsed.connections);
        Ok(Self::over(connections, location, parsed.namespace.as_deref(), parsed.listens))
    }

    /// Makes a store in the database of an application's own pool. Each call borrows one of its connections. The
    /// store opens one more to renew leases and (unless [`listen(false)`](PostgresOptions::listen)) one more to listen, so
    /// that neither waits for the application.
    ///
    /// The store's own connections have settings that keep plans good while the table grows: `enable_seqscan = off`,
    /// `random_page_cost = 0`, `plan_cache_mode = force_generic_plan`, `jit = off`. The connections of a pool keep
    /// the settings of the application. With other settings, a plan made on a small table may be slow on a large one
    /// until the server has analysed it.
    ///
    /// The options set a namespace, and whether the pool is behind PgBouncer in transaction mode. `None` stands for
    /// the default.
    ///
    /// ```no_run
    /// use taskflow::{PostgresStore, TaskManager};
    ///
    /// # async fn example(pool: sqlx::PgPool) -> Result<(), taskflow::Error> {
    /// let tasks = TaskManager::builder().store(PostgresStore::from_pool(pool, None)?).connect().await?;
    /// # drop(tasks);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::StoreUrl`] for a namespace that is not valid.
    pub fn from_pool(pool: PgPool, options: impl Into<PostgresOptions>) -> Result<Self, Error> {
        let PostgresOptions { namespace, listens } = options.into();
        let namespace = namespace.as_deref();
        let location = location(&pool.connect_options(), namespace);
        if let Some(namespace) = namespace {
            Sql::check(namespace).map_err(|message| Error::StoreUrl { url: location.clone(), message })?;
        }
        let connections = Connections::of_pool(pool, location.clone(), listens);
        Ok(Self::over(connections, location, namespace, listens))
    }

    fn over(connections: Connections, location: String, namespace: Option<&str>, listens: bool) -> Self {
        Self { shared: Arc::new(Shared::new(Sql::new(namespace), connections, location, listens)) }
    }

    /// Inserts groups in a transaction of the caller, who commits it or not. None of the tasks starts before the
    /// commit.
    ///
    /// [`Start`](crate::store::Start) is treated as [`Wait`](crate::store::Start::Wait) whatever its value, because
    /// the store does not know when the transaction ends. The transaction itself notifies other processes when it
    /// commits. A queue with a `max_size` stays locked until then for other adds, for claims if it has limits over
    /// all processes, and for the ends of its tasks that have a concurrency key.
    ///
    /// # Errors
    /// [`StoreError`] if the database refuses. The transaction then contains nothing of the insert and can go on. If the
    /// connection is lost, or the server rejects the statements themselves (as a standby or behind a pooler in transaction
    /// mode), it can only be rolled back. The kind is [`Denied`](crate::model::StoreErrorKind::Denied) if no transaction is
    /// open, and [`Unknown`](crate::model::StoreErrorKind::Unknown) if the server no longer answers: a commit may keep what
    /// was inserted.
    ///
    /// If this future is dropped before it answers, a commit is refused (by the constraint
    /// `taskflow_add_was_given_up`): roll the transaction back.
    pub async fn insert_within(
        &self,
        connection: &mut PgConnection,
        batch: &InsertBatch,
    ) -> Result<Vec<Result<Vec<Inserted>, Refusal>>, StoreError> {
        let shared = &self.shared;
        let mut session = Session::within(connection, &shared.sql, &shared.starts, shared.listens);
        let answer = within::insert(&mut session, batch).await;
        answer.map_err(|(fault, in_doubt)| fault.into_error(&shared.location, in_doubt))
    }

    /// Executes a call. Once it is polled it is carried out, whether or not its answer is awaited.
    fn call<T, W>(&self, kind: CallKind, work: W) -> StoreFuture<'_, T>
    where
        T: Send + 'static,
        W: for<'s, 'c> Fn(&'s mut Session<'c>) -> BoxFuture<'s, Result<T, Fault>> + Send + Sync + 'static,
    {
        self.shared.call(kind, work)
    }

    /// Executes a claim. `work` gets the number of the claim.
    fn claims<T, W>(&self, instance: InstanceId, work: W) -> StoreFuture<'_, T>
    where
        T: Send + 'static,
        W: for<'s, 'c> Fn(&'s mut Session<'c>, i64) -> BoxFuture<'s, Result<T, Fault>>
            + Send
            + Sync
            + 'static,
    {
        self.shared.claims(instance, work)
    }
}

/// The location for messages, without a password.
fn location(options: &PgConnectOptions, namespace: Option<&str>) -> String {
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    let place = match options.get_socket() {
        Some(socket) => format!("postgres://{user}@{}/{database}", socket.display()),
        None => format!("postgres://{user}@{}:{}/{database}", options.get_host(), options.get_port()),
    };
    match namespace {
        Some(namespace) => format!("{place}?namespace={namespace}"),
        None => place,
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("location", &self.shared.location).finish_non_exhaustive()
    }
}

/// A call whose work borrows its arguments, which are kept in case the work is repeated.
macro_rules! call {
    ($store:ident, $kind:ident, $($given:ident),* => $work:expr) => {
        $store.call(CallKind::$kind, move |session| {
            $(let $given = $given.clone();)*
            Box::pin(async move { $work(session, $(&$given),*).await })
        })
    };
}

impl Store for PostgresStore {
    fn location(&self) -> String {
        self.shared.location.clone()
    }

    fn join<'a>(&'a self, info: &'a InstanceInfo) -> StoreFuture<'a, ()> {
        let (info, location) = (info.clone(), self.shared.location.clone());
        call!(self, Write, info, location => join)
    }

    fn migrate(&self) -> StoreFuture<'_, ()> {
        let location = self.shared.location.clone();
        call!(self, Write, location => schema::migrate)
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        let location = self.shared.location.clone();
        call!(self, Read, location => schema::require)
    }

    fn leave(&self, instance: InstanceId) -> StoreFuture<'_, ()> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            // The leases of this instance end now, and tasks it never began must not count as lost.
            shared.give_back_unconfirmed(instance.into()).await?;
            shared.call(CallKind::Write, move |session| Box::pin(instance::leave(session, instance))).await
        })
    }

    fn insert(&self, batch: Arc<InsertBatch>) -> StoreFuture<'_, Vec<Result<Vec<Inserted>, Refusal>>> {
        call!(self, Write, batch => insert::insert)
    }

    fn claim(&self, claim: Claim) -> StoreFuture<'_, Claims> {
        let claim = Arc::new(claim);
        self.claims(claim.instance, move |session, claim_id| {
            let claim = Arc::clone(&claim);
            Box::pin(async move { claim::claim(session, &claim, claim_id).await })
        })
    }

    fn finish(&self, finishes: Arc<Vec<Finish>>) -> StoreFuture<'_, Vec<Finished>> {
        call!(self, Write, finishes => finish::finish)
    }

    fn turn(&self, finishes: Arc<Vec<Finish>>, claim: Claim) -> StoreFuture<'_, (Vec<Finished>, Claims)> {
        let claim = Arc::new(claim);
        self.claims(claim.instance, move |session, claim_id| {
            let (finishes, claim) = (Arc::clone(&finishes), Arc::clone(&claim));
            Box::pin(async move { claim::turn(session, &finishes, &claim, claim_id).await })
        })
    }

    fn release(&self, releases: Arc<Vec<Release>>) -> StoreFuture<'_, Vec<bool>> {
        call!(self, Write, releases => finish::release)
    }

    fn report(&self, reports: Arc<Vec<Report>>) -> StoreFuture<'_, Vec<bool>> {
        call!(self, Write, reports => finish::report)
    }

    fn renew(&self, renewal: Renewal) -> StoreFuture<'_, Renewed> {
        let renewal = Arc::new(renewal);
        if let Some(answer) = self.shared.lease_connections.renew(&renewal) {
            let location = &self.shared.location;
            return Box::pin(async move { answer.await.unwrap_or_else(|_| Err(ended(location))) });
        }
        call!(self, Renew, renewal => lease::renew)
    }

    fn show_life(&self, instance: InstanceId) -> LivenessStream {
        lease_connection::show_life(&self.shared, instance)
    }

    fn look_again_in(&self) -> Option<Duration> {
        self.shared.suspects.look_again_in(Instant::now())
    }

    fn asked_to_stop(&self, instance: InstanceId) -> StoreFuture<'_, Vec<RunRef>> {
        self.call(CallKind::Read, move |session| Box::pin(lease::asked_to_stop(session, instance)))
    }

    fn recover(&self, _by: InstanceId) -> StoreFuture<'_, Vec<Recovered>> {
        Box::pin(async move {
            if let Err(error) = liveness::end_leases_of_the_dead(&self.shared).await {
                if error.is_transient() {
                    return Err(error);
                }
                // The leases of dead processes still end by themselves.
                tracing::debug!(%error, "cannot see whether other processes live");
            }
            let look = self.call(CallKind::Read, |session| Box::pin(search_sql::look_below(session)));
            match look.await {
                // A worker that waits for work would not claim before its next poll.
                Ok(true) => self.shared.hints.heard.send(HintSet::WORK),
                Ok(false) => {}
                // It is tried again the next time.
                Err(error) => tracing::debug!(%error, "cannot look for due tasks that claims do not see"),
            }
            self.call(CallKind::Write, |session| Box::pin(recover::recover(session))).await
        })
    }

    fn listen(&self) -> HintStream {
        listener::listen(&self.shared)
    }

    fn get(&self, id: TaskId) -> StoreFuture<'_, Option<TaskRecord>> {
        self.call(CallKind::Read, move |session| Box::pin(read::get(session, id)))
    }

    fn ends(&self, ids: Vec<TaskId>) -> StoreFuture<'_, Vec<TaskEnd>> {
        call!(self, Read, ids => read::ends)
    }

    fn logs(&self, id: TaskId) -> StoreFuture<'_, Option<Vec<LogLine>>> {
        self.call(CallKind::Read, move |session| Box::pin(read::logs(session, id)))
    }

    fn list(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>> {
        call!(self, Read, filter => list::list)
    }

    fn list_outlines(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>> {
        call!(self, Read, filter => list::outlines)
    }

    fn counts(&self) -> StoreFuture<'_, Counts> {
        call!(self, Read, => read::counts)
    }

    fn queues(&self) -> StoreFuture<'_, Vec<QueueInfo>> {
        call!(self, Read, => queue_stats::queues)
    }

    fn instances(&self) -> StoreFuture<'_, Vec<InstanceInfo>> {
        call!(self, Read, => instance::instances)
    }

    fn cancel(&self, ids: Vec<TaskId>, reason: String) -> StoreFuture<'_, Vec<CancelOutcome>> {
        call!(self, Write, ids, reason => control::cancel)
    }

    fn cancel_by_run_key(&self, run_key: String) -> StoreFuture<'_, Vec<TaskId>> {
        call!(self, Write, run_key => control::cancel_by_run_key)
    }

    fn retry(&self, tasks: Vec<Reopen>) -> StoreFuture<'_, Vec<Result<(), Error>>> {
        call!(self, Write, tasks => control::retry)
    }

    fn delete(&self, ids: Vec<TaskId>) -> StoreFuture<'_, usize> {
        call!(self, Write, ids => control::delete)
    }

    fn replace_args(&self, replacements: Arc<Vec<ReplaceArgs>>) -> StoreFuture<'_, Vec<bool>> {
        call!(self, Write, replacements => control::replace_args)
    }

    fn set_paused(&self, queue: String, paused: bool) -> StoreFuture<'_, ()> {
        self.call(CallKind::Write, move |session| {
            let queue = queue.clone();
            Box::pin(async move { queue::set_paused(session, &queue, paused).await })
        })
    }

    fn fire(&self, fire: Fire) -> StoreFuture<'_, Fired> {
        let fire = Arc::new(fire);
        call!(self, Write, fire => schedule::fire)
    }

    fn schedules(&self) -> StoreFuture<'_, Vec<ScheduleState>> {
        call!(self, Read, => schedule::schedules)
    }

    fn schedule(&self, name: String) -> StoreFuture<'_, Option<ScheduleState>> {
        call!(self, Read, name => schedule::schedule)
    }

    fn schedule_changes(&self, since: u64) -> StoreFuture<'_, ScheduleChanges> {
        call!(self, Read, since => schedule::changes)
    }

    fn queue_states(&self) -> StoreFuture<'_, Vec<QueueState>> {
        call!(self, Read, => queue::states)
    }

    fn set_queue(&self, queue: String, config: Option<QueueConfig>) -> StoreFuture<'_, ()> {
        self.call(CallKind::Write, move |session| {
            let (queue, config) = (queue.clone(), config.clone());
            Box::pin(async move { queue::set_config(session, &queue, config.as_ref()).await })
        })
    }

    fn replace_queue(
        &self,
        queue: String,
        from: Option<QueueConfig>,
        to: Option<QueueConfig>,
    ) -> StoreFuture<'_, bool> {
        self.call(CallKind::Write, move |session| {
            let (queue, from, to) = (queue.clone(), from.clone(), to.clone());
            Box::pin(async move { queue::replace_config(session, &queue, from.as_ref(), to.as_ref()).await })
        })
    }

    fn set_schedule(&self, schedule: String, change: ScheduleChange) -> StoreFuture<'_, bool> {
        call!(self, Write, schedule, change => schedule::set_schedule)
    }

    fn prune(&self, retention: Retention, limit: usize) -> StoreFuture<'_, usize> {
        self.call(CallKind::Write, move |session| Box::pin(control::prune(session, retention, limit)))
    }

    fn write_documents(&self, writes: Vec<DocumentWrite>) -> StoreFuture<'_, Vec<Option<u64>>> {
        Box::pin(async move {
            document::check_writes(&writes)?;
            let writes = Arc::new(writes);
            call!(self, Write, writes => documents::write).await
        })
    }

    fn documents(&self, query: DocumentQuery) -> StoreFuture<'_, Vec<Document>> {
        Box::pin(async move {
            document::check_kind(query.kind)?;
            call!(self, Read, query => documents::read).await
        })
    }
}

async fn join(session: &mut Session<'_>, info: &InstanceInfo, location: &str) -> Result<(), Fault> {
    match info.runs {
        true => schema::migrate(session, location).await?,
        false => schema::require(session, location).await?,
    }
    instance::join(session, info).await
}
