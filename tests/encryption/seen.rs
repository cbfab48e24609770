//! Arguments that look sealed are refused, and observers see sealed values only in their sealed form.

use super::*;

/// Arguments that begin like sealed ones. The first is sealed, but for another task.
const AS_SEALED: [&str; 3] = [SEALED, r#"{"$tf":"enc1"}"#, r#"{"$tf":7,"name":"Ada"}"#];

/// Whether an add was refused for how its arguments begin.
fn refused<T: std::fmt::Debug>(added: Result<T, impl std::fmt::Display>) {
    let error = added.unwrap_err().to_string();
    assert!(error.contains(r#"`args` of this add cannot be used: it begins with `{"$tf"`"#), "{error}");
}

#[tokio::test]
async fn arguments_that_begin_as_sealed_ones_are_refused_by_every_add() {
    for (place, has_keys) in
        everywhere().into_iter().flat_map(|place| [(place.clone(), true), (place, false)])
    {
        let builder = place.builder().only(["greet"]);
        let builder = if has_keys { builder.encrypt(Encrypt::new(key(1))) } else { builder };
        let tasks = builder.start().await.unwrap();
        let before = tasks.counts().await.unwrap().total();
        for args in AS_SEALED {
            let new = || NewTask::new("greet", Ok(args.into()));
            refused(tasks.add_all([new()]).await);
            refused(tasks.add_all([NewTask::new("nobody.has.it", Ok(args.into()))]).await);
            refused(tasks.hold().add_all([new()]).await);
            let mut eager = new();
            eager.eager = true;
            refused(tasks.add_all([eager]).await);
            refused(tasks.schedule(new(), Every::new(Duration::from_secs(1)).unwrap()).await);
        }
        // One refused task makes its whole batch fail.
        let both = [greet(secret()).into_new_task(), NewTask::new("greet", Ok(AS_SEALED[1].into()))];
        refused(tasks.add_all(both).await);
        assert_eq!(tasks.counts().await.unwrap().total(), before);

        // Only `{"$tf"` at the very beginning marks a sealed value.
        for args in [r#"{ "$tf":1,"name":"Ada"}"#, r#"{"name":"{\"$tf\":1}"}"#, r#"{"name":"Ada","$tf":1}"#] {
            let added = tasks.add_all([NewTask::new("greet", Ok(args.into()))]).await.unwrap().remove(0);
            let ended = ends(&tasks, added.id()).await;
            assert_eq!(ended.status, TaskStatus::Success, "{args}: {ended:?}");
        }
        tasks.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn arguments_of_a_hook_that_begin_as_sealed_ones_are_refused_and_those_of_a_sealed_schedule_are_not() {
    let place = Place::sqlite();
    let hook = |task: &mut NewTask| {
        if task.tags.contains_key("bad") {
            task.args = Ok(AS_SEALED[1].into());
        }
        Ok(())
    };
    let builder = place.builder().encrypt(Encrypt::new(key(1))).on_add(hook);
    let seen = MemoryObserver::new();
    let tasks = builder.observer(seen.clone()).start().await.unwrap();
    refused(tasks.add_task(greet, (secret(),)).tag("bad", "").await);
    let Place::Sqlite(directory) = &place else { unreachable!() };
    let sql = Connection::open(directory.path().join("tasks.db")).unwrap();
    refused(tasks.add_task(greet, (secret(),)).tag("bad", "").within_sqlite(&sql));

    let schedule = |name: &'static str, add| {
        tasks.schedule(add, Every::new(Duration::from_hours(1)).unwrap()).named(name)
    };
    soon(schedule("good", tasks.add_task(greet, (secret(),)))).await.unwrap();
    let ticked = soon(tasks.run_now("good")).await.unwrap();
    assert_eq!(soon(ticked.wait()).await.unwrap(), format!("hello, {SECRET}"));
    soon(schedule("bad", tasks.add_task(greet, (secret(),)).tag("bad", ""))).await.unwrap();
    refused(soon(tasks.run_now("bad")).await);
    tasks.shutdown(Duration::ZERO).await.unwrap();
}

static SEEN: LazyLock<MemoryObserver> = LazyLock::new(MemoryObserver::new);

/// It logs, waits until the line is stored, and fails with the secret.
#[taskflow::task(name = "encryption.lingers")]
async fn lingers(context: TaskContext, secret: String) -> Result<(), String> {
    context.log(LogLevel::Info, format!("I know {secret}"));
    SEEN.wait_for(|event| event.id == context.id() && event.kind.kind() == EventKind::Log).await;
    context.log(LogLevel::Info, format!("I told {secret}"));
    Err(secret)
}

#[tokio::test(flavor = "multi_thread")]
async fn observers_hear_of_a_sealed_task_only_what_is_stored() {
    for place in Place::each() {
        SEEN.clear();
        let encrypt = Encrypt::new(Keyring::new(key(1))).args().errors().logs();
        let builder = place.builder().schedules(false).encrypt(encrypt).observer(SEEN.clone());
        // Middleware sees the plain values, like the body.
        let tasks = builder.middleware(SeesSecret).start().await.unwrap();
        let handle = tasks.add_task(lingers, (SECRET.to_owned(),)).await.unwrap();
        soon(SEEN.wait_for(|event| event.kind.kind() == EventKind::Failed)).await;
        let kinds: Vec<_> = SEEN.events().iter().map(|event| event.kind.kind()).collect();
        use EventKind::{Added, Failed, Log, Started};
        assert_eq!(kinds, [Added, Started, Log, Log, Failed]);
        let json = serde_json::to_string(&SEEN.events()).unwrap();
        assert!(!json.contains(SECRET), "{json}");
        let task = ends(&tasks, handle.id()).await;
        assert_eq!(SEEN.events()[4].error(), task.error.as_deref());
    }
}

struct SeesSecret;

impl Middleware for SeesSecret {
    fn run<'a>(&'a self, run: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome> {
        Box::pin(async move {
            assert!(run.args().contains(SECRET), "{}", run.args());
            let outcome = next.run().await;
            assert_eq!(outcome.error(), Some(SECRET));
            outcome
        })
    }
}
