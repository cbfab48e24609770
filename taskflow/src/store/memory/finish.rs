//! How runs and holds end, and what runs say before.

use super::state::{State, later, now};
use super::task::{Stage, Task};
use crate::model::{AttemptOutcome, TaskStatus};
use crate::store::{Finish, FinishKind, Finished, Release, Report, Verdict};

impl State {
    pub(super) fn finish(&mut self, finishes: &[Finish]) -> Vec<Finished> {
        let now = now();
        let answers = finishes.iter().map(|finish| self.finish_one(finish, now)).collect();
        self.trim();
        answers
    }

    fn finish_one(&mut self, finish: &Finish, now: i64) -> Finished {
        let Some(task) = self.tasks.get_mut(&finish.run.id) else { return Finished::Stale };
        if !task.is_running_under(finish.run.fence) {
            return match task.was_finished_under(finish.run.fence) {
                true => Finished::Repeated(task.stage.status()),
                false => Finished::Stale,
            };
        }
        self.index.remove(task);
        task.say(finish.progress.as_ref(), &finish.lines);
        end_run(task, &finish.kind, now);
        self.index.add(task, now);
        Finished::Applied(task.stage.status())
    }

    pub(super) fn release(&mut self, releases: &[Release]) -> Vec<bool> {
        let now = now();
        let answers = releases.iter().map(|release| self.release_one(release, now)).collect();
        self.trim();
        answers
    }

    fn release_one(&mut self, release: &Release, now: i64) -> bool {
        let Some(task) = self.tasks.get_mut(&release.hold.id) else { return false };
        if task.fence != release.hold.fence {
            return false;
        }
        if !matches!(task.stage, Stage::Held(_)) {
            return release.was_applied(task.stage.status());
        }
        self.index.remove(task);
        match &release.verdict {
            Verdict::Run => task.stage = Stage::Pending,
            Verdict::Cancel { reason } => task.end(TaskStatus::Cancelled, Some(reason.clone()), now),
        }
        self.index.add(task, now);
        true
    }

    pub(super) fn report(&mut self, reports: &[Report]) -> Vec<bool> {
        reports.iter().map(|report| self.report_one(report)).collect()
    }

    fn report_one(&mut self, report: &Report) -> bool {
        let Some(task) = self.tasks.get_mut(&report.run.id) else { return false };
        if !task.is_running_under(report.run.fence) {
            return false;
        }
        task.say(report.progress.as_ref(), &report.lines);
        true
    }
}

fn end_run(task: &mut Task, kind: &FinishKind, now: i64) {
    task.lost_runs = 0;
    let stop = task.asked_to_stop();
    match kind {
        FinishKind::Success { result } => {
            task.record(AttemptOutcome::Success, None, now);
            task.result = Some(result.clone());
            task.end(TaskStatus::Success, None, now);
        }
        FinishKind::Retry { delay, outcome, error } => {
            task.record(*outcome, Some(error.clone()), now);
            task.rare.error = Some(error.clone());
            task.run_at = later(now, *delay);
            task.stage = Stage::Pending;
        }
        FinishKind::GiveBack { delay, outcome } => {
            if let Some(outcome) = outcome {
                task.record(*outcome, None, now);
                if *outcome == AttemptOutcome::Snoozed {
                    task.rare.snoozes += 1;
                }
            }
            task.attempt -= 1;
            task.run_at = later(now, *delay);
            task.stage = Stage::Pending;
        }
        FinishKind::End { status, outcome, error } => {
            task.record(*outcome, Some(error.clone()), now);
            // An end is an end, whatever word was given for it.
            let status = if status.is_final() { *status } else { TaskStatus::Failed };
            task.end(status, Some(error.clone()), now);
        }
    }
    if stop && matches!(task.stage, Stage::Pending) {
        task.end(TaskStatus::Cancelled, Some("cancelled".to_owned()), now);
    }
}
