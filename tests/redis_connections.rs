//! Connections to a Redis server that no longer serves are dropped. Inserts that are sent in portions are all or nothing, wherever
//! the connection breaks.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use proxy::Proxy;
use servers::redis::{RedisServer, Reply};
use support::{DEADLINE, Notes, eventually, soon};
use taskflow::store::{
    Claim, DocumentQuery, DocumentWrite, Hint, InsertBatch, InsertGroup, InsertTask, Start,
};
use taskflow::{
    NewTask, RedisStore, State, Store, TaskFilter, TaskManager, TaskStatus,
    model::{InstanceId, StoreErrorKind},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[taskflow::task]
async fn note(State(notes): State<Notes<u64>>, number: u64) {
    notes.write(number);
}

#[taskflow::task(name = "plain")]
async fn plain(number: u64) -> Result<u64, std::io::Error> {
    Ok(number)
}

fn url(proxy: &Proxy) -> String {
    format!("redis://127.0.0.1:{}/0", proxy.port())
}

/// Makes one server a replica of the other, and waits until it has everything.
fn follow(server: &RedisServer, primary: Option<&RedisServer>) {
    let port = primary.map(|primary| primary.port().to_string());
    let words: [&[u8]; 3] = match &port {
        Some(port) => [b"REPLICAOF", b"127.0.0.1", port.as_bytes()],
        None => [b"REPLICAOF", b"NO", b"ONE"],
    };
    assert_eq!(server.command(&words), Some(Reply::Text("OK".to_owned())));
    if primary.is_some() {
        servers::wait_until("a replica to have all", || {
            let info = server.command(&[b"INFO", b"replication"]).map(Reply::into_bytes).unwrap_or_default();
            String::from_utf8_lossy(&info).contains("master_link_status:up")
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_follows_the_primary_when_the_roles_are_swapped() {
    let (Some(first), Some(second)) = (RedisServer::start(), RedisServer::start()) else { return };
    follow(&second, Some(&first));
    let proxy = Proxy::to(first.port()).await;
    let notes = Notes::<u64>::default();
    let tasks = TaskManager::builder().store(url(&proxy)).state(notes.clone()).start().await.unwrap();
    soon(soon(tasks.add_task(note, (1,)).into_future()).await.unwrap().wait()).await.unwrap();
    // Twice: to the other server, and back. The connections to the old primary stay open.
    for (number, old, new) in [(2, &first, &second), (3, &second, &first)] {
        follow(new, None);
        proxy.lead_to(new.port());
        follow(old, Some(new));
        let swapped = Instant::now();
        let handle = soon(tasks.add_task(note, (number,)).into_future()).await.unwrap();
        soon(handle.wait()).await.unwrap();
        assert!(swapped.elapsed() < Duration::from_secs(8), "{:?}", swapped.elapsed());
        // Its result is stored on the new primary.
        let there = RedisStore::open(new.url()).unwrap();
        assert_eq!(there.get(handle.id()).await.unwrap().unwrap().status, TaskStatus::Success);
        eventually("the store to be healthy", || async {
            tasks.health().degraded_since.is_none().then_some(())
        })
        .await;
    }
    assert_eq!(notes.read(), [1, 2, 3]);
    tasks.shutdown(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_come_from_the_new_primary_after_a_failover() {
    let (Some(first), Some(second)) = (RedisServer::start(), RedisServer::start()) else { return };
    let proxy = Proxy::to(first.port()).await;
    let store = RedisStore::open(url(&proxy)).unwrap();
    let mut hints = store.listen();
    // The first hint says that the store listens.
    assert_eq!(soon(hints.next()).await, Some(Hint::Changed));
    let listeners = |server: &RedisServer| match server.command(&[
        b"PUBSUB",
        b"NUMSUB",
        b"{taskflow:default}:notifications",
    ]) {
        Some(Reply::List(answer)) => answer.last() == Some(&Reply::Number(1)),
        _ => false,
    };
    assert!(listeners(&first));
    // There is a connection for calls too.
    store.counts().await.unwrap();
    proxy.lead_to(second.port());
    follow(&first, Some(&second));
    let adds = tokio::spawn({
        let store = store.clone();
        async move { store.set_paused("default".to_owned(), true).await }
    });
    let hearing = async {
        while !listeners(&second) {
            let _ = tokio::time::timeout(Duration::from_millis(20), hints.next()).await;
        }
    };
    soon(hearing).await;
    adds.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_no_longer_knows_the_user_or_is_loading_is_asked_again_over_a_new_connection() {
    let (Some(first), Some(second)) = (RedisServer::start(), RedisServer::start()) else { return };
    // The second asks for a password that the URL has; the first asks for none.
    second.command(&[b"CONFIG", b"SET", b"requirepass", b"s3cret"]).unwrap();
    let proxy = Proxy::to(second.port()).await;
    let store = RedisStore::open(format!("redis://:s3cret@127.0.0.1:{}/0", proxy.port())).unwrap();
    store.counts().await.unwrap();
    // The proxy closes every connection. The store connects and logs in again.
    let before = proxy.accepted();
    let reset = second.command_as("s3cret", &[b"CLIENT", b"NO-EVICT", b"off"]);
    assert!(reset.is_some());
    assert!(first.ask(&["PING"]).is_some());
    proxy.cut();
    store
        .set_paused("default".to_owned(), true)
        .await
        .or_else(|error| if error.is_transient() { Ok(()) } else { Err(error) })
        .unwrap();
    eventually("a write after the cut", || async { store.set_paused("q".to_owned(), true).await.ok() }).await;
    assert!(proxy.accepted() > before);
    // A rotated password: the error says so, and never shows the password.
    second.command_as("s3cret", &[b"CONFIG", b"SET", b"requirepass", b"rotated"]).unwrap();
    proxy.cut();
    let error = eventually("the refusal", || async {
        store.counts().await.err().filter(|error| error.kind() == StoreErrorKind::Denied)
    })
    .await;
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    second.command_as("rotated", &[b"CONFIG", b"SET", b"requirepass", b"s3cret"]).unwrap();
    eventually("the store to answer again", || async { store.counts().await.ok() }).await;
}

/// While a server answers with `refusal`, each call drops its connection and fails with that reason. Then `mend` repairs the server
/// or leads to another, and a waiting worker goes on by itself.
async fn goes_on_after(refusal: &str, proxy: &Proxy, spoil: impl FnOnce(), mend: impl FnOnce()) {
    let notes = Notes::<u64>::default();
    // A cluster reports that it is well only after some seconds.
    let builder = TaskManager::builder().store(url(proxy)).state(notes.clone()).add_timeout(DEADLINE);
    let tasks = builder.start().await.unwrap();
    soon(soon(tasks.add_task(note, (1,)).into_future()).await.unwrap().wait()).await.unwrap();
    let store = RedisStore::open(url(proxy)).unwrap();
    store.counts().await.unwrap();
    spoil();
    let refused = eventually("the refusal", || async {
        let error = store.counts().await.err()?;
        format!("{error:?}").to_uppercase().contains(refusal).then_some(error)
    })
    .await;
    assert!(refused.is_transient(), "{refused:?}");
    eventually("the worker to notice", || async { tasks.health().degraded_since }).await;
    for _ in 0..3 {
        let before = proxy.accepted();
        assert!(store.set_paused("default".to_owned(), false).await.unwrap_err().is_transient());
        assert!(proxy.accepted() > before, "the connection was dropped, and another was made");
    }
    let add = tokio::spawn(tasks.add_task(note, (2,)).into_future());
    mend();
    soon(soon(add).await.unwrap().unwrap().wait()).await.unwrap();
    eventually("the store to be healthy", || async { tasks.health().degraded_since.is_none().then_some(()) })
        .await;
    assert_eq!(notes.read(), [1, 2]);
    soon(tasks.shutdown(DEADLINE)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_its_primary_that_serves_no_stale_data_is_left_for_the_primary() {
    let (Some(primary), Some(replica)) = (RedisServer::start(), RedisServer::start()) else { return };
    let proxy = Proxy::to(primary.port()).await;
    let spoil = || {
        follow(&replica, Some(&primary));
        replica.command(&[b"CONFIG", b"SET", b"replica-serve-stale-data", b"no"]).unwrap();
        // No server listens on this port.
        let nobody = servers::free_port().to_string();
        replica.command(&[b"REPLICAOF", b"127.0.0.1", nobody.as_bytes()]).unwrap();
        proxy.lead_to(replica.port());
        proxy.cut();
    };
    // The connections to the replica stay open.
    goes_on_after("MASTERDOWN", &proxy, spoil, || proxy.lead_to(primary.port())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_that_is_down_is_asked_again_until_it_is_well() {
    let Some(node) = RedisServer::start_cluster_node() else { return };
    let proxy = Proxy::to(node.port()).await;
    goes_on_after("CLUSTERDOWN", &proxy, || node.serve_slots(false), || node.serve_slots(true)).await;
}

/// Stands before a server. Connections that are open when `refusal` changes get it as the answer to everything from then on.
async fn front(server: u16, refusal: &watch::Sender<String>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, refusal) = (listener.local_addr().unwrap().port(), refusal.clone());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (mut server, refusal) =
                (TcpStream::connect(("127.0.0.1", server)).await.unwrap(), refusal.subscribe());
            tokio::spawn(async move {
                let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
                loop {
                    let passed = tokio::select! {
                        Ok(n @ 1..) = client.read(&mut asked) => match refusal.has_changed() {
                            Ok(false) => server.write_all(&asked[..n]).await,
                            _ => {
                                let refusal = refusal.borrow().clone();
                                client.write_all(refusal.as_bytes()).await
                            }
                        },
                        Ok(n @ 1..) = server.read(&mut answered) => client.write_all(&answered[..n]).await,
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

/// A server that refuses has done nothing, so the call is made again, over a new connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_a_server_refuses_because_it_does_not_serve_is_made_again_at_once() {
    let Some(server) = RedisServer::start() else { return };
    let refusal = watch::Sender::new(String::new());
    let port = front(server.port(), &refusal).await;
    let store = RedisStore::open(format!("redis://127.0.0.1:{port}/0")).unwrap();
    for code in ["READONLY", "MASTERDOWN", "LOADING", "NOAUTH", "CLUSTERDOWN"] {
        let document = || store.documents(DocumentQuery::one("notes", code));
        // Calls of documents notify nobody, so no other command is on its way when the refusal comes.
        for writes in [true, false] {
            document().await.unwrap();
            refusal.send_replace(format!("-{code} says a test\r\n"));
            let done = if writes {
                store.write_documents(vec![DocumentWrite::put("notes", code, vec![1])]).await.map(drop)
            } else {
                document().await.map(drop)
            };
            done.unwrap_or_else(|error| panic!("{code}: {error}"));
            assert_eq!(document().await.unwrap().len(), 1, "{code}");
        }
    }
}

/// A batch of one group of this many tasks, with their ids.
fn large(instance: InstanceId, tasks: usize) -> Arc<InsertBatch> {
    let padding = "x".repeat(200);
    let of = |n: usize| {
        let args = Arc::from(format!(r#"{{"number":{n},"padding":"{padding}"}}"#));
        InsertTask::new(NewTask::new("plain", Ok(args)), Start::Wait)
    };
    let group = InsertGroup::new((0..tasks).map(of).collect());
    Arc::new(InsertBatch::new(instance, Duration::from_secs(10), vec![group]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_insert_that_is_cut_leaves_nothing_and_its_repetition_inserts_each_once() {
    let Some(server) = RedisServer::start() else { return };
    let proxy = Proxy::to(server.port()).await;
    let store = RedisStore::open(url(&proxy)).unwrap();
    let direct = RedisStore::open(server.url()).unwrap();
    let batch = large(InstanceId::new(), 20_000);
    // Some five megabytes of arguments go in several portions.
    for cut in [100_000, 1_500_000, 3_000_000, 4_500_000] {
        proxy.refuse(false);
        store.counts().await.unwrap();
        proxy.cut_after(cut);
        let error = soon(store.insert(Arc::clone(&batch))).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "after {cut}: {error}");
        let counts = direct.counts().await.unwrap();
        assert_eq!(counts.pending, 0, "after {cut}");
        assert!(direct.list(TaskFilter::default()).await.unwrap().items.is_empty(), "after {cut}");
        assert!(direct.get(batch.groups[0].tasks[0].task.id).await.unwrap().is_none(), "after {cut}");
    }
    proxy.refuse(false);
    for _ in 0..2 {
        let answers = soon(store.insert(Arc::clone(&batch))).await.unwrap();
        assert_eq!(answers[0].as_ref().unwrap().len(), 20_000);
        assert_eq!(direct.counts().await.unwrap().pending, 20_000);
    }
    let Reply::List(stages) = server.command(&[b"KEYS", b"*stage:*"]).unwrap() else { panic!("no list") };
    assert!(!stages.is_empty(), "each cut has left one");
    for stage in stages {
        let left = server.command(&[b"TTL", &stage.into_bytes()]);
        assert!(matches!(left, Some(Reply::Number(1..=120))), "a stage is forgotten: {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adds_of_which_some_are_stored_when_the_connection_breaks_are_in_doubt_and_not_refused() {
    let Some(server) = RedisServer::start() else { return };
    let proxy = Proxy::to(server.port()).await;
    let store = RedisStore::open(url(&proxy)).unwrap();
    let direct = RedisStore::open(server.url()).unwrap();
    let instance = InstanceId::new();
    let tasks = large(instance, 5_000).groups[0].tasks.clone();
    let groups: Vec<_> = tasks.into_iter().map(|task| InsertGroup::new(vec![task])).collect();
    let batch = Arc::new(InsertBatch::new(instance, Duration::from_secs(10), groups));
    store.counts().await.unwrap();
    proxy.cut_after(700_000);
    let error = soon(store.insert(Arc::clone(&batch))).await.unwrap_err();
    let stored = direct.counts().await.unwrap().pending;
    assert!((1..5_000).contains(&stored), "{stored}");
    assert_eq!(error.kind(), StoreErrorKind::Unknown, "{error}");
    proxy.refuse(false);
    soon(store.insert(batch)).await.unwrap();
    assert_eq!(direct.counts().await.unwrap().pending, 5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_tasks_are_added_at_once_with_the_default_settings() {
    let Some(server) = RedisServer::start() else { return };
    let tasks = TaskManager::builder().store(servers::made(server.url())).connect().await.unwrap();
    let handles = tasks.add_all((0..100_000).map(plain)).await.unwrap();
    let ids: HashSet<_> = handles.iter().map(|handle| handle.id()).collect();
    assert_eq!(ids.len(), 100_000);
    assert_eq!(tasks.counts().await.unwrap().pending, 100_000);
    tasks.shutdown(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_call_is_dropped_is_not_lost() {
    let Some(server) = RedisServer::start() else { return };
    let store = RedisStore::open(server.url()).unwrap();
    let instance = InstanceId::new();
    soon(store.insert(large(instance, 1))).await.unwrap();
    let claim = || {
        let queues = vec![(Arc::from("default"), 10)];
        Claim::new(instance, Duration::from_secs(600), Arc::from([Arc::from("plain")]), queues, 10)
    };
    // The server receives this claim, but the caller gives up before the answer.
    server.freeze(true);
    let sent = tokio::time::timeout(Duration::from_millis(50), store.claim(claim())).await;
    assert!(sent.is_err(), "a frozen server answers nothing");
    server.freeze(false);
    let claimed = soon(store.claim(claim())).await.unwrap();
    let first = claimed.tasks.first().map(|task| task.attempt);
    assert_eq!(first, Some(1), "taken back, and not counted");
}
