//! Keys are missing, provided again and replaced, also while processes are killed.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use everywhere::everywhere;
use support::{Place, ends, eventually, record, soon};
use taskflow::crypt::{Encrypt, Key, Keyring, Keys};
use taskflow::model::FailureKind;
use taskflow::{Counts, Every, TaskFilter, TaskManager, TaskStatus};
use wrapper::{Wrapper, go_on};

const LATER: Duration = Duration::from_secs(3600);

#[taskflow::task(retries = 5, delay = "1ms", jitter = 0.0, requeue_on_interrupt)]
async fn echo(text: String) -> Result<String, String> {
    tokio::time::sleep(Duration::from_millis(2)).await;
    Ok(text)
}

fn key(n: u8) -> Key {
    Key::from_parts([n; 4], [n; 32])
}

async fn start(place: &Place, keys: impl Keys) -> TaskManager {
    place.builder().encrypt(Encrypt::new(keys)).start().await.unwrap()
}

#[tokio::test]
async fn a_task_whose_key_is_lost_fails_once_and_runs_when_the_key_is_back() {
    for place in everywhere() {
        let adder = place.builder().encrypt(Encrypt::new(key(1))).connect().await.unwrap();
        let id = adder.add_task(echo, ("text".to_owned(),)).await.unwrap().id();
        let before = record(&adder, id).await;

        let without = start(&place, key(2)).await;
        let failed = ends(&without, id).await;
        assert_eq!((failed.status, failed.attempts.len(), failed.max_attempts), (TaskStatus::Failed, 1, 6));
        let why = "its arguments are sealed: key `01010101` is not in this process's key ring: add it with \
                   `Keyring::also`, and retry the task";
        assert_eq!(failed.error.as_deref(), Some(why));
        assert_eq!(failed.args.get(), before.args.get());
        assert_eq!(without.health().missing_keys, ["01010101"]);
        assert!(without.health().is_healthy(), "the store is well");

        // A different key with the same id does not help.
        without.shutdown(Duration::ZERO).await.unwrap();
        let wrong = start(&place, Key::from_parts([1; 4], [9; 32])).await;
        wrong.retry(id).await.unwrap();
        let failed = eventually("it fails again", || async {
            Some(record(&wrong, id).await).filter(|it| it.status.is_final() && it.attempts.len() > 1)
        });
        assert!(failed.await.error.unwrap().contains("it does not open with key `01010101`"));
        wrong.shutdown(Duration::ZERO).await.unwrap();

        let with = start(&place, Keyring::new(key(2)).also(key(1))).await;
        with.retry(id).await.unwrap();
        let ended = eventually("it succeeds", || async {
            Some(record(&with, id).await).filter(|it| it.status == TaskStatus::Success)
        });
        let ended = ended.await;
        assert_eq!(ended.args.get(), before.args.get());
        // New values are sealed with the current key, beside arguments sealed with the old one.
        assert!(ended.result.as_ref().unwrap().get().contains("02020202"));
        assert_eq!(with.open(&ended).unwrap().result.unwrap().get(), "\"text\"");
        with.shutdown(Duration::ZERO).await.unwrap();
        adder.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn a_process_without_any_key_fails_a_sealed_task_clearly() {
    let place = Place::memory();
    let adder = place.builder().encrypt(Encrypt::new(key(1))).connect().await.unwrap();
    let task = adder.add_task(echo, ("text".to_owned(),)).await.unwrap();
    let keyless = place.builder().start().await.unwrap();
    let failure = soon(task.wait()).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Ended);
    assert!(failure.message().contains("key `01010101` is not in this process's key ring"), "{failure}");
    assert_eq!(keyless.health().missing_keys, ["01010101"]);
}

#[tokio::test]
async fn a_start_tells_of_waiting_tasks_that_it_cannot_open() {
    let place = Place::memory();
    let adder = place.builder().encrypt(Encrypt::new(key(1))).connect().await.unwrap();
    adder.add_task(echo, ("text".to_owned(),)).run_in(Duration::from_secs(3600)).await.unwrap();
    let without = start(&place, key(2)).await;
    eventually("the health says so", || async {
        (without.health().missing_keys == ["01010101"]).then_some(())
    })
    .await;
    let with = start(&place, Keyring::new(key(2)).also(key(1))).await;
    let other = with.add_task(echo, ("text".to_owned(),)).await.unwrap();
    soon(other.wait()).await.unwrap();
    assert!(with.health().missing_keys.is_empty());
}

#[tokio::test]
async fn arguments_that_wait_are_sealed_anew_and_the_old_key_can_go() {
    for place in everywhere() {
        let old = place.builder().encrypt(Encrypt::new(key(1))).connect().await.unwrap();
        old.pause_queue("default").await.unwrap();
        let add = |text: &str| old.add_task(echo, (text.to_owned(),));
        let plain = add("plain").await.unwrap().id();
        let long = add(&"long ".repeat(2000)).await.unwrap().id();
        let keyed = add("first").run_key("report").await.unwrap().id();
        assert_eq!(add("replaced").run_key("report").await.unwrap().id(), keyed);
        old.schedule(echo("tick".to_owned()), Every::new(LATER).unwrap()).named("hourly").await.unwrap();
        let tick = old.run_now("hourly").await.unwrap().id();
        let many = old.add_all((0..230).map(|n| echo(n.to_string()))).await.unwrap();
        let keyless = place.builder().connect().await.unwrap();
        let open = keyless.add_task(echo, ("in the clear".to_owned(),)).await.unwrap().id();
        let next = old.schedules().await.unwrap()[0].next_run;
        old.shutdown(Duration::ZERO).await.unwrap();

        let refused = keyless.rewrap(TaskFilter::all()).await.unwrap_err();
        assert!(refused.to_string().contains("`encrypt` cannot be left out"), "{refused}");
        keyless.shutdown(Duration::ZERO).await.unwrap();
        let new = place.builder().encrypt(Encrypt::new(key(2))).connect().await.unwrap();
        let done = new.rewrap(TaskFilter::all()).await.unwrap();
        assert_eq!((done.sealed, done.refused, done.unchanged), (0, 234, 1), "{done:?}");
        assert_eq!(done.errors.len(), 1);
        assert!(done.errors[0].contains("key `01010101` is not in this process's key ring"), "{done:?}");
        assert_eq!(new.rewrap_schedules().await.unwrap().refused, 1);
        new.shutdown(Duration::ZERO).await.unwrap();

        let both = Encrypt::new(Keyring::new(key(2)).also(key(1)));
        let both = place.builder().encrypt(both).connect().await.unwrap();
        let done = both.rewrap(TaskFilter::all()).await.unwrap();
        assert_eq!((done.sealed, done.unchanged, done.missed, done.refused), (234, 1, 0, 0));
        assert_eq!(both.rewrap_schedules().await.unwrap().sealed, 1);
        let again = both.rewrap(TaskFilter::all()).await.unwrap();
        assert_eq!((again.sealed, again.unchanged), (0, 235), "there is nothing left to do");
        assert_eq!(both.rewrap_schedules().await.unwrap().unchanged, 1);
        for id in [plain, long, keyed, tick, many[0].id(), many[229].id()] {
            assert_eq!(record(&both, id).await.sealed_with(), Some("02020202"));
        }
        assert_eq!(record(&both, open).await.args.get(), r#"{"text":"in the clear"}"#);
        let hourly = &both.schedules().await.unwrap()[0];
        assert_eq!((hourly.sealed_with.as_deref(), hourly.next_run), (Some("02020202"), next));
        both.resume_queue("default").await.unwrap();
        both.shutdown(Duration::ZERO).await.unwrap();

        // The old key is gone, and everything runs.
        let new = start(&place, key(2)).await;
        let tick = new.run_now("hourly").await.unwrap().id();
        assert_eq!(ends(&new, tick).await.status, TaskStatus::Success);
        eventually("all have succeeded", || async {
            let counts = new.counts().await.unwrap();
            ((counts.success, counts.total()) == (236, 236)).then_some(())
        })
        .await;
        assert_eq!(new.open(&record(&new, keyed).await).unwrap().result.unwrap().get(), "\"replaced\"");
        new.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn arguments_that_somebody_replaces_meanwhile_stay_as_they_are() {
    let place = Place::memory();
    let old = place.builder().encrypt(Encrypt::new(key(1))).connect().await.unwrap();
    old.pause_queue("default").await.unwrap();
    let add = |text: &str| old.add_task(echo, (text.to_owned(),)).run_key("report");
    let id = add("first").await.unwrap().id();
    let other = old.clone();
    let between = Wrapper::new(place.store(), move |call| match call {
        "replace_args" => {
            let other = other.clone();
            Box::pin(async move {
                other.add_task(echo, ("second".to_owned(),)).run_key("report").await.unwrap();
                Ok(())
            })
        }
        _ => go_on(),
    });
    let keys = Encrypt::new(Keyring::new(key(2)).also(key(1)));
    let both = TaskManager::builder().store(between).encrypt(keys).connect().await.unwrap();
    let done = both.rewrap(TaskFilter::all()).await.unwrap();
    assert_eq!((done.sealed, done.missed), (0, 1));
    assert_eq!(both.open(&record(&both, id).await).unwrap().args.get(), r#"{"text":"second"}"#);
}

/// A custom key ring whose current key changes while the process runs.
#[derive(Clone)]
struct Turning(Arc<std::sync::Mutex<u8>>);

impl Keys for Turning {
    fn current(&self) -> Key {
        key(*self.0.lock().unwrap())
    }

    fn by_id(&self, id: &str) -> Option<Key> {
        [1, 2].map(key).into_iter().find(|key| key.id() == id)
    }
}

#[tokio::test]
async fn a_ring_of_ones_own_may_change_its_current_key() {
    let place = Place::memory();
    let ring = Turning(Arc::new(std::sync::Mutex::new(1)));
    let tasks = start(&place, ring.clone()).await;
    let later = async |text: &str| {
        let add = tasks.add_task(echo, (text.to_owned(),)).run_in(Duration::from_millis(100));
        add.await.unwrap()
    };
    let first = later("one").await;
    *ring.0.lock().unwrap() = 2;
    let second = later("two").await;
    assert_eq!(record(&tasks, first.id()).await.sealed_with(), Some("01010101"));
    assert_eq!(record(&tasks, second.id()).await.sealed_with(), Some("02020202"));
    assert_eq!(soon(first.wait()).await.unwrap(), "one");
    assert_eq!(soon(second.wait()).await.unwrap(), "two");
}

/// A process of this program that adds and runs tasks until it is killed.
struct Process(Child);

impl Process {
    fn start(place: &Place, keys: &str) -> Self {
        let command = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "as_a_process", "--nocapture", "--ignored"])
            .env("ENCRYPTION_STORE", place.url())
            .env("ENCRYPTION_KEYS", keys)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(command.unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: what [`Process`] runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of another test"]
async fn as_a_process() {
    let Ok(url) = std::env::var("ENCRYPTION_STORE") else { return };
    let keys = std::env::var("ENCRYPTION_KEYS").unwrap();
    let mut keys = keys.split(',').map(|n| key(n.parse().unwrap()));
    let first = Keyring::new(keys.next().unwrap());
    let ring = keys.fold(first, Keyring::also);
    let encrypt = Encrypt::new(ring).args().results().errors().logs().strict();
    let tasks = TaskManager::builder().store(url).encrypt(encrypt).lease(Duration::from_millis(500)).start();
    let tasks = tasks.await.unwrap();
    for n in 0.. {
        let text = format!("{}/{n}", std::process::id());
        if let Ok(task) = tasks.add_task(echo, (text.clone(),)).await
            && n % 8 == 0
        {
            assert_eq!(task.wait().await.unwrap(), text);
        }
    }
}

#[tokio::test]
async fn keys_are_rotated_under_load_and_kill_9_and_no_task_is_lost() {
    let place = Place::sqlite();
    let watcher =
        place.builder().encrypt(Encrypt::new(Keyring::new(key(1)).also(key(2)))).connect().await.unwrap();
    let succeeded = async |more: u64| {
        let before = watcher.counts().await.unwrap().success;
        eventually("tasks run", || async {
            (watcher.counts().await.unwrap().success >= before + more).then_some(())
        })
        .await;
    };
    // First the old key alone. Then the new key also opens; then the new key seals, and the old one still opens.
    let mut old = Process::start(&place, "1");
    for keys in ["1,2", "2,1", "2,1"] {
        succeeded(60).await;
        let new = Process::start(&place, keys);
        succeeded(60).await;
        // Kill the process with the older ring in the middle of its work.
        std::mem::replace(&mut old, new).kill();
    }
    succeeded(60).await;
    old.kill();

    // The process with both keys finishes the rest.
    let last = place
        .builder()
        .encrypt(Encrypt::new(Keyring::new(key(2)).also(key(1))).strict())
        .start()
        .await
        .unwrap();
    let is_done = |counts: &Counts| counts.pending + counts.running == 0;
    let counts =
        eventually("all tasks have ended", || async { Some(last.counts().await.unwrap()).filter(is_done) })
            .await;
    assert_eq!((counts.failed, counts.interrupted, counts.cancelled), (0, 0, 0), "{counts:?}");
    let mut filter = TaskFilter::all().limit(500);
    let mut with = std::collections::BTreeMap::<String, usize>::new();
    loop {
        let page = last.list(filter.clone()).await.unwrap();
        for task in &page.items {
            let opened = last.open(task).unwrap();
            let text = opened.result.unwrap();
            assert_eq!(opened.args.get(), format!("{{\"text\":{}}}", text.get()));
            *with.entry(task.sealed_with().unwrap().to_owned()).or_default() += 1;
        }
        let Some(next) = page.next else { break };
        filter = filter.after(next);
    }
    assert!(with.keys().eq(["01010101", "02020202"]), "{with:?}");
    last.shutdown(Duration::ZERO).await.unwrap();
}
