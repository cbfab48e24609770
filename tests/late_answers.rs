//! A store that answers so late that the granted lease has ended, or ends soon.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use taskflow::testing::{Fault, Op, TestTasks};
use taskflow::{AttemptOutcome, State, TaskError, TaskManager};
use tokio::sync::watch;

/// How many bodies run at once, and whether they may end.
#[derive(Clone)]
struct Bodies {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    may_end: Arc<watch::Sender<bool>>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { now: Arc::default(), most: Arc::default(), may_end: Arc::new(watch::Sender::new(false)) }
    }
}

struct Body(Bodies);

impl Drop for Body {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[taskflow::task(requeue_on_interrupt = true)]
async fn alone(bodies: State<Bodies>) -> Result<(), TaskError> {
    let bodies = (*bodies).clone();
    let now = bodies.now.fetch_add(1, Ordering::SeqCst) + 1;
    bodies.most.fetch_max(now, Ordering::SeqCst);
    let body = Body(bodies);
    let _ = body.0.may_end.subscribe().wait_for(|may_end| *may_end).await;
    Ok(())
}

#[taskflow::task]
async fn add_one(tasks: TaskManager) -> Result<(), TaskError> {
    tasks.add_task(alone, ()).eager(true).await?;
    Ok(())
}

/// Two workers with leases of 6 s.
async fn two_workers(bodies: &Bodies) -> TestTasks {
    let t = one_worker(bodies).await;
    t.second_worker().await;
    t
}

async fn one_worker(bodies: &Bodies) -> TestTasks {
    let t = TestTasks::new().live().only(["alone", "add_one"]).state(bodies.clone()).patience(Duration::ZERO);
    t.configure(|tasks| tasks.lease(Duration::from_secs(6))).start().await
}

/// The task never runs twice at once, and succeeds.
async fn ends_well(t: &TestTasks, bodies: &Bodies) {
    assert_eq!(bodies.now.load(Ordering::SeqCst), 1, "{:#?}", t.records());
    assert_eq!(bodies.most.load(Ordering::SeqCst), 1, "two workers ran one task at once");
    bodies.may_end.send_replace(true);
    t.advance("1s").await;
    let record = t.records().into_iter().find(|record| record.name == "alone").unwrap();
    assert_eq!(record.attempts.last().unwrap().outcome, AttemptOutcome::Success, "{record:?}");
}

#[tokio::test]
async fn a_task_whose_claim_is_answered_after_its_lease_does_not_begin() {
    let bodies = Bodies::default();
    let t = two_workers(&bodies).await;
    t.fault(Fault::late_answer(Op::Claim, "9s"));
    t.manager().add_task(alone, ()).await.unwrap();
    t.advance("1m").await;
    ends_well(&t, &bodies).await;
}

#[tokio::test]
async fn nor_does_one_whose_add_is_answered_after_the_lease_that_it_began_with() {
    let bodies = Bodies::default();
    let t = two_workers(&bodies).await;
    t.manager().add_task(add_one, ()).run_in(Duration::from_secs(10)).await.unwrap();
    t.fault(Fault::late_answer(Op::Insert, "9s"));
    t.advance("1m").await;
    ends_well(&t, &bodies).await;
}

#[tokio::test]
async fn a_hold_that_has_little_time_left_when_it_comes_is_renewed_at_once() {
    for wait in ["0s", "400ms", "800ms", "1200ms", "1600ms"] {
        let bodies = Bodies::default();
        let t = two_workers(&bodies).await;
        t.advance(wait).await;
        t.fault(Fault::late_answer(Op::Insert, "4700ms"));
        let hold = t.manager().hold();
        let adding = tokio::spawn(async move {
            hold.add_task(alone, ()).await.unwrap();
            hold
        });
        t.advance("1m").await;
        assert_eq!(bodies.most.load(Ordering::SeqCst), 0, "added after {wait}, it began before its release");
        adding.await.unwrap().release().await.unwrap();
        t.advance("1s").await;
        ends_well(&t, &bodies).await;
    }
}

#[tokio::test]
async fn a_late_answer_takes_no_lease_from_the_newer_run_in_its_process() {
    let bodies = Bodies::default();
    let t = one_worker(&bodies).await;
    t.manager().add_task(add_one, ()).run_in(Duration::from_secs(10)).await.unwrap();
    t.fault(Fault::late_answer(Op::Insert, "9s"));
    t.advance("1m").await;
    let record = t.records().into_iter().find(|record| record.name == "alone").unwrap();
    assert_eq!(record.attempts.len(), 2, "{record:#?}");
    ends_well(&t, &bodies).await;
}

#[tokio::test]
async fn a_lease_that_has_little_time_left_when_it_comes_is_renewed_at_once() {
    // The answer to the claim comes at different moments between two renewals.
    for wait in ["0s", "400ms", "800ms", "1200ms", "1600ms"] {
        let bodies = Bodies::default();
        let t = two_workers(&bodies).await;
        t.advance(wait).await;
        t.fault(Fault::late_answer(Op::Claim, "4700ms"));
        t.manager().add_task(alone, ()).await.unwrap();
        t.advance("1m").await;
        let record = t.records().pop().unwrap();
        assert_eq!(record.attempts.len(), 1, "claimed after {wait}: {record:?}");
        ends_well(&t, &bodies).await;
    }
}
