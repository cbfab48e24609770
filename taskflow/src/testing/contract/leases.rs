//! Leases that end, and what becomes of their tasks: a lost run is followed by another or by the end of the task. After too many
//! lost runs in a row a task is poison: it probably kills its processes, and fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{AttemptOutcome, CancelOutcome, NewTask, TaskId, TaskStatus};
use crate::store::{Finished, InsertTask, Inserted, InsertedAs, Reopen, Report, RunRef, Start};

use super::lab::*;

fn may_run_again(max_lost_runs: u32) -> NewTask {
    with(task("alpha"), |task| {
        task.policy.to_mut().requeue_on_interrupt = true;
        task.policy.to_mut().max_lost_runs = max_lost_runs;
    })
}

pub(crate) async fn a_lease_is_good_until_it_ends_unless_renewed(lab: Lab) {
    let short = Duration::from_millis(300);
    let inserts = (0..3).map(|n| {
        let start = if n == 2 { Start::Hold } else { Start::Lease };
        vec![InsertTask::new(with_attempts("alpha", 2), start)]
    });
    let mut runs = Vec::new();
    for answer in lab.insert_for(short, inserts.collect()).await {
        let inserted = only(answer.unwrap());
        let (InsertedAs::Leased { fence } | InsertedAs::Held { fence }) = inserted.kind else {
            panic!("{inserted:?}")
        };
        runs.push(RunRef::new(inserted.id, fence));
    }
    let [lost, renewed, hold] = runs[..] else { panic!("three") };
    let answer = lab.renew(LONG, &[renewed, hold]).await;
    assert!(answer.lost.is_empty() && answer.cancel.is_empty(), "{answer:?}");
    let recovered = lab.recover(&[lost]).await;
    assert_eq!(recovered.iter().map(|it| it.id).collect::<Vec<_>>(), [lost.id]);
    assert_eq!(lab.status(renewed.id).await, TaskStatus::Running);
    assert_eq!(lab.claim_ids(10).await, [lost.id], "the hold still holds");

    // A claim's lease ends as well.
    lab.add(task("alpha")).await;
    let run = only(lab.claim_as(lab.other.id, Duration::from_millis(1)).await).run;
    lab.recover(&[run]).await;
    assert_eq!(lab.status(run.id).await, TaskStatus::Interrupted);
}

pub(crate) async fn renewing_tells_what_is_lost_and_what_should_stop(lab: Lab) {
    let fine = lab.run(task("alpha")).await;
    let stops = lab.run(task("alpha")).await;
    let lost = lab.run(with_attempts("alpha", 3)).await;
    let again = lab.run(with_attempts("alpha", 3)).await;
    let ended = lab.run(task("alpha")).await;
    let hold = lab.hold(task("alpha")).await;
    let released = lab.hold(with(task("alpha"), |task| task.queue = "elsewhere".into())).await;
    lab.lose(&[lost, again]).await;
    let claimed = lab.claim_as(lab.other.id, LONG).await;
    assert_eq!(claimed.len(), 2);
    lab.finish(ended, success()).await;
    lab.release(released, crate::store::HoldOutcome::Run).await;
    lab.store.cancel(vec![stops.id], String::new()).await.unwrap();

    let unknown = RunRef::new(TaskId::new(), 1);
    let of_another = claimed[0].run;
    let asked = [fine, stops, lost, again, ended, hold, released, unknown, of_another];
    let answer = lab.renew(LONG, &asked).await;
    let set = |runs: &[RunRef]| runs.iter().copied().collect::<HashSet<_>>();
    assert_eq!(set(&answer.lost), set(&[lost, again, ended, released, unknown, of_another]));
    assert_eq!(answer.cancel, [stops]);
}

pub(crate) async fn a_lost_run_with_attempts_left_is_tried_again_after_its_back_off(lab: Lab) {
    let new = with(task("alpha"), |task| {
        task.policy.to_mut().retries = 2;
        task.policy.to_mut().delay = Duration::from_secs(100);
        task.policy.to_mut().jitter = 0.1;
    });
    lab.add(new).await;
    let run = lab.claim_one().await.run;
    let recovered = only(lab.lose(&[run]).await);
    assert_eq!((recovered.id, &*recovered.name, recovered.status), (run.id, "alpha", TaskStatus::Pending));
    let record = lab.get(run.id).await;
    assert_eq!((record.status, record.attempt, record.finished_at), (TaskStatus::Pending, 1, None));
    let attempt = only(record.attempts);
    assert_eq!((attempt.number, attempt.outcome), (1, AttemptOutcome::Lost));
    assert!(attempt.error.unwrap().contains("worker lost"));
    assert_eq!((attempt.instance, &*attempt.host, attempt.pid), (lab.me.id, "here", 7));
    let wait = record.run_at.duration_since(attempt.finished_at.unwrap()).unwrap();
    assert!((89..=111).contains(&wait.as_secs()), "{wait:?}");
    assert!(lab.claim(10).await.is_empty());
}

pub(crate) async fn a_lost_run_that_may_be_repeated_goes_back_uncounted(lab: Lab) {
    let run = lab.run(may_run_again(3)).await;
    lab.lose(&[run]).await;
    let record = lab.get(run.id).await;
    assert_eq!((record.status, record.attempt), (TaskStatus::Pending, 0));
    let claimed = lab.claim_one().await;
    assert_eq!((claimed.attempt, claimed.max_attempts), (1, 1));
    assert!(claimed.run.fence > run.fence);
    let expected = [(1, AttemptOutcome::Lost), (1, AttemptOutcome::Running)];
    assert_eq!(lab.outcomes(run.id).await, expected);
}

pub(crate) async fn a_lost_run_that_may_not_be_repeated_is_interrupted(lab: Lab) {
    let run = lab.run(with_key("alpha", "key")).await;
    let recovered = only(lab.lose(&[run]).await);
    assert_eq!(recovered.status, TaskStatus::Interrupted);
    let record = lab.get(run.id).await;
    assert_eq!((record.status, &record.error), (TaskStatus::Interrupted, &recovered.error));
    assert!(record.error.unwrap().contains("worker lost") && record.finished_at.is_some());
    assert_eq!(lab.outcomes(run.id).await, [(1, AttemptOutcome::Lost)]);
    assert!(lab.claim(10).await.is_empty());
    lab.add(with_key("alpha", "key")).await;
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_task_that_kills_its_processes_is_poison(lab: Lab) {
    for new in [may_run_again(3), with_attempts("alpha", 10)] {
        let id = lab.add(new).await;
        for lost in 1..=3 {
            let run = lab.claim_one().await.run;
            let recovered = only(lab.lose(&[run]).await);
            let expected = if lost < 3 { TaskStatus::Pending } else { TaskStatus::Failed };
            assert_eq!(recovered.status, expected, "after {lost} lost runs");
        }
        let record = lab.get(id).await;
        assert!(record.error.unwrap().contains("poison"));
        assert_eq!(record.attempts.len(), 3);
        assert!(record.attempts.iter().all(|it| (&*it.host, it.outcome) == ("here", AttemptOutcome::Lost)));
    }
}

pub(crate) async fn only_lost_runs_in_a_row_make_poison(lab: Lab) {
    let kinds = [
        retry(Duration::ZERO),
        give_back(None),
        give_back(Some(AttemptOutcome::Snoozed)),
        end(TaskStatus::Failed),
    ];
    for kind in kinds {
        let mut new = may_run_again(2);
        new.policy.to_mut().retries = 10;
        let id = lab.add(new).await;
        let lose = async || only(lab.lose(&[lab.claim_one().await.run]).await).status;
        assert_eq!(lose().await, TaskStatus::Pending);
        let ended = matches!(kind, crate::store::FinishKind::End { .. });
        lab.finish(lab.claim_one().await.run, kind).await;
        if ended {
            assert!(only(lab.store.retry(Reopen::at_once([id])).await.unwrap()).is_ok());
        }
        assert_eq!(lose().await, TaskStatus::Pending, "the run in between resets the count of lost runs");
        assert_eq!(lose().await, TaskStatus::Failed);
    }
}

pub(crate) async fn a_manual_retry_ends_a_row_of_lost_runs(lab: Lab) {
    let id = lab.add(may_run_again(2)).await;
    let lose = async || only(lab.lose(&[lab.claim_one().await.run]).await).status;
    for _ in 0..2 {
        assert_eq!((lose().await, lose().await), (TaskStatus::Pending, TaskStatus::Failed));
        assert!(only(lab.store.retry(Reopen::at_once([id])).await.unwrap()).is_ok());
    }
    assert_eq!(
        lab.finish(lab.claim_one().await.run, success()).await,
        Finished::Applied(TaskStatus::Success)
    );
}

pub(crate) async fn a_lost_run_that_was_asked_to_stop_is_cancelled(lab: Lab) {
    let run = lab.run(may_run_again(3)).await;
    assert_eq!(lab.store.cancel(vec![run.id], String::new()).await.unwrap(), [CancelOutcome::Requested]);
    assert_eq!(only(lab.lose(&[run]).await).status, TaskStatus::Cancelled);
    assert_eq!(lab.outcomes(run.id).await, [(1, AttemptOutcome::Lost)]);
    assert!(lab.store.asked_to_stop(lab.me.id).await.unwrap().is_empty());
    assert!(lab.claim(10).await.is_empty());
}

pub(crate) async fn a_lost_run_can_say_nothing_more(lab: Lab) {
    let run = lab.run(with_attempts("alpha", 3)).await;
    lab.lose(&[run]).await;
    let before = lab.portrait(run.id).await;
    let progress = Some(crate::model::Progress::new(0.7, "still here".to_owned()));
    let say = || Arc::new(vec![Report::new(run, progress.clone(), Vec::new())]);
    assert_eq!(lab.store.report(say()).await.unwrap(), [false]);
    assert_eq!(lab.renew(LONG, &[run]).await.lost, [run]);
    assert_eq!(lab.portrait(run.id).await, before);
    lab.claim_one().await;
    assert_eq!(lab.store.report(say()).await.unwrap(), [false]);
    assert_eq!(lab.renew(LONG, &[run]).await.lost, [run]);
}

pub(crate) async fn a_process_that_leaves_loses_what_it_left_at_once(lab: Lab) {
    let (mine, hold) = (lab.run(with_attempts("alpha", 2)).await, lab.hold(task("beta")).await);
    lab.add(task("gamma")).await;
    let others = only(lab.claim_as(lab.other.id, LONG).await).run;
    lab.store.leave(lab.me.id).await.unwrap();
    lab.recover(&[mine, hold]).await;
    assert_eq!(lab.outcomes(mine.id).await, [(1, AttemptOutcome::Lost)]);
    assert_eq!(lab.status(others.id).await, TaskStatus::Running);
    assert_eq!(lab.finish(mine, success()).await, Finished::Stale);
    let claimed = lab.claim_as(lab.other.id, LONG).await;
    assert_eq!(claimed.iter().map(|task| task.run.id).collect::<Vec<_>>(), [mine.id, hold.id]);
}

pub(crate) async fn recovering_moves_each_run_once_until_none_is_left(lab: Lab) {
    const LOST: usize = 700;
    let group = (0..LOST).map(|_| InsertTask::new(with_attempts("alpha", 2), Start::Lease)).collect();
    let inserted = only(lab.insert_for(Duration::from_millis(1), vec![group]).await).unwrap();
    let ids: HashSet<TaskId> = inserted.iter().map(|Inserted { id, .. }| *id).collect();
    // Three callers recover at once, each until nothing is left to recover.
    let patience = Arc::new(Patience::new("the recovery of all"));
    let seekers: Vec<_> = (0..3)
        .map(|_| {
            let (store, by, patience) = (Arc::clone(&lab.store), lab.other.id, Arc::clone(&patience));
            tokio::spawn(async move {
                let mut found = Vec::new();
                loop {
                    let recovered = store.recover(by).await.unwrap();
                    if recovered.is_empty() && store.counts().await.unwrap().running == 0 {
                        return found;
                    }
                    found.extend(recovered.iter().map(|it| it.id));
                    patience.wait().await;
                }
            })
        })
        .collect();
    let mut found = Vec::new();
    for seeker in seekers {
        found.extend(seeker.await.unwrap());
    }
    assert_eq!((found.len(), found.into_iter().collect::<HashSet<_>>()), (LOST, ids));
    assert!(lab.store.recover(lab.other.id).await.unwrap().is_empty());
    lab.assert_counts_are_true().await;
}
