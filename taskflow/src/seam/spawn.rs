//! Tasks and threads.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::task::{JoinError, JoinHandle, JoinSet};

use super::time::Seam;

#[allow(clippy::unused_self, reason = "a caller does not know where its tasks run")]
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
            // On this thread, so that a history does not depend on the scheduler of the machine.
            return Ok(work());
        }
        runtime.spawn_blocking(work).await
    }

    /// Starts a thread for `work`, which blocks.
    pub(crate) fn thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
    }

    /// Drives `future` on a thread and a runtime of its own, so that nothing on `runtime` can hold it up. In a test it is a
    /// task like the others.
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
