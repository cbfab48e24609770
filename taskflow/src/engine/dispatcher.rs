//! The loop that stores the results of runs and claims the next tasks, in one round trip where possible.
//!
//! Results and new runs share a transaction. No timer gathers a batch: while one round trip is in flight, the results for
//! the next one collect and the tasks of the previous one run.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::completion::{complete, count, leave, one_by_one};
use super::panics::caught;
use super::release::Releaser;
use super::run::{Admitted, Ended, permits};
use super::slots::{ClaimBudget, Permit};
use super::store_backoff::{Backoff, jittered};
use super::supervision::Restarts;
use super::worker::Worker;
use crate::model::{StoreError, StoreErrorKind};
use crate::seam::Instant;
use crate::store::{Claim, ClaimQueues, Claimed, Claims, Finish, Finished};

/// About how often the dispatcher tries to claim without a hint.
const POLL: Duration = Duration::from_secs(1);

/// The most results stored in one round trip.
const MAX_BATCH: usize = 1000;

/// Dispatches until the process stops and all its runs have ended. If the store supports it, the turns (round trips) of the
/// dispatcher also write the releases of held tasks. From this call on, even before the future is polled, releases wait for
/// a turn.
pub(crate) fn dispatch(worker: Arc<Worker>, releaser: Arc<Releaser>) -> impl Future<Output = ()> + Send {
    let core = worker.core.clone();
    releaser.use_turns(core.store.capabilities().releases_in_turns);
    let mut dispatcher = Dispatcher {
        worker,
        releaser,
        batch: Vec::new(),
        starting: Vec::new(),
        under_way: None,
        most_claimed: usize::MAX,
    };
    async move {
        let mut restarts = Restarts::new(&core);
        while let Err(panic) = caught(dispatcher.run()).await {
            dispatcher.restore();
            restarts.after(&core, "the dispatcher", &panic).await;
            dispatcher.worker.may_have_work();
        }
        dispatcher.releaser.use_turns(false);
    }
}

struct Dispatcher {
    worker: Arc<Worker>,
    /// Supplies the releases that a turn writes.
    releaser: Arc<Releaser>,
    /// Results that are not stored yet.
    batch: Vec<Ended>,
    /// Claimed tasks, each with its slot. They start at once, or, if results wait to be stored, when the round trip with those
    /// results is in flight, so that it does not wait for the tasks.
    starting: Vec<(Admitted, Permit)>,
    /// The results of the round trip in flight, and whether that round trip has reserved capacity for a claim.
    under_way: Option<(Arc<Vec<Finish>>, bool)>,
    /// The most tasks of one claim. When the store is full this becomes 1, since one task with long arguments may fit where
    /// many do not; each success doubles it.
    most_claimed: usize,
}

impl Dispatcher {
    async fn run(&mut self) {
        let worker = self.worker.clone();
        let seam = &worker.core.seam;
        let mut due: Option<Instant> = None;
        let mut poll = seam.instant() + jittered(POLL);
        let mut backoff = Backoff::new();
        while !(worker.is_stopping() && self.batch.is_empty() && worker.is_idle()) {
            let look_at = due.map_or(poll, |due| due.min(poll));
            let exact = [due, worker.slots.give_back_at()].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = worker.woken() => {}
                () = seam.sleep_or_pause(exact, poll) => {}
            }
            if look_at <= seam.instant() {
                worker.remember_work();
                due = None;
                poll = seam.instant() + jittered(POLL);
            }
            worker.give_back_waiting(false);
            if self.starting.is_empty() {
                // Tasks that the last round started and that finish at once join this batch.
                seam.yield_now().await;
            }
            worker.take_ended(&mut self.batch, MAX_BATCH);
            let answer = self.turn().await;
            if answer.is_err() || !worker.has_ended() {
                self.start();
            }
            match answer {
                Ok(next_due) => {
                    self.most_claimed = self.most_claimed.saturating_mul(2);
                    backoff = Backoff::new();
                    let next = next_due.map(|due| seam.in_time(due));
                    due = [due, next].into_iter().flatten().min();
                }
                Err(error) => {
                    let is_full = error.kind() == StoreErrorKind::Full;
                    if is_full {
                        self.most_claimed = 1;
                    }
                    if is_full || error.is_about_one_row() {
                        let _announcing = worker.core.events.announcing();
                        one_by_one(&worker, &mut self.batch).await;
                    }
                    // The results are kept and retried; more of them collect meanwhile.
                    seam.sleep(backoff.delay()).await;
                    worker.may_have_work();
                }
            }
        }
    }

    /// Runs one round: stores the batch, claims as many tasks as there is room for, and admits them. Returns the time until
    /// the next task is due. After an error the state is as before the round.
    async fn turn(&mut self) -> Result<Option<Duration>, StoreError> {
        let worker = self.worker.clone();
        let _announcing = worker.core.events.announcing();
        let mut lost: Vec<Ended> = self.batch.extract_if(.., |ended| ended.finish.is_none()).collect();
        leave(&worker, &mut lost);
        if !lost.is_empty() || worker.slots.any_scarce(self.batch.iter().map(|ended| &ended.permit)) {
            worker.remember_work();
        }
        let wants_work = worker.take_work();
        if !wants_work {
            self.releaser.without_a_turn();
            if self.batch.is_empty() {
                return Ok(None);
            }
        }
        let finishes =
            Arc::new(self.batch.iter_mut().filter_map(|ended| ended.finish.take()).collect::<Vec<_>>());
        self.under_way = Some((finishes.clone(), wants_work));
        let answer = if wants_work {
            self.write_and_claim(&finishes).await
        } else {
            self.write(&finishes).await.map(|finished| {
                count(&worker, &self.batch, &finishes, &finished);
                leave(&worker, &mut self.batch);
                (finished, None)
            })
        };
        self.under_way = None;
        match answer {
            Ok((finished, next_due)) => {
                // Taken first: these results are stored, even if the code below panics.
                let batch = std::mem::take(&mut self.batch);
                let next_retry = complete(&worker, &batch, &finishes, &finished);
                Ok([next_retry, next_due].into_iter().flatten().min())
            }
            Err(error) => {
                let finishes = Arc::try_unwrap(finishes).unwrap_or_else(|shared| (*shared).clone());
                for (ended, finish) in self.batch.iter_mut().zip(finishes) {
                    ended.finish = Some(finish);
                }
                Err(error)
            }
        }
    }

    /// After a panic within a round, restores the state from before that round.
    fn restore(&mut self) {
        self.releaser.without_a_turn();
        let Some((finishes, claimed)) = self.under_way.take() else { return };
        if claimed {
            self.worker.slots.undo(permits(&mut self.batch));
        }
        for (ended, finish) in self.batch.iter_mut().zip(&*finishes) {
            ended.finish = Some(finish.clone());
        }
    }

    async fn write(&mut self, finishes: &Arc<Vec<Finish>>) -> Result<Vec<Finished>, StoreError> {
        let core = self.worker.core.clone();
        self.under_way(core.call("a finish", core.store.finish(finishes.clone()))).await
    }

    async fn write_and_claim(&mut self, finishes: &Arc<Vec<Finish>>) -> Result<Round, StoreError> {
        let worker = self.worker.clone();
        let budget = worker.slots.budget(permits(&mut self.batch)).at_most(self.most_claimed);
        let (core, store) = (&worker.core, &worker.core.store);
        let asked = core.seam.instant();
        let ask = Ask::first(&worker, &budget);
        if ask.is_none() {
            self.releaser.without_a_turn();
        }
        let releases = ask.as_ref().and_then(|_| self.releaser.for_a_turn());
        let answer = match ask {
            None if finishes.is_empty() => Ok((Vec::new(), None)),
            None => self.write(finishes).await.map(|finished| (finished, None)),
            Some(ask) if let Some(releases) = releases => {
                let claim = ask.claim(&worker, &budget.queues);
                let turn = store.release_and_turn(releases.clone(), finishes.clone(), claim);
                let answer = self.under_way(core.call("a turn", turn)).await;
                match answer {
                    Ok((released, finished, claims)) => {
                        self.releaser.written(&releases, &released);
                        Ok((finished, Some((ask, claims))))
                    }
                    Err(error) => {
                        self.releaser.without_a_turn();
                        Err(error)
                    }
                }
            }
            Some(ask) if finishes.is_empty() => {
                let claim = core.call("a claim", store.claim(ask.claim(&worker, &budget.queues)));
                self.under_way(claim).await.map(|claims| (Vec::new(), Some((ask, claims))))
            }
            Some(ask) => {
                let turn =
                    core.call("a turn", store.turn(finishes.clone(), ask.claim(&worker, &budget.queues)));
                self.under_way(turn).await.map(|(finished, claims)| (finished, Some((ask, claims))))
            }
        };
        match answer {
            Ok((finished, claims)) => {
                count(&worker, &self.batch, finishes, &finished);
                worker.core.runs.end(finishes.iter().map(|finish| finish.run));
                let next_due = match claims {
                    Some((ask, claims)) => self.take(&budget, ask, (claims, asked)).await,
                    None => {
                        worker.remember_work();
                        self.answered(&budget, 0, false);
                        None
                    }
                };
                Ok((finished, next_due))
            }
            Err(error) => {
                worker.slots.undo(permits(&mut self.batch));
                worker.remember_work();
                // No claim is in flight any more; a shutdown may wait for that.
                worker.core.runs.notify_waiters();
                Err(error)
            }
        }
    }

    /// Waits for a round trip, and starts the claimed tasks once it is in flight.
    async fn under_way<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        let answer = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        self.start();
        match answer {
            Poll::Ready(answer) => answer,
            Poll::Pending => call.await,
        }
    }

    /// Admits the tasks of a claim that was sent at `asked`. If the claim was limited to the free threads and brought that
    /// many tasks, claims the rest too. Returns the time until the next task is due.
    async fn take(
        &mut self,
        budget: &ClaimBudget,
        ask: Ask,
        (claims, asked): (Claims, Instant),
    ) -> Option<Duration> {
        let worker = self.worker.clone();
        let (next_due, mut taken, mut needs_slot) = (claims.next_due, claims.tasks.len(), claims.needs_slot);
        if taken == ask.limit {
            // The claim stopped at its limit, so more tasks may be due.
            worker.may_have_work();
        } else if needs_slot {
            // The run that frees a slot wakes the dispatcher.
            worker.remember_work();
        }
        let rest = (taken == ask.limit).then(|| ask.rest(budget)).flatten();
        let rest = rest.map(|rest| {
            let mut queues = budget.queues.clone();
            for task in &claims.tasks {
                queues.take(&task.queue);
            }
            rest.claim(&worker, &queues)
        });
        self.admit(claims.tasks, asked);
        if let Some(rest) = rest {
            let asked = worker.core.seam.instant();
            // The tasks of the first part start meanwhile.
            match self.under_way(worker.core.call("a claim", worker.core.store.claim(rest))).await {
                Ok(more) => {
                    taken += more.tasks.len();
                    needs_slot = more.needs_slot;
                    self.admit(more.tasks, asked);
                }
                // `may_have_work` above makes the dispatcher try again.
                Err(error) => tracing::debug!(%error, "the second part of a claim failed"),
            }
        }
        self.answered(budget, taken, needs_slot);
        next_due
    }

    /// Gives slots to claimed tasks while slots are free; the rest wait for the next free slot.
    fn admit(&mut self, claimed: Vec<Claimed>, asked: Instant) {
        let admitted = self.worker.admit(claimed, asked);
        self.starting.extend(self.worker.slots.admit(admitted, Admitted::kind));
    }

    fn answered(&self, budget: &ClaimBudget, taken: usize, needs_slot: bool) {
        let worker = &self.worker;
        worker.slots.answered(budget, taken, needs_slot);
        if worker.slots.were_recalled() || worker.is_stopping() {
            worker.give_back_waiting(true);
        }
        if worker.is_stopping() {
            worker.core.runs.notify_waiters();
        }
    }

    fn start(&mut self) {
        for (task, permit) in self.starting.drain(..) {
            self.worker.start(task, permit);
        }
    }
}

/// The answer of a round that claims: the outcome of each finish, and the time until the next task is due.
type Round = (Vec<Finished>, Option<Duration>);

/// The size of one claim. With fewer threads than slots, synchronous tasks could fill more slots than there are threads.
/// So the first claim asks for tasks of both kinds up to the free threads, and a second one for async tasks only. While no
/// thread is free, there is one claim, for async tasks only.
struct Ask {
    limit: usize,
    prefetch: usize,
    with_blocking: bool,
}

impl Ask {
    fn first(worker: &Worker, budget: &ClaimBudget) -> Option<Self> {
        let ClaimBudget { limit, prefetch, threads, .. } = *budget;
        if limit == 0 || !budget.queues.have_room() {
            return None;
        }
        let scarce = worker.names.has_blocking && threads < limit;
        Some(match threads {
            _ if !scarce => Self { limit, prefetch, with_blocking: true },
            0 => Self { limit, prefetch, with_blocking: false },
            threads => {
                let prefetch = threads.saturating_sub(budget.slots());
                Self { limit: threads, prefetch, with_blocking: true }
            }
        })
    }

    /// The second claim, for the rest of the budget, after this claim has brought as many tasks as it asked for.
    fn rest(&self, budget: &ClaimBudget) -> Option<Self> {
        let limit = budget.limit - self.limit;
        let prefetch = budget.prefetch - self.prefetch;
        (limit > 0).then_some(Self { limit, prefetch, with_blocking: false })
    }

    fn claim(&self, worker: &Worker, queues: &ClaimQueues) -> Claim {
        let names = if self.with_blocking { &worker.names.all } else { &worker.names.asynchronous };
        let core = &worker.core;
        let (instance, lease) = (core.instance.id, core.settings.lease);
        let mut claim = Claim::of(instance, lease, names.clone(), queues.clone(), self.limit);
        claim.prefetch = self.prefetch;
        claim
    }
}
