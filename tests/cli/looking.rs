//! The verbs that only read.

use serde_json::Value;
use taskflow::TaskStatus;

use crate::command::{aside, run, table};
use crate::shop::{Shop, places};
use crate::support::reaches;

/// A shop with something of everything.
async fn filled(place: crate::support::Place) -> Shop {
    let shop = Shop::open(place).await;
    shop.greeting("Ada").await;
    for to in ["a@example.com", "b@example.com"] {
        shop.failed_mail(to).await;
    }
    shop.import(42).await;
    shop.later(43).await;
    shop.schedule("clean_up").await;
    shop.tasks.pause_queue("mail").await.unwrap();
    shop
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_tables() {
    for place in places() {
        let shop = filled(place).await;
        let url = shop.url();
        aside(move || {
            let shown = |arguments: &[&str]| table(&url, arguments).exits(0).settled();
            insta::assert_snapshot!("list", shown(&["list"]));
            insta::assert_snapshot!(
                "list_failed",
                shown(&["list", "status:failed", "tag.plan:pro", "--wide"])
            );
            insta::assert_snapshot!("queues", shown(&["queues"]));
            insta::assert_snapshot!("queue", shown(&["queues", "slow"]));
            insta::assert_snapshot!("schedules", shown(&["schedules"]));
            insta::assert_snapshot!("schedule", shown(&["schedules", "daily_report", "--next", "2"]));
            insta::assert_snapshot!("workers", shown(&["workers"]));
            insta::assert_snapshot!("types", shown(&["types"]));
            insta::assert_snapshot!("failures", shown(&["failures"]));
            let type_of_mail = shown(&["types", "send_email"]);
            assert!(type_of_mail.contains("to String"), "{type_of_mail}");
            let status = shown(&["status"]);
            // The first line is the place of the store.
            insta::assert_snapshot!("status", status.split_once('\n').unwrap().1);
        })
        .await;
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_get_json_of_every_verb_that_looks() {
    for place in places() {
        let shop = filled(place).await;
        let url = shop.url();
        aside(move || {
            let json = |arguments: &[&str]| run(&url, &[arguments, &["--json"]].concat()).exits(0).json();
            let lines = |arguments: &[&str]| {
                let ran = run(&url, &[arguments, &["--ndjson"]].concat()).exits(0);
                ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
            };
            let status = json(&["status"]);
            assert_eq!(
                (&status["counts"]["failed"], &status["healthy"]),
                (&2.into(), &true.into()),
                "{status}"
            );
            assert_eq!(json(&["list"])["items"].as_array().unwrap().len(), 5);
            assert_eq!(lines(&["list", "status:failed"]).len(), 2);
            assert_eq!(lines(&["list", "send"]).len(), 2, "a bare word matches names");
            let page = json(&["list", "--limit", "2"]);
            let next = page["next"].as_str().unwrap();
            assert_eq!(
                json(&["list", "--limit", "10", "--after", next])["items"].as_array().unwrap().len(),
                3
            );
            assert_eq!(json(&["count", "queue:mail"])["n"], 2);
            assert_eq!(run(&url, &["count", "queue:mail"]).exits(0).out, "2\n");
            assert_eq!(json(&["queues"])["items"].as_array().unwrap().len(), 3);
            assert_eq!(json(&["queues", "mail"])["warning"], "paused");
            assert_eq!(json(&["schedules", "daily_report"])["next"].as_array().unwrap().len(), 5);
            assert_eq!(lines(&["schedules"]).len(), 2);
            assert_eq!(json(&["workers"])["items"][0]["runs"], true);
            assert_eq!(json(&["types", "send_email"])["parameters"][0]["name"], "to");
            let failures = json(&["failures"]);
            assert_eq!(
                (&failures["items"][0]["count"], &failures["items"][0]["name"]),
                (&2.into(), &"send_email".into())
            );
            assert_eq!(lines(&["failures"]).len(), 1);
            assert!(json(&["stats", "--by", "all"])["series"].is_array());
            assert!(json(&["audit"])["items"].is_array());
            assert!(json(&["operations"])["items"].is_array());
            let id = failures["items"][0]["sample_id"].as_str().unwrap().to_owned();
            let task = json(&["show", &id]);
            assert_eq!((&task["status"], &task["can"]["retry"]), (&"failed".into(), &true.into()));
            assert_eq!(task["attempts"].as_array().unwrap().len(), 2);
            assert_eq!(json(&["logs", &id])["lines"].as_array().unwrap().len(), 4);
            assert_eq!(
                json(&["logs", &id, "--level", "error", "--attempt", "2"])["lines"][0]["message"],
                "no answer"
            );
            assert_eq!(lines(&["export", "status:failed"])[0]["args"]["to"], "b@example.com");
            let csv = run(&url, &["export", "status:success"]).exits(0).out;
            assert!(csv.starts_with("id,name,queue,") && csv.contains("hello, Ada"), "{csv}");
        })
        .await;
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_shown_with_its_attempts_arguments_and_log() {
    for place in places() {
        let shop = Shop::open(place).await;
        let id = shop.failed_mail("a@example.com").await.to_string();
        let url = shop.url();
        aside(move || {
            let shown = table(&url, &["show", &id]).exits(0);
            insta::assert_snapshot!("show", shown.settled());
            // In a pipe, each line has one fact.
            let facts = run(&url, &["show", &id]).exits(0).prints(&format!("id\t{id}\n"));
            assert!(facts.out.contains("error\tconnection refused by smtp.example.com:587\n"), "{facts:?}");
            run(&url, &["show", &id[..18].to_uppercase()]).exits(0).prints(&id);
            run(&url, &["show", &id.replace('-', "")]).exits(0).prints(&id);
            insta::assert_snapshot!("logs", table(&url, &["logs", &id]).exits(0).settled());
        })
        .await;
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_followed_until_the_task_ends() {
    for place in places() {
        let shop = Shop::open(place).await;
        let id = shop.import(1).await;
        let mut child = crate::command::taskflow(&shop.url())
            .args(["logs", "-f", &id.to_string()])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        let mut next = move || lines.next().map(Result::unwrap);
        let (first, mut next) = aside(move || (next(), next)).await;
        assert!(first.unwrap().ends_with("\tinfo\t1\treading"));
        shop.gate.open();
        let (second, next) = aside(move || (next(), next)).await;
        assert!(second.unwrap().ends_with("\twarn\t1\tdone"));
        assert_eq!(aside(next).await, None);
        assert!(aside(move || child.wait()).await.unwrap().success());

        let failed = shop.failed_mail("a@example.com").await.to_string();
        let url = shop.url();
        aside(move || run(&url, &["logs", "-f", &failed]).exits(1).says("connection refused")).await;
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_ends_with_the_tasks_and_tells_how() {
    for place in places() {
        let shop = Shop::open(place).await;
        let (good, bad) =
            (shop.greeting("Ada").await.to_string(), shop.failed_mail("a@example.com").await.to_string());
        let running = shop.import(1).await.to_string();
        let url = shop.url();
        let (place, still) = (url.clone(), running.clone());
        aside(move || {
            run(&url, &["wait", &good]).exits(0).prints(&format!("{good}\tsuccess"));
            run(&url, &["wait", &good, &bad]).exits(1).prints(&format!("{bad}\tfailed"));
            assert_eq!(run(&url, &["wait", &good, "--json"]).exits(0).json()["result"], "hello, Ada");
            run(&url, &["wait", &still, "--timeout", "50ms"]).exits(1).says("has not ended in time");
        })
        .await;
        let waits = tokio::task::spawn_blocking(move || run(&place, &["wait", &running]));
        shop.gate.open();
        waits.await.unwrap().exits(0).prints("success");
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_looks_is_not_seen_and_changes_nothing() {
    for place in places() {
        let shop = Shop::open(place).await;
        let id = shop.import(1).await;
        let mut child = crate::command::taskflow(&shop.url())
            .args(["status", "--watch", "1s", "--json"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let first = aside(move || {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut out, &mut line).unwrap();
            (line, out)
        });
        assert_eq!(first.await.0, "{\n");
        let instances = shop.tasks.instances().await.unwrap();
        assert_eq!(instances.len(), 1, "{instances:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        reaches(&shop.tasks, id, TaskStatus::Running).await;
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_word_of_a_filter_selects() {
    for place in places() {
        let shop = filled(place).await;
        let url = shop.url();
        aside(move || {
            let cases: [(&[&str], u64); 27] = [
                (&[], 5),
                (&["all:true"], 5),
                (&["status:failed"], 2),
                (&["status:failed,success"], 3),
                (&["status:failed", "status:success"], 3),
                (&["phase:scheduled"], 1),
                (&["phase:running"], 1),
                (&["phase:ended"], 3),
                (&["name:greet"], 1),
                (&["mail"], 2),
                (&["queue:slow"], 2),
                (&["queue:slow", "status:running"], 1),
                (&["error:connection refused"], 2),
                (&["error:'connection refused'"], 0),
                (&["error:refused by smtp"], 2),
                (&["error:\"refused by smtp\""], 2),
                (&["key:none"], 0),
                (&["source:manager"], 5),
                (&["source:schedule"], 0),
                (&["since:6h"], 5),
                (&["created_after:-1h"], 5),
                (&["created_before:-1h"], 0),
                (&["finished_after:2020-01-01"], 3),
                (&["finished_before:2020-01-01"], 0),
                (&["tag.plan:pro"], 2),
                (&["arg.customer:43"], 1),
                (&["arg.to:a@example.com"], 1),
            ];
            for (words, number) in cases {
                let counted = run(&url, &[&["count", "--json"], words].concat()).exits(0).json();
                assert_eq!(counted["n"], number, "{words:?}");
                let listed = run(&url, &[&["list", "--ndjson"], words].concat()).exits(0).out;
                assert_eq!(listed.lines().count() as u64, number, "{words:?}");
            }
        })
        .await;
        shop.close().await;
    }
}
