//! What an insert stores, how a task starts, and what is refused.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::{
    AttemptOutcome, LogLevel, LogLine, NewTask, Progress, TaskFilter, TaskId, TaskPhase, TaskSource,
    TaskStatus, TraceContext, When,
};
use crate::store::{
    Finished, HoldOutcome, InsertBatch, InsertGroup, InsertTask, Inserted, InsertedAs, Refusal, Release,
    RunRef, Start,
};

use super::lab::*;

pub(crate) async fn a_task_is_read_back_as_it_was_added(lab: Lab) {
    let new = with(task("alpha"), |task| {
        task.queue = "mail".into();
        task.priority = -7;
        task.args = Ok(Arc::from(r#"{"n":0.1,"big":170141183460469231731687303715884105727,"list":[null]}"#));
        task.tags.insert("plan".to_owned(), "free".to_owned());
        task.idempotency_key = Some("key".to_owned());
        task.run_key = Some("run".to_owned());
        task.source = TaskSource::Request;
        task.trace = Some(trace());
        task.policy.to_mut().retries = 4;
    });
    let id = lab.add(new.clone()).await;
    let record = lab.get(id).await;
    assert_eq!((record.id, &*record.name, &*record.queue, record.priority), (id, "alpha", "mail", -7));
    assert_eq!((record.status, record.phase()), (TaskStatus::Pending, TaskPhase::Waiting));
    assert_eq!(record.args.get(), &**new.args.as_ref().unwrap());
    assert_eq!(record.tags, new.tags);
    assert_eq!((record.idempotency_key.as_deref(), record.run_key.as_deref()), (Some("key"), Some("run")));
    assert_eq!((record.source, record.trace.clone()), (TaskSource::Request, Some(trace())));
    assert_eq!((record.attempt, record.max_attempts, record.attempts.len()), (0, 5, 0));
    assert!(
        record.created_at.elapsed().unwrap() < DEADLINE && record.run_at == record.created_at,
        "{record:?}"
    );
    assert_eq!((record.scheduled_for, record.started_at, record.finished_at), (None, None, None));
    assert!(record.error.is_none() && record.result.is_none() && record.progress.is_none());
    assert!(!record.cancel_requested);
}

fn trace() -> TraceContext {
    let trace: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    trace.with_state("vendor=opaque,other=1")
}

pub(crate) async fn a_trace_comes_with_every_claim_and_stays_in_the_record(lab: Lab) {
    let traced = |name| with(task(name), |task| task.trace = Some(trace()));
    let keyed = with(with_key("alpha", "key"), |task| task.trace = Some(trace()));
    let long =
        with(traced("beta"), |task| task.args = Ok(format!(r#"{{"long":"{}"}}"#, "x".repeat(5000)).into()));
    let groups = [traced("alpha"), keyed, long, task("alpha")].map(|task| vec![waiting(task)]);
    let ids: Vec<TaskId> =
        lab.insert_groups(groups.into()).await.into_iter().map(|group| only(group.unwrap()).id).collect();
    for attempt in 1..=2 {
        let claimed = lab.claim(10).await;
        assert_eq!(claimed.iter().map(|task| task.run.id).collect::<Vec<_>>(), ids);
        let traces: Vec<_> = claimed.iter().map(|task| (task.attempt, task.trace.clone())).collect();
        let expected = [Some(trace()), Some(trace()), Some(trace()), None].map(|trace| (attempt, trace));
        assert_eq!(traces, expected);
        for task in claimed {
            lab.finish(task.run, retry(Duration::ZERO)).await;
        }
    }
    let listed = lab.store.list(TaskFilter::all()).await.unwrap().items;
    assert_eq!(listed.iter().filter(|record| record.trace == Some(trace())).count(), 3);

    let first = lab
        .begin(with(with_run_key("alpha", "report"), |task| task.trace = Some(trace())), Start::Wait)
        .await;
    lab.begin(with_run_key("alpha", "report"), Start::Wait).await;
    assert_eq!(lab.get(first.id).await.trace, None, "the replacement brings its own");
}

pub(crate) async fn an_insert_that_is_repeated_inserts_once(lab: Lab) {
    let new = with_key("alpha", "key");
    let again = || lab.begin(new.clone(), Start::Wait);
    let expected = Inserted::new(new.id, InsertedAs::Pending);
    assert_eq!(again().await, expected);
    assert_eq!(again().await, expected);
    let twice = lab
        .try_insert(vec![waiting(task("beta")), waiting(new.clone()), waiting(new.clone())])
        .await
        .unwrap();
    assert_eq!(twice[1..], [expected, expected]);
    assert_eq!(lab.store.counts().await.unwrap().total(), 2);

    for claimed in lab.claim(10).await {
        assert_eq!(again().await.id, new.id, "while it runs");
        lab.finish(claimed.run, end(TaskStatus::Failed)).await;
    }
    assert_eq!(again().await.id, new.id, "after it ended");
    assert_eq!(lab.status(new.id).await, TaskStatus::Failed);
    assert_eq!(lab.store.counts().await.unwrap().total(), 2);
}

pub(crate) async fn a_repeated_insert_answers_as_the_first_did_while_that_holds(lab: Lab) {
    let (leased, held) = (task("alpha"), task("beta"));
    let begin = |task: &NewTask, start| lab.begin(task.clone(), start);
    for _ in 0..2 {
        assert_eq!(
            begin(&leased, Start::Lease).await.kind,
            InsertedAs::Leased { fence: RunRef::FIRST_FENCE }
        );
        assert_eq!(begin(&held, Start::Hold).await.kind, InsertedAs::Held { fence: 1 });
    }
    // The run belongs to this process: if another one repeats the insert, it gets no run.
    let group = InsertGroup::new(vec![InsertTask::new(leased.clone(), Start::Lease)]);
    let batch = InsertBatch::new(lab.other.id, LONG, vec![group]);
    let elsewhere = lab.store.insert(Arc::new(batch)).await.unwrap().remove(0).unwrap();
    assert_eq!(elsewhere, [Inserted::new(leased.id, InsertedAs::Pending)]);

    lab.finish(RunRef::new(leased.id, 1), success()).await;
    let release = Release::new(RunRef::new(held.id, 1), HoldOutcome::Run);
    assert_eq!(lab.store.release(Arc::new(vec![release])).await.unwrap(), [true]);
    assert_eq!(begin(&leased, Start::Lease).await.kind, InsertedAs::Pending, "it has ended");
    assert_eq!(begin(&held, Start::Hold).await.kind, InsertedAs::Pending, "it was released");
    // A claim by the same process starts another run, which is not the hold of the first answer.
    lab.claim_one().await;
    assert_eq!(begin(&held, Start::Hold).await.kind, InsertedAs::Pending);
    assert_eq!(lab.store.counts().await.unwrap().total(), 2);
}

pub(crate) async fn text_of_every_kind_comes_back_intact(lab: Lab) {
    let odd = "a\0b \u{1F980} \u{202E}\u{301} '\"\\; DROP TABLE tasks; -- \u{10FFFF}\r\n\t";
    let json = serde_json::to_string(odd).unwrap();
    let new = with(task("alpha"), |task| {
        task.args = Ok(Arc::from(format!("{{\"text\":{json}}}")));
        task.tags.insert(odd.to_owned(), odd.to_owned());
        task.tags.insert(String::new(), String::new());
        task.idempotency_key = Some(odd.to_owned());
        task.run_key = Some(odd.to_owned());
        task.policy.to_mut().retries = 1;
    });
    lab.add(new.clone()).await;
    let duplicate = lab.begin(with_key("alpha", odd), Start::Wait).await;
    assert_eq!(duplicate, Inserted::new(new.id, InsertedAs::Duplicate));
    lab.add(with_key("alpha", "a")).await;
    assert_eq!(lab.ids(crate::model::TaskFilter::new().tag(odd, odd)).await, [new.id]);

    let claimed = lab.claim(1).await.remove(0);
    assert_eq!((&claimed.args, &claimed.tags), (new.args.as_ref().unwrap(), &new.tags));
    let line = LogLine::new(SystemTime::now(), LogLevel::Warn, odd.to_owned(), 1);
    let report = crate::store::Report::new(claimed.run, Some(Progress::new(0.5, odd.to_owned())), vec![line]);
    assert_eq!(lab.store.report(Arc::new(vec![report])).await.unwrap(), [true]);
    assert_eq!(lab.get(new.id).await.progress.unwrap().message, odd);
    let error = odd.to_owned();
    let failed =
        crate::store::FinishKind::Retry { delay: Duration::ZERO, outcome: AttemptOutcome::Panicked, error };
    assert_eq!(lab.finish(claimed.run, failed).await, Finished::Applied(TaskStatus::Pending));
    let record = lab.get(new.id).await;
    assert_eq!((record.error.as_deref(), record.attempts[0].error.as_deref()), (Some(odd), Some(odd)));

    let again = lab.claim(1).await.remove(0);
    lab.finish(again.run, crate::store::FinishKind::Success { result: json.clone().into() }).await;
    let record = lab.get(new.id).await;
    assert_eq!(record.result.unwrap().get(), json);
    assert_eq!((record.tags, record.idempotency_key.unwrap()), (new.tags, odd.to_owned()));
    assert_eq!(record.args.get(), &**new.args.as_ref().unwrap());
    assert_eq!(lab.store.logs(new.id).await.unwrap().unwrap()[0].message, odd);

    let named = with(task("alpha"), |task| task.queue = odd.to_owned().into());
    let held = lab.hold(named).await;
    lab.release(held, HoldOutcome::Cancel { reason: odd.to_owned() }).await;
    let record = lab.get(held.id).await;
    assert_eq!((record.queue.as_str(), record.error.as_deref()), (odd, Some(odd)));
}

pub(crate) async fn a_task_for_later_says_for_when(lab: Lab) {
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(4_000_000_000_123_456);
    let fixed = lab.add(with(task("alpha"), |task| task.when = When::At(at))).await;
    let record = lab.get(fixed).await;
    assert_eq!((record.run_at, record.scheduled_for, record.phase()), (at, Some(at), TaskPhase::Scheduled));

    let later = lab.add(with(task("alpha"), |task| task.when = When::In(LONG))).await;
    let record = lab.get(later).await;
    assert_eq!(record.run_at, record.created_at + LONG);
    assert_eq!(record.scheduled_for, Some(record.run_at));

    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let due = lab.add(with(task("alpha"), |task| task.when = When::At(past))).await;
    let claimed = lab.claim_one().await;
    assert_eq!((claimed.run.id, claimed.scheduled_for), (due, Some(past)));
}

pub(crate) async fn a_full_queue_refuses_a_group_whole_and_no_other(lab: Lab) {
    let waits = lab.add(with_run_key("alpha", "report")).await;
    let before = lab.portrait(waits).await;
    let room_for_two = |task| limited(task, Start::Wait, 2);
    let replacement = with(with_run_key("alpha", "report"), |task| task.priority = 9);
    let refused =
        vec![room_for_two(with_key("beta", "k")), room_for_two(replacement), room_for_two(task("beta"))];
    let elsewhere = with(task("beta"), |task| task.queue = "mail".into());
    let answers = lab
        .insert_groups(vec![
            vec![room_for_two(elsewhere)],
            refused,
            vec![room_for_two(with_key("beta", "k"))],
        ])
        .await;
    assert_eq!(answers[1], Err(Refusal::QueueFull { queue: "default".to_owned(), max_size: 2 }));
    assert!(answers[0].is_ok());
    // Nothing is left of the refused group: neither its task, nor its key, nor its replacement.
    assert!(matches!(answers[2].as_ref().unwrap()[..], [Inserted { kind: InsertedAs::Pending, .. }]));
    assert_eq!(lab.portrait(waits).await, before);
    assert_eq!(lab.store.counts().await.unwrap().pending, 3);
    lab.assert_counts_are_true().await;
    assert_eq!(lab.claim_ids(10).await.len(), 3);
}

pub(crate) async fn max_size_is_exact_when_many_insert_at_once(lab: Lab) {
    let inserts = (0..8).map(|_| {
        let (store, me) = (Arc::clone(&lab.store), lab.me.id);
        tokio::spawn(async move {
            let mut accepted = 0;
            for _ in 0..8 {
                let group = || InsertGroup::new(vec![limited(task("alpha"), Start::Wait, 25)]);
                let batch = InsertBatch::new(me, LONG, vec![group(), group()]);
                let answers = store.insert(Arc::new(batch)).await.unwrap();
                accepted += answers.iter().filter(|answer| answer.is_ok()).count();
            }
            accepted
        })
    });
    let mut accepted = 0;
    for insert in inserts.collect::<Vec<_>>() {
        accepted += insert.await.unwrap();
    }
    assert_eq!((accepted, lab.store.counts().await.unwrap().pending), (25, 25));
}

pub(crate) async fn max_size_counts_who_waits_for_a_first_attempt_and_nobody_else(lab: Lab) {
    let full = async || lab.try_insert(vec![limited(task("alpha"), Start::Wait, 3)]).await.is_err();
    lab.add(with(task("alpha"), |task| task.when = When::In(LONG))).await;
    lab.hold(task("alpha")).await;
    lab.add(with(task("alpha"), |task| task.queue = "elsewhere".into())).await;
    lab.ended(task("alpha"), TaskStatus::Success).await;
    lab.run(task("alpha")).await;
    let retried = lab.run(with_attempts("alpha", 3)).await;
    lab.finish(retried, retry(LONG)).await;
    assert!(!full().await, "one later, one held: the third may wait");
    assert!(full().await);
    // A task that would run at once is refused, too.
    assert!(lab.try_insert(vec![limited(task("alpha"), Start::Lease, 3)]).await.is_err());

    // A retry is never refused, and a task that begins leaves a free place.
    let claimed = lab.claim(1).await.remove(0);
    assert!(!full().await);
    assert_eq!(lab.finish(claimed.run, retry(Duration::ZERO)).await, Finished::Applied(TaskStatus::Pending));
    assert!(full().await);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_task_leased_at_insert_runs_from_the_start(lab: Lab) {
    let run = lab.run(with_attempts("alpha", 2)).await;
    let record = lab.get(run.id).await;
    assert_eq!((record.status, record.attempt), (TaskStatus::Running, 1));
    let attempt = only(record.attempts);
    assert_eq!((attempt.number, attempt.instance, attempt.outcome), (1, lab.me.id, AttemptOutcome::Running));
    assert!(record.started_at.is_some() && lab.claim(10).await.is_empty());

    assert_eq!(lab.finish(run, retry(Duration::ZERO)).await, Finished::Applied(TaskStatus::Pending));
    let again = lab.claim_one().await;
    assert!(again.run.fence > run.fence && again.attempt == 2);
}

pub(crate) async fn a_lease_at_insert_respects_pauses_and_times(lab: Lab) {
    lab.store.set_paused("mail".to_owned(), true).await.unwrap();
    for start in [Start::Lease, Start::LeaseIfIdle] {
        let paused = lab.begin(with(task("alpha"), |task| task.queue = "mail".into()), start).await;
        let early = lab.begin(with(task("alpha"), |task| task.when = When::In(LONG)), start).await;
        for inserted in [paused, early] {
            assert_eq!(inserted.kind, InsertedAs::Pending);
            let record = lab.get(inserted.id).await;
            assert_eq!((record.status, record.attempt), (TaskStatus::Pending, 0));
        }
    }
    assert!(lab.claim(10).await.is_empty());
}

pub(crate) async fn a_lease_if_idle_never_overtakes_who_is_due(lab: Lab) {
    let is_leased = async |queue: &'static str| {
        let new = with(task("alpha"), |task| (task.queue, task.priority) = (queue.into(), 100));
        matches!(lab.begin(new, Start::LeaseIfIdle).await.kind, InsertedAs::Leased { .. })
    };
    lab.add(with(task("alpha"), |task| task.when = When::In(LONG))).await;
    lab.run(task("alpha")).await;
    lab.ended(task("alpha"), TaskStatus::Failed).await;
    assert!(is_leased("default").await, "one later, one running, one ended: nobody is due");
    assert!(is_leased("default").await, "nor now");

    // A due task counts, even if no process here knows its name.
    lab.add(task("unknown here")).await;
    assert!(!is_leased("default").await);
    assert!(is_leased("mail").await, "another queue is another matter");
    assert!(matches!(lab.begin(task("alpha"), Start::Lease).await.kind, InsertedAs::Leased { .. }));
}

pub(crate) async fn a_duplicate_does_not_keep_its_queue_from_being_idle(lab: Lab) {
    lab.ended(with_key("alpha", "key"), TaskStatus::Success).await;
    let lost = task("alpha");
    lab.ended(lost.clone(), TaskStatus::Success).await;
    let groups = vec![
        vec![waiting(with_key("alpha", "key"))],
        vec![waiting(lost)],
        vec![InsertTask::new(task("beta"), Start::LeaseIfIdle)],
        vec![waiting(task("alpha"))],
        vec![InsertTask::new(task("beta"), Start::LeaseIfIdle)],
    ];
    let kinds = lab.insert_groups(groups).await.into_iter().map(|answers| only(answers.unwrap()).kind);
    let is_leased: Vec<bool> = kinds.map(|kind| matches!(kind, InsertedAs::Leased { .. })).collect();
    assert_eq!(is_leased, [false, false, true, false, false], "only the third finds nobody before it");
}

pub(crate) async fn nobody_claims_a_held_task_until_it_is_released(lab: Lab) {
    let hold = lab.hold(task("alpha")).await;
    let later = lab.hold(with(task("alpha"), |task| task.when = When::In(LONG))).await;
    assert_eq!((lab.status(hold.id).await, lab.get(hold.id).await.attempt), (TaskStatus::Pending, 0));
    assert!(lab.claim(10).await.is_empty());

    let wrong = crate::store::RunRef::new(hold.id, hold.fence + 1);
    assert!(!lab.release(wrong, HoldOutcome::Run).await);
    assert_eq!(lab.finish(hold, success()).await, Finished::Stale, "a hold is no run");
    assert!(lab.release(hold, HoldOutcome::Run).await);
    assert!(lab.release(hold, HoldOutcome::Run).await, "its answer may have been lost");
    assert!(lab.release(later, HoldOutcome::Run).await);
    let claimed = lab.claim_one().await;
    assert_eq!((claimed.run.id, claimed.attempt), (hold.id, 1));
    assert!(claimed.run.fence > hold.fence);
    let reason = "too late".to_owned();
    assert!(!lab.release(hold, HoldOutcome::Cancel { reason }).await);
    assert_eq!(lab.status(hold.id).await, TaskStatus::Running);
}

pub(crate) async fn a_hold_can_end_in_a_cancel_with_its_reason(lab: Lab) {
    let hold = lab.hold(with_key("alpha", "key")).await;
    let reason = "the request failed: 500".to_owned();
    assert!(lab.release(hold, HoldOutcome::Cancel { reason: reason.clone() }).await);
    let record = lab.get(hold.id).await;
    assert_eq!((record.status, record.error), (TaskStatus::Cancelled, Some(reason)));
    assert!(record.finished_at.is_some() && record.attempts.is_empty());
    assert!(!lab.release(hold, HoldOutcome::Run).await);
    assert!(lab.claim(10).await.is_empty());
    lab.add(with_key("alpha", "key")).await;
}

pub(crate) async fn a_hold_that_nobody_ends_is_ended_by_its_lease(lab: Lab) {
    let groups = vec![vec![InsertTask::new(task("alpha"), Start::Hold)]];
    let answers = only(lab.insert_for(Duration::from_millis(1), groups).await);
    let Inserted { id, kind: InsertedAs::Held { fence }, .. } = only(answers.unwrap()) else {
        panic!("not held")
    };
    let hold = crate::store::RunRef::new(id, fence);
    lab.recover(&[hold]).await;
    assert!(!lab.release(hold, HoldOutcome::Cancel { reason: String::new() }).await, "too late");
    let claimed = lab.claim_one().await;
    assert_eq!((claimed.run.id, claimed.attempt), (id, 1));
    assert_eq!(lab.outcomes(id).await, [(1, AttemptOutcome::Running)], "a hold is no attempt");

    let left = lab.hold(task("beta")).await;
    lab.store.leave(lab.me.id).await.unwrap();
    lab.recover(&[left]).await;
    let claimed = lab.claim_as(lab.other.id, LONG).await;
    assert_eq!(claimed.iter().map(|task| task.run.id).collect::<Vec<_>>(), [left.id]);
}
