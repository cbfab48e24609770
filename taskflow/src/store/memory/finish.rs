//! Finishes of runs, releases of holds, and reports of runs.

use super::state::Tables;
use crate::store::{Finish, Finished, Release, Report, transition};

impl Tables {
    pub(super) fn finish(&mut self, finishes: &[Finish]) -> Vec<Finished> {
        let now = self.now();
        let answers = finishes.iter().map(|finish| self.finish_one(finish, now)).collect();
        self.trim();
        answers
    }

    fn finish_one(&mut self, finish: &Finish, now: i64) -> Finished {
        let task = self.tasks.get_mut(&finish.run.id);
        let state = task.as_ref().map(|task| task.state());
        let decision = transition::finish(state.as_ref(), finish.run.fence, &finish.kind, now);
        if let (Some(task), Some(change)) = (task, decision.change) {
            self.index.remove(task);
            task.append_report(finish.progress.as_ref(), finish.new_lines(task.log_lines()));
            task.apply(&change, now);
            self.index.add(task, now);
        }
        decision.answer
    }

    pub(super) fn release(&mut self, releases: &[Release]) -> Vec<bool> {
        let now = self.now();
        let release_one = |release: &Release| {
            let Release { hold, outcome } = release;
            self.decide(hold.id, now, |_, task| transition::release(task, hold.fence, outcome))
        };
        let answers = releases.iter().map(release_one).collect();
        self.trim();
        answers
    }

    pub(super) fn report(&mut self, reports: &[Report]) -> Vec<bool> {
        reports.iter().map(|report| self.report_one(report)).collect()
    }

    fn report_one(&mut self, report: &Report) -> bool {
        let Some(task) = self.tasks.get_mut(&report.run.id) else { return false };
        if !task.is_running_under(report.run.fence) {
            return false;
        }
        task.append_report(report.progress.as_ref(), report.new_lines(task.log_lines()));
        true
    }
}
