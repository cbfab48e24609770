//! The end of a process, in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::core::Core;
use super::runner::Runner;
use super::runs::Runs;
use crate::model::ShutdownReport;
use crate::store::{Release, Verdict};

/// How long what was cut short may take to end and to be written, beyond the deadline.
const GRACE: Duration = Duration::from_secs(2);

/// How long a synchronous task that is asked to stop is waited for, beyond the deadline.
const STUBBORN: Duration = Duration::from_millis(250);

/// Stops claiming, waits until `deadline` for what runs, cuts the rest short, and writes how everything ended.
pub(crate) async fn shut_down(
    core: Arc<Core>,
    runner: Option<Arc<Runner>>,
    deadline: Duration,
) -> ShutdownReport {
    let deadline = Instant::now().checked_add(deadline);
    let mut report = ShutdownReport::default();
    let mut abandoned = 0;
    if let Some(runner) = &runner {
        let before = runner.tally.read();
        runner.stop();
        let idle = || core.runs.until(|_| runner.is_idle());
        match deadline {
            Some(deadline) => {
                let _ = timeout_at(deadline, idle()).await;
            }
            // A deadline beyond every clock.
            None => idle().await,
        }
        core.runs.end_all();
        // What is cut short ends at once unless it is synchronous; then it may yet listen.
        let _ = timeout(STUBBORN, idle()).await;
        let _ = timeout(GRACE, core.runs.until(|_| runner.only_stubborn_left())).await;
        abandoned = core.runs.count().0;
        let after = runner.tally.read();
        report.finished = after.finished - before.finished;
        report.handed_back = after.handed_back - before.handed_back;
        report.interrupted = after.interrupted - before.interrupted;
        report.abandoned = abandoned;
    }
    core.close();
    let releases: Vec<_> =
        core.holds.all().into_iter().map(|hold| Release::new(hold, Verdict::Run)).collect();
    if !releases.is_empty() {
        let release = core.call("a release", core.store.release(Arc::new(releases)));
        if !matches!(timeout(GRACE, release).await, Ok(Ok(_))) {
            tracing::warn!("held tasks could not be released; their leases will end");
        }
    }
    if abandoned > 0 {
        tracing::warn!(
            abandoned,
            "synchronous tasks ignore the request to stop; they keep their lease until the end"
        );
        core.runtime.spawn(end_after_the_last(core.clone()));
    } else {
        leave(&core).await;
    }
    report
}

/// Keeps the leases until the last abandoned task has returned after all, should the process live that long.
async fn end_after_the_last(core: Arc<Core>) {
    core.runs.until(Runs::is_empty).await;
    leave(&core).await;
}

/// Ends what is left of a manager whose runtime was dropped: once no body is under way, its runs are lost, and nobody
/// waits for a lease that this process would renew for ever.
pub(super) async fn orphaned(core: &Core) {
    core.orphaned.cancelled().await;
    core.close();
    core.runs.until(|runs| runs.count().1 == 0).await;
}

pub(super) async fn leave(core: &Core) {
    core.over.cancel();
    if !matches!(timeout(GRACE, core.store.leave(core.instance.id)).await, Ok(Ok(()))) {
        tracing::warn!("the store could not be told that this process ends; its lease will end");
    }
}
