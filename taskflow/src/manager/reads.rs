//! Methods that read: one task, its log, lists, counts, instances, health and events.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};

use super::TaskManager;
use crate::engine::events::Subscriber;
use crate::model::{
    Count, Counts, Cursor, Error, Health, InstanceInfo, LogLine, Page, TaskEvent, TaskFilter, TaskId,
    TaskRecord, TaskStatus,
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

    /// A page of the tasks that match the filter, newest first unless the filter has another [order](TaskFilter::order).
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
        if !filter.needs_only_outlines() {
            return Ok(found);
        }
        // Read in full only the tasks that were found. Drop those that were deleted or no longer match.
        let ids: Vec<TaskId> = found.items.iter().map(|outline| outline.id).collect();
        let whole = ids.into_iter().map(|id| core.read("a read", core.store.get(id)));
        let mut whole = futures_util::stream::iter(whole).buffered(AT_ONCE);
        let (mut items, now) = (Vec::with_capacity(found.items.len()), core.seam.now());
        while let Some(record) = whole.next().await {
            items.extend(
                record?.filter(|record| filter.matches_base(record) && filter.matches_rest(record, now)),
            );
        }
        Ok(Page::new(items, found.next))
    }

    /// The same page as [`list`](Self::list), without the parts of a record that may be large: its arguments are `null`, and
    /// it has no result, progress or attempts. The store does not load these parts, unless the filter has an
    /// [`arg`](TaskFilter::arg). Use it for tables and for searches.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_outlines(&self, filter: &TaskFilter) -> Result<Page<TaskRecord>, Error> {
        let core = &self.0.core;
        let filter = filter.clone().within_limits();
        let mut page = match filter.has_rest() {
            true => self.search(&filter).await?,
            false => core.read("a read", core.store.list_outlines(filter)).await?,
        };
        page.items.iter_mut().for_each(TaskRecord::outline);
        Ok(page)
    }

    /// How many tasks match the filter. Counts up to `up_to` of them, usually [`Count::UP_TO`], and says whether there may be
    /// more. A filter without conditions, or with nothing but statuses, costs one read of the store's counters and is always
    /// counted exactly. The filter's `limit` and `after` are ignored.
    ///
    /// Any other filter is read in pages of outlines. If one page finds few tasks among the
    /// [`MAX_LOOKED_AT`](TaskFilter::MAX_LOOKED_AT) records that it may examine, the count stops there, so that a search for
    /// rare tasks does not block the database.
    ///
    /// ```
    /// use taskflow::{TaskFilter, TaskManager, TaskStatus, model::Count};
    ///
    /// # async fn demo(tasks: TaskManager) -> Result<(), taskflow::Error> {
    /// let failed = TaskFilter::new().status(TaskStatus::Failed).name("send_email");
    /// let Count { n, exact, .. } = tasks.count(failed, Count::UP_TO).await?;
    /// println!("{n}{}", if exact { "" } else { "+" });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the store fails.
    pub async fn count(&self, filter: TaskFilter, up_to: usize) -> Result<Count, Error> {
        if filter.is_only_statuses() {
            let counts = self.counts().await?;
            let meant = |status: &TaskStatus| filter.statuses.is_empty() || filter.statuses.contains(status);
            let each = TaskStatus::ALL.into_iter().filter(meant).map(|status| counts.get(status));
            return Ok(Count::exactly(each.sum()));
        }
        let mut filter = TaskFilter { after: None, ..filter };
        let mut n = 0;
        loop {
            // Ask for one more than is counted: if it comes, there are more.
            filter.limit = up_to.saturating_sub(n).saturating_add(1).min(TaskFilter::MAX_LIMIT);
            let page = self.list_outlines(&filter).await?;
            n += page.items.len();
            if n > up_to {
                return Ok(Count::at_least(up_to as u64));
            }
            match page.next {
                None => return Ok(Count::exactly(n as u64)),
                Some(_) if page.items.len() * 2 < filter.limit => return Ok(Count::at_least(n as u64)),
                Some(next) => filter.after = Some(next),
            }
        }
    }

    /// Evaluates the conditions that stores do not evaluate.
    async fn search(&self, filter: &TaskFilter) -> Result<Page<TaskRecord>, Error> {
        let core = &self.0.core;
        let limit = filter.limit.clamp(1, TaskFilter::MAX_LIMIT);
        let mut asked = filter.narrowed();
        let mut found = Page::new(Vec::new(), None);
        let mut looked_at = 0;
        loop {
            let page = match filter.needs_only_outlines() {
                true => core.store.list_outlines(asked.clone()),
                false => core.store.list(asked.clone()),
            };
            let page = core.read("a read", page).await?;
            looked_at += page.items.len();
            // A page that is not full: the store has reached its limit of records for one page.
            let is_cut_short = page.items.len() < asked.limit;
            let now = core.seam.now();
            for record in page.items {
                if filter.matches_rest(&record, now) {
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

    /// The number of tasks in each status.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn counts(&self) -> Result<Counts, Error> {
        let core = &self.0.core;
        Ok(core.read("a read", core.store.counts()).await?)
    }

    /// The live processes that use the store, oldest first. A dead process is listed until the store notices its death, and a
    /// process that only [views](crate::TaskManagerBuilder::view) is never listed.
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
        let mut health = self.0.core.health.show(claimed, running);
        health.dropped_events = self.0.core.observers.dropped();
        health
    }

    /// A stream of the task events of this process from now on, including the lines that tasks log. To receive events outside
    /// async code, give the builder an [`Observer`](crate::observe::Observer). A subscriber that falls more than 4,096 events
    /// behind misses the oldest.
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
