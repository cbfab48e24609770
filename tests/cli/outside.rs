//! The command stays outside: it is no instance, recovers nothing and migrates nothing, whatever it does.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use taskflow::model::NewTask;
use taskflow::store::{InsertBatch, InsertGroup, InsertTask, InsertedAs, Start};
use taskflow::{InstanceInfo, Store, TaskId, TaskManager, TaskStatus};

use crate::command::{Ran, aside, run, taskflow};
use crate::serving::Served;
use crate::shop::{Shop, new_import, places};
use crate::support::{Place, ends, eventually, soon};

fn task(name: &'static str) -> NewTask {
    NewTask::new(name, Ok(Arc::from(r#"{"customer":1}"#)))
}

/// A store with tasks of a process that has died: one that it ran, and 300 that wait.
async fn abandoned(place: &Place) -> (Arc<dyn Store>, TaskId) {
    let store = place.store();
    let dead = InstanceInfo::of_this_process(false);
    soon(store.join(&dead)).await.unwrap();
    let lost = task("import");
    let id = lost.id;
    let waiting = (0..300).map(|_| InsertTask::new(task("export"), Start::Wait)).collect();
    let groups = vec![InsertGroup::new(vec![InsertTask::new(lost, Start::Lease)]), InsertGroup::new(waiting)];
    let batch = InsertBatch::new(dead.id, Duration::from_millis(1), groups);
    let inserted = soon(store.insert(Arc::new(batch))).await.unwrap();
    assert!(matches!(inserted[0].as_ref().unwrap()[0].kind, InsertedAs::Leased { .. }));
    (store, id)
}

/// Verbs that open a store and end by themselves, with their exit codes. None of them migrates the store.
const VERBS: [(&[&str], i32); 29] = [
    (&["status"], 0),
    (&["list"], 0),
    (&["count"], 0),
    (&["show", "ID"], 0),
    (&["logs", "ID"], 0),
    (&["wait", "ID", "--timeout", "1ms"], 1),
    (&["failures"], 0),
    (&["queues"], 0),
    (&["schedules"], 0),
    (&["workers"], 0),
    (&["types"], 0),
    (&["stats"], 0),
    (&["audit"], 0),
    (&["operations"], 0),
    (&["export"], 0),
    (&["cancel", "name:export", "--dry-run"], 0),
    (&["cancel", "name:export", "--yes"], 0),
    (&["retry", "name:export", "--yes"], 0),
    (&["cancel", "name:export", "--yes", "--json"], 0),
    (&["delete", "name:export", "--yes"], 0),
    (&["add", "import", "--force"], 0),
    (&["add", "import", "--force", "--queue", "default", "--in", "1h"], 0),
    (&["queues", "pause", "default"], 0),
    (&["queues", "resume", "default"], 0),
    (&["queues", "set", "default", "concurrency=7"], 0),
    (&["queues", "reset", "default"], 0),
    (&["retry", "ID"], 4),
    (&["keys", "use"], 0),
    (&["migrate", "--dry-run"], 0),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_verb_is_seen_among_the_processes_or_recovers_a_lost_run() {
    for place in places() {
        let (store, lost) = abandoned(&place).await;
        let seen = || async {
            let instances = soon(store.instances()).await.unwrap();
            instances.into_iter().map(|it| it.id).collect::<Vec<_>>()
        };
        let before = seen().await;
        for (arguments, code) in VERBS {
            let (url, id) = (place.url(), lost.to_string());
            let arguments: Vec<_> = arguments.iter().map(|word| word.replace("ID", &id)).collect();
            let ran = tokio::task::spawn_blocking(move || {
                run(&url, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
            });
            // The store may forget the dead process meanwhile. No other process ever appears.
            while !ran.is_finished() {
                let now = seen().await;
                assert!(now.iter().all(|id| before.contains(id)), "{now:?}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            ran.await.unwrap().exits(code);
        }
        let url = place.url();
        let served = aside(move || Served::start(&url, &["--loopback"])).await;
        let served = aside(move || {
            assert_eq!(served.get("/", "").0, 200);
            assert_eq!(served.get("/readyz", "").0, 200);
            served
        })
        .await;
        assert!(seen().await.iter().all(|id| before.contains(id)));
        aside(move || served.end()).await;
        let record = soon(store.get(lost)).await.unwrap().unwrap();
        assert_eq!((record.status, record.attempt), (TaskStatus::Running, 1), "{record:?}");

        // The run was lost: a process that connects recovers it.
        let connected = soon(place.builder().connect()).await.unwrap();
        eventually("it is recovered", || async {
            let record = connected.get(lost).await.unwrap().unwrap();
            (record.status != TaskStatus::Running).then_some(())
        })
        .await;
        soon(connected.shutdown(Duration::ZERO)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_served_dashboard_acts_without_being_seen() {
    for place in places() {
        let shop = Shop::open(place).await;
        let (failed, later) = (shop.failed_mail("a@example.com").await, shop.later(1).await);
        shop.mail.comes_back();
        let url = shop.url();
        let (served, added) = aside(move || {
            let served = Served::start(&url, &["--loopback"]);
            assert_eq!(served.post(&format!("/api/v1/tasks/{failed}/retry"), "{}").0, 200);
            assert_eq!(served.post(&format!("/api/v1/tasks/{later}/cancel"), "{}").0, 200);
            assert_eq!(served.post("/api/v1/queues/slow/pause", "{}").0, 200);
            // `mail` is a queue of the program that runs, not of the one that serves.
            let (status, answer) = served.post(
                "/api/v1/tasks",
                r#"{"name":"send_email","queue":"mail","args":{"to":"b@example.com"}}"#,
            );
            assert_eq!(status, 201, "{answer}");
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            let added: Value = serde_json::from_str(body).unwrap();
            assert_eq!(
                served.post("/api/v1/tasks", r#"{"name":"greet","queue":"mial","args":{"name":"A"}}"#).0,
                422
            );
            let (status, answer) =
                served.post("/api/v1/tasks/delete", r#"{"filter":{"status":"cancelled"}}"#);
            assert!(status == 200 && answer.contains(r#""acted":1"#), "{answer}");
            (served, added["id"].as_str().unwrap().parse::<TaskId>().unwrap())
        })
        .await;
        assert_eq!(shop.tasks.instances().await.unwrap().len(), 1);
        for id in [failed, added] {
            assert_eq!(ends(&shop.tasks, id).await.status, TaskStatus::Success);
        }
        assert!(soon(shop.tasks.get(later)).await.unwrap().is_none());
        assert!(soon(shop.tasks.queues()).await.unwrap().iter().any(|it| it.name == "slow" && it.paused));
        aside(move || served.end()).await;
        shop.close().await;
    }
}

/// A shop with 2,000 waiting imports, and a command that has begun to cancel them.
async fn begun(place: Place) -> (Shop, Child) {
    let shop = Shop::open(place).await;
    shop.tasks.pause_queue("slow").await.unwrap();
    soon(shop.tasks.add_all((0..2000).map(|customer| new_import(&shop.tasks, customer)))).await.unwrap();
    let child = taskflow(&shop.url())
        .args(["cancel", "name:import", "--yes", "--table"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = || async { (soon(shop.tasks.counts()).await.unwrap().cancelled > 0).then_some(()) };
    eventually("it has begun", begun).await;
    (shop, child)
}

/// The id and state of the only operation, and the number of tasks on which it has acted.
async fn operation(url: &str) -> (String, String, u64) {
    let url = url.to_owned();
    let shown = aside(move || run(&url, &["operations", "--json"]).exits(0).json()).await;
    let it = &shown["items"][0];
    let word = |field: &str| it[field].as_str().unwrap().to_owned();
    (word("id"), word("state"), it["acted"].as_u64().unwrap())
}

async fn cancelled(tasks: &TaskManager) -> u64 {
    soon(tasks.counts()).await.unwrap().cancelled
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_of_the_command_is_shown_and_stopped_elsewhere() {
    for place in places() {
        let (shop, child) = begun(place).await;
        let url = shop.url();
        assert_eq!(shop.tasks.instances().await.unwrap().len(), 1);
        let (id, state, _) = operation(&url).await;
        assert_eq!(state, "running");
        let stops = url.clone();
        aside(move || run(&stops, &["operations", "stop", &id]).exits(0)).await;
        let ran = aside(move || Ran::of(&["cancel"], child.wait_with_output().unwrap())).await;
        ran.exits(1).says("stopped after").says("taskflow operations resume");
        let (_, state, acted) = operation(&url).await;
        assert_eq!((state.as_str(), acted), ("stopped", cancelled(&shop.tasks).await));
        assert!(acted < 2000);
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_of_a_command_that_was_killed_is_broken_off_and_can_be_gone_on_with() {
    // Each store needs some seconds to notice the death, so they are tested at the same time.
    let killed = |place: Place| async {
        let (shop, mut child) = begun(place).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let url = shop.url();
        let id = eventually("it is seen as broken off", || async {
            let (id, state, _) = operation(&url).await;
            (state == "broken_off").then_some(id)
        })
        .await;
        assert!(cancelled(&shop.tasks).await < 2000, "it had ended before it was killed");
        let goes_on = url.clone();
        aside(move || run(&goes_on, &["operations", "resume", &id, "--yes"]).exits(0)).await;
        assert_eq!(cancelled(&shop.tasks).await, 2000);
        assert_eq!(operation(&url).await.1, "done");
        shop.close().await;
    };
    futures_util::future::join_all(places().into_iter().map(killed)).await;
}
