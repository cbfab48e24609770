//! Shared limits on Redis: their rules, which are written again in Lua, are compared with those in Rust on random histories.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use servers::redis::{RedisServer, shared_url};
use support::eventually;
use taskflow::store::{
    Claim, Claimed, Finish, FinishKind, HoldOutcome, InsertBatch, InsertGroup, InsertTask, MemoryStore,
    RecoveredFrom, Release, Reopen, RunRef, SharedLimits, Start, StartWindow,
};
use taskflow::{
    AttemptOutcome, InstanceInfo, NewTask, QueueConfig, RedisStore, Store, TaskFilter, TaskId, TaskStatus,
    model::RateLimit,
};

const LONG: Duration = Duration::from_secs(3600);

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, max_shrink_time: 30_000, ..Config::default() }
}

/// A script that plays a history through `window.lua`. After two arguments for the limit, each step has four: the instant, how
/// many want to start, how many `StartWindow` lets start, and when it lets the next start afterwards.
const HISTORY: &str = r"
local window, slice, most = '', tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 3, #ARGV, 4 do
  local at, wanted, free, next_free = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  local kept, starts = remembered(window, slice, at)
  local room = math.max(most - starts, 0)
  if tostring(room) ~= free then
    return 'step ' .. i .. ': free ' .. room .. ', not ' .. free
  end
  if math.min(wanted, room) > 0 then
    window = with_starts(kept, slice, at, math.min(wanted, room))
    kept, starts = remembered(window, slice, at)
  end
  local next_at = starts >= most and next_start(kept, starts, most, slice)
  next_at = next_at and string.format('%.0f', next_at) or 'none'
  if next_at ~= next_free then
    return 'step ' .. i .. ': next ' .. next_at .. ', not ' .. next_free
  end
end
return 'same'
";

#[test]
fn the_window_of_a_rate_limit_is_the_one_in_rust() {
    let Some(server) = RedisServer::start() else { return };
    // Now and then, somebody sets the clock forward or back.
    let wait = prop_oneof![20 => -20_000_i64..500_000, 1 => -7_200_000_000_i64..7_200_000_000];
    let steps = prop::collection::vec((wait, 0_usize..9), 1..150);
    let histories = (0_usize..20, 10_000_u64..5_000_000, 0_i64..1 << 51, steps);
    let outcome = TestRunner::new(config(200)).run(&histories, |(most, per, begin, steps)| {
        let limit = RateLimit::new(most, Duration::from_micros(per));
        let (mut window, mut now) = (StartWindow::default(), begin);
        let mut history = Vec::new();
        for (wait, wanted) in steps {
            now = (now + wait).max(0);
            let free = window.free(limit, now);
            // If nothing starts, nothing is written.
            if wanted.min(free) > 0 {
                window.start(limit, now, wanted.min(free));
            }
            history.push(Step { now, wanted, free, next: window.next_free(limit, now) });
        }
        prop_assert_eq!(played(&server, limit, &history), "$4\r\nsame\r\n");
        Ok(())
    });
    outcome.unwrap_or_else(|difference| panic!("{difference}"));
}

/// At an instant (microseconds): how many wanted to start, how many could, and when the next could.
struct Step {
    now: i64,
    wanted: usize,
    free: usize,
    next: Option<i64>,
}

/// The answers of the script for a history.
fn played(server: &RedisServer, limit: RateLimit, history: &[Step]) -> String {
    let window = include_str!("../taskflow/src/store/redis/lua/window.lua");
    let script = format!("local pack, unpack_bytes = struct.pack, struct.unpack\n{window}{HISTORY}");
    let slice = limit.per.as_micros().div_ceil(100);
    let mut words = vec!["EVAL".to_owned(), script, "0".to_owned()];
    words.extend([slice.to_string(), limit.starts.to_string()]);
    for Step { now, wanted, free, next } in history {
        let next = next.map_or("none".to_owned(), |at| at.to_string());
        words.extend([now.to_string(), wanted.to_string(), free.to_string(), next]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    server.ask(&words).expect("an answer")
}

#[test]
fn starts_under_a_clock_that_was_far_ahead_are_none_of_the_last_while() {
    let Some(server) = RedisServer::start() else { return };
    const SECOND: i64 = 1_000_000;
    let step = |seconds, wanted, free, next: Option<i64>| Step {
        now: seconds * SECOND,
        wanted,
        free,
        next: next.map(|at| at * SECOND + 10_000),
    };
    let history = [
        step(90_000, 2, 2, Some(90_001)),
        // The clock was set back a little: the starts still count.
        step(89_990, 2, 0, Some(90_001)),
        step(1_000, 2, 2, Some(1_001)),
        step(1_000, 1, 0, Some(1_001)),
        step(1_002, 1, 2, None),
    ];
    let limit = RateLimit::new(2, Duration::from_secs(1));
    assert_eq!(played(&server, limit, &history), "$4\r\nsame\r\n");
}

/// One process that makes the same calls to two stores.
struct Pair {
    stores: [Arc<dyn Store>; 2],
    me: InstanceInfo,
    /// Every task, and of each store its last run or hold.
    tasks: Vec<(TaskId, [Option<RunRef>; 2])>,
}

#[derive(Clone, Debug)]
enum Op {
    Add { name: usize, key: Option<usize>, priority: i16, run_key: bool, start: Start },
    Claim { limit: usize, of_key: Option<usize>, global: Option<usize> },
    Finish { which: usize, kind: usize },
    Release { which: usize },
    Cancel { which: usize },
    Retry { which: usize },
    Delete { which: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let start = prop::sample::select(vec![Start::Wait, Start::Wait, Start::Wait, Start::Lease, Start::Hold]);
    prop_oneof![
        6 => (0_usize..3, prop::option::of(0_usize..2), 0_i16..2, prop::bool::weighted(0.2), start)
            .prop_map(|(name, key, priority, run_key, start)| Op::Add { name, key, priority, run_key, start }),
        6 => (1_usize..4, prop::option::weighted(0.8, 0_usize..3), prop::option::weighted(0.2, 0_usize..4))
            .prop_map(|(limit, of_key, global)| Op::Claim { limit, of_key, global }),
        6 => (any::<usize>(), 0_usize..5).prop_map(|(which, kind)| Op::Finish { which, kind }),
        1 => any::<usize>().prop_map(|which| Op::Release { which }),
        1 => any::<usize>().prop_map(|which| Op::Cancel { which }),
        1 => any::<usize>().prop_map(|which| Op::Retry { which }),
        1 => any::<usize>().prop_map(|which| Op::Delete { which }),
    ]
}

fn claim_of(me: &InstanceInfo, limit: usize, limits: &QueueConfig) -> Claim {
    let names: Arc<[Arc<str>]> = ["alpha", "beta"].map(Arc::from).into();
    let claim = Claim::new(me.id, LONG, names, vec![("default".into(), limit)], limit);
    claim.with_limits("default", SharedLimits::of(limits))
}

impl Pair {
    async fn new(redis: &str) -> Self {
        let stores: [Arc<dyn Store>; 2] =
            [Arc::new(RedisStore::open(redis).unwrap()), Arc::new(MemoryStore::new())];
        let me = InstanceInfo::of_this_process(true);
        for store in &stores {
            store.join(&me).await.unwrap();
        }
        Self { stores, me, tasks: Vec::new() }
    }

    /// One of the tasks.
    fn pick(&self, which: usize) -> Option<usize> {
        (!self.tasks.is_empty()).then(|| which % self.tasks.len())
    }

    async fn claim(&mut self, limit: usize, limits: &QueueConfig) -> Result<Vec<Claimed>, TestCaseError> {
        let mut taken = Vec::new();
        for store in &self.stores {
            taken.push(store.claim(claim_of(&self.me, limit, limits)).await.unwrap().tasks);
        }
        let ids = |tasks: &[Claimed]| tasks.iter().map(|task| task.run.id).collect::<Vec<_>>();
        prop_assert_eq!(ids(&taken[0]), ids(&taken[1]), "claimed from Redis, and from memory");
        for (side, tasks) in taken.iter().enumerate() {
            for task in tasks {
                let entry = self.tasks.iter_mut().find(|(id, _)| *id == task.run.id).unwrap();
                entry.1[side] = Some(task.run);
            }
        }
        Ok(taken.remove(0))
    }

    async fn perform(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Add { name, key, priority, run_key, start } => {
                let mut task = NewTask::new(["alpha", "beta", "omega"][name], Ok(Arc::from("{}")));
                task.concurrency_key = key.map(|key| ["noisy", ""][key].to_owned());
                task.priority = priority;
                task.run_key = run_key.then(|| "run".to_owned());
                let id = task.id;
                let group = InsertGroup::new(vec![InsertTask::new(task, start)]);
                let batch = Arc::new(InsertBatch::new(self.me.id, LONG, vec![group]));
                let mut kinds = Vec::new();
                for store in &self.stores {
                    kinds.push(store.insert(Arc::clone(&batch)).await.unwrap());
                }
                prop_assert_eq!(&kinds[0], &kinds[1]);
                if kinds[0][0].as_ref().unwrap()[0].kind.is_new() {
                    let run = (start != Start::Wait).then(|| RunRef::new(id, 1));
                    self.tasks.push((id, [run, run]));
                }
            }
            Op::Claim { limit, of_key, global } => {
                let mut limits = QueueConfig::new();
                (limits.key_concurrency, limits.global_concurrency) = (of_key, global);
                self.claim(limit, &limits).await?;
            }
            Op::Finish { which, kind } => {
                let Some(at) = self.pick(which) else { return Ok(()) };
                let mut answers = Vec::new();
                for (store, run) in self.stores.iter().zip(self.tasks[at].1) {
                    let Some(run) = run else { continue };
                    let kind = match kind {
                        0 | 1 => FinishKind::Success { result: "1".into() },
                        2 => FinishKind::Retry {
                            delay: Duration::ZERO,
                            outcome: AttemptOutcome::Failed,
                            error: "again".to_owned(),
                        },
                        3 => FinishKind::GiveBack { delay: Duration::ZERO, outcome: None },
                        _ => FinishKind::End {
                            status: TaskStatus::Failed,
                            outcome: AttemptOutcome::Failed,
                            error: "broken".to_owned(),
                        },
                    };
                    answers.push(store.finish(Arc::new(vec![Finish::new(run, kind)])).await.unwrap());
                }
                prop_assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
            }
            Op::Release { which } => {
                let Some(at) = self.pick(which) else { return Ok(()) };
                for (store, hold) in self.stores.iter().zip(self.tasks[at].1) {
                    let Some(hold) = hold else { continue };
                    store.release(Arc::new(vec![Release::new(hold, HoldOutcome::Run)])).await.unwrap();
                }
            }
            Op::Cancel { which } => {
                let Some(at) = self.pick(which) else { return Ok(()) };
                for store in &self.stores {
                    store.cancel(vec![self.tasks[at].0], "no".to_owned()).await.unwrap();
                }
            }
            Op::Retry { which } => {
                let Some(at) = self.pick(which) else { return Ok(()) };
                for store in &self.stores {
                    let _ = store.retry(Reopen::at_once([self.tasks[at].0])).await.unwrap();
                }
            }
            Op::Delete { which } => {
                let Some(at) = self.pick(which) else { return Ok(()) };
                for store in &self.stores {
                    store.delete(vec![self.tasks[at].0]).await.unwrap();
                }
            }
        }
        self.compare().await
    }

    async fn compare(&self) -> Result<(), TestCaseError> {
        let (mut numbers, mut pages) = (Vec::new(), Vec::new());
        for store in &self.stores {
            let infos = store.queues().await.unwrap();
            let infos = infos.into_iter().filter(|info| info.pending + info.running + info.finished > 0);
            numbers.push(
                infos
                    .map(|it| (it.pending, it.running, it.finished, it.oldest_waiting.is_some()))
                    .collect::<Vec<_>>(),
            );
            let page = store.list(TaskFilter::new().status(TaskStatus::Pending)).await.unwrap();
            pages.push(page.items.iter().map(|it| (it.id, it.concurrency_key.clone())).collect::<Vec<_>>());
        }
        prop_assert_eq!(&numbers[0], &numbers[1]);
        prop_assert_eq!(&pages[0], &pages[1]);
        Ok(())
    }

    /// Runs all remaining tasks, one of each key at a time, and checks that none is stuck.
    async fn drain(&mut self) -> Result<(), TestCaseError> {
        for at in 0..self.tasks.len() {
            self.perform(Op::Release { which: at }).await?;
            self.perform(Op::Finish { which: at, kind: 0 }).await?;
        }
        let one = QueueConfig::new().key_concurrency(1);
        loop {
            let taken = self.claim(10, &one).await?;
            if taken.is_empty() {
                break;
            }
            for task in taken {
                let at = self.tasks.iter().position(|(id, _)| *id == task.run.id).unwrap();
                self.perform(Op::Finish { which: at, kind: 0 }).await?;
            }
        }
        let left = self.stores[0].list(TaskFilter::new().status(TaskStatus::Pending)).await.unwrap().items;
        prop_assert!(left.iter().all(|task| task.name == "omega"), "stuck: {left:?}");
        prop_assert_eq!(self.stores[0].counts().await.unwrap().running, 0);
        Ok(())
    }
}

#[test]
fn whatever_becomes_of_tasks_with_keys_the_same_are_claimed_as_from_memory_and_none_is_stuck() {
    if shared_url().is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = TestRunner::new(config(60)).run(&prop::collection::vec(op(), 1..60), |ops| {
        runtime.block_on(async {
            let mut pair = Pair::new(&shared_url().unwrap()).await;
            for op in ops {
                pair.perform(op).await?;
            }
            pair.drain().await
        })
    });
    outcome.unwrap_or_else(|difference| panic!("{difference}"));
}

/// A store and a process that uses it.
async fn store() -> Option<(RedisStore, InstanceInfo)> {
    let store = RedisStore::open(shared_url()?).unwrap();
    let me = InstanceInfo::of_this_process(true);
    store.join(&me).await.unwrap();
    Some((store, me))
}

async fn add(store: &RedisStore, me: &InstanceInfo, tasks: Vec<NewTask>) {
    let tasks = tasks.into_iter().map(|task| InsertTask::new(task, Start::Wait)).collect();
    let batch = InsertBatch::new(me.id, LONG, vec![InsertGroup::new(tasks)]);
    store.insert(Arc::new(batch)).await.unwrap().remove(0).unwrap();
}

fn keyed(key: &str) -> NewTask {
    let mut task = NewTask::new("alpha", Ok(Arc::from("{}")));
    task.concurrency_key = Some(key.to_owned());
    task
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_beyond_what_a_claim_passes_over_is_let_go_when_the_limit_changes() {
    let Some((store, me)) = store().await else { return };
    add(&store, &me, (0..5_000).map(|_| keyed("noisy")).collect()).await;
    add(&store, &me, vec![keyed("quiet")]).await;
    let one = QueueConfig::new().key_concurrency(1);
    // The answer of a claim that stops early asks for another claim at once.
    let mut taken = 0;
    for claims in 1.. {
        let answer = store.claim(claim_of(&me, 10, &one)).await.unwrap();
        taken += answer.tasks.len();
        if answer.next_due != Some(Duration::ZERO) {
            assert!((5..10).contains(&claims), "{claims}");
            break;
        }
    }
    assert_eq!(taken, 2, "one of each key");
    // Two limits in turn: nothing goes wrong, and no task is lost.
    for of_key in [3, 2, 3, 2] {
        let limits = QueueConfig::new().key_concurrency(of_key);
        taken += store.claim(claim_of(&me, 10, &limits)).await.unwrap().tasks.len();
    }
    assert_eq!(taken, 4, "two more of the busy key");
    for claims in 1.. {
        let answer = store.claim(claim_of(&me, 5_000, &QueueConfig::new())).await.unwrap();
        taken += answer.tasks.len();
        if answer.next_due.is_none() {
            assert!(claims < 20, "{claims}");
            break;
        }
    }
    assert_eq!(taken, 5_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_through_more_than_a_page_may_look_at_goes_on_page_by_page() {
    let Some((store, me)) = store().await else { return };
    let many = TaskFilter::MAX_LOOKED_AT + 1_000;
    let mut first = keyed("tenant");
    first.tags.insert("plan".to_owned(), "gold".to_owned());
    let id = first.id;
    add(&store, &me, vec![first]).await;
    let rest = (0..many).map(|_| NewTask::new("alpha", Ok(Arc::from("{}")))).collect();
    add(&store, &me, rest).await;
    let gold = TaskFilter::new().tag("plan", "gold").status(TaskStatus::Pending);
    let page = store.list(gold.clone()).await.unwrap();
    assert!(page.items.is_empty(), "it is the oldest");
    let page = store.list(gold.after(page.next.expect("not all has been looked at"))).await.unwrap();
    assert_eq!(page.items.iter().map(|it| it.id).collect::<Vec<_>>(), [id]);
    assert!(page.next.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_in_a_crowd_keeps_none_of_it_waiting() {
    let Some((store, me)) = store().await else { return };
    let one = QueueConfig::new().key_concurrency(1);
    add(&store, &me, vec![keyed("tenant")]).await;
    let running = store.claim(claim_of(&me, 1, &one)).await.unwrap().tasks.remove(0);
    let expires = SystemTime::now() + Duration::from_millis(50);
    let late: Vec<NewTask> = (0..3)
        .map(|_| {
            let mut task = keyed("tenant");
            task.expires_at = Some(expires);
            task
        })
        .collect();
    let ids: Vec<TaskId> = late.iter().map(|task| task.id).collect();
    let lasting = keyed("tenant");
    let last = lasting.id;
    add(&store, &me, late).await;
    add(&store, &me, vec![lasting]).await;
    assert!(store.claim(claim_of(&me, 9, &one)).await.unwrap().tasks.is_empty());
    eventually("the expiry", || async { (SystemTime::now() > expires).then_some(()) }).await;
    let kind = FinishKind::Success { result: "1".into() };
    store.finish(Arc::new(vec![Finish::new(running.run, kind)])).await.unwrap();
    // The claim finds the expired tasks one after the other, and leaves each to the recovery.
    let taken = store.claim(claim_of(&me, 9, &one)).await.unwrap().tasks;
    assert_eq!(taken.iter().map(|task| task.run.id).collect::<Vec<_>>(), [last]);
    let page = store.list(TaskFilter::new().status(TaskStatus::Pending)).await.unwrap();
    assert_eq!(page.items.len(), 3, "pending until then");
    let mut recovered: Vec<TaskId> = Vec::new();
    for it in store.recover(me.id).await.unwrap() {
        assert_eq!((it.from, it.status), (RecoveredFrom::Expiry, TaskStatus::Cancelled));
        recovered.push(it.id);
    }
    recovered.sort();
    assert_eq!(recovered, ids);
}
