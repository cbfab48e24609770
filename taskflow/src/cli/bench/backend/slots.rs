//! Runs the tasks of a floor. Each is a task of the runtime, so that a task that waits would not delay others.

use tokio::task::JoinSet;

use crate::cli::bench::failure::Result;

/// Runs tasks, at most `limit` at once.
#[derive(Debug)]
pub(super) struct Slots<I> {
    limit: usize,
    running: JoinSet<Result<I>>,
    ended: Vec<I>,
}

impl<I: Send + 'static> Slots<I> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, running: JoinSet::new(), ended: Vec::new() }
    }

    /// Starts a task as soon as a slot is free.
    pub(super) async fn start(
        &mut self,
        task: impl Future<Output = Result<I>> + Send + 'static,
    ) -> Result<()> {
        if self.running.len() >= self.limit {
            self.end_one().await?;
        }
        self.running.spawn(task);
        Ok(())
    }

    /// Waits for all started tasks and returns their results.
    pub(super) async fn ended(&mut self) -> Result<Vec<I>> {
        while !self.running.is_empty() {
            self.end_one().await?;
        }
        Ok(std::mem::take(&mut self.ended))
    }

    async fn end_one(&mut self) -> Result<()> {
        if let Some(ended) = self.running.join_next().await {
            self.ended.push(ended??);
        }
        Ok(())
    }
}
