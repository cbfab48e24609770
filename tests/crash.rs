//! What a crash may cost: real processes are killed, stopped and restarted under load. An oracle compares their ledgers with
//! the store.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[allow(dead_code, reason = "the soak uses the rest")]
mod crash {
    pub(crate) mod oracle;
    pub(crate) mod process;
}
#[path = "support/servers/mod.rs"]
mod servers;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use taskflow::model::StatsFilter;
use taskflow::{
    AttemptOutcome, Every, NewTask, TaskFilter, TaskManager, TaskRecord, TaskStatus, model::TaskSource,
};

use crash::oracle::Oracle;
use crash::process::Lab;

/// Every case as a test of each store. The cases behind `server` need a server of their own, because they kill it.
macro_rules! crash {
    ($store:ident: $($lab:ident => $($case:ident)*;)*) => {
        mod $store {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                if let Some(lab) = crate::crash::process::Lab::$lab() {
                    crate::$case(lab).await;
                }
            })*)*

            /// Every case again and again: `cargo test -p tests --test crash -- --ignored long`, with the number of
            /// rounds in `TASKFLOW_CRASH_ROUNDS` (20).
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "takes long"]
            async fn long() {
                let rounds = std::env::var("TASKFLOW_CRASH_ROUNDS").map_or(20, |text| text.parse().unwrap());
                for _ in 0..rounds {
                    $($(if let Some(lab) = crate::crash::process::Lab::$lab() {
                        crate::$case(lab).await;
                    })*)*
                }
            }
        }
    };
}

crash! { sqlite:
    sqlite =>
        nothing_accepted_is_lost_when_the_only_process_is_killed_under_load
        nothing_accepted_is_lost_when_one_of_two_processes_is_killed_under_load
        work_of_a_killed_process_starts_again_in_time
        a_process_that_is_asked_to_stop_ends_by_its_deadline_and_leaves_nothing_running
        a_task_that_kills_its_processes_is_stopped_and_they_are_named
        a_process_that_stood_still_past_its_lease_can_no_longer_write
        a_stubborn_task_does_not_keep_its_process_and_is_never_run_twice
        two_processes_share_one_store_and_twenty_thousand_tasks
        interrupted_means_that_it_may_have_begun
        what_a_killed_process_counted_is_not_counted_twice
        schedules_go_on_when_a_clock_that_was_an_hour_early_is_set_right;
    sqlite_on_a_small_disk =>
        a_full_disk_refuses_adds_and_loses_nothing;
}

crash! { redis:
    redis =>
        nothing_accepted_is_lost_when_the_only_process_is_killed_under_load
        nothing_accepted_is_lost_when_one_of_two_processes_is_killed_under_load
        work_of_a_killed_process_starts_again_in_time
        a_process_that_is_asked_to_stop_ends_by_its_deadline_and_leaves_nothing_running
        a_task_that_kills_its_processes_is_stopped_and_they_are_named
        a_process_that_stood_still_past_its_lease_can_no_longer_write
        a_stubborn_task_does_not_keep_its_process_and_is_never_run_twice
        two_processes_share_one_store_and_twenty_thousand_tasks
        interrupted_means_that_it_may_have_begun
        what_a_killed_process_counted_is_not_counted_twice
        a_process_whose_clock_is_an_hour_off_harms_nobody
        ticks_of_a_process_whose_clock_is_an_hour_off_come_once_and_by_the_servers;
    redis_alone =>
        workers_outlive_their_database_and_resume_when_it_is_back;
}

crash! { postgres:
    postgres =>
        nothing_accepted_is_lost_when_the_only_process_is_killed_under_load
        nothing_accepted_is_lost_when_one_of_two_processes_is_killed_under_load
        work_of_a_killed_process_starts_again_in_time
        a_process_that_is_asked_to_stop_ends_by_its_deadline_and_leaves_nothing_running
        a_task_that_kills_its_processes_is_stopped_and_they_are_named
        a_process_that_stood_still_past_its_lease_can_no_longer_write
        a_stubborn_task_does_not_keep_its_process_and_is_never_run_twice
        two_processes_share_one_store_and_twenty_thousand_tasks
        interrupted_means_that_it_may_have_begun
        what_a_killed_process_counted_is_not_counted_twice
        a_process_whose_clock_is_an_hour_off_harms_nobody
        ticks_of_a_process_whose_clock_is_an_hour_off_come_once_and_by_the_servers;
    postgres_alone =>
        workers_outlive_their_database_and_resume_when_it_is_back;
}

/// Statistics are written every ten seconds, so the last ones of a killed process are lost. Those that it wrote are counted
/// once, and so is the work that the next process takes over.
async fn what_a_killed_process_counted_is_not_counted_twice(lab: Lab) {
    let tasks = lab.connect().await;
    let succeeded = async || {
        let stats = tasks.stats(StatsFilter::last(Duration::from_secs(3_600))).await.unwrap();
        stats.total().counts.succeeded
    };
    let mut first = lab.start(&["serve", "2"]);
    lab.until(Duration::from_secs(40), || async { succeeded().await > 0 }).await;
    first.kill();
    first.wait_for_end();
    let (counted, ended) = (succeeded().await, lab.ends());

    let mut last = lab.start(&["run"]);
    lab.until(Duration::from_secs(20), || async { tasks.counts().await.unwrap().unfinished() == 0 }).await;
    last.terminate();
    last.wait_for_end();
    let by_the_last = (lab.ends() - ended) as u64;
    let now = succeeded().await;
    assert!(now >= counted + by_the_last, "{now} are counted, of {counted} and {by_the_last}");
    assert!(now <= lab.ends() as u64, "{now} are counted of {} that ended", lab.ends());
}

/// A process is killed under load, five times. The next one takes over its work, and every accepted task ends within 10 s.
async fn nothing_accepted_is_lost_when_the_only_process_is_killed_under_load(lab: Lab) {
    for round in 0..5 {
        let mut process = lab.start(&["serve", "8"]);
        lab.until_ends(200 * (round + 1)).await;
        process.kill();
        process.wait_for_end();
    }
    let killed = Instant::now();
    let mut last = lab.start(&["run"]);
    let tasks = lab.connect().await;
    lab.until(Duration::from_secs(20), || async { tasks.counts().await.unwrap().unfinished() == 0 }).await;
    assert!(killed.elapsed() < Duration::from_secs(10), "what was left took {:?}", killed.elapsed());
    last.terminate();
    last.wait_for_end();
    Oracle::of(&lab).await.check_everything_ended(&tasks).await;
}

/// One of two processes is killed. The other goes on, takes over the dead one's work, and loses no task.
async fn nothing_accepted_is_lost_when_one_of_two_processes_is_killed_under_load(lab: Lab) {
    let mut survivor = lab.start(&["serve", "4"]);
    for round in 1..=3 {
        let mut victim = lab.start(&["serve", "4"]);
        lab.until_ends(300 * round).await;
        victim.kill();
    }
    survivor.terminate();
    survivor.wait_for_end();
    let mut last = lab.start(&["run"]);
    let tasks = lab.connect().await;
    lab.until(Duration::from_secs(20), || async { tasks.counts().await.unwrap().unfinished() == 0 }).await;
    last.kill();
    Oracle::of(&lab).await.check_everything_ended(&tasks).await;
}

/// The database is killed under load and comes back. The same workers go on within ten seconds, and every accepted task ends.
async fn workers_outlive_their_database_and_resume_when_it_is_back(lab: Lab) {
    let mut workers = [lab.start(&["serve", "4"]), lab.start(&["serve", "4"])];
    for round in 1..=2 {
        lab.until_ends(300 * round).await;
        lab.kill_server();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        lab.restart_server();
        let back = Instant::now();
        let before = lab.ends();
        lab.until(Duration::from_secs(10), || async { lab.ends() > before + 100 }).await;
        assert!(back.elapsed() < Duration::from_secs(10));
        assert!(workers.iter_mut().all(crash::process::Process::is_alive));
    }
    for worker in &mut workers {
        worker.terminate();
        worker.wait_for_end();
    }
    let mut last = lab.start(&["run"]);
    let tasks = lab.connect().await;
    lab.until(Duration::from_secs(20), || async { tasks.counts().await.unwrap().unfinished() == 0 }).await;
    last.kill();
    Oracle::of(&lab).await.check_everything_ended(&tasks).await;
}

/// The process is killed at random moments while it runs very short tasks that may not run twice. Of the tasks
/// that one death interrupts, at most 64 (the number of slots) have not begun.
async fn interrupted_means_that_it_may_have_begun(lab: Lab) {
    let slots = 64;
    let tasks = lab.connect().await;
    for _ in 0..8 {
        lab.add_many_once(&tasks, 1_000).await;
    }
    let (mut ends, mut killed) = (0, HashSet::new());
    for _ in 0..6 {
        let mut process = lab.start(&["run"]);
        let some = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos() % 700;
        ends += 100 + some as usize;
        lab.until_ends(ends).await;
        process.kill();
        killed.insert(process.pid());
        ends = lab.ends();
    }
    let mut last = lab.start(&["run"]);
    lab.until(Duration::from_secs(40), || async { tasks.counts().await.unwrap().unfinished() == 0 }).await;
    last.terminate();
    last.wait_for_end();

    let began = Oracle::of(&lab).await.started();
    let mut not_begun = HashMap::new();
    let interrupted = TaskFilter::new().status(TaskStatus::Interrupted).limit(TaskFilter::MAX_LIMIT);
    for task in tasks.list(interrupted).await.unwrap().items {
        let attempt = &task.attempts[0];
        assert!(killed.contains(&attempt.pid), "{task:#?}");
        if !began.contains(&task.id) {
            *not_begun.entry(attempt.pid).or_insert(0) += 1;
        }
    }
    assert!(not_begun.values().all(|tasks| *tasks <= slots), "not begun, by process: {not_begun:?}");
    let counts = tasks.counts().await.unwrap();
    assert_eq!((counts.success + counts.interrupted, counts.total()), (8_000, 8_000));
}

/// On SQLite within a second, because the lock of the dead process is free. Elsewhere within 4 s, since its lease is one second.
async fn work_of_a_killed_process_starts_again_in_time(lab: Lab) {
    let mut first = lab.start(&["run"]);
    let adder = lab.start(&["add", "3", "again"]);
    adder.ended_well();
    let tasks = lab.connect().await;
    lab.until(Duration::from_secs(10), || async { tasks.counts().await.unwrap().success == 3 }).await;
    let slow = lab.add_slow(&tasks, Duration::from_secs(600)).await;
    lab.until(Duration::from_secs(5), || async { record(&tasks, slow).await.status == TaskStatus::Running })
        .await;

    let mut neighbour = lab.start(&["run"]);
    let before = lab.starts_of(slow);
    first.kill();
    let killed = Instant::now();
    lab.until(Duration::from_secs(10), || async { lab.starts_of(slow) > before }).await;
    let again = killed.elapsed();
    let in_time = Duration::from_secs(if lab.is_sqlite() { 1 } else { 4 });
    assert!(again < in_time, "it took {again:?}");
    let attempts = record(&tasks, slow).await.attempts;
    assert_eq!(attempts[0].outcome, AttemptOutcome::Lost);
    assert_eq!(attempts[0].pid, first.pid());
    assert_eq!(attempts[1].pid, neighbour.pid());
    neighbour.kill();
}

/// SIGTERM under load: the process ends by its deadline, and no run is left.
async fn a_process_that_is_asked_to_stop_ends_by_its_deadline_and_leaves_nothing_running(lab: Lab) {
    let mut process = lab.start(&["serve", "8"]);
    lab.until_ends(300).await;
    let tasks = lab.connect().await;
    lab.add_slow(&tasks, Duration::from_secs(600)).await;
    process.terminate();
    let asked = Instant::now();
    process.wait_for_end();
    // Its deadline is 1 s.
    assert!(asked.elapsed() < Duration::from_secs(3), "it took {:?}", asked.elapsed());
    assert_eq!(tasks.counts().await.unwrap().running, 0);

    let mut next = lab.start(&["run"]);
    lab.until(Duration::from_secs(20), || async { lab.unfinished_but_slow(&tasks).await == 0 }).await;
    next.kill();
    Oracle::of(&lab).await.check(&tasks).await;
}

/// A task that kills its process fails after three processes, and its record names them.
async fn a_task_that_kills_its_processes_is_stopped_and_they_are_named(lab: Lab) {
    lab.start(&["add", "1", "poison"]).ended_well();
    let mut killed = Vec::new();
    for _ in 0..3 {
        let mut process = lab.start(&["run"]);
        process.wait_for_end();
        killed.push(process.pid());
    }
    let mut process = lab.start(&["run"]);
    let tasks = lab.connect().await;
    lab.until(Duration::from_secs(10), || async { tasks.counts().await.unwrap().failed == 1 }).await;
    assert!(process.is_alive());
    let poison = only_record(&tasks).await;
    assert!(poison.error.as_deref().unwrap().contains("poison"), "{:?}", poison.error);
    assert_eq!(poison.attempts.iter().map(|attempt| attempt.pid).collect::<Vec<_>>(), killed);
    assert!(poison.attempts.iter().all(|attempt| attempt.outcome == AttemptOutcome::Lost));
    process.kill();
}

/// A process stands still for longer than its lease, and another takes over. Later writes of the first are dropped.
async fn a_process_that_stood_still_past_its_lease_can_no_longer_write(lab: Lab) {
    let lab = lab.with_lease(Duration::from_millis(500));
    let mut first = lab.start(&["run"]);
    let tasks = lab.connect().await;
    let task = lab.add_slow(&tasks, Duration::from_millis(1500)).await;
    lab.until(Duration::from_secs(5), || async { lab.starts_of(task) == 1 }).await;
    first.stop();
    let mut second = lab.start(&["run"]);
    lab.until(Duration::from_secs(10), || async { lab.starts_of(task) == 2 }).await;
    lab.until(Duration::from_secs(10), || async { record(&tasks, task).await.status == TaskStatus::Success })
        .await;
    let ended = record(&tasks, task).await;
    first.go_on();
    // The first process ends its task too late, or learns that the run is lost. In both cases the process goes on and is healthy.
    lab.start(&["add", "20", "again"]).ended_well();
    lab.until(Duration::from_secs(10), || async { tasks.counts().await.unwrap().unfinished() == 0 }).await;
    second.kill();
    lab.start(&["add", "20", "again"]).ended_well();
    lab.until(Duration::from_secs(10), || async { tasks.counts().await.unwrap().unfinished() == 0 }).await;
    first.terminate();
    let said = first.wait_for_end();
    assert!(said.contains("stale_writes: 1") || said.contains("lost_leases: 1"), "{said}");

    let after = record(&tasks, task).await;
    assert_eq!(after.attempts.len(), 2);
    assert_eq!(after.attempts[0].outcome, AttemptOutcome::Lost);
    assert_eq!((after.finished_at, after.attempts[1].pid), (ended.finished_at, ended.attempts[1].pid));
    Oracle::of(&lab).await.check(&tasks).await;
}

/// A synchronous task that ignores every request keeps its lease, but does not keep its process from ending.
async fn a_stubborn_task_does_not_keep_its_process_and_is_never_run_twice(lab: Lab) {
    let mut process = lab.start(&["run"]);
    let tasks = lab.connect().await;
    let task = lab.add_stubborn(&tasks, Duration::from_secs(600)).await;
    lab.until(Duration::from_secs(5), || async { lab.starts_of(task) == 1 }).await;
    process.terminate();
    let asked = Instant::now();
    let said = process.wait_for_end();
    assert!(asked.elapsed() < Duration::from_secs(4), "it took {:?}", asked.elapsed());
    assert!(said.contains("abandoned: 1"), "{said}");
    let mut next = lab.start(&["run"]);
    lab.until(Duration::from_secs(10), || async { record(&tasks, task).await.status.is_final() }).await;
    assert_eq!(record(&tasks, task).await.status, TaskStatus::Interrupted);
    assert_eq!(lab.starts_of(task), 1);
    next.kill();
}

/// Two processes add and run on one store: every task runs once, and nobody reports a locked database.
async fn two_processes_share_one_store_and_twenty_thousand_tasks(lab: Lab) {
    let mut runners = [lab.start(&["run"]), lab.start(&["run"])];
    let adders = [lab.start(&["add", "10000", "once"]), lab.start(&["add", "10000", "once"])];
    for adder in adders {
        let said = adder.ended_well();
        assert!(!said.contains("locked"), "{said}");
    }
    let tasks = lab.connect().await;
    lab.until(Duration::from_secs(60), || async { tasks.counts().await.unwrap().unfinished() == 0 }).await;
    for runner in &mut runners {
        runner.terminate();
        let said = runner.wait_for_end();
        assert!(!said.contains("locked") && said.contains("store_errors: 0"), "{said}");
    }
    assert_eq!(tasks.counts().await.unwrap().success, 20_000);
    let oracle = Oracle::of(&lab).await;
    assert_eq!(oracle.accepted(), 20_000);
    let shares = oracle.runs_by_process();
    assert!(shares.len() == 2, "one process did it all: {shares:?}");
    oracle.check_each_ran_once();
}

/// The server's clock counts. A worker with a wrong clock keeps its leases, takes no others, and runs delayed tasks in time.
async fn a_process_whose_clock_is_an_hour_off_harms_nobody(lab: Lab) {
    let Some(clocks) = lab.wrong_clocks() else { return };
    let mut workers = vec![lab.start(&["run"])];
    workers.extend(clocks.iter().map(|clock| lab.start_with(&["run"], clock)));
    for clock in &clocks {
        lab.start_with(&["add", "1000", "once"], clock).ended_well();
    }
    let tasks = lab.connect().await;
    // Longer than a lease, so that it is renewed on the way.
    let slow = lab.add_slow(&tasks, Duration::from_secs(2)).await;
    lab.until(Duration::from_secs(30), || async { tasks.counts().await.unwrap().unfinished() == 0 }).await;
    assert_eq!(tasks.counts().await.unwrap().success, 2001);
    assert_eq!(tasks.instances().await.unwrap().iter().filter(|instance| instance.runs).count(), 3);
    assert_eq!(record(&tasks, slow).await.attempts.len(), 1);
    for worker in &mut workers {
        worker.terminate();
        let said = worker.wait_for_end();
        assert!(said.contains("lost_leases: 0"), "{said}");
    }
    let oracle = Oracle::of(&lab).await;
    assert!(oracle.span_of_clocks() > Duration::from_secs(7000), "the clocks were right");
    oracle.check_each_ran_once();
}

/// Has a schedule that ticks five times a second.
async fn schedule(tasks: &TaskManager) {
    let timing = Every::new(Duration::from_millis(200)).unwrap();
    tasks.schedule(NewTask::new("again", Ok(r#"{"millis":0}"#.into())), timing).named("tick").await.unwrap();
}

/// The instants of the ticks so far, the newest first.
async fn ticks(tasks: &TaskManager) -> Vec<SystemTime> {
    let all = TaskFilter::new().source(TaskSource::Schedule).limit(TaskFilter::MAX_LIMIT);
    tasks.list(all).await.unwrap().items.iter().map(|task| task.scheduled_for.unwrap()).collect()
}

/// The server's clock counts for ticks too: each comes once, and none an hour too early or too late, whichever process ticks.
async fn ticks_of_a_process_whose_clock_is_an_hour_off_come_once_and_by_the_servers(lab: Lab) {
    let Some([late, early]) = lab.wrong_clocks() else { return };
    let tasks = lab.connect().await;
    schedule(&tasks).await;
    let began = SystemTime::now();
    let more = |least: usize| {
        let (lab, tasks) = (&lab, &tasks);
        lab.until(Duration::from_secs(20), move || async move { ticks(tasks).await.len() >= least })
    };
    let mut workers = vec![lab.start_with(&["run"], &early)];
    more(5).await;
    workers.push(lab.start_with(&["run"], &late));
    workers.push(lab.start(&["run"]));
    more(15).await;
    for worker in &mut workers {
        worker.terminate();
        worker.wait_for_end();
    }
    let ticks = ticks(&tasks).await;
    let differ: HashSet<_> = ticks.iter().collect();
    assert_eq!(differ.len(), ticks.len(), "a tick came twice");
    let a_minute = Duration::from_secs(60);
    let in_time = began - a_minute..SystemTime::now() + a_minute;
    assert!(ticks.iter().all(|tick| in_time.contains(tick)), "{ticks:?}");
}

async fn schedules_go_on_when_a_clock_that_was_an_hour_early_is_set_right(lab: Lab) {
    let Some((clock, set)) = lab.a_clock_to_set() else { return };
    set("+1h");
    let tasks = lab.connect().await;
    schedule(&tasks).await;
    let mut worker = lab.start_with(&["run"], &clock);
    lab.until(Duration::from_secs(20), || async { ticks(&tasks).await.len() >= 5 }).await;
    let right = SystemTime::now() + Duration::from_secs(60);
    assert!(ticks(&tasks).await.iter().any(|tick| *tick > right), "the clock was right");
    set("+0");
    let set_at = SystemTime::now();
    lab.until(Duration::from_secs(20), || async {
        ticks(&tasks).await.iter().filter(|tick| **tick > set_at && **tick < right).count() >= 5
    })
    .await;
    worker.terminate();
    worker.wait_for_end();
}

/// The disk is full: adds are refused, and the process lives. With room again, every accepted task ends.
async fn a_full_disk_refuses_adds_and_loses_nothing(lab: Lab) {
    let mut process = lab.start(&["serve", "4"]);
    lab.until_ends(100).await;
    lab.fill_disk();
    let refused = || lab.ledger().lines().filter(|line| line.starts_with("refused ")).count();
    lab.until(Duration::from_secs(30), || async { refused() > 0 }).await;
    assert!(process.is_alive());
    lab.empty_disk();
    let before = lab.ends();
    lab.until(Duration::from_secs(15), || async { lab.ends() > before + 100 }).await;
    process.terminate();
    process.wait_for_end();
    let mut last = lab.start(&["run"]);
    let tasks = lab.connect().await;
    lab.until(Duration::from_secs(20), || async { tasks.counts().await.unwrap().unfinished() == 0 }).await;
    last.kill();
    Oracle::of(&lab).await.check_everything_ended(&tasks).await;
}

async fn record(tasks: &TaskManager, id: taskflow::TaskId) -> TaskRecord {
    tasks.get(id).await.unwrap().unwrap()
}

async fn only_record(tasks: &TaskManager) -> TaskRecord {
    tasks.list(taskflow::TaskFilter::new()).await.unwrap().items.remove(0)
}
