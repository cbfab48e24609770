//! Spawns tasks and starts threads.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::task::{JoinError, JoinHandle, JoinSet};

use super::time::Seam;

#[allow(clippy::unused_self, reason = "without the feature `testing` there is only one way to spawn")]
impl Seam {
    /// Spawns `future` on `runtime`.
    #[inline]
    pub(crate) fn spawn<F>(&self, runtime: &Handle, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        #[cfg(feature = "testing")]
        if let Some(world) = self.world() {
            return runtime.spawn(world.tracked(future));
        }
        runtime.spawn(future)
    }

    /// Spawns `future` on `runtime`, as one of the tasks of `set`.
    pub(crate) fn spawn_in<F>(&self, set: &mut JoinSet<F::Output>, runtime: &Handle, future: F)
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        #[cfg(feature = "testing")]
        if let Some(world) = self.world() {
            set.spawn_on(world.tracked(future), runtime);
            return;
        }
        set.spawn_on(future, runtime);
    }

    /// Runs `work`, which blocks, beside the tasks of `runtime`.
    pub(crate) async fn spawn_blocking<T: Send + 'static>(
        &self,
        runtime: &Handle,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        #[cfg(feature = "testing")]
        if self.world().is_some() {
            // Run it on this thread, so that a test does not depend on the scheduler of the machine.
            return Ok(work());
        }
        runtime.spawn_blocking(work).await
    }

    /// Starts a thread for `work`, which blocks.
    pub(crate) fn thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
    }

    /// Drives `future` on its own thread and its own runtime, so that nothing on `runtime` can delay it. In a test it is a task
    /// like the others.
    pub(crate) fn drive_apart(
        &self,
        runtime: &Handle,
        name: &str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        #[cfg(feature = "testing")]
        if let Some(world) = self.world() {
            runtime.spawn(world.tracked(future));
            return Ok(());
        }
        let _ = runtime;
        let own = Builder::new_current_thread().enable_all().build()?;
        self.thread(name, move || own.block_on(future))
    }
}
