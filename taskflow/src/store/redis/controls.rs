//! Operator calls (cancel, retry), and the release of holds.

use std::collections::HashMap;

use super::answer::Answer;
use super::apply::{self, Offer, Only, Rows, offers};
use super::damage::Damaged;
use super::executor::Shared;
use super::packed_row::PackedRow;
use super::script::{self, Call};
use crate::model::{CancelOutcome, Error, StoreError, StoreErrorKind, TaskId};
use crate::store::hint_set::HintSet;
use crate::store::{Release, Reopen, transition};

/// How often a retry is decided anew because other calls change the same tasks at the same time.
const ROUNDS: usize = 16;

impl Shared {
    /// Applies changes and notifies. Answers with the rows as they were before.
    async fn apply(&self, call: &Call) -> Result<Vec<apply::Row>, StoreError> {
        apply::unpack(self.call_and_notify(call).await?.list()?)
    }

    pub(super) async fn cancel(
        &self,
        ids: &[TaskId],
        reason: &str,
    ) -> Result<Vec<CancelOutcome>, StoreError> {
        let mut call = self.notifying(&script::APPLY, HintSet::ALL);
        let offers = offers(0, Only::Anything, |task| transition::cancel(Some(task), reason).change);
        apply::pack(&mut call, &offers, &Rows::Of(ids));
        let rows = self.apply(&call).await?;
        Ok(rows.iter().map(|row| transition::cancel(row.before.as_ref(), reason).answer).collect())
    }

    pub(super) async fn cancel_by_run_key(&self, run_key: &str) -> Result<Vec<TaskId>, StoreError> {
        let mut call = self.notifying(&script::APPLY, HintSet::ALL);
        let offers = offers(0, Only::First, |task| transition::cancel_by_run_key(Some(task)).change);
        apply::pack(&mut call, &offers, &Rows::WithRunKey(run_key));
        let rows = self.apply(&call).await?;
        Ok(rows.iter().filter(|row| row.is_applied).map(|row| row.id).collect())
    }

    pub(super) async fn release(&self, releases: &[Release]) -> Result<Vec<bool>, StoreError> {
        let mut call = self.notifying(&script::APPLY, HintSet::ALL);
        for alike in releases.chunk_by(|one, next| one.outcome == next.outcome) {
            let holds: Vec<_> = alike.iter().map(|release| (release.hold.id, release.hold.fence)).collect();
            let (_, fence) = holds[0];
            let outcome = &alike[0].outcome;
            let rule = |task: &_| transition::release(Some(task), fence, outcome).change;
            apply::pack(&mut call, &offers(fence, Only::Anything, rule), &Rows::Under(&holds));
        }
        let rows = self.apply(&call).await?;
        let was_released = |(row, release): (&apply::Row, &Release)| {
            transition::release(row.before.as_ref(), release.hold.fence, &release.outcome).answer
        };
        Ok(rows.iter().zip(releases).map(was_released).collect())
    }

    pub(super) async fn retry(&self, tasks: &[Reopen]) -> Result<Retried, StoreError> {
        for _ in 0..ROUNDS {
            let mut read = self.silent(&script::ROWS);
            for task in tasks {
                read.arg(task.id.as_bytes());
            }
            let mut call = self.notifying(&script::APPLY, HintSet::ALL);
            let (answers, damaged) = decide_retries(&mut call, tasks, self.ask(&read).await?)?;
            if !damaged.is_empty() {
                self.fail_damaged(&damaged).await?;
                continue;
            }
            // If one of them has changed meanwhile, the script has done nothing and answers nil.
            if !answers.iter().any(Result::is_ok)
                || self.call_and_notify(&call).await?.value != redis::Value::Nil
            {
                return Ok(answers);
            }
        }
        let message = format!(
            "`{}`: other calls keep changing the same tasks; nothing was done, try again",
            self.connections.location
        );
        Err(StoreError::new(StoreErrorKind::Unavailable, message))
    }
}

/// For each task, whether it is reopened, or why not.
type Retried = Vec<Result<(), Error>>;

/// Decides from the answer of `rows_main.lua` which of these tasks are reopened, and adds the arguments for it.
/// Answers also which of them cannot be read.
fn decide_retries(
    call: &mut Call,
    tasks: &[Reopen],
    answer: Answer<'_>,
) -> Result<(Retried, Vec<Damaged>), StoreError> {
    let mut rows = answer.list()?;
    let now = rows.number()?;
    let (mut answers, mut damaged) = (Vec::with_capacity(tasks.len()), Vec::new());
    // The tasks that this call reopens, and the keys they take.
    let (mut reopened, mut taken) = (HashMap::new(), HashMap::new());
    for &Reopen { id, delay } in tasks {
        let (bytes, key, holder) = (rows.option()?, rows.option()?, rows.option()?);
        let state = bytes.as_deref().map(PackedRow::unpack);
        if let Some(None) = state {
            damaged.push(Damaged::of(id, None));
            continue;
        }
        let state = state.flatten();
        let read = state.as_ref().map(PackedRow::task);
        let task = reopened.get(&id).or(read.as_ref());
        let holder = holder.and_then(|holder| super::answer::id(&holder)).map(TaskId::from_bytes);
        let holder = holder.or_else(|| taken.get(key.as_ref()?).copied());
        let attempts = state.as_ref().map_or(0, |state| state.tries);
        let decision = transition::retry(id, task, attempts, holder, delay, now);
        if let (Some(&from), Some(change)) = (task, decision.change) {
            let (fence, next) = (from.fence, change.next);
            let offer = Offer { from, change, only: Only::Anything };
            apply::pack(call, &[offer], &Rows::Strictly(&[(id, fence)]));
            reopened.insert(id, next);
            taken.extend(key.map(|key| (key, id)));
        }
        answers.push(decision.answer);
    }
    Ok((answers, damaged))
}
