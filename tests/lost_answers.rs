//! Lost answers of the store: the write counts, and claimed tasks that never began are given back.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use everywhere::everywhere;
use futures_util::StreamExt;
use support::{Place, ends, eventually, soon};
use taskflow::store::{Claim, Finish, FinishKind, InsertBatch, InsertGroup, InsertTask, Start};
use taskflow::{
    AddError, InstanceInfo, MemoryStore, NewTask, PostgresStore, RedisStore, Store, TaskContext, TaskEvent,
    TaskManager, TaskStatus,
    model::{LogLevel, StoreError, StoreErrorKind, TaskEventKind},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wrapper::{InsertAnswer, Wrapper, go_on};

#[taskflow::task(retries = 1, delay = "1ms")]
async fn second_time_lucky(context: TaskContext) -> Result<u32, String> {
    if context.attempt() == 1 { Err("no luck".to_owned()) } else { Ok(7) }
}

#[taskflow::task]
async fn hopeless() -> Result<(), String> {
    Err("it never works".to_owned())
}

/// A store that loses every second answer to a call that writes ends.
fn losing() -> Wrapper {
    let lost = AtomicBool::new(false);
    Wrapper::new(Arc::new(MemoryStore::new()), |_| go_on())
        .losing(move |call| matches!(call, "finish" | "turn") && !lost.fetch_xor(true, Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_answer_was_lost_is_told_counted_and_not_taken_for_stale() {
    let tasks = TaskManager::builder().store(losing()).start().await.unwrap();
    let mut events = tasks.subscribe();
    // The end is stored before its event is sent, so callers may learn of it from the store first.
    let mut next_end = async || loop {
        let TaskEvent { id, kind, .. } = soon(events.next()).await.unwrap();
        match kind {
            TaskEventKind::Retrying { .. } => return (id, "retrying"),
            TaskEventKind::Succeeded => return (id, "succeeded"),
            TaskEventKind::Failed { .. } => return (id, "failed"),
            _ => {}
        }
    };
    let lucky = tasks.add_task(second_time_lucky, ()).await.unwrap();
    assert_eq!(next_end().await, (lucky.id(), "retrying"));
    assert_eq!(next_end().await, (lucky.id(), "succeeded"));
    assert_eq!(soon(lucky.wait()).await.unwrap(), 7);
    let failed = tasks.add_task(hopeless, ()).await.unwrap();
    assert_eq!(next_end().await, (failed.id(), "failed"));
    assert!(soon(failed.wait()).await.unwrap_err().to_string().contains("it never works"));
    assert_eq!(tasks.get(lucky.id()).await.unwrap().unwrap().attempts.len(), 2);
    let health = tasks.health();
    assert_eq!(health.stale_writes, 0, "{health:?}");
    assert_eq!(health.store_errors, 3, "one answer of each end was lost: {health:?}");
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[taskflow::task(requeue_on_interrupt)]
async fn endless() {
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_counts_what_it_gave_back_though_the_answer_was_lost() {
    let tasks = TaskManager::builder().store(losing()).start().await.unwrap();
    let task = tasks.add_task(endless, ()).await.unwrap();
    eventually("it runs", || async { (tasks.health().running == 1).then_some(()) }).await;
    let report = soon(tasks.shutdown(Duration::ZERO)).await.unwrap();
    assert_eq!((report.handed_back, report.interrupted, report.abandoned), (1, 0, 0), "{report:?}");
    assert_eq!(tasks.health().stale_writes, 0);
    assert_eq!(tasks.get(task.id()).await.unwrap().unwrap().status, TaskStatus::Pending);
}

#[taskflow::task]
async fn talkative(context: TaskContext) {
    context.log(LogLevel::Info, "one");
    context.log(LogLevel::Info, "two");
    eventually("three reports", || async { (REPORTS.load(Ordering::SeqCst) >= 3).then_some(()) }).await;
    context.log(LogLevel::Info, "three");
}

/// How often a report was stored whose answer was lost.
static REPORTS: AtomicUsize = AtomicUsize::new(0);

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_stored_once_though_the_answers_to_their_reports_were_lost() {
    for place in everywhere() {
        REPORTS.store(0, Ordering::SeqCst);
        let store = Wrapper::new(place.store(), |_| go_on())
            .losing(|call| call == "report" && REPORTS.fetch_add(1, Ordering::SeqCst) < 3);
        let tasks = TaskManager::builder().store(store).only(["talkative"]).start().await.unwrap();
        let task = soon(tasks.add_task(talkative, ())).await.unwrap();
        soon(task.wait()).await.unwrap();
        let lines = soon(tasks.logs(task.id())).await.unwrap().unwrap();
        let lines: Vec<_> = lines.into_iter().map(|line| line.message).collect();
        assert_eq!(lines, ["one", "two", "three"], "{place:?}");
        tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    }
}

#[taskflow::task(eager)]
async fn at_once() {}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_whose_answer_was_lost_begins_though_its_caller_has_given_up() {
    for place in everywhere() {
        let loses = Arc::new(AtomicBool::new(true));
        let store = Wrapper::new(place.store(), |_| go_on()).losing({
            let loses = Arc::clone(&loses);
            move |call| call == "insert" && loses.load(Ordering::SeqCst)
        });
        let builder = TaskManager::builder().store(store).add_timeout(Duration::from_millis(50));
        let tasks = builder.lease(Duration::from_secs(5)).start().await.unwrap();
        // It may not run twice. The add stores it and leases it to this process in one call.
        let AddError::Unknown { id, .. } = tasks.add_task(at_once, ()).await.unwrap_err() else {
            panic!("the answer was lost, so nobody knows whether the task is stored")
        };
        loses.store(false, Ordering::SeqCst);
        eventually("it is stored", async || tasks.get(id).await.unwrap()).await;
        let ended = ends(&tasks, id).await;
        assert_eq!(ended.status, TaskStatus::Success, "{place:?}: {ended:?}");
        tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_that_may_be_stored_and_is_not_keeps_no_slot() {
    for place in everywhere() {
        let breaks = Arc::new(AtomicBool::new(true));
        let store = Wrapper::new(place.store(), {
            let breaks = Arc::clone(&breaks);
            move |call| match call == "insert" && breaks.load(Ordering::SeqCst) {
                true => {
                    Box::pin(std::future::ready(Err(StoreError::new(StoreErrorKind::Unknown, "it broke"))))
                }
                false => go_on(),
            }
        });
        let builder = TaskManager::builder().store(store).add_timeout(Duration::from_millis(50));
        let tasks = builder.max_concurrent_tasks(1).start().await.unwrap();
        let error = tasks.add_task(at_once, ()).await.unwrap_err();
        assert!(matches!(error, AddError::Unknown { .. }), "{error}");
        breaks.store(false, Ordering::SeqCst);
        // The timeout is so short that a busy machine may need a second try.
        let next =
            eventually("an add is answered", || async { tasks.add_task(at_once, ()).await.ok() }).await;
        soon(next.wait()).await.unwrap();
        assert_eq!(tasks.health().stale_writes, 0, "nothing was lost");
        tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_whose_answer_lacks_a_task_may_be_stored_and_says_so() {
    let lacks_a_task: [InsertAnswer; 2] = [
        |answer| answer.into_iter().map(|group| group.map(|tasks| tasks[1..].to_vec())).collect(),
        |mut answer| {
            answer.pop();
            answer
        },
    ];
    for answer in lacks_a_task {
        let store = Wrapper::new(Place::memory().store(), |_| go_on()).answering_inserts(answer);
        let builder = TaskManager::builder().store(store).add_timeout(Duration::from_millis(50));
        let tasks = builder.connect().await.unwrap();
        let one = soon(tasks.add_task(at_once, ())).await.unwrap_err();
        assert!(matches!(one, AddError::Unknown { .. }), "{one}");
        let many = soon(tasks.add_all((0..3).map(|_| tasks.add_task(at_once, ())))).await.unwrap_err();
        assert!(matches!(many, AddError::Unknown { .. }), "{many}");
        assert_eq!(
            tasks.counts().await.unwrap().pending,
            4,
            "each is stored once, however often it was repeated"
        );
        assert!(!tasks.health().is_healthy());
    }
}

/// Stands between a store and its server: when `cut` is set, it cuts the next connection that is answered, before the
/// answer is passed on.
async fn between(server: u16, cut: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            let cut = Arc::clone(&cut);
            tokio::spawn(async move {
                let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
                loop {
                    let passed = tokio::select! {
                        Ok(n @ 1..) = client.read(&mut asked) => server.write_all(&asked[..n]).await,
                        Ok(n @ 1..) = server.read(&mut answered) => {
                            if cut.swap(false, Ordering::AcqRel) {
                                return;
                            }
                            client.write_all(&answered[..n]).await
                        }
                        else => return,
                    };
                    if passed.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// The port in a URL, and the URL with another port.
fn with_port(url: &str, port: u16) -> String {
    let start = url.rfind(':').unwrap() + 1;
    let end = url[start..].find('/').map_or(url.len(), |end| start + end);
    format!("{}{port}{}", &url[..start], &url[end..])
}

fn port_of(url: &str) -> u16 {
    let start = url.rfind(':').unwrap() + 1;
    let end = url[start..].find('/').map_or(url.len(), |end| start + end);
    url[start..end].parse().unwrap()
}

async fn what_was_claimed_in_a_lost_answer_is_given_back(url: &str, open: impl Fn(&str) -> Arc<dyn Store>) {
    let cut = Arc::new(AtomicBool::new(false));
    let port = between(port_of(url), Arc::clone(&cut)).await;
    let (direct, store) = (open(url), open(&with_port(url, port)));
    let (me, other) = (InstanceInfo::of_this_process(true), InstanceInfo::of_this_process(true));
    store.join(&me).await.unwrap();
    direct.join(&other).await.unwrap();
    let new = NewTask::new("alpha", Ok(Arc::from("{}")));
    let id = new.id;
    let group = InsertGroup::new(vec![InsertTask::new(new, Start::Wait)]);
    let lease = Duration::from_secs(60);
    direct.insert(Arc::new(InsertBatch::new(other.id, lease, vec![group]))).await.unwrap();

    let claim = |names: &[&str]| {
        let names = names.iter().map(|name| Arc::from(*name)).collect();
        Claim::new(me.id, lease, names, vec![("default".into(), 5)], 5)
    };
    // Opens the connection, and makes the server prepare the statements or scripts of a claim.
    for _ in 0..3 {
        assert!(store.claim(claim(&["unknown"])).await.unwrap().tasks.is_empty());
    }
    // Another connection may have been cut instead.
    let patience = Instant::now();
    loop {
        cut.store(true, Ordering::Release);
        match store.claim(claim(&["alpha"])).await {
            Err(error) if error.kind() == StoreErrorKind::Unknown => break,
            Err(_) => {}
            Ok(claims) => {
                let kind = FinishKind::GiveBack { delay: Duration::ZERO, outcome: None };
                let back = claims.tasks.iter().map(|task| Finish::new(task.run, kind.clone())).collect();
                direct.finish(Arc::new(back)).await.unwrap();
            }
        }
        assert!(patience.elapsed() < Duration::from_secs(20), "no answer was lost");
    }
    cut.store(false, Ordering::Release);
    eventually("the claim is done", || async {
        (direct.get(id).await.unwrap().unwrap().status == TaskStatus::Running).then_some(())
    })
    .await;
    store.leave(me.id).await.unwrap();
    while !direct.recover(other.id).await.unwrap().is_empty() {}
    let record = direct.get(id).await.unwrap().unwrap();
    assert_eq!(
        (record.status, record.attempt, record.attempts.len()),
        (TaskStatus::Pending, 0, 0),
        "{record:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_leaves_postgres_gives_back_what_a_lost_answer_brought() {
    let Some(url) = servers::postgres::shared_url() else { return };
    let open = |url: &str| Arc::new(PostgresStore::open(url).unwrap()) as Arc<dyn Store>;
    what_was_claimed_in_a_lost_answer_is_given_back(&url, open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_leaves_redis_gives_back_what_a_lost_answer_brought() {
    let Some(url) = servers::redis::shared_url() else { return };
    let open = |url: &str| Arc::new(RedisStore::open(url).unwrap()) as Arc<dyn Store>;
    what_was_claimed_in_a_lost_answer_is_given_back(&url, open).await;
}
