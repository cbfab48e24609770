//! What running tasks say, stored while they run.

use std::sync::Arc;
use std::time::Duration;

use super::runner::Runner;
use crate::store::{Report, Run};
use crate::task::TaskContext;

/// How long what is said may collect before it is stored.
const COLLECT: Duration = Duration::from_millis(200);

/// Stores reports until the process is over.
pub(crate) async fn report(runner: Arc<Runner>) {
    let core = &runner.core;
    loop {
        tokio::select! {
            () = core.over.cancelled() => return,
            () = runner.outbox.spoken() => {}
        }
        tokio::time::sleep(COLLECT).await;
        let mut speakers = Vec::new();
        let mut reports = Vec::new();
        for context in runner.outbox.speakers() {
            let Some(run) = core.runs.find(context.id()) else { continue };
            if let Some(report) = take(&context, run) {
                reports.push(report);
                speakers.push(context);
            }
        }
        if reports.is_empty() {
            continue;
        }
        let reports = Arc::new(reports);
        // A stale report is of a run whose lease is lost, and its renewal says so too.
        if core.call("a report", core.store.report(reports.clone())).await.is_err() {
            for (context, report) in speakers.iter().zip(&*reports) {
                context.unsay(report.progress.clone(), report.lines.clone());
            }
        }
    }
}

fn take(context: &TaskContext, run: Run) -> Option<Report> {
    let (progress, lines) = context.take_said();
    let something = progress.is_some() || !lines.is_empty();
    something.then(|| Report::new(run, progress, lines))
}
