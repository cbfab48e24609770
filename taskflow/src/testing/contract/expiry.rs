//! Tasks that may not be started after an instant.

use std::time::{Duration, SystemTime};

use crate::model::{AttemptOutcome, TaskStatus};
use crate::store::{Finished, HoldOutcome, InsertedAs, Reopen, Start};

use super::lab::*;

pub(crate) async fn a_task_that_has_expired_is_never_started(lab: Lab) {
    let soon = SystemTime::now() + Duration::from_millis(1500);
    let expiring = |name| with(task(name), |task| task.expires_at = Some(soon));
    let in_time = lab.add(expiring("alpha")).await;
    let late = lab.add(expiring("alpha")).await;
    let of_a_stranger = lab.add(expiring("omega")).await;
    let later = lab.add(with(expiring("alpha"), |task| task.when = crate::model::When::In(LONG))).await;
    let hold = lab.hold(expiring("beta")).await;
    let lasting = lab.add(with(task("alpha"), |task| task.expires_at = Some(SystemTime::now() + LONG))).await;
    let first = lab.claim(1).await;
    assert_eq!(first[0].run.id, in_time);
    assert_eq!(lab.get(in_time).await.expires_at.map(rounded), Some(rounded(soon)));
    let patience = Patience::new("the expiry");
    let mut recovered = Vec::new();
    while recovered.len() < 3 {
        patience.wait().await;
        recovered.extend(lab.store.recover(lab.other.id).await.expect("recover"));
    }
    let mut ids: Vec<_> = recovered.iter().map(|it| it.id).collect();
    ids.sort();
    assert_eq!(ids, [late, of_a_stranger, later]);
    for id in ids {
        let record = lab.get(id).await;
        assert_eq!(record.status, TaskStatus::Cancelled);
        assert!(record.error.expect("why").starts_with("expired"), "{id}");
        assert!(record.attempts.is_empty());
    }
    // A held task expires only after its release. A run that started in time goes on, but its task is not started again.
    assert_eq!(lab.status(hold.id).await, TaskStatus::Pending);
    assert!(lab.release(hold, HoldOutcome::Run).await);
    assert_eq!(lab.finish(first[0].run, retry(Duration::ZERO)).await, Finished::Applied(TaskStatus::Pending));
    assert_eq!(lab.claim_ids(10).await, [lasting]);
    let ended = lab.recover(&[hold, first[0].run]).await;
    assert_eq!(ended.len(), 2);
    assert_eq!(lab.outcomes(in_time).await, [(1, AttemptOutcome::Failed)]);
    // A task that has expired before it is added is not leased either.
    let past = with(task("alpha"), |task| task.expires_at = Some(SystemTime::now() - Duration::from_secs(1)));
    assert_eq!(lab.begin(past, Start::Lease).await.kind, InsertedAs::Pending);
    assert!(lab.claim(10).await.is_empty());
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_manual_retry_forgets_an_expiry_that_has_passed(lab: Lab) {
    let add_cancelled = async |expires_at| {
        let id = lab.add(with(task("alpha"), |task| task.expires_at = Some(expires_at))).await;
        lab.store.cancel(vec![id], "no".to_owned()).await.expect("cancel");
        id
    };
    let (past, far) = (SystemTime::now() - Duration::from_secs(1), SystemTime::now() + LONG);
    let late = lab.add(with(task("alpha"), |task| task.expires_at = Some(past))).await;
    let recovered = lab.store.recover(lab.other.id).await.expect("recover");
    assert_eq!(recovered.iter().map(|it| it.id).collect::<Vec<_>>(), [late]);
    let (cancelled_late, cancelled) = (add_cancelled(past).await, add_cancelled(far).await);
    let ids = vec![late, cancelled_late, cancelled];
    let answers = lab.store.retry(Reopen::at_once(ids.clone())).await.expect("retry");
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(lab.store.recover(lab.other.id).await.expect("recover").len(), 0);
    assert_eq!(lab.get(late).await.expires_at, None);
    assert_eq!(lab.get(cancelled_late).await.expires_at, None);
    assert_eq!(lab.get(cancelled).await.expires_at.map(rounded), Some(rounded(far)), "it is still to come");
    assert_eq!(lab.claim_ids(10).await, ids);
    lab.assert_counts_are_true().await;
}

/// Stores keep microseconds.
fn rounded(at: SystemTime) -> u128 {
    at.duration_since(SystemTime::UNIX_EPOCH).expect("after the epoch").as_micros()
}

pub(crate) async fn a_replacement_brings_its_expiry_and_its_key(lab: Lab) {
    let far = SystemTime::now() + LONG;
    let first = lab.add(with(with_run_key("alpha", "auction"), |task| task.expires_at = Some(far))).await;
    let second = with(with_run_key("alpha", "auction"), |task| {
        task.concurrency_key = Some("tenant".to_owned());
        task.expires_at = Some(far + LONG);
    });
    assert_eq!(lab.begin(second, Start::Wait).await.kind, InsertedAs::Replaced);
    let record = lab.get(first).await;
    assert_eq!(record.expires_at.map(rounded), Some(rounded(far + LONG)));
    assert_eq!(record.concurrency_key.as_deref(), Some("tenant"));
}
