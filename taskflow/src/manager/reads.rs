//! Reads: one task, its log, lists, counts, instances, health and events.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};

use super::TaskManager;
use crate::engine::events::Subscriber;
use crate::model::{
    Counts, Cursor, Error, Health, InstanceInfo, LogLine, Page, TaskEvent, TaskFilter, TaskId, TaskRecord,
};
use crate::task::BoxFuture;

/// How many records are read concurrently.
const AT_ONCE: usize = 16;

impl TaskManager {
    /// The full record of a task; `None` if it was never added, or its record was deleted or pruned.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, Error> {
        let core = &self.0.core;
        Ok(core.read("a read", core.store.get(id)).await?)
    }

    /// The log lines of a task, oldest first; `None` if there is no such task. A line from a running task appears within a
    /// quarter of a second.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn logs(&self, id: TaskId) -> Result<Option<Vec<LogLine>>, Error> {
        let core = &self.0.core;
        Ok(core.read("a read", core.store.logs(id)).await?)
    }

    /// A page of the tasks that match the filter, newest first.
    ///
    /// ```
    /// use taskflow::{TaskFilter, TaskManager, TaskStatus};
    ///
    /// # async fn demo(tasks: TaskManager) -> Result<(), taskflow::Error> {
    /// let mut filter = TaskFilter::new().status(TaskStatus::Failed);
    /// loop {
    ///     let page = tasks.list(filter.clone()).await?;
    ///     for task in &page.items {
    ///         println!("{} {}: {}", task.id, task.name, task.error.as_deref().unwrap_or("?"));
    ///     }
    ///     let Some(next) = page.next else { break };
    ///     filter = filter.after(next);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A call reads at most [`TaskFilter::MAX_LOOKED_AT`] records, so that a search for rare tasks does not block the
    /// database. A page may therefore have fewer items than the filter's limit, even none, and still have a `next`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, filter: TaskFilter) -> Result<Page<TaskRecord>, Error> {
        let core = &self.0.core;
        let filter = filter.within_limits();
        if !filter.has_rest() {
            return Ok(core.read("a read", core.store.list(filter)).await?);
        }
        let found = self.search(&filter).await?;
        if !filter.is_told_by_outlines() {
            return Ok(found);
        }
        // Read in full only the tasks that were found. Drop those that were deleted or no longer match.
        let whole = found.items.iter().map(|outline| core.read("a read", core.store.get(outline.id)));
        let mut whole = futures_util::stream::iter(whole).buffered(AT_ONCE);
        let mut items = Vec::with_capacity(found.items.len());
        while let Some(record) = whole.next().await {
            items.extend(record?.filter(|record| filter.matches_base(record) && filter.matches_rest(record)));
        }
        Ok(Page::new(items, found.next))
    }

    /// The same page as [`list`](Self::list), for callers that need only the ids: with outlines instead of full records
    /// where outlines are enough to evaluate the filter.
    pub(crate) async fn list_outlines(&self, filter: &TaskFilter) -> Result<Page<TaskRecord>, Error> {
        let core = &self.0.core;
        if filter.has_rest() {
            return self.search(filter).await;
        }
        Ok(core.read("a read", core.store.list_outlines(filter.clone())).await?)
    }

    /// Evaluates the conditions that stores do not evaluate.
    async fn search(&self, filter: &TaskFilter) -> Result<Page<TaskRecord>, Error> {
        let core = &self.0.core;
        let limit = filter.limit.clamp(1, TaskFilter::MAX_LIMIT);
        let mut asked = filter.narrowed();
        let mut found = Page::new(Vec::new(), None);
        let mut looked_at = 0;
        loop {
            let page = match filter.is_told_by_outlines() {
                true => core.store.list_outlines(asked.clone()),
                false => core.store.list(asked.clone()),
            };
            let page = core.read("a read", page).await?;
            looked_at += page.items.len();
            // The store has reached its limit of records for one page.
            let is_cut_short = page.items.len() < asked.limit;
            for record in page.items {
                if filter.matches_rest(&record) {
                    if found.items.len() == limit {
                        found.next = found.items.last().map(|last: &TaskRecord| Cursor::after(last.id));
                        return Ok(found);
                    }
                    found.items.push(record);
                }
            }
            found.next = page.next;
            match page.next {
                Some(next) if !is_cut_short && looked_at < TaskFilter::MAX_LOOKED_AT => {
                    asked = asked.after(next)
                }
                _ => return Ok(found),
            }
        }
    }

    /// The number of tasks of each status.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn counts(&self) -> Result<Counts, Error> {
        let core = &self.0.core;
        Ok(core.read("a read", core.store.counts()).await?)
    }

    /// The processes that use the store, oldest first, as far as the store can tell which are alive.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn instances(&self) -> Result<Vec<InstanceInfo>, Error> {
        let core = &self.0.core;
        Ok(core.read("a read", core.store.instances()).await?)
    }

    /// The health of this process and of its connection to the store. It makes no call to the store, so it also works
    /// while the store does not answer.
    #[must_use]
    pub fn health(&self) -> Health {
        let (claimed, running) = self.0.core.runs.count();
        self.0.core.health.show(claimed, running)
    }

    /// A stream of the task events of this process from now on. A subscriber that falls more than 4,096 events behind
    /// misses the oldest.
    ///
    /// ```standalone_crate
    /// use std::{future::poll_fn, pin::Pin};
    /// use taskflow::{TaskManager, model::TaskEventKind};
    /// # #[taskflow::task] async fn ping() {}
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let tasks = TaskManager::builder().start().await?;
    /// use futures_util::StreamExt;
    ///
    /// let mut events = tasks.subscribe();
    /// tasks.add(ping()).await?;
    /// while let Some(event) = events.next().await {
    ///     if event.kind == TaskEventKind::Succeeded {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self) -> impl Stream<Item = TaskEvent> + Send + Unpin + 'static {
        Subscription { next: Box::pin(next(self.0.core.events.subscribe())) }
    }
}

type Next = (Option<TaskEvent>, Subscriber);

/// A subscriber as a stream.
struct Subscription {
    next: BoxFuture<'static, Next>,
}

async fn next(mut events: Subscriber) -> Next {
    (events.next().await, events)
}

impl Stream for Subscription {
    type Item = TaskEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TaskEvent>> {
        self.next.as_mut().poll(cx).map(|(event, events)| {
            self.next = Box::pin(next(events));
            event
        })
    }
}
