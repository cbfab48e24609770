//! Stores the progress and log lines of tasks while they run.

use std::sync::Arc;
use std::time::Duration;

use super::opening::lines_not_sealed;
#[cfg(feature = "encryption")]
use super::panics::catch;
use super::panics::caught;
use super::run::Ran;
use super::worker::Worker;
use crate::model::{EventKind, LogLine};
use crate::store::Report;
use crate::task::TaskContext;

/// How long progress and log lines collect before they are stored.
const COLLECT: Duration = Duration::from_millis(200);

/// Stores reports until the process ends.
pub(crate) async fn report(worker: Arc<Worker>) {
    let core = &worker.core;
    loop {
        tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            () = worker.env.report_queue.reported_something() => {}
        }
        core.seam.sleep(COLLECT).await;
        let mut with_reports = Vec::new();
        let mut reports = Vec::new();
        for context in worker.env.report_queue.with_reports() {
            let Some(run) = core.runs.of(&context) else { continue };
            if let Some(said) = context.begin_report() {
                let mut report = Report::new(run, said.progress.clone(), said.lines.clone());
                report.lines_before = Some(said.lines_before);
                lines_not_sealed(&mut report.lines);
                #[cfg(feature = "encryption")]
                if let Some(sealing) = &core.sealing
                    && let Err(panic) =
                        catch(|| sealing.seal_lines(run.id, context.name(), &mut report.lines))
                {
                    // They must never be stored unsealed.
                    report.lines.clear();
                    tracing::error!(task = %run.id, "log lines are dropped, since they cannot be sealed: the key ring {panic}");
                }
                reports.push(report);
                with_reports.push((context, said));
            }
        }
        if reports.is_empty() {
            continue;
        }
        // The store drops the report of a run whose lease is lost. The renewal reports the loss, so nothing is done here.
        let reports = Arc::new(reports);
        let answer = caught(core.call("a report", core.store.report(reports.clone()))).await;
        let is_stored = matches!(answer, Ok(Ok(_)));
        for (at, (context, said)) in with_reports.into_iter().enumerate() {
            if core.events.want(EventKind::Log)
                && matches!(&answer, Ok(Ok(stored)) if stored.get(at) == Some(&true))
            {
                // The events carry the lines as they are stored: those of a sealed task are sealed.
                tell(&worker, &context, &reports[at].lines);
            }
            context.reported(said, is_stored);
        }
        if let Err(panic) = answer {
            // Caught here, not by the supervision, so that the runs above still learn whether their report is stored.
            core.health.restarted("the reporter", &panic);
        }
    }
}

/// Sends the events of lines that have been stored.
fn tell(worker: &Worker, context: &TaskContext, lines: &[LogLine]) {
    let (ran, name) = (Ran::of(context), Arc::<str>::from(context.name()));
    for line in lines {
        worker.core.events.send(EventKind::Log, |_| ran.line(context.id(), name.clone(), line));
    }
}
