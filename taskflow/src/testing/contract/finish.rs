//! How runs end and what they leave behind. A write that comes too late changes nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::{
    AttemptOutcome, CancelOutcome, LogLevel, LogLine, Progress, TaskId, TaskPhase, TaskStatus, When,
};
use crate::store::{
    Finish, FinishKind, Finished, HoldOutcome, InsertedAs, Release, Reopen, Report, RunRef, Start,
};

use super::lab::*;

pub(crate) async fn a_success_keeps_its_result_and_its_attempt(lab: Lab) {
    lab.add(task("alpha")).await;
    let run = lab.claim_one().await.run;
    assert_eq!(lab.finish(run, success()).await, Finished::Applied(TaskStatus::Success));
    let record = lab.get(run.id).await;
    assert_eq!((record.status, record.phase(), record.attempt), (TaskStatus::Success, TaskPhase::Ended, 1));
    assert_eq!((record.result.unwrap().get(), record.error), (r#"{"sent":true}"#, None));
    let attempt = only(record.attempts);
    assert_eq!((attempt.number, attempt.outcome, attempt.error), (1, AttemptOutcome::Success, None));
    assert_eq!((attempt.instance, &*attempt.host, attempt.pid), (lab.me.id, "here", 7));
    assert_eq!((Some(attempt.started_at), attempt.finished_at), (record.started_at, record.finished_at));
    assert!(record.created_at <= attempt.started_at && attempt.started_at <= attempt.finished_at.unwrap());
    assert!(lab.claim(10).await.is_empty());
}

pub(crate) async fn a_retry_waits_its_delay_and_counts(lab: Lab) {
    lab.add(with_attempts("alpha", 3)).await;
    let first = lab.claim_one().await.run;
    assert_eq!(lab.finish(first, retry(Duration::ZERO)).await, Finished::Applied(TaskStatus::Pending));
    let second = lab.claim_one().await;
    assert_eq!(second.attempt, 2);
    let outcome = AttemptOutcome::TimedOut;
    let slow = FinishKind::Retry { delay: LONG, outcome, error: "too slow".to_owned() };
    assert_eq!(lab.finish(second.run, slow).await, Finished::Applied(TaskStatus::Pending));
    assert!(lab.claim(10).await.is_empty(), "not due");
    let record = lab.get(first.id).await;
    assert_eq!((record.phase(), record.attempt, record.max_attempts), (TaskPhase::Retrying, 2, 3));
    assert_eq!(record.error.as_deref(), Some("too slow"));
    assert_eq!((record.finished_at, record.scheduled_for), (None, None));
    let wait = record.run_at.duration_since(record.attempts[1].finished_at.unwrap()).unwrap();
    assert!(wait.abs_diff(LONG) < Duration::from_millis(2), "{wait:?}");
    let errors: Vec<_> = record.attempts.iter().map(|attempt| attempt.error.as_deref().unwrap()).collect();
    assert_eq!(errors, ["no luck", "too slow"]);
    assert_eq!(lab.outcomes(first.id).await, [(1, AttemptOutcome::Failed), (2, AttemptOutcome::TimedOut)]);
}

pub(crate) async fn a_run_can_end_the_task_in_every_other_way(lab: Lab) {
    for status in [TaskStatus::Failed, TaskStatus::Interrupted, TaskStatus::Cancelled] {
        let run = lab.run(with_attempts("alpha", 5)).await;
        assert_eq!(lab.finish(run, end(status)).await, Finished::Applied(status));
        let record = lab.get(run.id).await;
        assert_eq!((record.status, record.error.as_deref()), (status, Some("the end")));
        assert!(record.finished_at.is_some() && record.result.is_none());
        assert_eq!(only(record.attempts).error.as_deref(), Some("the end"));
        lab.assert_counts_are_true().await;
    }
    assert!(lab.claim(10).await.is_empty());
}

pub(crate) async fn what_is_given_back_is_not_counted(lab: Lab) {
    let first = lab.run(task("alpha")).await;
    assert_eq!(lab.finish(first, give_back(None)).await, Finished::Applied(TaskStatus::Pending));
    let record = lab.get(first.id).await;
    assert_eq!((record.attempt, record.attempts.len(), record.error), (0, 0, None), "no trace");

    let second = lab.claim_one().await;
    assert_eq!((second.attempt, second.max_attempts), (1, 1));
    assert!(second.run.fence > first.fence);
    let snoozed = Some(AttemptOutcome::Snoozed);
    lab.finish(second.run, give_back(snoozed)).await;
    let third = lab.claim_one().await;
    assert_eq!(third.attempt, 1);
    let later = FinishKind::GiveBack { delay: LONG, outcome: Some(AttemptOutcome::HandedBack) };
    lab.finish(third.run, later).await;
    assert!(lab.claim(10).await.is_empty(), "not due");
    let expected = [(1, AttemptOutcome::Snoozed), (1, AttemptOutcome::HandedBack)];
    assert_eq!(lab.outcomes(first.id).await, expected, "both share the number of the next");
}

pub(crate) async fn finishes_are_answered_in_order_and_each_applies_once(lab: Lab) {
    let (a, b) = (lab.run(task("alpha")).await, lab.run(task("alpha")).await);
    let answers = lab
        .finish_all(vec![
            Finish::new(RunRef::new(TaskId::new(), 1), success()),
            Finish::new(b, success()),
            Finish::new(RunRef::new(a.id, a.fence + 1), success()),
            Finish::new(b, end(TaskStatus::Failed)),
            Finish::new(a, end(TaskStatus::Failed)),
        ])
        .await;
    let applied = Finished::Applied;
    let expected = [
        Finished::Stale,
        applied(TaskStatus::Success),
        Finished::Stale,
        Finished::Repeated(TaskStatus::Success),
        applied(TaskStatus::Failed),
    ];
    assert_eq!(answers, expected);
    assert_eq!(lab.finish(b, success()).await, Finished::Repeated(TaskStatus::Success));
    assert_eq!(lab.outcomes(b.id).await, [(1, AttemptOutcome::Success)]);
    lab.assert_counts_are_true().await;
}

/// A process repeats a finish if its connection was cut after the commit and before the answer.
pub(crate) async fn a_finish_that_is_repeated_is_known_to_be_applied(lab: Lab) {
    let keyed = || with(with_attempts("alpha", 3), |task| task.concurrency_key = Some("key".to_owned()));
    for new in [|| with_attempts("alpha", 3), keyed] {
        for (kind, status) in [
            (success(), TaskStatus::Success),
            (FinishKind::Success { result: "null".into() }, TaskStatus::Success),
            (retry(Duration::ZERO), TaskStatus::Pending),
            (retry(LONG), TaskStatus::Pending),
            (give_back(None), TaskStatus::Pending),
            (give_back(Some(AttemptOutcome::Snoozed)), TaskStatus::Pending),
            (end(TaskStatus::Failed), TaskStatus::Failed),
            (end(TaskStatus::Interrupted), TaskStatus::Interrupted),
        ] {
            lab.add(new()).await;
            let run = lab.claim_one().await.run;
            let mut finish = Finish::new(run, kind.clone());
            if status == TaskStatus::Failed {
                finish.lines = vec![LogLine::new(SystemTime::now(), LogLevel::Info, "last".to_owned(), 1)];
            }
            assert_eq!(lab.finish_all(vec![finish.clone()]).await, [Finished::Applied(status)], "{kind:?}");
            let before = lab.portrait(run.id).await;
            let other = lab.run(task("beta")).await;
            let batch = vec![finish.clone(), Finish::new(other, success())];
            let answers = lab.finish_all(batch.clone()).await;
            let other_ended = Finished::Applied(TaskStatus::Success);
            assert_eq!(answers, [Finished::Repeated(status), other_ended], "{kind:?}");
            let (answers, _) = lab.store.turn(Arc::new(batch), lab.request(0)).await.unwrap();
            let other_ended = Finished::Repeated(TaskStatus::Success);
            assert_eq!(answers, [Finished::Repeated(status), other_ended], "{kind:?}");
            assert_eq!(lab.portrait(run.id).await, before, "nothing changes: {kind:?}");
            lab.assert_counts_are_true().await;

            // Once another run has begun, the repeated finish comes too late.
            if status == TaskStatus::Pending && kind != retry(LONG) {
                let next = lab.claim_one().await.run;
                assert_eq!(lab.finish_all(vec![finish.clone()]).await, [Finished::Stale], "{kind:?}");
                assert_eq!(lab.finish(next, success()).await, Finished::Applied(TaskStatus::Success));
                assert_eq!(lab.finish_all(vec![finish]).await, [Finished::Stale], "{kind:?}");
            } else if status == TaskStatus::Pending {
                lab.store.cancel(vec![run.id], String::new()).await.unwrap();
                let answers = lab.finish_all(vec![finish]).await;
                assert_eq!(answers, [Finished::Repeated(TaskStatus::Cancelled)]);
            }
        }
    }
}

pub(crate) async fn a_finish_under_a_fence_that_no_run_had_is_no_repetition(lab: Lab) {
    let waits =
        RunRef::new(lab.add(with(task("alpha"), |task| task.when = crate::model::When::In(LONG))).await, 1);
    let hold = lab.hold(task("alpha")).await;
    assert!(lab.release(hold, crate::store::HoldOutcome::Run).await);
    let cancelled = lab.hold(task("alpha")).await;
    let cancel = crate::store::HoldOutcome::Cancel { reason: String::new() };
    assert!(lab.release(cancelled, cancel).await);
    for run in [waits, hold, cancelled] {
        assert_eq!(lab.finish(run, success()).await, Finished::Stale);
        assert_eq!(lab.finish(run, end(TaskStatus::Failed)).await, Finished::Stale);
    }
    // A lost run was not finished, whatever became of its task.
    let lost = [lab.run(task("beta")).await, lab.run(with_attempts("beta", 2)).await];
    lab.lose(&lost).await;
    lab.store.retry(Reopen::at_once([lost[0].id])).await.unwrap()[0].as_ref().unwrap();
    for run in lost {
        assert_eq!(lab.status(run.id).await, TaskStatus::Pending);
        assert_eq!(lab.finish(run, success()).await, Finished::Stale);
        assert_eq!(lab.finish(run, retry(Duration::ZERO)).await, Finished::Stale);
    }
}

pub(crate) async fn a_late_finish_after_another_claim_changes_nothing(lab: Lab) {
    let lost = lab.run(with_attempts("alpha", 3)).await;
    lab.lose(&[lost]).await;
    let kinds = || [success(), retry(LONG), give_back(None), end(TaskStatus::Failed)];
    let assert_all_stale = async |when: &str| {
        let before = lab.portrait(lost.id).await;
        for kind in kinds() {
            let mut late = Finish::new(lost, kind);
            late.lines = vec![LogLine::new(SystemTime::now(), LogLevel::Error, "late".to_owned(), 1)];
            late.progress = Some(Progress::new(1.0, "late".to_owned()));
            assert_eq!(lab.finish_all(vec![late]).await, [Finished::Stale], "{when}");
        }
        assert_eq!(lab.portrait(lost.id).await, before, "{when}");
    };
    assert_all_stale("while it waits").await;
    let second = lab.claim_one().await.run;
    assert!(second.fence > lost.fence);
    assert_all_stale("while it runs again").await;
    assert_eq!(lab.finish(second, success()).await, Finished::Applied(TaskStatus::Success));
    assert_all_stale("after it succeeded").await;
    assert_eq!(lab.outcomes(lost.id).await, [(1, AttemptOutcome::Lost), (2, AttemptOutcome::Success)]);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_run_that_was_asked_to_stop_is_not_tried_again(lab: Lab) {
    for kind in [retry(Duration::ZERO), give_back(None), give_back(Some(AttemptOutcome::Snoozed))] {
        let run = lab.run(with_attempts("alpha", 3)).await;
        assert_eq!(lab.store.cancel(vec![run.id], String::new()).await.unwrap(), [CancelOutcome::Requested]);
        assert_eq!(lab.finish(run, kind).await, Finished::Applied(TaskStatus::Cancelled));
        assert!(lab.get(run.id).await.finished_at.is_some());
    }
    let run = lab.run(task("alpha")).await;
    lab.store.cancel(vec![run.id], String::new()).await.unwrap();
    assert_eq!(lab.finish(run, success()).await, Finished::Applied(TaskStatus::Success), "it was quicker");
    assert!(lab.claim(10).await.is_empty());
    assert!(lab.store.asked_to_stop(lab.me.id).await.unwrap().is_empty());
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_repeated_report_stores_no_line_twice(lab: Lab) {
    let said = |text: &str| LogLine::new(SystemTime::now(), LogLevel::Info, text.to_owned(), 1);
    let first = lab.run(with_attempts("alpha", 2)).await;
    let report = |run, before, texts: &[&str]| {
        let mut report = Report::new(run, None, texts.iter().map(|text| said(text)).collect());
        report.lines_before = Some(before);
        Arc::new(vec![report])
    };
    // Some answers are lost, so the run repeats the lines of those reports together with what it has logged since.
    for (before, texts) in
        [(0, &["a", "b"][..]), (2, &["c"]), (2, &["c"]), (2, &["c", "d"]), (2, &["c", "d", "e"])]
    {
        assert_eq!(lab.store.report(report(first, before, texts)).await.unwrap(), [true]);
    }
    let mut finish = Finish::new(first, retry(Duration::ZERO));
    (finish.lines, finish.lines_before) = (vec![said("e"), said("f")], Some(4));
    assert_eq!(
        lab.store.finish(Arc::new(vec![finish])).await.unwrap(),
        [Finished::Applied(TaskStatus::Pending)]
    );
    let texts = async || {
        let lines = lab.store.logs(first.id).await.unwrap().unwrap();
        lines.into_iter().map(|line| line.message).collect::<Vec<_>>().concat()
    };
    assert_eq!(texts().await, "abcdef");

    // The lines of the next attempt follow, and the totals are correct.
    let second = lab.claim_one().await;
    assert_eq!((second.log_lines, second.log_bytes), (6, 6));
    for _ in 0..2 {
        assert_eq!(lab.store.report(report(second.run, 6, &["g"])).await.unwrap(), [true]);
    }
    assert_eq!(lab.finish(second.run, success()).await, Finished::Applied(TaskStatus::Success));
    assert_eq!(texts().await, "abcdefg");
}

pub(crate) async fn reports_keep_progress_and_lines_while_the_run_lives(lab: Lab) {
    let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    let line = |level, message: &str| LogLine::new(at, level, message.to_owned(), 1);
    let run = lab.run(task("alpha")).await;
    assert_eq!(lab.store.logs(run.id).await.unwrap(), Some(Vec::new()));
    assert_eq!(lab.store.logs(TaskId::new()).await.unwrap(), None);

    let half = Progress::new(0.5, "half".to_owned());
    let lines = vec![line(LogLevel::Warn, "b"), line(LogLevel::Debug, "a")];
    let reports = vec![
        Report::new(run, Some(half.clone()), lines),
        Report::new(RunRef::new(run.id, run.fence + 1), Some(Progress::new(0.9, String::new())), Vec::new()),
        Report::new(run, None, vec![line(LogLevel::Error, "")]),
        Report::new(RunRef::new(TaskId::new(), 1), None, vec![line(LogLevel::Info, "nobody's")]),
    ];
    assert_eq!(lab.store.report(Arc::new(reports)).await.unwrap(), [true, false, true, false]);
    assert_eq!(lab.get(run.id).await.progress, Some(half));

    let mut finish = Finish::new(run, success());
    finish.lines = vec![line(LogLevel::Info, "last")];
    finish.progress = Some(Progress::new(1.0, "done".to_owned()));
    lab.finish_all(vec![finish]).await;
    let late =
        vec![Report::new(run, Some(Progress::new(0.1, String::new())), vec![line(LogLevel::Info, "late")])];
    assert_eq!(lab.store.report(Arc::new(late)).await.unwrap(), [false]);
    assert_eq!(lab.get(run.id).await.progress, Some(Progress::new(1.0, "done".to_owned())));
    let logs = lab.store.logs(run.id).await.unwrap().unwrap();
    let said: Vec<_> = logs.iter().map(|line| (line.level, &*line.message, line.attempt)).collect();
    let expected = [
        (LogLevel::Warn, "b", 1),
        (LogLevel::Debug, "a", 1),
        (LogLevel::Error, "", 1),
        (LogLevel::Info, "last", 1),
    ];
    assert_eq!(said, expected);
    let to_the_millisecond = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    assert!(logs.iter().all(|line| line.at == to_the_millisecond), "{logs:?}");
}

pub(crate) async fn lines_of_many_attempts_stay_in_order(lab: Lab) {
    let id = lab.add(with_attempts("alpha", 3)).await;
    for attempt in 1..=3 {
        let run = lab.claim_one().await.run;
        let said =
            |n: u32| LogLine::new(SystemTime::now(), LogLevel::Info, format!("{attempt}.{n}"), attempt);
        lab.store.report(Arc::new(vec![Report::new(run, None, vec![said(1), said(2)])])).await.unwrap();
        let mut finish = Finish::new(run, retry(Duration::ZERO));
        finish.lines = vec![said(3)];
        lab.finish_all(vec![finish]).await;
    }
    let logs = lab.store.logs(id).await.unwrap().unwrap();
    let said: Vec<_> = logs.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(said, ["1.1", "1.2", "1.3", "2.1", "2.2", "2.3", "3.1", "3.2", "3.3"]);
}

pub(crate) async fn a_turn_can_claim_what_it_releases(lab: Lab) {
    let run = lab.run(task("alpha")).await;
    let later = with(task("alpha"), |task| task.when = When::In(LONG));
    let mut holds = Vec::new();
    for new in [task("alpha"), later, task("beta"), task("alpha")] {
        holds.push(lab.hold(new).await);
    }
    let mut releases: Vec<_> = holds.iter().map(|hold| Release::new(*hold, HoldOutcome::Run)).collect();
    releases[3].outcome = HoldOutcome::Cancel { reason: "not wanted".to_owned() };
    releases.push(Release::new(RunRef::new(holds[0].id, 7), HoldOutcome::Run));
    let releases = Arc::new(releases);
    let finishes = Arc::new(vec![Finish::new(run, success())]);
    let turn = lab.store.release_and_turn(releases.clone(), finishes, lab.request(10)).await;
    let (released, finished, claims) = turn.unwrap();
    assert_eq!(released, [true, true, true, true, false]);
    assert_eq!(finished, [Finished::Applied(TaskStatus::Success)]);
    let claimed: Vec<_> = claims.tasks.iter().map(|task| (task.run.id, task.attempt)).collect();
    assert_eq!(claimed, [(holds[0].id, 1), (holds[2].id, 1)]);
    assert!(claims.tasks.iter().all(|task| task.run.fence > 1), "a run is not a hold");
    assert_eq!(lab.status(holds[1].id).await, TaskStatus::Pending);
    assert_eq!(lab.status(holds[3].id).await, TaskStatus::Cancelled);

    // The answer may have been lost: then the process repeats the call.
    let again = lab.store.release_and_turn(releases, Arc::default(), lab.request(10)).await;
    let (released, finished, claims) = again.unwrap();
    assert_eq!(released, [false, true, false, true, false], "two have been claimed since");
    assert!(finished.is_empty() && claims.tasks.is_empty());
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_hold_is_released_in_the_queue_to_which_it_was_replaced(lab: Lab) {
    let of_key = |queue: &'static str| {
        with(task("alpha"), |task| (task.run_key, task.queue) = (Some("order 7".to_owned()), queue.into()))
    };
    let held = lab.hold(of_key("mail")).await;
    assert_eq!(lab.begin(of_key("default"), Start::Wait).await.kind, InsertedAs::Replaced);
    assert!(lab.release(held, HoldOutcome::Run).await);
    lab.assert_counts_are_true().await;
    let queues = lab.store.queues().await.unwrap();
    let waiting =
        |name: &str| queues.iter().find(|queue| queue.name == name).map_or(0, |queue| queue.pending);
    assert_eq!((waiting("mail"), waiting("default")), (0, 1));
    assert_eq!(lab.claim_ids(10).await, [held.id]);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_turn_is_a_finish_and_a_claim(lab: Lab) {
    let (a, b) = (lab.run(with_attempts("alpha", 2)).await, lab.run(task("alpha")).await);
    let waits = lab.add(task("beta")).await;
    let finishes = vec![
        Finish::new(a, retry(Duration::ZERO)),
        Finish::new(RunRef::new(b.id, b.fence + 7), success()),
        Finish::new(b, success()),
    ];
    let (finished, claims) = lab.store.turn(Arc::new(finishes), lab.request(10)).await.unwrap();
    let applied = Finished::Applied;
    assert_eq!(finished, [applied(TaskStatus::Pending), Finished::Stale, applied(TaskStatus::Success)]);
    let claimed: Vec<_> = claims.tasks.iter().map(|task| (task.run.id, task.attempt)).collect();
    assert_eq!(claimed, [(a.id, 2), (waits, 1)], "the retry of this very turn is the oldest");

    let runs: Vec<_> = claims.tasks.iter().map(|task| Finish::new(task.run, success())).collect();
    let (finished, claims) = lab.store.turn(Arc::new(runs), lab.request(0)).await.unwrap();
    assert_eq!(finished, [applied(TaskStatus::Success); 2]);
    assert!(claims.tasks.is_empty());
    let (finished, claims) = lab.store.turn(Arc::new(Vec::new()), lab.request(10)).await.unwrap();
    assert!(finished.is_empty() && claims.tasks.is_empty());
    lab.assert_counts_are_true().await;
}
