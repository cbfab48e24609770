//! The loop that writes how runs ended and claims the next, in one round trip where it can.
//!
//! A slot is free only after the end of its run is durable; what ends and what begins share a transaction, so a full
//! process keeps its slots busy at one round trip a batch. Nothing is timed to gather a batch: while one round trip is
//! under way the next one's ends collect.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::execution::Admitted;
use super::pause::{Backoff, in_time, jittered};
use super::runner::{Ended, Runner};
use super::settle::{count, is_about_one_row, leave, one_by_one, settle};
use super::slots::{Room, Seat};
use crate::model::StoreError;
use crate::store::{Claim, Claims, Finish, Finished};

/// No claim is further away than this, whatever hints are missed.
const POLL: Duration = Duration::from_secs(1);

/// The most ends written in one round trip.
const MAX_BATCH: usize = 1000;

/// Runs until the process stops and everything that ran here has ended.
pub(crate) async fn dispatch(runner: Arc<Runner>) {
    let mut batch: Vec<Ended> = Vec::new();
    let mut due: Option<Instant> = None;
    let mut poll = Instant::now() + jittered(POLL);
    let mut backoff = Backoff::new();
    while !(runner.is_stopping() && batch.is_empty() && runner.is_idle()) {
        let look = due.map_or(poll, |due| due.min(poll));
        let impatient = runner.slots.impatient_at();
        tokio::select! {
            biased;
            () = runner.woken() => {}
            () = tokio::time::sleep_until(impatient.map_or(look, |at| at.min(look))) => {}
        }
        if look <= Instant::now() {
            runner.remember_work();
            due = None;
            poll = Instant::now() + jittered(POLL);
        }
        runner.give_back_waiting(false);
        // Whatever was started in the last round and is done at once joins this one.
        tokio::task::yield_now().await;
        runner.take_ended(&mut batch, MAX_BATCH);
        match turn(&runner, &mut batch).await {
            Ok(next_due) => {
                backoff = Backoff::new();
                let next = next_due.map(in_time);
                due = [due, next].into_iter().flatten().min();
            }
            Err(error) => {
                if is_about_one_row(&error) {
                    one_by_one(&runner, &mut batch).await;
                }
                // Outcomes are kept and tried again; meanwhile more of them collect.
                tokio::time::sleep(backoff.delay()).await;
                runner.may_have_work();
            }
        }
    }
}

/// One round: writes the batch, claims what there is room for, starts it. Answers when the next task is due. After an
/// error everything is as before.
async fn turn(runner: &Arc<Runner>, batch: &mut Vec<Ended>) -> Result<Option<Duration>, StoreError> {
    let lost: Vec<Ended> = batch.extract_if(.., |ended| ended.finish.is_none()).collect();
    leave(runner, &lost);
    if !lost.is_empty() || runner.slots.any_scarce(batch.iter().map(|ended| ended.seat)) {
        runner.remember_work();
    }
    let wants_work = runner.take_work();
    if batch.is_empty() && !wants_work {
        return Ok(None);
    }
    let finishes = Arc::new(batch.iter_mut().filter_map(|ended| ended.finish.take()).collect::<Vec<_>>());
    let answer = if wants_work {
        write_and_claim(runner, batch, &finishes).await
    } else {
        write(runner, &finishes).await.map(|finished| {
            count(runner, &finishes, &finished);
            leave(runner, batch);
            (finished, None)
        })
    };
    match answer {
        Ok((finished, next_due)) => {
            let next_retry = settle(runner, batch, &finishes, &finished);
            batch.clear();
            Ok([next_retry, next_due].into_iter().flatten().min())
        }
        Err(error) => {
            let finishes = Arc::try_unwrap(finishes).unwrap_or_else(|shared| (*shared).clone());
            for (ended, finish) in batch.iter_mut().zip(finishes) {
                ended.finish = Some(finish);
            }
            Err(error)
        }
    }
}

async fn write(runner: &Runner, finishes: &Arc<Vec<Finish>>) -> Result<Vec<Finished>, StoreError> {
    runner.core.call("a finish", runner.core.store.finish(finishes.clone())).await
}

/// What a round that claims answers: what became of the ends, and when the next task is due.
type Round = (Vec<Finished>, Option<Duration>);

async fn write_and_claim(
    runner: &Arc<Runner>,
    batch: &[Ended],
    finishes: &Arc<Vec<Finish>>,
) -> Result<Round, StoreError> {
    let leaving: Vec<Seat> = batch.iter().map(|ended| ended.seat).collect();
    let room = runner.slots.room(&leaving);
    let store = &runner.core.store;
    let answer = match Ask::first(runner, &room) {
        None if batch.is_empty() => Ok((Vec::new(), None)),
        None => write(runner, finishes).await.map(|finished| (finished, None)),
        Some(ask) if batch.is_empty() => {
            let claims = runner.core.call("a claim", store.claim(ask.claim(runner, &room))).await;
            claims.map(|claims| (Vec::new(), Some((ask, claims))))
        }
        Some(ask) => {
            let turn = store.turn(finishes.clone(), ask.claim(runner, &room));
            let answer = runner.core.call("a turn", turn).await;
            answer.map(|(finished, claims)| (finished, Some((ask, claims))))
        }
    };
    match answer {
        Ok((finished, claims)) => {
            count(runner, finishes, &finished);
            runner.core.runs.end(finishes.iter().map(|finish| finish.run));
            let claims = match claims {
                Some((ask, claims)) => ask.complete(runner, &room, claims).await,
                None => {
                    runner.remember_work();
                    Claims::default()
                }
            };
            Ok((finished, begin(runner, &room, claims)))
        }
        Err(error) => {
            runner.slots.undo(&leaving);
            runner.remember_work();
            Err(error)
        }
    }
}

/// What is asked for. With fewer threads than slots, synchronous tasks could fill more slots than can be started: then
/// everything is asked for up to the free threads, and async tasks alone for the rest.
struct Ask {
    limit: usize,
    with_blocking: bool,
}

impl Ask {
    fn first(runner: &Runner, room: &Room) -> Option<Self> {
        if room.limit == 0 || room.queues.is_empty() {
            return None;
        }
        let scarce = runner.names.has_blocking && room.threads < room.limit;
        Some(match room.threads {
            _ if !scarce => Self { limit: room.limit, with_blocking: true },
            0 => Self { limit: room.limit, with_blocking: false },
            threads => Self { limit: threads, with_blocking: true },
        })
    }

    fn claim(&self, runner: &Runner, room: &Room) -> Claim {
        let names = if self.with_blocking { &runner.names.all } else { &runner.names.asynchronous };
        let core = &runner.core;
        let queues = room.queues.clone();
        let mut claim = Claim::new(core.instance.id, core.settings.lease, names.clone(), queues, self.limit);
        claim.limits = core.queues.shared();
        claim
    }

    /// The rest of the claim, and a note if a limit ended it and not the lack of tasks.
    async fn complete(self, runner: &Runner, room: &Room, mut claims: Claims) -> Claims {
        if claims.tasks.len() < self.limit {
            return claims;
        }
        runner.may_have_work();
        if self.limit < room.limit {
            let rest = Self { limit: room.limit - self.limit, with_blocking: false };
            let mut claim = rest.claim(runner, room);
            for (queue, free) in &mut claim.queues {
                *free -= claims.tasks.iter().filter(|task| task.queue == *queue).count();
            }
            claim.queues.retain(|(_, free)| *free > 0);
            match runner.core.call("a claim", runner.core.store.claim(claim)).await {
                Ok(more) => claims.tasks.extend(more.tasks),
                // The first part is ours already; the note above brings us back for the rest.
                Err(error) => tracing::debug!(%error, "the second part of a claim failed"),
            }
        }
        claims
    }
}

/// Starts what was claimed as far as slots are free; the rest waits for the next.
fn begin(runner: &Arc<Runner>, room: &Room, claims: Claims) -> Option<Duration> {
    let admitted = runner.admit(claims.tasks);
    for (task, seat) in runner.slots.settle(room, admitted, Admitted::kind) {
        runner.start(task, seat);
    }
    if runner.is_stopping() {
        runner.give_back_waiting(true);
        runner.core.runs.look_again();
    }
    claims.next_due
}
