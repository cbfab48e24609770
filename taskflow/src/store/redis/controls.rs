//! What people ask for.

use super::calls::Shared;
use super::script;
use super::state::status_of;
use crate::model::{CancelOutcome, Error, StoreError, TaskId};

impl Shared {
    pub(super) async fn cancel(
        &self,
        ids: &[TaskId],
        reason: &str,
    ) -> Result<Vec<CancelOutcome>, StoreError> {
        let mut call = self.loud(&script::CANCEL);
        call.arg(reason);
        for id in ids {
            call.arg(id.as_bytes());
        }
        let answers = self.tell(&call).await?.bytes()?;
        let outcome = |answer: &u8| match answer {
            b'c' => CancelOutcome::Cancelled,
            b'r' => CancelOutcome::Requested,
            b'e' => CancelOutcome::AlreadyFinished,
            _ => CancelOutcome::NotFound,
        };
        Ok(answers.iter().map(outcome).collect())
    }

    pub(super) async fn retry(&self, ids: &[TaskId]) -> Result<Vec<Result<(), Error>>, StoreError> {
        let mut call = self.loud(&script::RETRY);
        for id in ids {
            call.arg(id.as_bytes());
        }
        let mut answers = self.tell(&call).await?.list()?;
        let mut outcomes = Vec::with_capacity(ids.len());
        for &id in ids {
            let answer = answers.bytes()?;
            outcomes.push(match answer.split_first() {
                Some((b'y', _)) => Ok(()),
                Some((b's', stage)) => {
                    let stage = stage.first().map_or(0, |digit| digit.saturating_sub(b'0'));
                    Err(Error::NotRetryable { id, status: status_of(stage) })
                }
                Some((b'k', holder)) => {
                    let holder = super::answer::id(holder).ok_or_else(|| self.unexpected())?;
                    Err(Error::KeyTaken { id, holder: TaskId::from_bytes(holder) })
                }
                _ => Err(Error::NotFound { id }),
            });
        }
        Ok(outcomes)
    }
}
