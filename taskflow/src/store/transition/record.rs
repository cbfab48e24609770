//! The state machine on records, for stores that keep a record of each task instead of columns.

use serde_json::value::RawValue;

use super::{Change, ErrorChange, Stage, TaskState, instant, micros};
use crate::model::{AttemptOutcome, TaskRecord, TaskStatus};

impl TaskState {
    /// The state of a task that is kept as a record. The other arguments are not in a record: its greatest fence, its number
    /// of lost runs in a row, and whether it is held.
    #[must_use]
    pub fn of_record(record: &TaskRecord, fence: u64, lost_runs: u32, is_held: bool) -> Self {
        Self {
            stage: match record.status {
                TaskStatus::Pending if is_held => Stage::Held,
                TaskStatus::Pending => Stage::Waiting,
                TaskStatus::Running => Stage::Running,
                status => Stage::Ended(status),
            },
            attempt: record.attempt,
            max_attempts: record.max_attempts,
            fence,
            lost_runs,
            snoozes: record.snoozes,
            cancel_requested: record.cancel_requested,
            has_begun: record.started_at.is_some(),
            run_at: micros(record.run_at),
            expires_at: record.expires_at.map(micros),
        }
    }
}

impl Change<'_> {
    /// Writes this change, made at `now`, to the record of the task. The last of the record's attempts must be the run in
    /// progress, if there is one. The store itself keeps [`next.fence`](TaskState::fence) and
    /// [`next.lost_runs`](TaskState::lost_runs), and ends the lease if the task is now neither running nor held.
    pub fn write_to(&self, record: &mut TaskRecord, now: i64) {
        let next = &self.next;
        if next.stage != Stage::Running {
            let run = record.attempts.pop_if(|attempt| attempt.outcome == AttemptOutcome::Running);
            // A run that is not kept leaves no attempt.
            record.attempts.extend(run.zip(self.ended_run.as_ref()).map(|(mut attempt, ended)| {
                attempt.outcome = ended.outcome;
                attempt.error = ended.error.map(str::to_owned);
                attempt.finished_at = Some(instant(now));
                attempt
            }));
        }
        record.status = next.stage.status();
        record.attempt = next.attempt;
        record.max_attempts = next.max_attempts;
        record.snoozes = next.snoozes;
        record.cancel_requested = next.cancel_requested;
        record.run_at = instant(next.run_at);
        record.expires_at = next.expires_at.map(instant);
        record.finished_at = self.finished_at(now).map(instant);
        match &self.error {
            ErrorChange::Set(error) => record.error = Some(error.as_ref().to_owned()),
            ErrorChange::Clear => record.error = None,
            ErrorChange::Keep => {}
        }
        if let Some(result) = self.result {
            // Every result was written as JSON.
            record.result = RawValue::from_string(result.to_owned()).ok();
        }
        if self.reopens {
            record.progress = None;
        }
    }
}
