//! Cancel, retry, delete, pause, prune, replacing arguments, and the hints that announce changes.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{AttemptOutcome, CancelOutcome, Error, TaskFilter, TaskId, TaskStatus, When};
use crate::store::{Finished, Hint, HoldOutcome, Reopen, ReplaceArgs, Retention};
use futures_util::StreamExt;

use super::lab::*;

pub(crate) async fn a_cancel_answers_by_what_it_found(lab: Lab) {
    let waits = lab.add(with_attempts("alpha", 2)).await;
    let later = lab.add(with(task("alpha"), |task| task.when = When::In(LONG))).await;
    let hold = lab.hold(task("alpha")).await;
    let run = lab.run(task("alpha")).await;
    let ended = lab.ended(task("alpha"), TaskStatus::Failed).await;
    let ids = vec![ended, run.id, hold.id, TaskId::new(), later, waits, run.id, waits];
    let answers = lab.store.cancel(ids, "not wanted".to_owned()).await.unwrap();
    use CancelOutcome::{AlreadyFinished, Cancelled, NotFound, Requested};
    let expected =
        [AlreadyFinished, Requested, Cancelled, NotFound, Cancelled, Cancelled, Requested, AlreadyFinished];
    assert_eq!(answers, expected);
    for id in [waits, later, hold.id] {
        let record = lab.get(id).await;
        assert_eq!((record.status, record.error.as_deref()), (TaskStatus::Cancelled, Some("not wanted")));
        assert!(record.finished_at.is_some());
    }
    assert_eq!(lab.get(ended).await.error.as_deref(), Some("the end"), "untouched");
    assert!(!lab.release(hold, HoldOutcome::Run).await);
    assert!(lab.claim(10).await.is_empty());
    lab.assert_counts_are_true().await;
}

pub(crate) async fn arguments_are_replaced_if_they_still_are_what_was_read(lab: Lab) {
    let (short, long): (Arc<str>, Arc<str>) =
        (r#"{"n":1}"#.into(), format!(r#"{{"n":"{}"}}"#, "ü".repeat(900)).into());
    let with_args =
        |name: &'static str, args: &Arc<str>| with(task(name), |task| task.args = Ok(Arc::clone(args)));
    let tagged = with(with_args("alpha", &short), |task| {
        task.tags.extend([("tenant".to_owned(), "a".to_owned()), (String::from("k"), "ü\"".to_owned())]);
    });
    let waits = lab.add(tagged).await;
    let later = lab.add(with(with_args("alpha", &long), |task| task.when = When::In(LONG))).await;
    let hold = lab.hold(with_args("alpha", &short)).await;
    let run = lab.run(with(with_attempts("beta", 2), |task| task.args = Ok(Arc::clone(&short)))).await;
    let ended = lab.ended(with_args("alpha", &short), TaskStatus::Failed).await;
    let before = lab.get(waits).await;

    let replace = async |items: Vec<(TaskId, &Arc<str>, &Arc<str>)>| {
        let items = items.into_iter().map(|(id, from, to)| ReplaceArgs::new(id, &**from, &**to)).collect();
        lab.store.replace_args(Arc::new(items)).await.unwrap()
    };
    assert!(replace(Vec::new()).await.is_empty());
    let items = vec![
        (ended, &short, &long),
        (TaskId::new(), &short, &long),
        (run.id, &short, &long),
        (later, &long, &short),
        (hold.id, &long, &short),
        (waits, &short, &long),
    ];
    assert_eq!(replace(items).await, [true, false, true, true, false, true]);
    for (id, args) in [(ended, &long), (run.id, &long), (later, &short), (hold.id, &short), (waits, &long)] {
        assert_eq!(lab.get(id).await.args.get(), &**args);
    }
    let after = lab.get(waits).await;
    assert_eq!((after.tags, after.priority, after.status), (before.tags, before.priority, before.status));
    assert_eq!(replace(vec![(waits, &short, &long)]).await, [false], "they have been replaced");
    assert_eq!(replace(vec![(waits, &long, &short)]).await, [true]);

    let claimed = only(lab.claim(10).await);
    assert_eq!((claimed.run.id, &*claimed.args), (waits, &*short));
    lab.finish(run, retry(Duration::ZERO)).await;
    assert_eq!(only(lab.claim(10).await).args, long, "the next attempt gets the new arguments");
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_waiting_retry_can_be_cancelled(lab: Lab) {
    let run = lab.run(with_attempts("alpha", 3)).await;
    lab.finish(run, retry(LONG)).await;
    assert_eq!(
        lab.store.cancel(vec![run.id], "enough".to_owned()).await.unwrap(),
        [CancelOutcome::Cancelled]
    );
    let record = lab.get(run.id).await;
    assert_eq!((record.status, record.error.as_deref()), (TaskStatus::Cancelled, Some("enough")));
    assert_eq!(lab.outcomes(run.id).await, [(1, AttemptOutcome::Failed)]);
}

pub(crate) async fn a_running_task_is_asked_to_stop_through_its_own_process(lab: Lab) {
    let run = lab.run(task("alpha")).await;
    let other_run = lab.run(task("alpha")).await;
    let others = {
        lab.add(task("beta")).await;
        only(lab.claim_as(lab.other.id, LONG).await).run
    };
    assert!(lab.store.asked_to_stop(lab.me.id).await.unwrap().is_empty());
    lab.store.cancel(vec![run.id, others.id], String::new()).await.unwrap();
    assert_eq!(lab.store.asked_to_stop(lab.me.id).await.unwrap(), [run]);
    assert_eq!(lab.store.asked_to_stop(lab.other.id).await.unwrap(), [others]);
    let record = lab.get(run.id).await;
    assert_eq!((record.status, record.cancel_requested), (TaskStatus::Running, true));
    assert!(!lab.get(other_run.id).await.cancel_requested);
    assert_eq!(lab.finish(run, end(TaskStatus::Cancelled)).await, Finished::Applied(TaskStatus::Cancelled));
    assert!(lab.store.asked_to_stop(lab.me.id).await.unwrap().is_empty());

    // A manual retry clears the request to stop.
    assert!(only(lab.store.retry(Reopen::at_once([run.id])).await.unwrap()).is_ok());
    let again = lab.claim_one().await.run;
    assert!(!lab.get(run.id).await.cancel_requested);
    assert_eq!(lab.finish(again, retry(Duration::ZERO)).await, Finished::Applied(TaskStatus::Pending));
}

pub(crate) async fn a_manual_retry_reopens_the_same_record(lab: Lab) {
    for status in [TaskStatus::Failed, TaskStatus::Interrupted, TaskStatus::Cancelled] {
        let first = lab.run(with_attempts("alpha", 2)).await;
        lab.finish(first, retry(Duration::ZERO)).await;
        let second = lab.claim_one().await.run;
        lab.finish(second, end(status)).await;
        assert!(only(lab.store.retry(Reopen::at_once([first.id])).await.unwrap()).is_ok());
        let record = lab.get(first.id).await;
        assert_eq!((record.status, record.finished_at), (TaskStatus::Pending, None));
        assert_eq!((record.attempt, record.max_attempts, record.attempts.len()), (2, 4, 2));

        let third = lab.claim_one().await;
        assert_eq!((third.attempt, third.max_attempts), (3, 4), "due at once, numbering goes on");
        assert!(third.run.fence > second.fence);
        assert_eq!(lab.finish(second, success()).await, Finished::Stale);
        lab.finish(third.run, success()).await;
        let outcomes = lab.outcomes(first.id).await;
        assert_eq!((outcomes.len(), outcomes[2]), (3, (3, AttemptOutcome::Success)));
        lab.assert_counts_are_true().await;
    }
}

pub(crate) async fn a_task_cancelled_while_it_was_not_due_is_retried_at_once(lab: Lab) {
    let id = lab.add(with(task("alpha"), |task| task.when = When::In(LONG))).await;
    lab.store.cancel(vec![id], String::new()).await.unwrap();
    assert!(only(lab.store.retry(Reopen::at_once([id])).await.unwrap()).is_ok());
    let claimed = lab.claim_one().await;
    assert_eq!((claimed.run.id, claimed.attempt), (id, 1));
}

pub(crate) async fn a_retry_with_a_delay_is_due_after_it(lab: Lab) {
    let (now, soon, later) = (
        lab.ended(task("alpha"), TaskStatus::Failed).await,
        lab.ended(task("alpha"), TaskStatus::Cancelled).await,
        lab.ended(task("alpha"), TaskStatus::Failed).await,
    );
    let delays = [(later, LONG), (now, Duration::ZERO), (soon, Duration::from_millis(300))];
    let reopen = delays.map(|(id, delay)| Reopen::after(id, delay)).to_vec();
    let answers = lab.store.retry(reopen).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(lab.get(later).await.status, TaskStatus::Pending);
    lab.assert_counts_are_true().await;
    assert_eq!(lab.claim_one().await.run.id, now, "the others are not due");
    let patience = Patience::new("the second task to be due");
    loop {
        match lab.claim_ids(1).await[..] {
            [id] => break assert_eq!(id, soon),
            _ => patience.wait().await,
        }
    }
    assert_eq!(lab.claim(10).await.len(), 0);
    let record = lab.get(later).await;
    assert!(record.run_at > record.created_at + LONG / 2, "{record:?}");
    lab.assert_counts_are_true().await;
}

pub(crate) async fn what_cannot_be_retried_says_why(lab: Lab) {
    let waits = lab.add(task("alpha")).await;
    let runs = lab.run(task("alpha")).await.id;
    let succeeded = lab.ended(task("alpha"), TaskStatus::Success).await;
    let (first, second) = (
        lab.ended(with_key("alpha", "key"), TaskStatus::Failed).await,
        lab.ended(with_key("alpha", "key"), TaskStatus::Failed).await,
    );
    let unknown = TaskId::new();
    let answers = lab
        .store
        .retry(Reopen::at_once([waits, runs, succeeded, unknown, first, second, first]))
        .await
        .unwrap();
    let why = |n: usize| answers[n].as_ref().unwrap_err();
    for (n, id, expected) in
        [(0, waits, TaskStatus::Pending), (1, runs, TaskStatus::Running), (2, succeeded, TaskStatus::Success)]
    {
        let Error::NotRetryable { id: of, status, .. } = why(n) else { panic!("{answers:?}") };
        assert_eq!((*of, *status), (id, expected));
    }
    assert!(matches!(why(3), Error::NotFound { id, .. } if *id == unknown), "{answers:?}");
    assert!(answers[4].is_ok());
    assert!(
        matches!(why(5), Error::KeyTaken { id, holder, .. } if (*id, *holder) == (second, first)),
        "{answers:?}"
    );
    assert!(matches!(why(6), Error::NotRetryable { status: TaskStatus::Pending, .. }), "{answers:?}");
    lab.assert_counts_are_true().await;
}

pub(crate) async fn of_many_who_retry_at_once_one_reopens_each_task(lab: Lab) {
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(lab.ended(task("alpha"), TaskStatus::Failed).await);
    }
    let calls: Vec<_> = (0..8)
        .map(|n| {
            let (store, mut ids) = (Arc::clone(&lab.store), ids.clone());
            ids.rotate_left(n);
            tokio::spawn(async move {
                let answers = store.retry(Reopen::at_once(ids.clone())).await.unwrap();
                ids.into_iter().zip(answers).filter(|(_, answer)| answer.is_ok()).map(|(id, _)| id).collect()
            })
        })
        .collect();
    let mut reopened: Vec<TaskId> = Vec::new();
    for call in calls {
        let of_call: Vec<TaskId> = call.await.unwrap();
        reopened.extend(of_call);
    }
    reopened.sort_unstable();
    ids.sort_unstable();
    assert_eq!(reopened, ids);
    assert_eq!(lab.claim(20).await.len(), 10);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_retried_task_holds_its_key_again(lab: Lab) {
    let id = lab.ended(with_key("alpha", "key"), TaskStatus::Failed).await;
    lab.store.retry(Reopen::at_once([id])).await.unwrap();
    let again = lab.begin(with_key("alpha", "key"), crate::store::Start::Wait).await;
    assert_eq!((again.id, again.kind), (id, crate::store::InsertedAs::Duplicate));
}

pub(crate) async fn only_what_has_ended_is_deleted(lab: Lab) {
    let waits = lab.add(with(task("alpha"), |task| task.when = When::In(LONG))).await;
    let hold = lab.hold(task("alpha")).await;
    let run = lab.run(task("alpha")).await;
    let ended = lab.ended(task("alpha"), TaskStatus::Success).await;
    let cancelled = lab.add(task("alpha")).await;
    lab.store.cancel(vec![cancelled], String::new()).await.unwrap();
    let ids = vec![waits, hold.id, run.id, ended, cancelled, TaskId::new(), ended];
    assert_eq!(lab.store.delete(ids).await.unwrap(), 2);
    assert!(lab.store.get(ended).await.unwrap().is_none());
    assert!(lab.store.logs(ended).await.unwrap().is_none());
    assert_eq!(lab.store.cancel(vec![ended], String::new()).await.unwrap(), [CancelOutcome::NotFound]);
    assert_eq!(lab.store.counts().await.unwrap().total(), 3);
    lab.assert_counts_are_true().await;
    assert_eq!(lab.finish(run, success()).await, Finished::Applied(TaskStatus::Success));
}

pub(crate) async fn pruning_takes_what_ended_long_ago_in_bounded_batches(lab: Lab) {
    for n in 0..25 {
        let status =
            [TaskStatus::Success, TaskStatus::Failed, TaskStatus::Cancelled, TaskStatus::Interrupted][n % 4];
        lab.ended(task("alpha"), status).await;
    }
    let (waits, run) = (lab.add(task("alpha")).await, lab.run(task("alpha")).await);
    assert_eq!(lab.store.prune(Retention::new(LONG), 100).await.unwrap(), 0, "nothing is that old");
    let patience = Patience::new("everything that ended to be gone");
    let mut pruned = 0;
    while pruned < 25 {
        let now = lab.store.prune(Retention::new(Duration::ZERO), 10).await.unwrap();
        assert!(now <= 10, "{now} in one batch");
        pruned += now;
        assert_eq!(lab.store.counts().await.unwrap().total(), 27 - pruned as u64);
        patience.wait().await;
    }
    assert_eq!(lab.store.prune(Retention::new(Duration::ZERO), 10).await.unwrap(), 0);
    let mut left = lab.ids(TaskFilter::all()).await;
    left.sort();
    assert_eq!(left, [waits, run.id]);
    lab.assert_counts_are_true().await;
}

/// Prunes, at most ten records at a time, until no task has one of these statuses.
async fn prune_all(lab: &Lab, retention: Retention, statuses: &[TaskStatus]) {
    let patience = Patience::new("what is old to be gone");
    loop {
        assert!(lab.store.prune(retention, 10).await.unwrap() <= 10);
        let mut filter = TaskFilter::new();
        filter.statuses = statuses.to_vec();
        if lab.ids(filter).await.is_empty() {
            break;
        }
        patience.wait().await;
    }
    assert_eq!(lab.store.prune(retention, 10).await.unwrap(), 0);
}

pub(crate) async fn a_status_has_a_retention_of_its_own(lab: Lab) {
    use TaskStatus::{Cancelled, Failed, Interrupted, Success};
    let (now, long) = (Retention::new(Duration::ZERO), Retention::new(LONG));
    // There are more kept records (25) than one batch deletes (10), and they lie before and between those to delete.
    let mut failed = Vec::new();
    for n in 0..25 {
        failed.push(lab.ended(task("alpha"), Failed).await);
        if n % 5 == 0 {
            for status in [Success, Interrupted, Cancelled] {
                lab.ended(task("alpha"), status).await;
            }
        }
    }
    // Failures are kept for longer than the others. (That they are pruned later is checked below.)
    prune_all(&lab, now.with(Failed, LONG).unwrap(), &[Success, Interrupted, Cancelled]).await;
    let mut left = lab.ids(TaskFilter::all()).await;
    left.sort();
    assert_eq!(left, failed);
    lab.assert_counts_are_true().await;

    // A failed task that is retried and then succeeds is pruned by the retention of successes.
    lab.store.retry(Reopen::at_once([failed[0]])).await.unwrap();
    let run = lab.claim_one().await.run;
    assert_eq!((run.id, lab.finish(run, success()).await), (failed[0], Finished::Applied(Success)));
    assert_eq!(lab.store.prune(long, 100).await.unwrap(), 0);
    prune_all(&lab, long.with(Success, Duration::ZERO).unwrap(), &[Success]).await;
    assert_eq!(lab.store.counts().await.unwrap().total(), 24);

    // And a status may be kept for less time than successes.
    let (kept, cancelled) =
        (lab.ended(task("alpha"), Success).await, lab.ended(task("alpha"), Cancelled).await);
    let short = long.with(Failed, Duration::ZERO).unwrap().with(Cancelled, Duration::ZERO).unwrap();
    prune_all(&lab, short, &[Failed, Cancelled]).await;
    assert_eq!(lab.ids(TaskFilter::all()).await, [kept]);
    assert!(lab.store.get(cancelled).await.unwrap().is_none());
    prune_all(&lab, now, &[Success]).await;
    assert_eq!(lab.store.counts().await.unwrap().total(), 0);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_pause_is_seen_and_stays_however_empty_the_queue(lab: Lab) {
    let paused = async || {
        let queues = lab.store.queues().await.unwrap();
        queues.into_iter().filter(|queue| queue.paused).map(|queue| queue.name).collect::<Vec<_>>()
    };
    lab.store.set_paused("mail".to_owned(), true).await.unwrap();
    lab.store.set_paused("reports".to_owned(), true).await.unwrap();
    lab.store.set_paused("mail".to_owned(), false).await.unwrap();
    lab.store.set_paused("default".to_owned(), false).await.unwrap();
    assert_eq!(paused().await, ["reports"]);
    let id = lab.add(with(task("alpha"), |task| task.queue = "reports".into())).await;
    assert!(lab.claim(10).await.is_empty());
    lab.store.cancel(vec![id], String::new()).await.unwrap();
    lab.store.delete(vec![id]).await.unwrap();
    assert_eq!(paused().await, ["reports"]);
}

pub(crate) async fn who_listens_hears_of_work_and_of_controls(lab: Lab) {
    let mut hints = lab.store.listen();
    // A store may send `Changed` instead of a narrower hint.
    let mut hear = async |what: &str, least: Hint| {
        let heard = async {
            while let Some(hint) = hints.next().await {
                if hint == least || hint == Hint::Changed {
                    return;
                }
            }
        };
        tokio::time::timeout(DEADLINE, heard).await.expect(what);
    };
    let id = lab.add(task("alpha")).await;
    hear("an add", Hint::Work).await;
    let run = lab.claim_one().await.run;
    lab.store.cancel(vec![id], String::new()).await.unwrap();
    hear("a request to stop", Hint::Changed).await;
    lab.finish(run, end(TaskStatus::Cancelled)).await;
    hear("an end", Hint::Ends).await;
    lab.store.set_paused("default".to_owned(), true).await.unwrap();
    hear("a pause", Hint::Changed).await;
    let hold = lab.hold(task("alpha")).await;
    lab.release(hold, HoldOutcome::Run).await;
    hear("a release", Hint::Work).await;
}
