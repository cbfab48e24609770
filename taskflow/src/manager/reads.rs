//! Looking at tasks.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::Stream;

use super::TaskManager;
use crate::engine::events::Subscriber;
use crate::engine::schedule::Ticks;
use crate::model::{
    Counts, Error, Health, InstanceInfo, LogLine, Page, QueueInfo, ScheduleInfo, TaskEvent, TaskFilter,
    TaskId, TaskRecord,
};
use crate::task::{BoxFuture, Registry};

impl TaskManager {
    /// Everything the store knows of one task; `None` if it was never added, or its record was deleted or pruned.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, id: TaskId) -> Result<Option<TaskRecord>, Error> {
        let core = &self.0.core;
        Ok(core.read("a read", core.store.get(id)).await?)
    }

    /// What a task logged, oldest first; `None` if there is no such task. What a running task says is there within a
    /// quarter of a second.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn logs(&self, id: TaskId) -> Result<Option<Vec<LogLine>>, Error> {
        let core = &self.0.core;
        Ok(core.read("a read", core.store.logs(id)).await?)
    }

    /// A page of the tasks that are meant, newest first.
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
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, filter: TaskFilter) -> Result<Page<TaskRecord>, Error> {
        let core = &self.0.core;
        Ok(core.read("a read", core.store.list(filter)).await?)
    }

    /// How many tasks there are of each status.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn counts(&self) -> Result<Counts, Error> {
        let core = &self.0.core;
        Ok(core.read("a read", core.store.counts()).await?)
    }

    /// Every queue that is configured here or has tasks, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>, Error> {
        let core = &self.0.core;
        let mut queues = core.read("a read", core.store.queues()).await?;
        for name in core.settings.queues.keys() {
            if !queues.iter().any(|queue| queue.name == *name) {
                queues.push(QueueInfo::new(name.clone()));
            }
        }
        for queue in &mut queues {
            if let Some(config) = core.settings.queues.get(&queue.name) {
                (queue.concurrency, queue.max_size) = (config.concurrency, config.max_size);
            }
        }
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(queues)
    }

    /// The schedules of this program, and those the store knows of others, by name.
    ///
    /// # Errors
    /// When the store fails, and when two tasks of this program have one name.
    pub async fn schedules(&self) -> Result<Vec<ScheduleInfo>, Error> {
        let core = &self.0.core;
        let registry = Registry::collect()?;
        let scheduled =
            registry.tasks().into_iter().filter_map(|task| Some((task.config().name, task.schedule()?)));
        let mut schedules: BTreeMap<String, ScheduleInfo> = scheduled
            .map(|(name, spec)| {
                let mut info = ScheduleInfo::new(name.to_owned());
                info.trigger = Some(spec.trigger.to_string());
                info.timezone = spec.timezone.map(str::to_owned);
                info.next_run = Ticks::of(spec).ok().and_then(|ticks| ticks.after(SystemTime::now()));
                (name.to_owned(), info)
            })
            .collect();
        for state in core.read("a read", core.store.schedules()).await? {
            let info = schedules.entry(state.name.clone()).or_insert_with(|| ScheduleInfo::new(state.name));
            info.last_run = Some(state.last_tick);
        }
        Ok(schedules.into_values().collect())
    }

    /// The processes that use the store, as far as it can tell who is alive, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn instances(&self) -> Result<Vec<InstanceInfo>, Error> {
        let core = &self.0.core;
        Ok(core.read("a read", core.store.instances()).await?)
    }

    /// How this process and its store are. Asks nobody, so it answers when the store does not.
    #[must_use]
    pub fn health(&self) -> Health {
        let (claimed, running) = self.0.core.runs.count();
        self.0.core.health.show(claimed, running)
    }

    /// What happens to tasks in this process from now on, as it happens. A subscriber that falls more than 4,096
    /// events behind misses the oldest.
    ///
    /// ```standalone_crate
    /// use std::{future::poll_fn, pin::Pin};
    /// use taskflow::{TaskEventKind, TaskManager};
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
