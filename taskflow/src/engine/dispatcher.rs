//! The loop that writes how runs ended and claims the next, in one round trip where it can.
//!
//! What ends and what begins share a transaction. Nothing is timed to gather a batch: while one round trip is under way the
//! next one's ends collect, and what the one before brought runs.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::{Backoff, in_time, jittered};
use super::completion::{complete, count, leave, one_by_one};
use super::panics::caught;
use super::run::{Admitted, Ended, permits};
use super::slots::{ClaimBudget, Permit};
use super::supervision::Restarts;
use super::worker::Worker;
use crate::model::StoreError;
use crate::store::{Claim, ClaimQueue, Claimed, Claims, Finish, Finished};

/// No claim is further away than this, whatever hints are missed.
const POLL: Duration = Duration::from_secs(1);

/// The most ends written in one round trip.
const MAX_BATCH: usize = 1000;

/// Runs until the process stops and everything that ran here has ended.
pub(crate) async fn dispatch(worker: Arc<Worker>) {
    let core = worker.core.clone();
    let mut dispatcher = Dispatcher { worker, batch: Vec::new(), starting: Vec::new(), under_way: None };
    let mut restarts = Restarts::new();
    while let Err(panic) = caught(dispatcher.run()).await {
        dispatcher.restore();
        restarts.after(&core, "the dispatcher", &panic).await;
        dispatcher.worker.may_have_work();
    }
}

struct Dispatcher {
    worker: Arc<Worker>,
    /// Ends that are to be written.
    batch: Vec<Ended>,
    /// Claimed, each with its slot. They start when the next round trip is under way, so that it need not wait for that.
    starting: Vec<(Admitted, Permit)>,
    /// The ends that a round trip took from the batch and has not been answered for, and whether it made room for a claim.
    under_way: Option<(Arc<Vec<Finish>>, bool)>,
}

impl Dispatcher {
    async fn run(&mut self) {
        let worker = self.worker.clone();
        let mut due: Option<Instant> = None;
        let mut poll = Instant::now() + jittered(POLL);
        let mut backoff = Backoff::new();
        while !(worker.is_stopping() && self.batch.is_empty() && worker.is_idle()) {
            let look = due.map_or(poll, |due| due.min(poll));
            let impatient = worker.slots.impatient_at();
            tokio::select! {
                biased;
                () = worker.woken() => {}
                () = tokio::time::sleep_until(impatient.map_or(look, |at| at.min(look))) => {}
            }
            if look <= Instant::now() {
                worker.remember_work();
                due = None;
                poll = Instant::now() + jittered(POLL);
            }
            worker.give_back_waiting(false);
            if self.starting.is_empty() {
                // Whatever was started in the last round and is done at once joins this one.
                tokio::task::yield_now().await;
            }
            worker.take_ended(&mut self.batch, MAX_BATCH);
            let answer = self.turn().await;
            if answer.is_err() || !worker.has_ended() {
                self.start();
            }
            match answer {
                Ok(next_due) => {
                    backoff = Backoff::new();
                    let next = next_due.map(in_time);
                    due = [due, next].into_iter().flatten().min();
                }
                Err(error) => {
                    if error.is_about_one_row() {
                        one_by_one(&worker, &mut self.batch).await;
                    }
                    // Outcomes are kept and tried again; meanwhile more of them collect.
                    tokio::time::sleep(backoff.delay()).await;
                    worker.may_have_work();
                }
            }
        }
    }

    /// One round: writes the batch, claims what there is room for, starts it. Answers when the next task is due. After an
    /// error everything is as before.
    async fn turn(&mut self) -> Result<Option<Duration>, StoreError> {
        let worker = self.worker.clone();
        let mut lost: Vec<Ended> = self.batch.extract_if(.., |ended| ended.finish.is_none()).collect();
        leave(&worker, &mut lost);
        if !lost.is_empty() || worker.slots.any_scarce(self.batch.iter().map(|ended| &ended.permit)) {
            worker.remember_work();
        }
        let wants_work = worker.take_work();
        if self.batch.is_empty() && !wants_work {
            return Ok(None);
        }
        let finishes =
            Arc::new(self.batch.iter_mut().filter_map(|ended| ended.finish.take()).collect::<Vec<_>>());
        self.under_way = Some((finishes.clone(), wants_work));
        let answer = if wants_work {
            self.write_and_claim(&finishes).await
        } else {
            self.write(&finishes).await.map(|finished| {
                count(&worker, &finishes, &finished);
                leave(&worker, &mut self.batch);
                (finished, None)
            })
        };
        self.under_way = None;
        match answer {
            Ok((finished, next_due)) => {
                // Taken first: these ends are durable, whatever a panic in what follows does.
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

    /// After a panic in the middle of a round: everything is as before it.
    fn restore(&mut self) {
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
        let budget = worker.slots.budget(permits(&mut self.batch));
        let (core, store) = (&worker.core, &worker.core.store);
        let answer = match Ask::first(&worker, &budget) {
            None if finishes.is_empty() => Ok((Vec::new(), None)),
            None => self.write(finishes).await.map(|finished| (finished, None)),
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
                count(&worker, finishes, &finished);
                worker.core.runs.end(finishes.iter().map(|finish| finish.run));
                let next_due = match claims {
                    Some((ask, claims)) => self.take(&budget, ask, claims).await,
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
                // No claim is under way any more, for which a shutdown may wait.
                worker.core.runs.notify_waiters();
                Err(error)
            }
        }
    }

    /// Waits for a round trip, and starts what is to start once it is under way.
    async fn under_way<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        let answer = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        self.start();
        match answer {
            Poll::Ready(answer) => answer,
            Poll::Pending => call.await,
        }
    }

    /// Takes what a claim has brought, and claims the rest if the first part was only as much as there are threads. Answers
    /// when the next task is due.
    async fn take(&mut self, budget: &ClaimBudget, ask: Ask, claims: Claims) -> Option<Duration> {
        let worker = self.worker.clone();
        let (next_due, mut taken, mut needs_slot) = (claims.next_due, claims.tasks.len(), claims.needs_slot);
        if taken == ask.limit {
            // It ended for the limit, and not because there was nothing more.
            worker.may_have_work();
        } else if needs_slot {
            // Whoever frees a slot wakes us.
            worker.remember_work();
        }
        let rest = (taken == ask.limit).then(|| ask.rest(budget)).flatten();
        let rest = rest.map(|rest| {
            let mut queues = budget.queues.clone();
            for queue in &mut queues {
                queue.limit -= claims.tasks.iter().filter(|task| task.queue == queue.name).count();
            }
            queues.retain(|queue| queue.limit > 0);
            rest.claim(&worker, &queues)
        });
        self.admit(claims.tasks);
        if let Some(rest) = rest {
            // What came first begins meanwhile.
            match self.under_way(worker.core.call("a claim", worker.core.store.claim(rest))).await {
                Ok(more) => {
                    taken += more.tasks.len();
                    needs_slot = more.needs_slot;
                    self.admit(more.tasks);
                }
                // The note above brings us back for it.
                Err(error) => tracing::debug!(%error, "the second part of a claim failed"),
            }
        }
        self.answered(budget, taken, needs_slot);
        next_due
    }

    /// What was claimed gets slots as far as they are free; the rest waits for the next.
    fn admit(&mut self, claimed: Vec<Claimed>) {
        let admitted = self.worker.admit(claimed);
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

/// What a round that claims answers: what became of the ends, and when the next task is due.
type Round = (Vec<Finished>, Option<Duration>);

/// What is asked for. With fewer threads than slots, synchronous tasks could fill more slots than can be started: then
/// everything is asked for up to the free threads, and async tasks alone for the rest.
struct Ask {
    limit: usize,
    prefetch: usize,
    with_blocking: bool,
}

impl Ask {
    fn first(worker: &Worker, budget: &ClaimBudget) -> Option<Self> {
        let ClaimBudget { limit, prefetch, threads, .. } = *budget;
        if limit == 0 || budget.queues.is_empty() {
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

    /// What is left to ask for when this was answered in full.
    fn rest(&self, budget: &ClaimBudget) -> Option<Self> {
        let limit = budget.limit - self.limit;
        let prefetch = budget.prefetch - self.prefetch;
        (limit > 0).then_some(Self { limit, prefetch, with_blocking: false })
    }

    fn claim(&self, worker: &Worker, queues: &[ClaimQueue]) -> Claim {
        let names = if self.with_blocking { &worker.names.all } else { &worker.names.asynchronous };
        let core = &worker.core;
        let (instance, lease) = (core.instance.id, core.settings.lease);
        let mut claim = Claim::new(instance, lease, names.clone(), Vec::new(), self.limit);
        claim.queues = queues.to_vec();
        claim.prefetch = self.prefetch;
        claim.limits = core.queues.shared();
        claim
    }
}
