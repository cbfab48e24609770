//! One table of limits: what is beyond it is refused where it is given, by its name; what is within can be read back.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use everywhere::everywhere;
use serde_json::Value;
use support::{Gate, Place, ends, record, soon};
use taskflow::{
    AddError, AddTask, Error, Every, NewTask, QueueConfig, RetryPolicy, State, TaskFilter, TaskManager,
    TaskPhase, TaskStatus,
};

const CENTURY: Duration = Duration::from_secs(36_525 * 86_400);

/// 2200-01-01T00:00:00Z.
const LAST: Duration = Duration::from_secs(7_258_118_400);

#[taskflow::task]
async fn ping() {}

#[taskflow::task]
async fn wait_at(State(gate): State<Gate>) {
    gate.pass().await;
}

#[taskflow::task]
async fn keep(value: Value) -> Result<Value, String> {
    Ok(value)
}

#[taskflow::task(retries = 3)]
async fn nest(depth: usize) -> Result<Value, String> {
    Ok(nested(depth))
}

/// A list in a list, and so on.
fn nested(depth: usize) -> Value {
    (1..depth).fold(Value::Array(Vec::new()), |inner, _| Value::Array(vec![inner]))
}

async fn idle(place: &Place) -> TaskManager {
    place.builder().connect().await.unwrap()
}

async fn start(place: &Place) -> (TaskManager, Gate) {
    let gate = Gate::default();
    (place.builder().state(gate.clone()).start().await.unwrap(), gate)
}

/// What an error says names the field and the limit.
fn names(error: &AddError, field: &str, limit: &str) {
    let text = error.to_string();
    assert!(text.contains(&format!("`{field}`")) && text.contains(limit), "{field}, {limit}: {text}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_number_beyond_its_limits_is_refused_by_its_name() {
    let tasks = idle(&Place::memory()).await;
    let ping = || tasks.add(ping());
    let beyond = CENTURY + Duration::from_nanos(1);
    let early = UNIX_EPOCH - Duration::from_micros(1);
    let late = UNIX_EPOCH + LAST + Duration::from_micros(1);
    let cases: Vec<(AddTask<()>, &str, &str)> = vec![
        (ping().backoff(f64::NAN), "backoff", "NaN, and a factor is a number from 1 to 1000"),
        (ping().backoff(f64::INFINITY), "backoff", "from 1 to 1000"),
        (ping().backoff(-1.0), "backoff", "from 1 to 1000"),
        (ping().backoff(1000.1), "backoff", "from 1 to 1000"),
        (ping().delay(beyond), "delay", "century"),
        (ping().delay(Duration::MAX), "delay", "century"),
        (ping().delay(Duration::from_secs(3601)), "delay", "`max_delay`"),
        (ping().max_delay(beyond), "max_delay", "century"),
        (ping().jitter(1.01), "jitter", "from 0 to 1"),
        (ping().expires_in(beyond), "expires_in", "century"),
        (ping().expires_in(Duration::MAX), "expires_in", "century"),
        (ping().timeout(beyond), "timeout", "century"),
        (ping().timeout(Duration::ZERO), "timeout", "1 ms"),
        (ping().run_in(beyond), "run_in", "century"),
        (ping().run_in(Duration::MAX), "run_in", "century"),
        (ping().run_at(early), "run_at", "an instant is from 1970-01-01T00:00:00Z"),
        (ping().run_at(late), "run_at", "to 2200-01-01T00:00:00Z"),
        (ping().expires_at(early), "expires_at", "from 1970-01-01T00:00:00Z"),
        (ping().expires_at(late), "expires_at", "to 2200-01-01T00:00:00Z"),
    ];
    for (add, field, limit) in cases {
        names(&add.await.unwrap_err(), field, limit);
    }
    assert_eq!(tasks.counts().await.unwrap().total(), 0);
}

/// A [`NewTask`] has public fields: what they hold is checked like the options of an add.
#[tokio::test]
async fn a_new_task_is_checked_like_any_add() {
    fn policy(change: impl FnOnce(&mut RetryPolicy)) -> impl FnOnce(&mut NewTask) {
        |task| change(task.policy.to_mut())
    }
    type Change = Box<dyn FnOnce(&mut NewTask)>;
    let tasks = idle(&Place::memory()).await;
    let long = "x".repeat(1025);
    let beyond = CENTURY + Duration::from_nanos(1);
    let cases: Vec<(Change, &str, &str)> = vec![
        (
            Box::new(policy(|policy| policy.jitter = f64::NAN)),
            "jitter",
            "NaN, and a share is a number from 0 to 1",
        ),
        (Box::new(policy(|policy| policy.jitter = -0.1)), "jitter", "from 0 to 1"),
        (Box::new(policy(|policy| policy.backoff = 0.5)), "backoff", "from 1 to 1000"),
        (Box::new(policy(move |policy| policy.max_delay = beyond)), "max_delay", "century"),
        (Box::new(policy(|policy| policy.max_delay = Duration::ZERO)), "delay", "`max_delay`"),
        (Box::new(policy(|policy| policy.max_lost_runs = 0)), "max_lost_runs", "the least"),
        (Box::new(|task| task.name = Cow::Borrowed("")), "name", "not empty"),
        (Box::new(|task| task.name = Cow::Borrowed(" a")), "name", "blank"),
        (Box::new(|task| task.name = Cow::Borrowed("a\0b")), "name", "control character"),
        (
            Box::new({
                let long = long.clone();
                |task| task.name = long.into()
            }),
            "name",
            "1025, and the limit is 1024",
        ),
        (Box::new(|task| task.queue = "x".repeat(70_000).into()), "queue", "70000, and the limit is 1024"),
    ];
    for (change, field, limit) in cases {
        let mut task = NewTask::new("anything", Ok("{}".into()));
        change(&mut task);
        names(&tasks.add_all([task]).await.unwrap_err(), field, limit);
    }
    assert_eq!(tasks.counts().await.unwrap().total(), 0);
}

#[tokio::test]
async fn the_builder_refuses_names_and_lengths_beyond_the_limits() {
    let beyond = CENTURY + Duration::from_nanos(1);
    let rate = |per| QueueConfig::new().rate_limit(1, per);
    let builder = || TaskManager::builder().store("memory:");
    let cases = [
        (builder().queue("x".repeat(1025), QueueConfig::new()), "queue", "1024 bytes"),
        (builder().queue("", QueueConfig::new()), "queue", "not empty"),
        (builder().queue("a\nb", QueueConfig::new()), "queue", "control character"),
        (builder().queue("mail", rate(Duration::from_millis(9))), "rate_limit", "10 ms"),
        (builder().queue("mail", rate(beyond)), "rate_limit", "century"),
        (builder().lease(Duration::from_millis(29)), "lease", "30ms"),
        (builder().lease(beyond), "lease", "century"),
        (builder().retention(beyond), "retention", "century"),
        (builder().add_timeout(beyond), "add_timeout", "century"),
    ];
    for (builder, option, limit) in cases {
        let error = builder.connect().await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Config { .. }), "{text}");
        assert!(text.contains(&format!("`{option}`")) && text.contains(limit), "{option}, {limit}: {text}");
    }
    let for_ever = builder().lease(Duration::MAX).retention(Duration::MAX).add_timeout(Duration::MAX);
    for_ever.connect().await.unwrap();
}

#[tokio::test]
async fn a_queue_and_a_schedule_are_checked_at_run_time_too() {
    let tasks = idle(&Place::memory()).await;
    let per = |per| QueueConfig::new().rate_limit(1, per);
    for per in [per(Duration::ZERO), per(Duration::MAX)] {
        assert!(matches!(tasks.set_queue("default", per).await, Err(Error::Config { .. })));
    }
    let every = || Every::new(Duration::from_secs(1)).unwrap();
    for name in ["", "a\0", &"x".repeat(1025)] {
        let error = tasks.schedule(ping(), every()).named(name).await.unwrap_err();
        assert!(error.to_string().contains("`schedule name`"), "{error}");
    }
    let task = tasks.add(ping()).delay(Duration::MAX);
    let error = tasks.schedule(task, every()).named("ping").await.unwrap_err();
    assert!(error.to_string().contains("`delay`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_without_end_is_read_like_any_other() {
    for place in everywhere() {
        for timeout in [CENTURY, Duration::MAX] {
            let (tasks, gate) = start(&place).await;
            let handle = tasks.add_task(wait_at, ()).timeout(timeout).await.unwrap();
            gate.reached(1).await;
            let task = record(&tasks, handle.id()).await;
            assert_eq!((task.timeout, task.phase()), (Some(timeout), TaskPhase::Running));
            let running = TaskFilter::new().phase(TaskPhase::Running);
            assert_eq!(tasks.list(running).await.unwrap().items.len(), 1);
            assert!(
                tasks.list(TaskFilter::new().phase(TaskPhase::Overrunning)).await.unwrap().items.is_empty()
            );
            gate.open();
            soon(handle.wait()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_nested_127_deep_comes_back_and_a_deeper_one_is_refused() {
    for place in everywhere() {
        let (tasks, _) = start(&place).await;
        let handle = tasks.add(keep(nested(127))).await.unwrap();
        assert_eq!(soon(handle.wait()).await.unwrap(), nested(127));
        for depth in [128, 129, 5000] {
            let error = tasks.add(keep(nested(depth))).await.unwrap_err();
            names(&error, "value", "127");
        }
        assert_eq!(tasks.counts().await.unwrap().total(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_could_not_be_read_back_fails_its_attempt() {
    for place in everywhere() {
        let (tasks, _) = start(&place).await;
        assert_eq!(soon(tasks.add(nest(127)).await.unwrap().wait()).await.unwrap(), nested(127));
        for depth in [128, 5000] {
            let task = ends(&tasks, tasks.add(nest(depth)).await.unwrap().id()).await;
            assert_eq!((task.status, task.attempts.len()), (TaskStatus::Failed, 1));
            let error = task.error.unwrap();
            assert!(error.contains("result cannot be kept") && error.contains("127"), "{error}");
        }
    }
}

/// The attributes check in a crate of their own, which cannot see the table.
#[test]
fn the_attributes_know_the_same_limits() {
    let constants = |text: &'static str| {
        let lines = text.lines().filter_map(|line| line.split_once("const "));
        lines.map(|(_, constant)| constant).collect::<Vec<_>>()
    };
    let table = constants(include_str!("../taskflow/src/model/limits.rs"));
    let attributes = constants(include_str!("../taskflow-macros/src/options/limits.rs"));
    assert!(attributes.len() > 5);
    for constant in attributes {
        assert!(table.contains(&constant), "{constant}");
    }
}
