//! A dead process is noticed long before its leases end; a live process that loses a connection is not considered dead.
//! Real processes on PostgreSQL and Redis.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[allow(dead_code, reason = "the crash tests use the rest")]
mod crash {
    pub(crate) mod process;
}
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/servers/mod.rs"]
mod servers;

use std::time::{Duration, Instant};

use crash::process::{Lab, Process};
use proxy::Proxy;
use servers::{postgres::PostgresServer, redis::RedisServer};
use taskflow::{AttemptOutcome, TaskId, TaskManager, TaskRecord, TaskStatus};

const SECOND: Duration = Duration::from_secs(1);

/// Longer than every test that does not wait for its end.
const LONG: Duration = Duration::from_secs(600);

/// The server of one test.
enum Server {
    Postgres(PostgresServer),
    Redis(RedisServer),
}

impl Server {
    fn postgres() -> Option<Self> {
        Some(Self::Postgres(PostgresServer::start()?))
    }

    fn redis() -> Option<Self> {
        Some(Self::Redis(RedisServer::start()?))
    }

    fn url(&self, port: u16) -> String {
        match self {
            Self::Postgres(_) => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Self::Redis(_) => format!("redis://127.0.0.1:{port}/0"),
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::Postgres(server) => server.port(),
            Self::Redis(server) => server.port(),
        }
    }

    fn lab(&self) -> Lab {
        Lab::at(self.url(self.port()), tempfile::tempdir().unwrap())
    }

    fn kill(&mut self) {
        match self {
            Self::Postgres(server) => server.kill(),
            Self::Redis(server) => server.kill(),
        }
    }

    fn restart(&mut self) {
        match self {
            Self::Postgres(server) => server.restart(),
            Self::Redis(server) => server.restart(),
        }
    }

    /// With a second server that replicates this one.
    fn with_replica(self) -> (Self, Self) {
        let replica = match &self {
            Self::Postgres(server) => Self::Postgres(server.standby()),
            Self::Redis(server) => {
                let replica = RedisServer::start().unwrap();
                let port = server.port().to_string();
                assert_eq!(replica.ask(&["REPLICAOF", "127.0.0.1", &port]).unwrap(), "+OK\r\n");
                Self::Redis(replica)
            }
        };
        servers::wait_until("the replica to follow", || replica.signs() == self.signs());
        (self, replica)
    }

    fn promote(&self) {
        match self {
            Self::Postgres(server) => server.promote(),
            Self::Redis(server) => assert_eq!(server.ask(&["REPLICAOF", "NO", "ONE"]).unwrap(), "+OK\r\n"),
        }
    }

    /// A text that changes each time a process begins to show that it lives, also when it begins again.
    fn signs(&self) -> String {
        match self {
            Self::Postgres(server) => server
                .query("SELECT id, sign FROM taskflow_instances WHERE sign_start IS NOT NULL ORDER BY id"),
            // A hash, because `ask` returns only the beginning of a long answer.
            Self::Redis(server) => {
                let run_id = "local s = redis.call('HVALS', '{taskflow:default}:liveness') table.sort(s) \
                              return #s .. redis.sha1hex(table.concat(s))";
                server.ask(&["EVAL", run_id, "0"]).unwrap()
            }
        }
    }

    fn shown(&self) -> usize {
        match self {
            Self::Postgres(_) => self.signs().lines().count(),
            Self::Redis(server) => {
                let answer = server.ask(&["HLEN", "{taskflow:default}:liveness"]).unwrap();
                answer.trim_start_matches(':').trim_end().parse().unwrap()
            }
        }
    }

    /// Closes the connections by which processes show that they live.
    fn end_lease_connections(&self) {
        match self {
            Self::Postgres(server) => {
                let ended = server.query(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_locks \
                     WHERE locktype = 'advisory' AND classid::bigint = 1952544108 AND granted",
                );
                assert_ne!(ended, "0");
            }
            Self::Redis(server) => {
                let answer = server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
                assert_ne!(answer, ":0\r\n");
            }
        }
    }
}

macro_rules! liveness {
    ($($case:ident)*) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                if let Some(server) = crate::Server::postgres() {
                    crate::$case(server).await;
                }
            })*
        }

        mod redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                if let Some(server) = crate::Server::redis() {
                    crate::$case(server).await;
                }
            })*
        }
    };
}

liveness! {
    work_of_a_killed_process_starts_again_within_three_seconds
    a_connection_that_is_cut_and_made_again_loses_no_run
    a_process_that_is_cut_off_for_a_second_loses_no_run
    a_process_that_stands_still_for_less_than_its_lease_loses_no_run
    a_process_that_is_cut_off_stops_what_others_may_start_and_keeps_the_rest
    after_a_restart_of_the_server_only_leases_tell
    after_a_failover_only_leases_tell
}

async fn record(tasks: &TaskManager, id: TaskId) -> TaskRecord {
    tasks.get(id).await.unwrap().unwrap()
}

/// Starts a worker, and waits until one more process shows that it lives.
async fn start_worker(server: &Server, lab: &Lab) -> Process {
    let before = server_shown(server);
    let process = lab.start(&["run"]);
    lab.until(SECOND * 20, || async { server_shown(server) > before }).await;
    process
}

fn server_shown(server: &Server) -> usize {
    // Before the first start there is no table.
    match server {
        Server::Postgres(postgres) => {
            let is_store = "SELECT count(*) FROM pg_class WHERE relname = 'taskflow_instances'";
            if postgres.query(is_store) == "0" { 0 } else { server.shown() }
        }
        Server::Redis(_) => server.shown(),
    }
}

/// Ends every connection, and leads new ones nowhere.
fn cut(proxy: &Proxy) {
    proxy.lead_to(1);
    proxy.cut();
}

async fn begins(lab: &Lab, id: TaskId, times: usize, within: Duration) {
    lab.until(within, || async { lab.starts_of(id) >= times }).await;
}

/// Tasks that may run again start elsewhere within 3 s; the others wait for their lease to end.
async fn work_of_a_killed_process_starts_again_within_three_seconds(server: Server) {
    let lab = server.lab().with_lease(SECOND * 9);
    let mut worker = start_worker(&server, &lab).await;
    let tasks = lab.connect().await;
    let (mut took, mut only_once) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        // They run on the process that is killed: the other one is not there yet.
        let (slow, once) = (lab.add_slow(&tasks, LONG).await, lab.add_once(&tasks, LONG).await);
        for id in [slow, once] {
            begins(&lab, id, 1, SECOND * 10).await;
        }
        let next = start_worker(&server, &lab).await;
        worker.kill();
        let killed = Instant::now();
        begins(&lab, slow, 2, SECOND * 20).await;
        took.push(killed.elapsed());
        let (again, task) = (record(&tasks, slow).await, record(&tasks, once).await);
        assert_eq!((again.attempts[0].outcome, again.attempts[0].pid), (AttemptOutcome::Lost, worker.pid()));
        assert_eq!((task.status, task.attempts.len()), (TaskStatus::Running, 1));
        only_once.push(once);
        worker = next;
    }
    took.sort();
    assert!(took[2] < SECOND * 3, "{took:?}");
    for once in only_once {
        lab.until(SECOND * 20, || async { record(&tasks, once).await.status.is_final() }).await;
        assert_eq!(record(&tasks, once).await.status, TaskStatus::Interrupted);
        assert_eq!(lab.starts_of(once), 1);
    }
}

/// Meanwhile another process misses the signs of life of the worker for a moment.
async fn a_connection_that_is_cut_and_made_again_loses_no_run(server: Server) {
    let lab = server.lab().with_lease(SECOND * 10);
    let worker = start_worker(&server, &lab).await;
    let tasks = lab.connect().await;
    let ids = [lab.add_slow(&tasks, SECOND * 7).await, lab.add_once(&tasks, SECOND * 7).await];
    for id in ids {
        begins(&lab, id, 1, SECOND * 10).await;
    }
    let neighbour = start_worker(&server, &lab).await;
    for _ in 0..4 {
        let signs = server.signs();
        server.end_lease_connections();
        lab.until(SECOND * 10, || async { server.shown() == 2 && server.signs() != signs }).await;
        tokio::time::sleep(SECOND).await;
    }
    for id in ids {
        lab.until(SECOND * 20, || async { record(&tasks, id).await.status.is_final() }).await;
        let task = record(&tasks, id).await;
        assert_eq!((task.status, task.attempts.len()), (TaskStatus::Success, 1), "{:?}", task.attempts);
    }
    for mut process in [worker, neighbour] {
        process.terminate();
        let said = process.wait_for_end();
        assert!(said.contains("lost_leases: 0") && said.contains("stale_writes: 0"), "{said}");
    }
}

/// The connection is lost for as long as that is tolerated.
async fn a_process_that_is_cut_off_for_a_second_loses_no_run(server: Server) {
    let proxy = Proxy::to(server.port()).await;
    let lab = server.lab().with_lease(SECOND * 10);
    let mut worker = start_worker(&server, &lab.with_url(server.url(proxy.port()))).await;
    let tasks = lab.connect().await;
    let ids = [lab.add_slow(&tasks, SECOND * 7).await, lab.add_once(&tasks, SECOND * 7).await];
    for id in ids {
        begins(&lab, id, 1, SECOND * 10).await;
    }
    let mut neighbour = start_worker(&server, &lab).await;
    for _ in 0..2 {
        let signs = server.signs();
        cut(&proxy);
        tokio::time::sleep(SECOND).await;
        proxy.lead_to(server.port());
        lab.until(SECOND * 10, || async { server.signs() != signs }).await;
        tokio::time::sleep(SECOND).await;
    }
    for id in ids {
        lab.until(SECOND * 20, || async { record(&tasks, id).await.status.is_final() }).await;
        let task = record(&tasks, id).await;
        assert_eq!((task.status, task.attempts.len()), (TaskStatus::Success, 1), "{:?}", task.attempts);
    }
    worker.kill();
    neighbour.kill();
}

/// The connections of a stopped process stay open, so others do not take the process for dead.
async fn a_process_that_stands_still_for_less_than_its_lease_loses_no_run(server: Server) {
    let lab = server.lab().with_lease(SECOND * 12);
    let mut worker = start_worker(&server, &lab).await;
    let tasks = lab.connect().await;
    let slow = lab.add_slow(&tasks, SECOND * 6).await;
    begins(&lab, slow, 1, SECOND * 10).await;
    let mut neighbour = start_worker(&server, &lab).await;
    worker.stop();
    tokio::time::sleep(SECOND * 5).await;
    worker.go_on();
    lab.until(SECOND * 20, || async { record(&tasks, slow).await.status.is_final() }).await;
    let task = record(&tasks, slow).await;
    assert_eq!((task.status, task.attempts.len()), (TaskStatus::Success, 1), "{:?}", task.attempts);
    worker.kill();
    neighbour.kill();
}

/// The connection to the server is cut for longer than is tolerated, and restored before the leases end.
async fn a_process_that_is_cut_off_stops_what_others_may_start_and_keeps_the_rest(server: Server) {
    let proxy = Proxy::to(server.port()).await;
    let lab = server.lab().with_lease(SECOND * 15);
    let far = lab.with_url(server.url(proxy.port()));
    let mut worker = start_worker(&server, &far).await;
    let tasks = lab.connect().await;
    let slow = lab.add_slow(&tasks, LONG).await;
    let once = lab.add_once(&tasks, SECOND * 8).await;
    for id in [slow, once] {
        begins(&lab, id, 1, SECOND * 10).await;
    }
    let mut neighbour = start_worker(&server, &lab).await;
    cut(&proxy);
    let cut_at = Instant::now();
    begins(&lab, slow, 2, SECOND * 12).await;
    let took = cut_at.elapsed();
    assert!(took > SECOND * 2, "nobody waited for the connection to be made again: {took:?}");
    proxy.lead_to(server.port());
    lab.until(SECOND * 20, || async { record(&tasks, once).await.status.is_final() }).await;
    let task = record(&tasks, once).await;
    assert_eq!((task.status, task.attempts.len()), (TaskStatus::Success, 1), "{:?}", task.attempts);
    let task = record(&tasks, slow).await;
    assert_eq!((task.status, task.attempts.len()), (TaskStatus::Running, 2), "{:?}", task.attempts);
    assert_eq!(task.attempts[1].pid, neighbour.pid());
    // The worker shows again that it lives, and runs tasks.
    neighbour.kill();
    begins(&lab, slow, 3, SECOND * 12).await;
    assert_eq!(record(&tasks, slow).await.attempts[2].pid, worker.pid());
    worker.terminate();
    let said = worker.wait_for_end();
    // It stopped the lost run by itself, before the store answered that the lease was lost.
    assert!(said.contains("lost_leases: 0"), "{said}");
}

/// While the server is away no process can show that it lives, so a process that died then looks like one that comes back.
async fn after_a_restart_of_the_server_only_leases_tell(mut server: Server) {
    let lab = server.lab().with_lease(SECOND * 14);
    let mut worker = start_worker(&server, &lab).await;
    let tasks = lab.connect().await;
    let slow = lab.add_slow(&tasks, LONG).await;
    begins(&lab, slow, 1, SECOND * 10).await;
    let mut neighbour = start_worker(&server, &lab).await;
    let signs = server.signs();
    server.kill();
    worker.kill();
    server.restart();
    // The neighbour is back. It misses the signs of the other process for longer than it usually waits.
    lab.until(SECOND * 20, || async { server.signs() != signs }).await;
    tokio::time::sleep(SECOND * 5).await;
    assert_eq!(
        lab.starts_of(slow),
        1,
        "it was taken for dead by what it had shown to another start of the server"
    );
    begins(&lab, slow, 2, SECOND * 20).await;
    neighbour.kill();
}

/// The server that takes over has all rows, but has never seen a sign of life of the process that died.
async fn after_a_failover_only_leases_tell(server: Server) {
    let proxy = Proxy::to(server.port()).await;
    let lab = server.lab().with_url(server.url(proxy.port())).with_lease(SECOND * 14);
    let mut worker = start_worker(&server, &lab).await;
    let tasks = lab.connect().await;
    let slow = lab.add_slow(&tasks, LONG).await;
    begins(&lab, slow, 1, SECOND * 10).await;
    let (server, replica) = tokio::task::spawn_blocking(move || server.with_replica()).await.unwrap();
    let mut neighbour = start_worker(&server, &lab).await;
    // Many tasks, so that some of them run on the process that lives: the other one could run all of them.
    let more: Vec<TaskId> = {
        let mut ids = Vec::new();
        for _ in 0..20 {
            ids.push(lab.add_slow(&tasks, LONG).await);
        }
        for id in &ids {
            begins(&lab, *id, 1, SECOND * 10).await;
        }
        ids
    };
    servers::wait_until("the replica to have everything", || replica.signs() == server.signs());
    replica.promote();
    worker.kill();
    proxy.lead_to(replica.port());
    proxy.cut();
    let signs = server.signs();
    lab.until(SECOND * 20, || async { replica.signs() != signs }).await;
    tokio::time::sleep(SECOND * 5).await;
    for id in more.iter().chain([&slow]) {
        assert_eq!(lab.starts_of(*id), 1, "it was taken for lost by what was shown to another server");
    }
    begins(&lab, slow, 2, SECOND * 20).await;
    let lives = neighbour.pid();
    for id in more {
        let attempts = record(&tasks, id).await.attempts;
        if attempts[0].pid == lives {
            assert_eq!(attempts.len(), 1, "{attempts:?}");
        }
    }
    neighbour.kill();
}

/// Behind a pooler, no session belongs to one process.
#[tokio::test(flavor = "multi_thread")]
async fn without_sessions_only_leases_tell() {
    let Some(server) = Server::postgres() else { return };
    let url = format!("{}?listen=off", server.url(server.port()));
    only_leases_tell(&server, url).await;
}

/// A user that may not list listeners works too, but notices a dead process later.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_count_subscribers_only_leases_tell() {
    let Some(server) = Server::redis() else { return };
    let Server::Redis(redis) = &server else { return };
    for forbidden in ["-pubsub", "-info", "-subscribe"] {
        redis.ask(&["FLUSHALL"]).unwrap();
        let user = ["ACL", "SETUSER", "app", "reset", "on", ">secret", "~*", "&*", "+@all", forbidden];
        assert_eq!(redis.ask(&user).unwrap(), "+OK\r\n");
        only_leases_tell(&server, format!("redis://app:secret@127.0.0.1:{}/0", redis.port())).await;
    }
}

async fn only_leases_tell(server: &Server, url: String) {
    let lab = Lab::at(url, tempfile::tempdir().unwrap()).with_lease(SECOND * 7);
    let mut worker = lab.start(&["run"]);
    let tasks = lab.connect().await;
    let slow = lab.add_slow(&tasks, LONG).await;
    begins(&lab, slow, 1, SECOND * 10).await;
    let neighbour = lab.start(&["run"]);
    worker.kill();
    let killed = Instant::now();
    begins(&lab, slow, 2, SECOND * 20).await;
    // Its last renewal was at most a third of the lease before its death, give or take a tenth.
    assert!(killed.elapsed() > SECOND * 4, "{:?}", killed.elapsed());
    assert_eq!(server.shown(), 0);
    neighbour.terminate();
    let mut neighbour = neighbour;
    let said = neighbour.wait_for_end();
    assert!(said.contains("degraded_since: None") && said.contains("store_errors: 0"), "{said}");
}
