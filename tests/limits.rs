//! One table of limits: a value beyond a limit is refused by name where it is given; every other value can be read back.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use everywhere::everywhere;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use support::{Gate, Place, ends, record, soon};
use taskflow::{
    AddError, AddTask, Error, Every, NewTask, QueueConfig, State, TaskFilter, TaskManager, TaskStatus,
    model::{RetryPolicy, TaskPhase},
    task::IntoNewTask,
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

/// The longest name, which no store can compress.
#[taskflow::task(name = "a4c123b1612dd272d1371c17149d439536b3216fdaeeb975729fae923d5a4fd1\
    2aabfe228f219e9cb0eb53f16947ccf25ec84d8dbc74254770f58904dba41ecc\
    cc3fc1626e53a13043b026c48bbf33feff9243a8f506b40928b5b7a767c76fb0\
    08f86bebb2737f6a6f0fb23c6f5da2cec255404e4fb440034d6608697a8d41be\
    d440e50454f31af3176813e02ea68ef786e4d3cea27d26934b484e73cf575dca\
    d6ba2b0aee0ca923732881584d8c4fa2815d2802827283e0ad84173581569969\
    e58b081006f7e3dfc967a64cb14028d512c9791e558e08baa7196b50ac2f8670\
    2824c1c099724caf4941d4072014b3ce107f80e222f828767efc2f91624a8940\
    f1f836f99eee3692f09e2e8c662248b483b7ffc050fec94dbca3a0aac36098b2\
    cc2bd818319478da6bd0c621de49f145fda9988c79fc35526f7eaed46725a2a7\
    b860dcd6c8a1f8b46287cced9041dff02cee737443e210471948d33296c87009\
    e8a7f770d9106fd287db7f1adbc60926f6967e7893f57fd14c1604d115cea325\
    a65e19cbae530282bd36cb9d21f6be6abf0d7c1c1e21862ab8a18a8902073fec\
    8df4f50947aaeb26c57d21fa5d328263dfe574de739988b886e7577496a2c877\
    3e130f7eb19731662b5e803b61ba4168160adb59261ff2d3c425c8d99d19bdd0\
    b6cc60d5d32cbe54014c2b54b95523cf6941fa1c257c6f561c5cb347611a3ce9")]
async fn long_name(State(gate): State<Gate>) {
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

/// An error names the field and the limit.
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

/// The public fields of a [`NewTask`] are checked like the options of an add.
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
        (Box::new(|task| task.name = Cow::Borrowed("")), "name", "must not be empty"),
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
async fn arguments_made_by_hand_are_an_object_that_can_be_read_back() {
    let tasks = idle(&Place::memory()).await;
    let nested =
        |depth: usize| format!("{{\"text\":\"[[{{\",\"value\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    tasks.add_all([NewTask::new("keep", Ok(nested(127).into()))]).await.unwrap();
    let cases = [
        ("", "not a JSON object"),
        ("[1,2]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{\"a\":NaN}", "not a JSON object"),
        ("{\"a\":\"\0\"}", "not a JSON object"),
        ("{\"a\":1} {}", "not a JSON object"),
        (&nested(128), "argument `value` nests arrays and objects deeper than 127"),
    ];
    for (args, why) in cases {
        let error = tasks.add_all([NewTask::new("keep", Ok(args.into()))]).await.unwrap_err();
        names(&error, "args", why);
    }
    // The arguments of a call, replaced by hand.
    let mut replaced = ping().into_new_task();
    replaced.args = Ok("{]".into());
    names(&tasks.add_all([replaced]).await.unwrap_err(), "args", "not a JSON object");
    assert_eq!(tasks.counts().await.unwrap().total(), 1);
}

#[tokio::test]
async fn the_builder_refuses_names_and_lengths_beyond_the_limits() {
    let beyond = CENTURY + Duration::from_nanos(1);
    let rate = |per| QueueConfig::new().rate_limit(1, per);
    let builder = || TaskManager::builder().store("memory:");
    let cases = [
        (builder().queue("x".repeat(1025), QueueConfig::new()), "queue", "1024 bytes"),
        (builder().queue("", QueueConfig::new()), "queue", "must not be empty"),
        (builder().queue("a\nb", QueueConfig::new()), "queue", "control character"),
        (builder().queue("mail", rate(Duration::from_millis(9))), "rate_limit", "10 ms"),
        (builder().queue("mail", rate(beyond)), "rate_limit", "century"),
        (builder().lease(Duration::from_millis(29)), "lease", "30ms"),
        (builder().lease(beyond), "lease", "century"),
        (builder().retention(beyond), "retention", "century"),
        (builder().retention_of(TaskStatus::Failed, beyond), "retention_of", "century"),
        (builder().retention_of(TaskStatus::Pending, Duration::ZERO), "retention_of", "`Success`"),
        (builder().add_timeout(beyond), "add_timeout", "century"),
    ];
    for (builder, option, limit) in cases {
        let error = builder.connect().await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Config { .. }), "{text}");
        assert!(text.contains(&format!("`{option}`")) && text.contains(limit), "{option}, {limit}: {text}");
    }
    let for_ever = builder()
        .lease(Duration::MAX)
        .retention(Duration::MAX)
        .retention_of(TaskStatus::Failed, Duration::MAX)
        .add_timeout(Duration::MAX);
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

/// The first and last instants that every store keeps to the microsecond.
#[tokio::test(flavor = "multi_thread")]
async fn every_accepted_instant_comes_back_as_it_was() {
    let micros = |micros| UNIX_EPOCH + Duration::from_micros(micros);
    let instants =
        [micros(0), micros(1), micros(1_795_000_000_123_457), UNIX_EPOCH + LAST - micro(), UNIX_EPOCH + LAST];
    for place in everywhere() {
        let tasks = idle(&place).await;
        for at in instants {
            let handle = tasks.add(ping()).run_at(at).expires_at(at).await.unwrap();
            let task = record(&tasks, handle.id()).await;
            assert_eq!(
                (task.run_at, task.scheduled_for, task.expires_at),
                (at, Some(at), Some(at)),
                "{place:?}"
            );
            let json = serde_json::to_value(&task).unwrap();
            assert_eq!(json["run_at"], json["expires_at"]);
        }
        let text = serde_json::to_value(tasks.list(TaskFilter::new()).await.unwrap()).unwrap();
        assert_eq!(text["items"][0]["expires_at"], "2200-01-01T00:00:00Z");
        assert_eq!(text["items"][4]["run_at"], "1970-01-01T00:00:00Z");
    }
}

fn micro() -> Duration {
    Duration::from_micros(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_takes_every_instant_there_is() {
    let far = Duration::from_secs(i64::MAX as u64 / 2);
    let (never, ever) = (UNIX_EPOCH - far, UNIX_EPOCH + far);
    for place in everywhere() {
        let tasks = idle(&place).await;
        tasks.add(ping()).await.unwrap();
        let filters = [
            (TaskFilter::new().created_after(never).created_before(ever), 1),
            (TaskFilter::new().created_after(ever), 0),
            (TaskFilter::new().created_before(never), 0),
            (TaskFilter::new().finished_after(never).finished_before(ever), 0),
        ];
        for (filter, found) in filters {
            let page = tasks.list(filter.clone()).await.unwrap();
            assert_eq!(page.items.len(), found, "{place:?}: {filter:?}");
        }
    }
}

/// Letters that no store can compress, so that an index holds them whole.
fn random_word(seed: u64, length: usize) -> String {
    let mut state = seed;
    let letter = |state: &mut u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from_digit(u32::try_from(*state >> 60).unwrap(), 16).unwrap()
    };
    (0..length).map(|_| letter(&mut state)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_words_all_at_once_run_like_any_others() {
    let [queue, longest, idempotency, run, tag] = [1, 2, 3, 4, 5].map(|seed| random_word(seed, 1024));
    // With the name and the queue, 2,560 bytes.
    let key = longest[..512].to_owned();
    for place in everywhere() {
        let gate = Gate::default();
        let config = QueueConfig::new().key_concurrency(1).max_size(100);
        let tasks = place.builder().state(gate.clone()).queue(&queue, config).start().await.unwrap();
        let add = |n: u32| {
            let add = tasks.add_task(long_name, ()).queue(&queue).concurrency_key(&key);
            let add = add.idempotency_key(format!("{n}{}", &idempotency[1..])).tag(&tag, &tag);
            add.run_key(format!("{n}{}", &run[1..]))
        };
        let error = add(0).concurrency_key(&longest[..513]).await.unwrap_err();
        names(&error, "name, queue and concurrency key together", "2561, and the limit is 2560");
        let first = add(1).await.unwrap();
        gate.reached(1).await;
        let others = [add(2).await.unwrap(), add(3).await.unwrap()];
        let other = tasks.add(ping()).await.unwrap();
        soon(other.wait()).await.unwrap();
        gate.open();
        for handle in [first].into_iter().chain(others) {
            soon(handle.wait()).await.unwrap();
            let task = record(&tasks, handle.id()).await;
            assert_eq!((&task.queue, task.concurrency_key.as_ref()), (&queue, Some(&key)));
            assert_eq!(task.tags[&tag], tag);
        }
        assert!(tasks.health().is_healthy(), "{place:?}: {:?}", tasks.health());
    }
}

/// NUL and `␀` are escaped in stores whose text has no NUL, and take more room there. The limit counts them that way everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_hold_nul_and_counts_it_as_four_bytes() {
    for place in everywhere() {
        let tasks = idle(&place).await;
        for key in ["\0".repeat(256), "\u{2400}".repeat(170), "a\0b\u{2400}".to_owned()] {
            let handle = tasks.add(ping()).idempotency_key(&key).tag(&key, &key).await.unwrap();
            let task = record(&tasks, handle.id()).await;
            assert_eq!(task.idempotency_key.as_ref(), Some(&key));
            assert_eq!(task.tags[&key], key);
        }
        for (key, size) in [("\0".repeat(257), "1028"), ("\u{2400}".repeat(171), "1026")] {
            let error = tasks.add(ping()).idempotency_key(key).await.unwrap_err();
            names(&error, "idempotency key", size);
        }
    }
}

/// Everything that an add accepts: a policy, words of any characters, and times.
#[derive(Clone, Debug)]
struct Accepted {
    retries: u32,
    delay: Duration,
    longer: Duration,
    backoff: f64,
    jitter: f64,
    timeout: Option<Duration>,
    snoozes: u32,
    priority: i16,
    at: Duration,
    expires: Duration,
    words: Vec<String>,
}

fn accepted() -> impl Strategy<Value = Accepted> {
    let century = 36_525 * 86_400_000_000_000_u64 / 2;
    let length = move || (0..=century).prop_map(Duration::from_nanos);
    let timeout = prop_oneof![
        Just(None),
        Just(Some(Duration::MAX)),
        length().prop_map(|length| Some(length + Duration::from_millis(1)))
    ];
    let instant = || (0..=7_258_118_400_000_000_u64).prop_map(Duration::from_micros);
    let word = proptest::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter);
    let numbers = (any::<u32>(), length(), length(), 1.0..=1000.0, 0.0..=1.0, timeout);
    let rest = (any::<u32>(), any::<i16>(), instant(), instant(), proptest::collection::vec(word, 6));
    (numbers, rest).prop_map(|((retries, delay, longer, backoff, jitter, timeout), rest)| {
        let (snoozes, priority, at, expires, words) = rest;
        Accepted { retries, delay, longer, backoff, jitter, timeout, snoozes, priority, at, expires, words }
    })
}

#[test]
fn what_is_accepted_comes_back_equal_and_no_reader_panics() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for place in everywhere() {
        let tasks = runtime.block_on(idle(&place));
        let mut runner =
            TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&accepted(), |given| {
            runtime.block_on(reads_back(&tasks, &given));
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{place:?}: {error}"));
    }
}

async fn reads_back(tasks: &TaskManager, given: &Accepted) {
    let (at, expires) = (UNIX_EPOCH + given.at, UNIX_EPOCH + given.expires);
    let [tag, value, concurrency, run, idempotency, text] = &given.words[..] else { panic!("not six words") };
    let mut new = NewTask::new("keep", Ok(serde_json::json!({ "value": text }).to_string().into()));
    let policy = new.policy.to_mut();
    (policy.retries, policy.delay, policy.max_delay) =
        (given.retries, given.delay, given.delay + given.longer);
    (policy.backoff, policy.jitter, policy.timeout) = (given.backoff, given.jitter, given.timeout);
    policy.max_snoozes = given.snoozes;
    new.priority = given.priority;
    new.tags.insert(tag.clone(), value.clone());
    new.concurrency_key = Some(concurrency.clone());
    // A key of its own each time: a duplicate would answer with the task of another case.
    let unique = new.id.to_string();
    new.idempotency_key = Some(format!("{idempotency}{unique}"));
    new.run_key = Some(format!("{run}{unique}"));
    (new.when, new.expires_at) = (taskflow::model::When::At(at), Some(expires));
    let handle = tasks.add_all([new.clone()]).await.unwrap().remove(0);
    let task = record(tasks, handle.id()).await;
    assert_eq!((task.priority, task.timeout), (given.priority, given.timeout));
    assert_eq!(task.max_attempts, given.retries.saturating_add(1));
    assert_eq!((task.scheduled_for, task.expires_at), (Some(at), Some(expires)));
    assert_eq!(task.tags, new.tags);
    assert_eq!((&task.concurrency_key, &task.idempotency_key), (&new.concurrency_key, &new.idempotency_key));
    assert_eq!(task.run_key, new.run_key);
    assert_eq!(task.args.get(), &**new.args.as_ref().unwrap());
    let _ = (task.phase(), format!("{task:?}"), serde_json::to_string(&task).unwrap());
    for phase in [TaskPhase::Waiting, TaskPhase::Scheduled, TaskPhase::Overrunning] {
        let _ = TaskFilter::new().phase(phase).arg("value", text).matches(&task);
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
