//! Adds within the caller's own transaction.

use std::any::{Any, type_name};

use super::{AddTask, TaskHandle, TaskManager};
use crate::engine::spans::AddSpan;
use crate::model::AddError;
use crate::store::{InsertBatch, InsertGroup, Inserted, Refusal, Store};

impl<V> AddTask<V> {
    /// Adds the task through your own connection to the store's SQLite file, as part of the transaction that is open on
    /// it. After your commit the workers see the task within a moment; a rollback removes it. Without an open transaction the
    /// task is committed at once. The task is never held, and `eager` has no effect.
    ///
    /// Begin the transaction with `BEGIN IMMEDIATE`
    /// ([`TransactionBehavior::Immediate`](rusqlite::TransactionBehavior::Immediate)): a transaction that reads before it
    /// writes may be refused because another process has written meanwhile. Keep it short: while it is open, nobody else can
    /// write to the file, and if it stays open for half a minute, running tasks are stopped.
    ///
    /// ```
    /// use taskflow::rusqlite::{Connection, TransactionBehavior};
    ///
    /// # #[taskflow::task] async fn send_invoice(order: i64) { let _ = order; }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = std::env::temp_dir().join(format!("taskflow-within-{}", std::process::id()));
    /// # std::fs::create_dir_all(&directory)?;
    /// # let file = directory.join("app.db");
    /// let store = format!("sqlite://{}", file.display());
    /// # taskflow::TaskManager::builder().store(store.as_str()).migrate().await?;
    /// let tasks = taskflow::TaskManager::builder().store(store.as_str()).connect().await?;
    /// let mut connection = Connection::open(&file)?;
    /// connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)", [])?;
    ///
    /// let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    /// transaction.execute("INSERT INTO orders (id) VALUES (42)", [])?;
    /// let task = tasks.add_task(send_invoice, (42,)).within_sqlite(&transaction)?;
    /// transaction.commit()?; // the order and its task, or neither
    ///
    /// assert!(tasks.get(task.id()).await?.is_some());
    /// # tasks.shutdown(std::time::Duration::ZERO).await?;
    /// # std::fs::remove_dir_all(&directory)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for awaiting the add; when the manager's store is not SQLite; and when the connection is to another file. After
    /// an error your transaction contains nothing of the add and can go on.
    #[cfg(feature = "sqlite")]
    pub fn within_sqlite(self, connection: &rusqlite::Connection) -> Result<TaskHandle<V>, AddError> {
        let (manager, batch, span) = self.into_batch()?;
        let store = manager.store_as::<crate::store::SqliteStore>("within_sqlite");
        let answers = store.and_then(|store| Ok(store.insert_within(connection, &batch)?));
        manager.handle(&batch, span, answers)
    }

    /// Adds the task through your own connection to the store's PostgreSQL database, as part of the transaction that is
    /// open on it. Your commit makes the task visible to every process at once; a rollback removes it. The task is never held,
    /// and `eager` has no effect.
    ///
    /// If the queue has a `max_size`, other adds to it wait until your transaction ends, and so do other adds with the same
    /// idempotency key.
    ///
    /// ```no_run
    /// # #[taskflow::task] async fn send_invoice(order: i64) { let _ = order; }
    /// # async fn example(tasks: taskflow::TaskManager, pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut transaction = pool.begin().await?;
    /// sqlx::query("INSERT INTO orders (id) VALUES (42)").execute(&mut *transaction).await?;
    /// let task = tasks.add_task(send_invoice, (42,)).within_postgres(&mut transaction).await?;
    /// transaction.commit().await?; // the order and its task, or neither
    /// # drop(task);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for awaiting the add; when the manager's store is not PostgreSQL; and when no transaction is open. After an error
    /// your transaction contains nothing of the add and can go on. The exception is [`AddError::Unknown`]: the server did
    /// not answer for so long that the insert could not be undone either. Then your commit may store the task.
    ///
    /// # Cancel safety
    /// Await this future to its end. If it is dropped earlier (by a timeout, or in a `select!`), the insert may still be
    /// running. Then the constraint `taskflow_add_was_given_up` refuses your commit, and nothing of the transaction is
    /// stored.
    #[cfg(feature = "postgres")]
    pub async fn within_postgres(
        self,
        connection: &mut sqlx::PgConnection,
    ) -> Result<TaskHandle<V>, AddError> {
        let (manager, batch, span) = self.into_batch()?;
        let id = batch.groups.iter().flat_map(|group| &group.tasks).next().map(|insert| insert.task.id);
        let answers = match manager.store_as::<crate::store::PostgresStore>("within_postgres") {
            Ok(store) => store.insert_within(connection, &batch).await.map_err(|source| match id {
                Some(id) if source.kind() == crate::model::StoreErrorKind::Unknown => {
                    AddError::Unknown { id, source }
                }
                _ => AddError::Store(source),
            }),
            Err(error) => Err(error),
        };
        manager.handle(&batch, span, answers)
    }

    /// The manager, a batch with only this task, and the span of the add.
    fn into_batch(self) -> Result<(TaskManager, InsertBatch, AddSpan), AddError> {
        let (manager, task) = self.into_parts();
        let core = &manager.0.core;
        if core.is_closed() {
            return Err(AddError::ShutDown);
        }
        let prepared = core.prepare(task, false).inspect_err(|refused| core.refusals.count(refused));
        let mut inserts = vec![prepared?];
        let span = AddSpan::begin(core, &mut inserts, None);
        let group = InsertGroup::new(inserts);
        let batch = InsertBatch::new(core.instance.id, core.settings.lease, vec![group]);
        Ok((manager, batch, span))
    }
}

impl TaskManager {
    /// The store, if it has the type `S`.
    fn store_as<S: Store>(&self, option: &'static str) -> Result<&S, AddError> {
        let store: &dyn Store = &*self.0.core.store;
        let any: &dyn Any = store;
        any.downcast_ref().ok_or_else(|| {
            let wanted = type_name::<S>().rsplit("::").next().unwrap_or_default();
            let message = format!(
                "it needs the manager's store to be a `{wanted}`, but the store is {}",
                store.location()
            );
            AddError::Option { option, message }
        })
    }

    /// The handle of the one inserted task.
    fn handle<V>(
        &self,
        batch: &InsertBatch,
        mut span: AddSpan,
        answers: Result<Vec<Result<Vec<Inserted>, Refusal>>, AddError>,
    ) -> Result<TaskHandle<V>, AddError> {
        let core = &self.0.core;
        let answer = answers.and_then(|mut answers| match answers.pop() {
            Some(Ok(inserted)) => Ok(inserted),
            Some(Err(Refusal::QueueFull { queue, max_size })) => Err(AddError::QueueFull { queue, max_size }),
            None => unreachable!("the SQLite and PostgreSQL stores answer for every group"),
        });
        span.answered(&answer);
        let inserted = answer.inspect_err(|refused| core.refusals.count(refused))?;
        let inserted = inserted.first().expect("the SQLite and PostgreSQL stores answer for every task");
        let name = batch.groups.iter().flat_map(|group| &group.tasks).next().map(|it| it.task.name.clone());
        Ok(TaskHandle::of(core.clone(), None, name, *inserted))
    }
}
