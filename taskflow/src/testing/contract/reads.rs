//! Reads: records, pages, counts, queues and processes.

use std::time::{Duration, SystemTime};

use crate::model::{Cursor, InstanceInfo, Order, Page, TaskFilter, TaskId, TaskRecord, TaskStatus, When};
use crate::store::{Reopen, TaskEnd};

use super::lab::*;

pub(crate) async fn who_is_not_there_is_none_not_an_error(lab: Lab) {
    assert!(lab.store.get(TaskId::new()).await.unwrap().is_none());
    assert!(lab.store.logs(TaskId::new()).await.unwrap().is_none());
    assert!(lab.ids(TaskFilter::new().queue("nowhere")).await.is_empty());
    assert_eq!(lab.store.counts().await.unwrap().total(), 0);
    assert!(lab.store.queues().await.unwrap().is_empty());
    assert_eq!(lab.store.cancel(Vec::new(), String::new()).await.unwrap(), []);
    assert!(lab.store.retry(Reopen::at_once([])).await.unwrap().is_empty());
    assert_eq!(lab.store.delete(Vec::new()).await.unwrap(), 0);
    assert!(lab.insert_groups(Vec::new()).await.is_empty());
    assert_eq!(lab.try_insert(Vec::new()).await, Ok(Vec::new()));
    assert!(lab.finish_all(Vec::new()).await.is_empty());
}

pub(crate) async fn ends_are_read_for_many_tasks_at_once(lab: Lab) {
    let waits = lab.add(task("alpha")).await;
    let runs = lab.run(task("beta")).await;
    let succeeded = lab.ended(task("gamma"), TaskStatus::Success).await;
    let failed = lab.ended(task("delta"), TaskStatus::Failed).await;
    let nowhere = TaskId::new();
    // The answers have the order of the ids, and an id may come twice.
    let asked = vec![failed, waits, nowhere, runs.id, succeeded, waits];
    let ends = lab.store.ends(asked.clone()).await.unwrap();
    assert_eq!(ends[1], TaskEnd::Open(TaskStatus::Pending));
    assert_eq!((&ends[2], &ends[5]), (&TaskEnd::Gone, &ends[1]));
    assert_eq!(ends[3], TaskEnd::Open(TaskStatus::Running));
    for (id, end) in [(failed, &ends[0]), (succeeded, &ends[4])] {
        let record = lab.store.get(id).await.unwrap().unwrap();
        let result = record.result.as_deref().map(|json| json.get().into());
        assert_eq!(*end, TaskEnd::of(record.status, result, record.error));
    }
    assert_eq!(lab.store.ends(Vec::new()).await.unwrap(), []);
}

pub(crate) async fn an_outline_is_its_record_without_what_may_be_large(lab: Lab) {
    lab.add(with(task("alpha"), |task| {
        task.args = Ok(r#"{"text":"xxxxxxxx"}"#.into());
        task.tags.insert("tenant".to_owned(), "1".to_owned());
        task.tags.insert("plan \u{e9}".to_owned(), "{\"free\"}".to_owned());
        task.idempotency_key = Some("key".into());
        task.run_key = Some("run".into());
        task.concurrency_key = Some("tenant".into());
        task.policy.to_mut().timeout = Some(Duration::from_secs(5));
    }))
    .await;
    lab.run(task("beta")).await;
    lab.ended(task("gamma"), TaskStatus::Success).await;
    lab.ended(task("delta"), TaskStatus::Failed).await;
    let whole = lab.store.list(TaskFilter::new()).await.unwrap();
    let outlines = lab.store.list_outlines(TaskFilter::new()).await.unwrap();
    assert_eq!(outlines.items.len(), 4);
    for (mut record, outline) in whole.items.into_iter().zip(outlines.items) {
        record.args = serde_json::value::to_raw_value(&()).unwrap();
        if record.status == TaskStatus::Success {
            assert!(outline.result.as_deref().is_none_or(|result| result.get() == "null"));
        }
        (record.result, record.progress) = (outline.result.clone(), None);
        record.attempts.clear();
        // A store may put an attempt into an outline, or leave it out.
        let mut outline = outline;
        outline.attempts.clear();
        assert_eq!(serde_json::to_value(&record).unwrap(), serde_json::to_value(&outline).unwrap());
    }
    let page = lab.store.list_outlines(TaskFilter::new().limit(1)).await.unwrap();
    let next = page.next.expect("there are more");
    let rest =
        lab.store.list_outlines(TaskFilter::new().status(TaskStatus::Pending).after(next)).await.unwrap();
    assert_eq!(rest.items.len(), 1);
    assert_eq!(rest.items[0].name, "alpha");
}

pub(crate) async fn a_list_is_newest_first_and_filtered(lab: Lab) {
    let a = lab.add(with(task("alpha"), |task| {
        task.tags.insert("tenant".to_owned(), "1".to_owned());
        task.tags.insert("plan".to_owned(), "free".to_owned());
    }));
    let a = a.await;
    let b = lab
        .add(with(task("beta"), |task| {
            task.queue = "mail".into();
            task.tags.insert("tenant".to_owned(), "1".to_owned());
        }))
        .await;
    let c = lab.ended(with(task("alpha"), |task| task.queue = "mail".into()), TaskStatus::Failed).await;
    let d = lab.run(task("gamma")).await.id;
    for (filter, expected) in [
        (TaskFilter::new(), vec![d, c, b, a]),
        (TaskFilter::all(), vec![d, c, b, a]),
        (TaskFilter::new().name("alpha"), vec![c, a]),
        (TaskFilter::new().name("alpha").name("gamma"), vec![d, c, a]),
        (TaskFilter::new().queue("mail"), vec![c, b]),
        (TaskFilter::new().queue("mail").queue("default"), vec![d, c, b, a]),
        (TaskFilter::new().status(TaskStatus::Pending), vec![b, a]),
        (TaskFilter::new().status(TaskStatus::Running).status(TaskStatus::Failed), vec![d, c]),
        (TaskFilter::new().tag("tenant", 1), vec![b, a]),
        (TaskFilter::new().tag("tenant", 1).tag("plan", "free"), vec![a]),
        (TaskFilter::new().tag("tenant", 2), vec![]),
        (TaskFilter::new().tag("tenan", 1), vec![]),
        (TaskFilter::new().name("alpha").queue("mail").status(TaskStatus::Failed), vec![c]),
        (TaskFilter::new().name("alpha").tag("tenant", 1).status(TaskStatus::Failed), vec![]),
        (TaskFilter::new().limit(2), vec![d, c]),
        (TaskFilter::new().after(Cursor::after(c)), vec![b, a]),
        (TaskFilter::new().name("alpha").after(Cursor::after(d)).limit(1), vec![c]),
        (TaskFilter::new().after(Cursor::after(a)), vec![]),
    ] {
        assert_eq!(lab.ids(filter.clone()).await, expected, "{filter:?}");
    }
}

pub(crate) async fn a_list_can_be_bounded_by_when_tasks_were_added(lab: Lab) {
    let mut added = Vec::new();
    let patience = Patience::new("the clock to move on");
    while added.len() < 3 {
        let id = lab.add(task("alpha")).await;
        let created_at = lab.get(id).await.created_at;
        while SystemTime::now() <= created_at {
            patience.wait().await;
        }
        patience.wait().await;
        added.push((id, created_at));
    }
    let [(a, _), (b, second), (c, _)] = added[..] else { panic!("three") };
    assert_eq!(lab.ids(TaskFilter::new().created_after(second)).await, [c, b], "at that instant or later");
    assert_eq!(lab.ids(TaskFilter::new().created_before(second)).await, [a], "before that instant");
    let just_then = TaskFilter::new().created_after(second).created_before(second + Duration::from_micros(1));
    assert_eq!(lab.ids(just_then).await, [b]);
    let never = TaskFilter::new().created_after(SystemTime::UNIX_EPOCH + LONG * 24 * 365 * 200);
    assert!(lab.ids(never).await.is_empty());
}

pub(crate) async fn pages_are_complete_without_duplicates_while_tasks_come_and_end(lab: Lab) {
    let mut expected = Vec::new();
    for n in 0..50 {
        let name = if n % 2 == 0 { "alpha" } else { "beta" };
        expected.insert(0, lab.add(task(name)).await);
    }
    let alphas: Vec<TaskId> = expected.iter().copied().skip(1).step_by(2).collect();
    for (filter, expected) in [(TaskFilter::new(), &expected), (TaskFilter::new().name("alpha"), &alphas)] {
        for limit in [1, 7, 25, 50, 1000] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let mut filter = filter.clone().limit(limit);
                filter.after = after;
                let page = lab.store.list(filter).await.unwrap();
                assert!(page.items.len() <= limit && (page.next.is_none() || page.items.len() == limit));
                seen.extend(page.items.iter().map(|task| task.id));
                assert!(seen.len() <= 50, "no end of pages");
                // Newer tasks do not move older ones to another page.
                let newer = lab.ended(task("gamma"), TaskStatus::Success).await;
                assert!(!seen.contains(&newer));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            seen.retain(|id| expected.contains(id));
            assert_eq!(&seen, expected, "pages of {limit}");
            let ended: Vec<TaskId> = lab.ids(TaskFilter::new().status(TaskStatus::Success).limit(1000)).await;
            assert_eq!(lab.store.delete(ended.clone()).await.unwrap(), ended.len());
        }
    }
}

pub(crate) async fn oldest_first_pages_have_every_task_once(lab: Lab) {
    let mut all = Vec::new();
    for n in 0..40 {
        let new = with(task(if n % 2 == 0 { "alpha" } else { "beta" }), |task| task.id = TaskId::new());
        all.push(match n % 5 {
            0 => lab.add(new).await,
            1 => lab.run(new).await.id,
            2 => lab.ended(new, TaskStatus::Failed).await,
            3 => lab.ended(new, TaskStatus::Cancelled).await,
            _ => lab.ended(new, TaskStatus::Success).await,
        });
    }
    let of = |kept: fn(usize) -> bool| {
        let kept = all.iter().enumerate().filter(move |(n, _)| kept(*n));
        kept.map(|(_, id)| *id).collect::<Vec<_>>()
    };
    let (pending, failed) = (TaskStatus::Pending, TaskStatus::Failed);
    for (filter, expected) in [
        (TaskFilter::new(), all.clone()),
        (TaskFilter::new().name("beta"), of(|n| n % 2 == 1)),
        (TaskFilter::new().status(failed), of(|n| n % 5 == 2)),
        (TaskFilter::new().status(failed).status(TaskStatus::Cancelled), of(|n| matches!(n % 5, 2 | 3))),
        (TaskFilter::new().status(pending).status(failed), of(|n| matches!(n % 5, 0 | 2))),
        (TaskFilter::new().status(TaskStatus::Running).name("alpha"), of(|n| n % 5 == 1 && n % 2 == 0)),
    ] {
        for limit in [1, 7, 1000] {
            let mut filter = filter.clone().order(Order::Oldest).limit(limit);
            let mut seen = Vec::new();
            loop {
                let page = lab.store.list(filter.clone()).await.unwrap();
                let outlines = lab.store.list_outlines(filter.clone()).await.unwrap();
                let ids = |page: &Page<TaskRecord>| page.items.iter().map(|task| task.id).collect::<Vec<_>>();
                assert_eq!((ids(&page), page.next), (ids(&outlines), outlines.next), "{filter:?}");
                seen.extend(ids(&page));
                assert!(seen.len() <= expected.len(), "no end of pages: {filter:?}");
                let Some(next) = page.next else { break };
                filter.after = Some(next);
            }
            assert_eq!(seen, expected, "{filter:?}");
        }
    }
    // Many ids are from the same millisecond, and the ids of the two inserts alternate.
    let mut many: Vec<_> = (0..400).map(|_| task("gamma")).collect();
    many.sort_unstable_by_key(|task| task.id);
    let ids: Vec<_> = many.iter().map(|task| task.id).collect();
    for turn in 0..2 {
        let insert = many.iter().skip(turn).step_by(2).cloned().map(waiting);
        lab.try_insert(insert.collect()).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut filter = TaskFilter::new().order(Order::Oldest).after(Cursor::after(all[39])).limit(60);
    loop {
        let page = lab.store.list(filter.clone()).await.unwrap();
        seen.extend(page.items.iter().map(|task| task.id));
        let Some(next) = page.next else { break };
        filter.after = Some(next);
    }
    assert_eq!(seen, ids);
    // A page can continue after any id, in either order.
    let behind = |order| TaskFilter::new().order(order).after(Cursor::after(all[20])).limit(2);
    assert_eq!(lab.ids(behind(Order::Oldest)).await, [all[21], all[22]]);
    assert_eq!(lab.ids(behind(Order::Newest)).await, [all[19], all[18]]);
}

pub(crate) async fn numbers_are_true_after_every_kind_of_write(lab: Lab) {
    lab.try_insert((0..30).map(|_| waiting(with_attempts("alpha", 2))).collect()).await.unwrap();
    lab.assert_counts_are_true().await;
    let later = lab.add(with(task("beta"), |task| task.when = When::In(LONG))).await;
    let hold = lab.hold(with(task("beta"), |task| task.queue = "mail".into())).await;
    lab.run(task("beta")).await;
    lab.assert_counts_are_true().await;
    let runs: Vec<_> = lab.claim(20).await.into_iter().map(|task| task.run).collect();
    lab.assert_counts_are_true().await;
    lab.finish(runs[0], success()).await;
    lab.finish(runs[1], retry(LONG)).await;
    lab.finish(runs[2], give_back(None)).await;
    lab.finish(runs[3], end(TaskStatus::Failed)).await;
    lab.finish(runs[3], success()).await;
    lab.assert_counts_are_true().await;
    lab.lose(&runs[5..8]).await;
    lab.assert_counts_are_true().await;
    lab.release(hold, crate::store::HoldOutcome::Run).await;
    lab.store.cancel(vec![later, runs[8].id], String::new()).await.unwrap();
    lab.assert_counts_are_true().await;
    lab.store.retry(Reopen::at_once([later, runs[3].id])).await.unwrap();
    lab.assert_counts_are_true().await;
    lab.store.delete(vec![runs[0].id]).await.unwrap();
    lab.assert_counts_are_true().await;
    let counts = lab.store.counts().await.unwrap();
    assert_eq!((counts.total(), counts.running, counts.pending), (32, 14, 18));
}

pub(crate) async fn queues_are_listed_by_name_with_what_is_in_them(lab: Lab) {
    for queue in ["reports", "default", "mail"] {
        lab.add(with(task("alpha"), |task| task.queue = queue.into())).await;
    }
    lab.run(task("alpha")).await;
    lab.hold(task("alpha")).await;
    lab.ended(with(task("alpha"), |task| task.queue = "done".into()), TaskStatus::Success).await;
    lab.store.set_paused("idle".to_owned(), true).await.unwrap();
    let queues = lab.store.queues().await.unwrap();
    let seen: Vec<_> =
        queues.iter().map(|it| (&*it.name, it.paused, it.pending, it.running, it.finished)).collect();
    let expected = [
        ("default", false, 2, 1, 0),
        ("done", false, 0, 0, 1),
        ("idle", true, 0, 0, 0),
        ("mail", false, 1, 0, 0),
        ("reports", false, 1, 0, 0),
    ];
    assert_eq!(seen, expected);
    assert!(queues.iter().all(|it| it.concurrency.is_none() && it.max_size.is_none()));
}

pub(crate) async fn processes_are_listed_while_they_are_there(lab: Lab) {
    lab.run(task("alpha")).await;
    lab.hold(task("alpha")).await;
    let list = async || lab.store.instances().await.unwrap();
    let seen: Vec<_> = list().await.iter().map(|it| (it.id, it.host.clone(), it.pid, it.running)).collect();
    let expected = [(lab.me.id, "here".to_owned(), 7, 1), (lab.other.id, "elsewhere".to_owned(), 8, 0)];
    assert_eq!(seen, expected);

    lab.store.join(&lab.me).await.unwrap();
    assert_eq!(list().await.len(), 2, "joining again is no other process");
    let before = list().await[0].seen_at;
    let patience = Patience::new("a renewal to be seen");
    while list().await[0].seen_at <= before {
        patience.wait().await;
        lab.renew(LONG, &[]).await;
    }
    lab.store.leave(lab.me.id).await.unwrap();
    let left: Vec<InstanceInfo> = list().await;
    assert_eq!(left.iter().map(|it| it.id).collect::<Vec<_>>(), [lab.other.id]);
    let connected = InstanceInfo::of_this_process(false);
    lab.store.join(&connected).await.unwrap();
    assert!(
        list().await.iter().any(|it| it.id == connected.id && !it.runs && it.version == connected.version)
    );
}
