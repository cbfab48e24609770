//! Which tasks a filter selects, for lists and for acts on many tasks.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use everywhere::everywhere;
use proxy::Proxy;
use serde::{Deserialize, Serialize};
use support::{Gate, Place, ends, eventually, reaches};
use taskflow::{
    Error, MemoryStore, State, TaskFilter, TaskId, TaskManager, TaskStatus,
    model::{Count, TaskPhase, TaskSource, TraceContext},
};
use wrapper::{Wrapper, go_on};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    number: u64,
    city: String,
    lines: Vec<String>,
}

#[taskflow::task(retries = 1, delay = "1h")]
async fn ship(order: Order, express: bool) -> Result<(), String> {
    if express { Ok(()) } else { Err(format!("Order {} cannot be shipped to {}", order.number, order.city)) }
}

#[taskflow::task]
async fn wait_there(State(gate): State<Gate>) {
    gate.pass().await;
}

#[taskflow::schedule(every = "10000d")]
async fn seldom() {}

async fn start(place: &Place) -> (TaskManager, Gate) {
    let gate = Gate::default();
    let tasks = place.builder().state(gate.clone()).start().await.unwrap();
    (tasks, gate)
}

fn order(number: u64, city: &str) -> Order {
    Order { number, city: city.to_owned(), lines: vec!["tea".to_owned(), "jam".to_owned()] }
}

async fn ids(tasks: &TaskManager, filter: TaskFilter) -> Vec<TaskId> {
    tasks.list(filter).await.unwrap().items.iter().map(|task| task.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_means_the_same_on_every_store() {
    for place in everywhere() {
        let (tasks, gate) = start(&place).await;
        let sent = tasks.add_task(ship, (order(1, "Ulm"), true)).idempotency_key("one").await.unwrap();
        ends(&tasks, sent.id()).await;
        let before_failed = SystemTime::now();
        let trace = TraceContext::new([0xab; 16], [7; 8], true).unwrap();
        let failed = tasks.add_task(ship, (order(2, "Ulm"), false)).retries(0).trace_context(trace.clone());
        let failed = failed.concurrency_key("town").await.unwrap();
        ends(&tasks, failed.id()).await;
        let retrying = tasks.add_task(ship, (order(3, "Bonn"), false)).await.unwrap();
        eventually("it failed once", || async {
            let record = support::record(&tasks, retrying.id()).await;
            (record.phase() == TaskPhase::Retrying).then_some(())
        })
        .await;
        let later =
            tasks.add_task(ship, (order(4, "Bonn"), true)).run_in(Duration::from_secs(3600)).run_key("later");
        let later = later.trace_context(trace).await.unwrap();
        let running = tasks.add_task(wait_there, ()).await.unwrap();
        reaches(&tasks, running.id(), TaskStatus::Running).await;
        tasks.pause_queue("default").await.unwrap();
        let waiting = tasks.add_task(wait_there, ()).await.unwrap();
        let ticked = tasks.run_now("seldom").await.unwrap();
        let new = TaskFilter::new;
        for (what, filter, expected) in [
            ("scheduled", new().phase(TaskPhase::Scheduled), vec![later.id()]),
            ("retrying", new().phase(TaskPhase::Retrying), vec![retrying.id()]),
            ("waiting", new().phase(TaskPhase::Waiting), vec![ticked.id(), waiting.id()]),
            ("running", new().phase(TaskPhase::Running), vec![running.id()]),
            ("ended", new().phase(TaskPhase::Ended).name("ship"), vec![failed.id(), sent.id()]),
            (
                "two phases",
                new().phase(TaskPhase::Scheduled).phase(TaskPhase::Running),
                vec![running.id(), later.id()],
            ),
            ("a phase against a status", new().phase(TaskPhase::Running).status(TaskStatus::Failed), vec![]),
            ("key", new().idempotency_key("one"), vec![sent.id()]),
            ("no such key", new().idempotency_key("two"), vec![]),
            ("run key", new().run_key("later"), vec![later.id()]),
            ("no such run key", new().run_key("one"), vec![]),
            ("concurrency key", new().concurrency_key("town"), vec![failed.id()]),
            ("trace", new().trace("ABABABABABABABABABABABABABABABAB"), vec![later.id(), failed.id()]),
            ("no such trace", new().trace("abababababababababababababababac"), vec![]),
            ("source", new().source(TaskSource::Schedule), vec![ticked.id()]),
            ("error", new().error_contains("cannot be SHIPPED to Ulm"), vec![failed.id()]),
            ("errors", new().error_contains("order "), vec![retrying.id(), failed.id()]),
            ("an argument", new().arg("express", true), vec![later.id(), sent.id()]),
            ("below an argument", new().arg("order.city", "Bonn"), vec![later.id(), retrying.id()]),
            (
                "a place in a list",
                new().arg("order.lines.1", "jam").arg("order.number", 2),
                vec![failed.id()],
            ),
            ("a list", new().arg("order.lines", ["tea", "jam"]).arg("order.number", 3), vec![retrying.id()]),
            ("no such argument", new().arg("order.lines.2", "jam"), vec![]),
            ("another type", new().arg("order.number", "2"), vec![]),
            ("no JSON", new().arg("express", f64::NAN).arg("order.number", f64::INFINITY), vec![]),
            ("ended since", new().finished_after(before_failed), vec![failed.id()]),
            ("ended before", new().finished_before(before_failed), vec![sent.id()]),
            (
                "all at once",
                new()
                    .status(TaskStatus::Pending)
                    .name("ship")
                    .queue("default")
                    .phase(TaskPhase::Retrying)
                    .arg("express", false)
                    .error_contains("bonn")
                    .source(TaskSource::Manager),
                vec![retrying.id()],
            ),
        ] {
            assert_eq!(ids(&tasks, filter).await, expected, "{place:?}: {what}");
        }
        gate.open();
        tasks.resume_queue("default").await.unwrap();
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_act_on_all_that_is_meant_and_on_nothing_else() {
    for place in everywhere() {
        let (tasks, _) = start(&place).await;
        tasks.pause_queue("default").await.unwrap();
        let many = (0..2500).map(|n| {
            let city = if n % 5 == 0 { "Ulm" } else { "Bonn" };
            tasks.add_task(ship, (order(n, city), true))
        });
        tasks.add_all(many.collect::<Vec<_>>()).await.unwrap();
        let to_ulm = || TaskFilter::new().arg("order.city", "Ulm");
        assert_eq!(tasks.cancel_all(to_ulm()).await.unwrap(), 500, "{place:?}");
        assert_eq!(tasks.cancel_all(to_ulm()).await.unwrap(), 0, "{place:?}");
        assert_eq!(tasks.counts().await.unwrap().cancelled, 500);
        assert_eq!(tasks.retry_all(to_ulm().arg("order.number", 10)).await.unwrap(), 1, "{place:?}");
        assert_eq!(tasks.retry_all(to_ulm()).await.unwrap(), 499, "{place:?}");
        assert_eq!(tasks.cancel_all(TaskFilter::new().error_contains("nothing")).await.unwrap(), 0);
        assert_eq!(tasks.cancel_all(TaskFilter::all()).await.unwrap(), 2500, "{place:?}");
        assert_eq!(tasks.delete_all(to_ulm()).await.unwrap(), 500, "{place:?}");
        assert_eq!(tasks.counts().await.unwrap().total(), 2000, "{place:?}");
        assert!(matches!(tasks.delete_all(TaskFilter::new()).await, Err(Error::EmptyFilter)));
        // Pages of a search in the engine are complete, and each record is on exactly one of them.
        let mut filter = TaskFilter::new().arg("order.city", "Bonn").limit(700);
        let mut seen = Vec::new();
        loop {
            let page = tasks.list(filter.clone()).await.unwrap();
            assert!(page.items.len() <= 700);
            seen.extend(page.items.iter().map(|task| task.id));
            let Some(next) = page.next else { break };
            filter = filter.after(next);
        }
        assert_eq!(seen.len(), 2000, "{place:?}");
        assert!(seen.is_sorted_by(|a, b| a > b));
        tasks.resume_queue("default").await.unwrap();
        tasks.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_for_what_is_rare_stops_and_can_be_gone_on_with() {
    let (tasks, _) = start(&Place::memory()).await;
    tasks.pause_queue("default").await.unwrap();
    let rare = tasks.add_task(ship, (order(1, "Rome"), true)).tag("rare", 1).await.unwrap();
    for _ in 0..3 {
        let many = (0..15_000).map(|n| tasks.add_task(ship, (order(n, "Bonn"), true)).priority(-1));
        tasks.add_all(many.collect::<Vec<_>>()).await.unwrap();
    }
    for filter in [
        // A condition that the store checks, one that the engine checks, and both.
        TaskFilter::new().tag("rare", 1),
        TaskFilter::new().arg("order.city", "Rome"),
        TaskFilter::new().tag("rare", 1).arg("order.city", "Rome"),
    ] {
        let mut pages = 0;
        let (mut asked, mut found) = (filter, Vec::new());
        loop {
            let page = tasks.list(asked.clone()).await.unwrap();
            pages += 1;
            found.extend(page.items.iter().map(|task| task.id));
            let Some(next) = page.next else { break };
            asked = asked.after(next);
        }
        assert_eq!((found, pages), (vec![rare.id()], 3));
    }
    tasks.cancel_all(TaskFilter::all()).await.unwrap();
}

#[taskflow::task]
async fn carry(load: String) {
    drop(load);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_counted_up_to_a_limit() {
    for place in everywhere() {
        let (tasks, gate) = start(&place).await;
        gate.open();
        let mut express = Vec::new();
        for number in 0..8 {
            express.push(tasks.add_task(ship, (order(number, "Ulm"), true)).await.unwrap().id());
        }
        for id in &express {
            ends(&tasks, *id).await;
        }
        let failed = tasks.add_task(ship, (order(9, "Bonn"), false)).retries(0).await.unwrap();
        ends(&tasks, failed.id()).await;
        let new = TaskFilter::new;
        let succeeded = || new().status(TaskStatus::Success);
        for (what, filter, up_to, expected) in [
            ("everything", new(), 5, Count::exactly(9)),
            ("everything, said aloud", TaskFilter::all(), 0, Count::exactly(9)),
            ("a status", succeeded(), 5, Count::exactly(8)),
            (
                "statuses",
                succeeded().status(TaskStatus::Failed).status(TaskStatus::Failed),
                1,
                Count::exactly(9),
            ),
            ("no page of it", succeeded().limit(1), 5, Count::exactly(8)),
            ("below the limit", new().name("ship"), 10, Count::exactly(9)),
            ("at the limit", new().name("ship"), 9, Count::exactly(9)),
            ("beyond the limit", new().name("ship"), 8, Count::at_least(8)),
            ("whatever page", new().name("ship").limit(1), 10, Count::exactly(9)),
            ("beyond nothing", new().name("ship"), 0, Count::at_least(0)),
            ("none", new().name("shop"), 10, Count::exactly(0)),
            ("what stores do not check", new().error_contains("cannot"), 10, Count::exactly(1)),
            ("by an argument", new().arg("order.city", "Ulm"), 10, Count::exactly(8)),
            ("by an argument, beyond", new().arg("order.city", "Ulm"), 7, Count::at_least(7)),
        ] {
            assert_eq!(tasks.count(filter, up_to).await.unwrap(), expected, "{what} of {place:?}");
        }
        let first = tasks.list(new().limit(1)).await.unwrap();
        let behind = new().name("ship").after(first.next.unwrap());
        assert_eq!(tasks.count(behind, 10).await.unwrap(), Count::exactly(9), "all pages of {place:?}");
        let outlines = tasks.list_outlines(&new().arg("order.city", "Ulm")).await.unwrap();
        assert!(outlines.items.iter().all(|it| it.args.get() == "null" && it.attempts.is_empty()));
        assert_eq!(outlines.items.len(), 8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_of_what_is_rare_stops_after_as_many_records_as_a_page_may_look_at() {
    let store = MemoryStore::with_history(100_000);
    let tasks = TaskManager::builder().store(store.clone()).connect().await.unwrap();
    tasks.add_task(ship, (order(0, "Ulm"), true)).idempotency_key("rare").await.unwrap();
    let looked_at = 2 * TaskFilter::MAX_LOOKED_AT;
    for _ in 0..looked_at / 1000 {
        tasks.add_all((0..1000).map(|_| tasks.add_task(wait_there, ()))).await.unwrap();
    }
    let rare = TaskFilter::new().idempotency_key("rare");
    assert_eq!(tasks.count(rare, 10).await.unwrap(), Count::at_least(0));
    let many = TaskFilter::new().name("wait_there");
    assert_eq!(tasks.count(many.clone(), Count::UP_TO).await.unwrap(), Count::at_least(10_000));
    assert_eq!(tasks.count(many, 100_000).await.unwrap(), Count::exactly(looked_at as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_filter_means_only_what_was_there_then() {
    for place in everywhere() {
        let (tasks, gate) = start(&place).await;
        let add_waiting = || async { tasks.add_task(wait_there, ()).await.unwrap().id() };
        let ended = tasks.add_task(ship, (order(1, "Ulm"), true)).await.unwrap().id();
        ends(&tasks, ended).await;
        let ends_later = add_waiting().await;
        reaches(&tasks, ends_later, TaskStatus::Running).await;
        let waiting = tasks
            .add_task(ship, (order(2, "Ulm"), true))
            .run_in(Duration::from_secs(3600))
            .await
            .unwrap()
            .id();
        // The clock of the store is that of this machine.
        let at = SystemTime::now();
        gate.open();
        ends(&tasks, ends_later).await;
        let added_later = add_waiting().await;
        ends(&tasks, added_later).await;
        let frozen = |filter: TaskFilter| filter.frozen(at);
        assert_eq!(ids(&tasks, frozen(TaskFilter::all())).await, [waiting, ended], "{place:?}");
        assert_eq!(ids(&tasks, frozen(TaskFilter::new().queue("default")).limit(1)).await, [waiting]);
        assert_eq!(tasks.count(frozen(TaskFilter::new()), 10).await.unwrap(), Count::exactly(2), "{place:?}");
        let never = TaskFilter::all().frozen(SystemTime::UNIX_EPOCH).frozen(at);
        assert_eq!(ids(&tasks, never).await, [], "the earlier instant counts");
        assert!(matches!(tasks.delete_all(TaskFilter::new().frozen(at)).await, Err(Error::EmptyFilter)));
        assert_eq!(tasks.delete_all(frozen(TaskFilter::all())).await.unwrap(), 1);
        let left = ids(&tasks, TaskFilter::all()).await;
        assert_eq!(left, [added_later, waiting, ends_later], "{place:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_and_searches_read_no_payload_that_they_do_not_need() {
    const PAYLOAD: usize = 400_000;
    for place in everywhere() {
        let (place, proxy) = proxied(place).await;
        let calls = Arc::new(Mutex::new(Vec::new()));
        let store = Wrapper::new(place.store(), {
            let calls = Arc::clone(&calls);
            move |call| {
                calls.lock().unwrap().push(call);
                go_on()
            }
        });
        let tasks = TaskManager::builder().store(store).connect().await.unwrap();
        let loads = (0..20).map(|_| tasks.add_task(carry, ("x".repeat(PAYLOAD),)));
        tasks.add_all(loads).await.unwrap();

        let answered = || proxy.as_ref().map_or(0, Proxy::answered);
        let before = answered();
        calls.lock().unwrap().clear();
        let found = tasks.list(TaskFilter::new().error_contains("nothing says this")).await.unwrap();
        assert!(found.items.is_empty());
        assert_eq!(tasks.cancel_all(TaskFilter::new().source(TaskSource::Schedule)).await.unwrap(), 0);
        let page = tasks.list_outlines(&TaskFilter::new().queue("default")).await.unwrap();
        assert_eq!((page.items.len(), page.items[0].args.get()), (20, "null"));
        let count = tasks.count(TaskFilter::new().name("carry"), Count::UP_TO).await.unwrap();
        assert_eq!(count, Count::exactly(20));
        assert_eq!(tasks.cancel_all(TaskFilter::all()).await.unwrap(), 20);
        assert_eq!(tasks.delete_all(TaskFilter::all()).await.unwrap(), 20);
        let calls = calls.lock().unwrap().clone();
        assert!(calls.contains(&"list_outlines"), "{calls:?}");
        assert!(!calls.iter().any(|call| ["list", "get"].contains(call)), "{calls:?}");
        let read = answered() - before;
        assert!(read < PAYLOAD, "{place:?} answered {read} bytes");
    }
}

/// The same place. If it is a server, it is behind a proxy that counts the bytes of its answers.
async fn proxied(place: Place) -> (Place, Option<Proxy>) {
    let Place::Server(url) = &place else { return (place, None) };
    let (_, behind) = url.split_once("127.0.0.1:").unwrap();
    let port: String = behind.chars().take_while(char::is_ascii_digit).collect();
    let proxy = Proxy::to(port.parse().unwrap()).await;
    let url = url.replace(&format!(":{port}"), &format!(":{}", proxy.port()));
    (Place::Server(url), Some(proxy))
}
