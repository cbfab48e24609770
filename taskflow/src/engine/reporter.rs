//! Stores the progress and log lines of tasks while they run.

use std::sync::Arc;
use std::time::Duration;

use super::panics::caught;
use super::worker::Worker;
use crate::store::Report;

/// How long progress and log lines collect before they are stored.
const COLLECT: Duration = Duration::from_millis(200);

/// Stores reports until the process ends.
pub(crate) async fn report(worker: Arc<Worker>) {
    let core = &worker.core;
    loop {
        tokio::select! {
            () = core.over.cancelled() => return,
            () = worker.env.report_queue.reported_something() => {}
        }
        core.seam.sleep(COLLECT).await;
        let mut with_reports = Vec::new();
        let mut reports = Vec::new();
        for context in worker.env.report_queue.with_reports() {
            let Some(run) = core.runs.find(context.id()) else { continue };
            if let Some((progress, lines)) = context.begin_report() {
                reports.push(Report::new(run, progress, lines));
                with_reports.push(context);
            }
        }
        if reports.is_empty() {
            continue;
        }
        let reports = Arc::new(reports);
        // A stale report belongs to a run whose lease is lost, which its renewal reports too.
        let answer = caught(core.call("a report", core.store.report(reports.clone()))).await;
        let stored = matches!(answer, Ok(Ok(_)));
        for (context, report) in with_reports.iter().zip(&*reports) {
            context.reported((!stored).then(|| (report.progress.clone(), report.lines.clone())));
        }
        if let Err(panic) = answer {
            // Recorded here and not by the supervision: the reporting runs wait for the answer above.
            core.health.restarted("the reporter", &panic);
        }
    }
}
