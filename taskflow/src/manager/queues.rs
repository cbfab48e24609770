//! Queues: list them, pause them, and change their limits at run time.

use std::collections::BTreeMap;

use super::TaskManager;
use crate::engine::{catalogue, queue_watch};
use crate::model::{Error, LimitsFrom, QueueConfig, QueueInfo, spelling::closest};

impl TaskManager {
    /// All queues by name, with their counts and the limits in force. A queue is listed if a program that runs
    /// configures it, if it has tasks, or if it has been configured or paused for all processes. The limits are the stored
    /// ones, else those of this program, else those of the program that started last.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>, Error> {
        let core = &self.0.core;
        let stored = core.read("a read", core.store.queues()).await?;
        let mut queues: BTreeMap<String, QueueInfo> =
            stored.into_iter().map(|queue| (queue.name.clone(), queue)).collect();
        let mut show = |name: &str, config: &QueueConfig, served: bool| {
            let queue = queues.entry(name.to_owned()).or_insert_with(|| QueueInfo::new(name.to_owned()));
            queue.served_by += usize::from(served);
            if queue.limits_from != LimitsFrom::Store {
                queue.show_limits(config, LimitsFrom::Program);
            }
        };
        // The program that started last is the last of these, and this program comes after it.
        let live = catalogue::live(core).await?;
        for (name, declared) in live.catalogues.iter().flat_map(|catalogue| &catalogue.queues) {
            show(name, &declared.config, declared.is_served);
        }
        for (name, config) in core.queues.configured() {
            show(name, config, false);
        }
        Ok(queues.into_values().collect())
    }

    /// Lets a process that only [views](crate::TaskManagerBuilder::view), and so configures no queues, add to the queues that
    /// other programs configure. In any other process this does nothing: a queue that its program does not configure is most
    /// likely misspelt.
    #[cfg(feature = "api")]
    pub(crate) async fn learn_queues(&self) -> Result<(), Error> {
        let core = &self.0.core;
        if core.presence.is_outside() {
            queue_watch::refresh(core, None).await?;
            let known = self.queues().await?;
            core.queues.admit(known.into_iter().map(|queue| (queue.name.clone(), queue.config())));
        }
        Ok(())
    }

    /// Pauses a queue in all processes until it is [resumed](Self::resume_queue), even across restarts. None of its tasks
    /// start, not even eager ones. Running tasks continue, and new tasks wait.
    ///
    /// # Errors
    /// [`Error::UnknownQueue`] for a queue that this program does not configure and [`queues`](Self::queues) does not list, and
    /// when the store fails.
    pub async fn pause_queue(&self, queue: &str) -> Result<(), Error> {
        self.set_paused(queue, true).await
    }

    /// Lets the tasks of a paused queue run again.
    ///
    /// # Errors
    /// As for [`pause_queue`](Self::pause_queue).
    pub async fn resume_queue(&self, queue: &str) -> Result<(), Error> {
        self.set_paused(queue, false).await
    }

    /// Stores limits for a queue. They override the limits in every program until they are [reset](Self::reset_queue), even
    /// across restarts. They apply in this process at once and in all others within a second. A smaller limit stops no running
    /// task.
    ///
    /// ```
    /// use std::time::Duration;
    /// use taskflow::QueueConfig;
    ///
    /// # async fn demo(tasks: taskflow::TaskManager) -> Result<(), taskflow::Error> {
    /// tasks.set_queue("mail", QueueConfig::new().global_concurrency(20).rate_limit(100, Duration::from_secs(1))).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownQueue`] as for [`pause_queue`](Self::pause_queue), [`Error::Config`] for invalid limits, and when
    /// the store fails.
    pub async fn set_queue(&self, queue: &str, config: QueueConfig) -> Result<(), Error> {
        config.check()?;
        self.store_queue(queue, Some(config)).await
    }

    /// Changes the limits of a queue: passes the limits in force to `change`, and stores its answer as
    /// [`set_queue`](Self::set_queue) does. If the limits are changed elsewhere at the same time, `change` is called again with
    /// the new ones, so no change is lost. If `change` returns the same limits, nothing is stored. Returns the answer of
    /// `change`.
    ///
    /// ```
    /// # async fn demo(tasks: taskflow::TaskManager) -> Result<(), taskflow::Error> {
    /// tasks.change_queue("mail", |limits| limits.global_concurrency(20)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`set_queue`](Self::set_queue).
    pub async fn change_queue(
        &self,
        queue: &str,
        change: impl Fn(QueueConfig) -> QueueConfig,
    ) -> Result<QueueConfig, Error> {
        self.must_know(queue).await?;
        let core = &self.0.core;
        loop {
            let stored = core.read("a read of the queues", core.store.queue_states()).await?;
            let stored = stored.into_iter().find(|state| state.name == queue).and_then(|state| state.config);
            let before = match &stored {
                Some(config) => config.clone(),
                None => self
                    .queues()
                    .await?
                    .iter()
                    .find(|info| info.name == queue)
                    .map(QueueInfo::config)
                    .unwrap_or_default(),
            };
            let after = change(before.clone());
            after.check()?;
            let replace = || core.store.replace_queue(queue.to_owned(), stored.clone(), Some(after.clone()));
            if before == after || core.call("a change of a queue", replace()).await? {
                queue_watch::refresh(core, self.0.worker.as_deref()).await?;
                return Ok(after);
            }
        }
    }

    /// Removes the limits that [`set_queue`](Self::set_queue) stored: the limits in each program apply again. A paused
    /// queue stays paused.
    ///
    /// # Errors
    /// As for [`pause_queue`](Self::pause_queue).
    pub async fn reset_queue(&self, queue: &str) -> Result<(), Error> {
        self.store_queue(queue, None).await
    }

    async fn store_queue(&self, queue: &str, config: Option<QueueConfig>) -> Result<(), Error> {
        self.must_know(queue).await?;
        let core = &self.0.core;
        core.call("a change of a queue", core.store.set_queue(queue.to_owned(), config)).await?;
        queue_watch::refresh(core, self.0.worker.as_deref()).await?;
        Ok(())
    }

    async fn set_paused(&self, queue: &str, paused: bool) -> Result<(), Error> {
        self.must_know(queue).await?;
        let core = &self.0.core;
        core.call("a pause", core.store.set_paused(queue.to_owned(), paused)).await?;
        if let Some(worker) = &self.0.worker {
            // Of the tasks claimed before the pause, only those that already run continue.
            worker.give_back_waiting(true);
            worker.may_have_work();
        }
        Ok(())
    }

    /// Refuses an unknown queue: its name is most likely misspelt.
    async fn must_know(&self, queue: &str) -> Result<(), Error> {
        if self.0.core.queues.program(queue).is_some() {
            return Ok(());
        }
        let queues = self.queues().await?;
        if queues.iter().any(|known| known.name == queue) {
            return Ok(());
        }
        let suggestion = closest(queue, queues.iter().map(|known| known.name.as_str()));
        Err(Error::UnknownQueue { queue: queue.to_owned(), suggestion, task: None })
    }
}
