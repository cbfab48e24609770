//! `taskflow bench` measures every scenario on every store beside a baseline, and leaves nothing behind.
//!
//! It is a test of the package `taskflow`, because Cargo builds a command only for the tests of its own package:
//! `cargo test -p taskflow --features cli,postgres,redis --test bench`.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]
#![allow(clippy::disallowed_methods, reason = "it waits for real servers")]

#[cfg(any(feature = "postgres", feature = "redis"))]
#[path = "support/servers/mod.rs"]
mod servers;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use taskflow::TaskManager;

/// The scenarios that every store has.
const SCENARIOS: [&str; 15] = [
    "add",
    "add_all",
    "drain",
    "flow",
    "drain_once",
    "flow_once",
    "drain_failing",
    "drain_awaited",
    "observed",
    "latency",
    "history",
    "memory",
    "http",
    "http_floor",
    "watched",
];

#[taskflow::task]
async fn ping() {}

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_taskflow")).arg("bench").args(arguments).output().unwrap()
}

fn errors(output: &Output) -> String {
    assert!(!output.status.success(), "it was to fail: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs every scenario of this store with few tasks, and checks the report.
fn measure_everything(store: &str, own: &[&str]) -> Value {
    let little = [
        ["--tasks", "100"],
        ["--history", "600"],
        ["--waiting", "600"],
        ["--runs", "2"],
        ["--tabs", "3"],
        ["--samples", "20"],
        ["--pinned", "600"],
    ];
    let output = bench(&[&["--store", store, "--json"], little.as_flattened()].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "", "there is no progress bar where there is no terminal");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();

    let expected: BTreeSet<&str> = SCENARIOS.iter().chain(own).copied().collect();
    let figures = report["figures"].as_array().unwrap();
    let measured: BTreeSet<&str> = figures.iter().map(|it| it["scenario"].as_str().unwrap()).collect();
    assert_eq!(measured, expected);
    for figure in figures {
        let number = |value: &Value| {
            value.as_f64().filter(|number| *number > 0.0).unwrap_or_else(|| panic!("{figure}"))
        };
        for side in ["ours", "baseline"] {
            let [least, median, greatest] = ["min", "median", "max"].map(|name| number(&figure[side][name]));
            assert!(least <= median && median <= greatest, "{figure}");
        }
        let ratio = number(&figure["ours"]["median"]) / number(&figure["baseline"]["median"]);
        assert!((number(&figure["ratio"]) - ratio).abs() < 1e-9 * ratio, "{figure}");
    }
    for fact in ["durability", "floor"] {
        assert!(report["facts"][fact].is_string(), "{report}");
    }
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    assert_eq!(report["settings"]["tasks"], 100);
    report
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn everything_is_measured_in_memory() {
    let report = measure_everything("memory:", &[]);
    assert_eq!(report["store"], "memory");
}

#[test]
#[cfg(feature = "sqlite")]
fn everything_is_measured_in_a_file_and_no_file_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let store = format!("sqlite://{}?synchronous=normal", directory.path().join("a b.db").display());
    let report = measure_everything(&store, &[]);
    assert_eq!(report["facts"]["durability"], "journal_mode WAL, synchronous NORMAL");
    assert!(is_empty(directory.path()));
}

#[test]
#[cfg(feature = "sqlite")]
fn each_scenario_can_be_measured_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = format!("sqlite://{}", directory.path().join("new.db").display());
    for scenario in SCENARIOS {
        let little = [
            ["--tasks", "20"],
            ["--history", "50"],
            ["--waiting", "50"],
            ["--samples", "10"],
            ["--runs", "1"],
        ];
        let output =
            bench(&[&["--store", &store, "--scenario", scenario, "--json"], little.as_flattened()].concat());
        assert!(output.status.success(), "{scenario}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let figures = report["figures"].as_array().unwrap();
        assert!(!figures.is_empty() && figures.iter().all(|it| it["scenario"] == scenario), "{report}");
    }
    assert!(is_empty(directory.path()));
}

#[test]
#[cfg(feature = "postgres")]
fn everything_is_measured_on_postgres_and_nothing_is_left_there() {
    let Some(server) = servers::postgres::PostgresServer::start() else { return };
    let report = measure_everything(&server.url(), &["pinned"]);
    assert!(report["facts"]["durability"].as_str().unwrap().contains("fsync off"), "{report}");
    let left = "SELECT (SELECT count(*) FROM pg_class WHERE relname LIKE 'taskflow%') +
                       (SELECT count(*) FROM pg_proc WHERE proname LIKE 'taskflow%')";
    assert_eq!(server.query(left), "0");
}

#[test]
#[cfg(feature = "redis")]
fn everything_is_measured_on_redis_and_nothing_is_left_there() {
    let Some(server) = servers::redis::RedisServer::start() else { return };
    let report = measure_everything(&server.url(), &[]);
    assert!(report["facts"]["durability"].as_str().unwrap().starts_with("appendonly yes"), "{report}");
    assert_eq!(server.ask(&["DBSIZE"]).unwrap().trim_end(), ":0");
}

#[tokio::test]
#[cfg(feature = "sqlite")]
async fn a_store_that_holds_tasks_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tasks.db");
    let store = format!("sqlite://{}", file.display());
    TaskManager::builder().store(store.as_str()).migrate().await.unwrap();
    let tasks = TaskManager::builder().store(store.as_str()).connect().await.unwrap();
    let task = tasks.add(ping()).await.unwrap();

    let refusal = errors(&bench(&["--store", &store, "--tasks", "10"]));
    assert!(refusal.contains("holds tasks") && refusal.contains("name a new file"), "{refusal}");

    assert_eq!(tasks.counts().await.unwrap().pending, 1);
    assert!(tasks.get(task.id()).await.unwrap().is_some());
    let beside = std::fs::read_dir(directory.path()).unwrap();
    let beside: Vec<_> = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!beside.iter().any(|name| name.contains("bench")), "{beside:?}");
}

#[test]
fn an_unknown_scenario_is_answered_with_the_known_ones() {
    let refusal = errors(&bench(&["--store", "memory:", "--scenario", "add,drian"]));
    assert!(refusal.contains("drian"), "{refusal}");
    for scenario in SCENARIOS {
        assert!(refusal.contains(scenario), "{scenario}: {refusal}");
    }
}

#[test]
fn a_scenario_that_needs_old_snapshots_is_refused_where_there_are_none() {
    for scenario in ["pinned", "paced"] {
        let refusal = errors(&bench(&["--store", "memory:", "--scenario", scenario]));
        assert!(refusal.contains(scenario) && refusal.contains("PostgreSQL"), "{refusal}");
    }
}

#[test]
fn the_cost_of_a_backlog_is_measured_when_it_is_named() {
    let load =
        ["--scenario", "scale", "--backlog", "2000", "--waiting", "600", "--samples", "2", "--runs", "1"];
    let output = bench(&[&["--store", "memory:", "--json"], &load[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figures = report["figures"].as_array().unwrap().iter().map(|it| it["figure"].as_str().unwrap());
    let expected = ["add", "claim", "finish", "counts", "list", "add_1_mib", "run_1_mib"]
        .map(|it| format!("scale/{it}"));
    assert_eq!(figures.collect::<Vec<_>>(), expected);

    let refusal = errors(&bench(&["--store", "memory:", "--scenario", "scale", "--waiting", "100"]));
    assert!(refusal.contains("let that many wait"), "{refusal}");
}

#[test]
fn many_instances_are_measured_beside_one_when_they_are_named() {
    let load = ["--scenario", "instances", "--instances", "3", "--tasks", "300", "--runs", "1", "--json"];
    let output = bench(&[&["--store", "memory:"], &load[..]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figures = report["figures"].as_array().unwrap().iter().map(|it| it["figure"].as_str().unwrap());
    assert_eq!(figures.collect::<Vec<_>>(), ["instances/drain", "instances/flow"]);
}

#[test]
fn an_unknown_store_is_answered_with_the_known_ones() {
    let refusal = errors(&bench(&["--store", "mysql://localhost"]));
    for store in ["memory:", "sqlite://", "postgres://", "redis://"] {
        assert!(refusal.contains(store), "{refusal}");
    }
}

#[test]
#[cfg(all(feature = "postgres", feature = "redis"))]
fn a_namespace_of_somebody_else_is_refused() {
    for server in ["postgres://nobody@127.0.0.1:1/none", "redis://127.0.0.1:1/0"] {
        let refusal = errors(&bench(&["--store", &format!("{server}?namespace=app")]));
        assert!(refusal.contains("leave `namespace` out"), "{refusal}");
    }
}

#[test]
fn only_what_was_asked_for_is_shown_to_people() {
    let output = bench(&["--store", "memory:", "--scenario", "drain,add", "--tasks", "100", "--runs", "1"]);
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    let figures: Vec<&str> = table.lines().filter(|line| line.contains("1/s")).collect();
    assert!(
        matches!(figures[..], [add, drain] if add.starts_with("add ") && drain.starts_with("drain ")),
        "{table}"
    );
    assert!(
        table.contains("durability: none") && table.contains("cores") && table.contains("load"),
        "{table}"
    );
}

#[test]
fn a_figure_below_what_is_demanded_of_it_fails() {
    let demanded = |figure| {
        bench(&["--store", "memory:", "--scenario", "drain", "--tasks", "100", "--at-least", figure])
    };
    let shortfall = errors(&demanded("drain=1000"));
    assert!(shortfall.contains("drain reached") && shortfall.contains("drain=1000"), "{shortfall}");
    let unmeasured = errors(&demanded("flow=0.1"));
    assert!(unmeasured.contains("`flow` was not measured") && unmeasured.contains("drain"), "{unmeasured}");
    assert!(demanded("drain=0.0001").status.success());
}

/// Only with six or more runs, a figure shows the interval of its ratio.
#[test]
fn few_runs_say_nothing_about_a_few_per_cent() {
    for (runs, says) in [("5", false), ("6", true)] {
        let little = ["--scenario", "add", "--tasks", "20", "--runs", runs, "--json"];
        let output = bench(&[&["--store", "memory:"], little.as_slice()].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let pairs = &report["figures"][0]["pairs"];
        assert_eq!(pairs.is_object(), says, "{report}");
        let low = pairs["low"].as_f64().unwrap_or_default();
        assert!(low <= pairs["high"].as_f64().unwrap_or_default() && (low > 0.0) == says, "{report}");
    }
}
