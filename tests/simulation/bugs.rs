//! A store with one planted bug, to show that the oracle sees it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use taskflow::model::{AttemptOutcome, InstanceId};
use taskflow::store::{
    Claim, Claimed, Claims, Finish, FinishKind, Finished, Fire, Fired, InsertBatch, Inserted, Recovered,
    Refusal, Release, ReleasedTurn, Renewal, Renewed, Reopen, StoreFuture, StoreLayer,
};
use taskflow::{CancelOutcome, Store, TaskFilter, TaskId, TaskStatus};

/// The planted bugs.
pub(crate) const BUGS: [Bug; 15] = [
    Bug::LosesAdds,
    Bug::AddsTwice,
    Bug::ClaimsTwice,
    Bug::ForgetsAClaim,
    Bug::ForgetsFinishes,
    Bug::NeverRecovers,
    Bug::RunsTheInterruptedAgain,
    Bug::NeverRetries,
    Bug::RetriesForEver,
    Bug::KeepsAnotherResult,
    Bug::CancelsAnother,
    Bug::LosesTicks,
    Bug::RenewsNothing,
    Bug::IgnoresKeys,
    Bug::CancelsNothing,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// An add is accepted, and its task is gone.
    LosesAdds,
    /// An add stores two tasks.
    AddsTwice,
    /// A claimed task is claimed again while it runs.
    ClaimsTwice,
    /// A task is claimed, and nobody gets it.
    ForgetsAClaim,
    /// The end of a run is confirmed, and not written.
    ForgetsFinishes,
    /// Lost runs stay lost.
    NeverRecovers,
    /// A task that may not run twice runs again after a lost run.
    RunsTheInterruptedAgain,
    /// A failure with attempts left is final.
    NeverRetries,
    /// A failure without attempts left is retried.
    RetriesForEver,
    /// A success has the result of another task.
    KeepsAnotherResult,
    /// A cancel takes another task too.
    CancelsAnother,
    /// A tick is fired without its task.
    LosesTicks,
    /// A renewal renews no lease.
    RenewsNothing,
    /// Two adds of one idempotency key are two tasks.
    IgnoresKeys,
    /// A cancel is confirmed, and not done.
    CancelsNothing,
}

pub(crate) struct Buggy {
    inner: Arc<dyn Store>,
    bug: Bug,
    calls: AtomicU64,
    last: Mutex<Option<Claimed>>,
}

impl Buggy {
    pub(crate) fn new(inner: Arc<dyn Store>, bug: Bug) -> Self {
        Self { inner, bug, calls: AtomicU64::new(0), last: Mutex::new(None) }
    }

    /// Whether the bug shows in this call: in every third.
    fn shows(&self, bug: Bug) -> bool {
        self.bug == bug && self.calls.fetch_add(1, Ordering::Relaxed) % 3 == 2
    }

    fn claimed(&self, claims: &mut Claims) {
        if self.bug == Bug::ClaimsTwice {
            let mut last = self.last.lock().unwrap();
            let again = last.take();
            *last = claims.tasks.first().cloned();
            claims.tasks.extend(again);
        }
        if !claims.tasks.is_empty() && self.shows(Bug::ForgetsAClaim) {
            claims.tasks.pop();
        }
    }

    fn finishes(&self, finishes: &[Finish]) -> Arc<Vec<Finish>> {
        let mut changed = finishes.to_vec();
        for finish in &mut changed {
            let kind = match &finish.kind {
                FinishKind::Retry { outcome, error, .. } if self.bug == Bug::NeverRetries => {
                    FinishKind::End { status: TaskStatus::Failed, outcome: *outcome, error: error.clone() }
                }
                FinishKind::End { outcome: AttemptOutcome::Failed, error, .. }
                    if self.bug == Bug::RetriesForEver =>
                {
                    let delay = std::time::Duration::from_secs(1);
                    FinishKind::Retry { delay, outcome: AttemptOutcome::Failed, error: error.clone() }
                }
                FinishKind::Success { .. } if self.shows(Bug::KeepsAnotherResult) => {
                    FinishKind::Success { result: "4711".into() }
                }
                _ => continue,
            };
            finish.kind = kind;
        }
        Arc::new(changed)
    }

    async fn finish_all(
        &self,
        finishes: Arc<Vec<Finish>>,
    ) -> Result<Vec<Finished>, taskflow::model::StoreError> {
        if !finishes.is_empty() && self.shows(Bug::ForgetsFinishes) {
            return Ok(finishes.iter().map(|_| Finished::Applied(TaskStatus::Success)).collect());
        }
        self.inner.finish(self.finishes(&finishes)).await
    }
}

impl fmt::Debug for Buggy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Buggy").field(&self.bug).finish()
    }
}

impl StoreLayer for Buggy {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn insert(&self, batch: Arc<InsertBatch>) -> StoreFuture<'_, Vec<Result<Vec<Inserted>, Refusal>>> {
        Box::pin(async move {
            let batch = match self.bug {
                Bug::IgnoresKeys => {
                    let mut without = (*batch).clone();
                    let tasks = without.groups.iter_mut().flat_map(|group| &mut group.tasks);
                    tasks.for_each(|insert| insert.task.idempotency_key = None);
                    Arc::new(without)
                }
                _ => batch,
            };
            if self.shows(Bug::AddsTwice) {
                let mut twin = (*batch).clone();
                let tasks = twin.groups.iter_mut().flat_map(|group| &mut group.tasks);
                tasks.for_each(|insert| insert.task.id = TaskId::new());
                self.inner.insert(Arc::new(twin)).await?;
            }
            let answers = self.inner.insert(batch).await?;
            if self.shows(Bug::LosesAdds) {
                let ids = answers.iter().flatten().flatten().map(|inserted| inserted.id).collect::<Vec<_>>();
                self.inner.cancel(ids.clone(), "lost".into()).await?;
                self.inner.delete(ids).await?;
            }
            Ok(answers)
        })
    }

    fn claim(&self, claim: Claim) -> StoreFuture<'_, Claims> {
        Box::pin(async move {
            let mut claims = self.inner.claim(claim).await?;
            self.claimed(&mut claims);
            Ok(claims)
        })
    }

    fn finish(&self, finishes: Arc<Vec<Finish>>) -> StoreFuture<'_, Vec<Finished>> {
        Box::pin(self.finish_all(finishes))
    }

    fn turn(&self, finishes: Arc<Vec<Finish>>, claim: Claim) -> StoreFuture<'_, (Vec<Finished>, Claims)> {
        Box::pin(async move {
            let finished = self.finish_all(finishes).await?;
            Ok((finished, StoreLayer::claim(self, claim).await?))
        })
    }

    fn release_and_turn(
        &self,
        releases: Arc<Vec<Release>>,
        finishes: Arc<Vec<Finish>>,
        claim: Claim,
    ) -> StoreFuture<'_, ReleasedTurn> {
        Box::pin(async move {
            let released = StoreLayer::release(self, releases).await?;
            let (finished, claims) = StoreLayer::turn(self, finishes, claim).await?;
            Ok((released, finished, claims))
        })
    }

    fn renew(&self, mut renewal: Renewal) -> StoreFuture<'_, Renewed> {
        if self.bug == Bug::RenewsNothing {
            renewal.runs.clear();
        }
        self.inner.renew(renewal)
    }

    fn recover(&self, by: InstanceId) -> StoreFuture<'_, Vec<Recovered>> {
        Box::pin(async move {
            if self.bug == Bug::NeverRecovers {
                return Ok(Vec::new());
            }
            let recovered = self.inner.recover(by).await?;
            if self.bug == Bug::RunsTheInterruptedAgain {
                let interrupted = recovered.iter().filter(|it| it.status == TaskStatus::Interrupted);
                self.inner.retry(Reopen::at_once(interrupted.map(|it| it.id))).await?;
            }
            Ok(recovered)
        })
    }

    fn cancel(&self, mut ids: Vec<TaskId>, reason: String) -> StoreFuture<'_, Vec<CancelOutcome>> {
        Box::pin(async move {
            let asked = ids.len();
            if self.bug == Bug::CancelsNothing {
                return Ok(vec![CancelOutcome::Cancelled; asked]);
            }
            if self.bug == Bug::CancelsAnother {
                let pending = self.inner.list(TaskFilter::new().status(TaskStatus::Pending)).await?;
                ids.extend(pending.items.iter().map(|task| task.id).find(|id| !ids.contains(id)));
            }
            let mut outcomes = self.inner.cancel(ids, reason).await?;
            outcomes.truncate(asked);
            Ok(outcomes)
        })
    }

    fn fire(&self, mut fire: Fire) -> StoreFuture<'_, Fired> {
        if self.bug == Bug::LosesTicks {
            fire.batch = None;
        }
        self.inner.fire(fire)
    }
}
