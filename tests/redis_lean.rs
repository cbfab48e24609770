//! Simple batches on Redis use scripts of their own, which must leave everything else to the general scripts. A fresh handle trusts
//! the simple scripts, so these tests fail if a simple script overlooks something.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use servers::redis::shared_url;
use support::eventually;
use taskflow::store::{
    Claim, InsertBatch, InsertGroup, InsertTask, Inserted, InsertedAs, SharedLimits, Start,
};
use taskflow::{
    InstanceInfo, NewTask, QueueConfig, RedisStore, Store,
    model::{StoreErrorKind, When},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

const LEASE: Duration = Duration::from_secs(60);

fn task() -> NewTask {
    NewTask::new("alpha", Ok(Arc::from("{}")))
}

fn claim(me: &InstanceInfo) -> Claim {
    Claim::new(me.id, LEASE, Arc::from([Arc::from("alpha")]), vec![("default".into(), 10)], 10)
}

/// A claim like [`claim`], from a queue in which `of_key` tasks of each key may run.
fn limited(me: &InstanceInfo, of_key: usize) -> Claim {
    let limits = SharedLimits::of(&QueueConfig::new().key_concurrency(of_key));
    claim(me).with_limits("default", limits)
}

fn keyed(key: &str) -> NewTask {
    let mut task = task();
    task.concurrency_key = Some(key.to_owned());
    task
}

/// Inserts one task, through a fresh handle.
async fn insert(url: &str, me: &InstanceInfo, task: NewTask, start: Start) -> Inserted {
    let groups = vec![InsertGroup::new(vec![InsertTask::new(task, start)])];
    let batch = Arc::new(InsertBatch::new(me.id, LEASE, groups));
    let mut answers = RedisStore::open(url).unwrap().insert(batch).await.unwrap();
    answers.pop().unwrap().unwrap()[0]
}

#[tokio::test]
async fn what_was_put_aside_is_claimed_when_there_is_no_limit_any_more() {
    let Some(url) = shared_url() else { return };
    let me = InstanceInfo::of_this_process(true);
    let store = RedisStore::open(&url).unwrap();
    store.join(&me).await.unwrap();
    for _ in 0..3 {
        let mut task = task();
        task.concurrency_key = Some("one".to_owned());
        insert(&url, &me, task, Start::Wait).await;
    }
    assert_eq!(store.claim(limited(&me, 1)).await.unwrap().tasks.len(), 1);
    assert_eq!(RedisStore::open(&url).unwrap().claim(claim(&me)).await.unwrap().tasks.len(), 2);
}

#[tokio::test]
async fn an_insert_does_not_overtake_what_has_come_due_since_the_last_claim() {
    let Some(url) = shared_url() else { return };
    let me = InstanceInfo::of_this_process(true);
    let store = RedisStore::open(&url).unwrap();
    store.join(&me).await.unwrap();
    let mut later = task();
    later.when = When::In(Duration::from_millis(5));
    insert(&url, &me, later, Start::Wait).await;
    eventually("it to come due", || async {
        let queues = store.queues().await.unwrap();
        (queues[0].scheduled == 0).then_some(())
    })
    .await;
    assert_eq!(insert(&url, &me, task(), Start::LeaseIfIdle).await.kind, InsertedAs::Pending);
    assert_eq!(RedisStore::open(&url).unwrap().claim(claim(&me)).await.unwrap().tasks.len(), 2);
}

#[tokio::test]
async fn a_limit_under_which_others_were_put_aside_once_is_not_taken_for_the_one_of_today() {
    let Some(url) = shared_url() else { return };
    let me = InstanceInfo::of_this_process(true);
    let store = RedisStore::open(&url).unwrap();
    store.join(&me).await.unwrap();
    for start in [Start::Lease, Start::Lease, Start::Wait] {
        let task = insert(&url, &me, keyed("one"), start).await;
        assert!(store.claim(limited(&me, 2)).await.unwrap().tasks.is_empty());
        if start == Start::Wait {
            store.cancel(vec![task.id], "not wanted".to_owned()).await.unwrap();
        }
    }
    for start in [Start::Lease, Start::Wait] {
        insert(&url, &me, keyed("another"), start).await;
    }
    assert!(store.claim(limited(&me, 1)).await.unwrap().tasks.is_empty(), "blocked under the limit of 1");
    assert_eq!(store.claim(limited(&me, 2)).await.unwrap().tasks.len(), 1);
}

/// A proxy between a store and its server. On request it cuts the next connection on which the store sends something, and forwards
/// those bytes later.
#[derive(Clone)]
struct Between {
    port: u16,
    hold: Arc<AtomicBool>,
    held: Arc<Mutex<Option<Held>>>,
}

/// The connection to the server, and the bytes that were held back.
type Held = (TcpStream, Vec<u8>);

impl Between {
    async fn new(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let between = Self { port, hold: Arc::default(), held: Arc::default() };
        let accepting = between.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(accepting.clone().serve(client, server));
            }
        });
        between
    }

    async fn serve(self, mut client: TcpStream, mut server: TcpStream) {
        let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
        loop {
            tokio::select! {
                Ok(n @ 1..) = client.read(&mut asked) => {
                    if self.hold.swap(false, Ordering::AcqRel) {
                        *self.held.lock().await = Some((server, asked[..n].to_vec()));
                        return;
                    }
                    server.write_all(&asked[..n]).await.unwrap();
                }
                Ok(n @ 1..) = server.read(&mut answered) => client.write_all(&answered[..n]).await.unwrap(),
                else => return,
            }
        }
    }

    /// Forwards the held bytes, and waits for the answer.
    async fn deliver(&self) {
        let (mut server, asked) = self.held.lock().await.take().unwrap();
        server.write_all(&asked).await.unwrap();
        assert!(server.read(&mut [0; 1024]).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_claim_that_comes_after_it_was_given_up_takes_nothing() {
    let Some(url) = shared_url() else { return };
    let (start, end) = (url.rfind(':').unwrap() + 1, url.rfind("/0").unwrap());
    let between = Between::new(url[start..end].parse().unwrap()).await;
    let me = InstanceInfo::of_this_process(true);
    let store = RedisStore::open(format!("{}{}{}", &url[..start], between.port, &url[end..])).unwrap();
    store.join(&me).await.unwrap();
    let kinds: [fn(&InstanceInfo) -> Claim; 2] = [claim, |me| limited(me, 1)];
    for claim in kinds {
        assert!(
            store.claim(claim(&me)).await.unwrap().tasks.is_empty(),
            "so that the server knows the script"
        );
        between.hold.store(true, Ordering::Release);
        assert_eq!(store.claim(claim(&me)).await.unwrap_err().kind(), StoreErrorKind::Unknown);
        assert!(store.claim(claim(&me)).await.unwrap().tasks.is_empty());
        insert(&url, &me, task(), Start::Wait).await;
        between.deliver().await;
        assert_eq!(store.claim(claim(&me)).await.unwrap().tasks.len(), 1, "nobody has it");
    }
}
