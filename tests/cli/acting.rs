//! The verbs that change something, and what the audit log keeps of them.

use std::time::Duration;

use taskflow::{TaskId, TaskStatus};

use crate::command::{Ran, aside, run, table, taskflow};
use crate::shop::{BY_SCHEDULE, Shop, places};
use crate::support::{ends, eventually, reaches, record, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_retried_cancelled_and_deleted_by_its_id() {
    for place in places() {
        let shop = Shop::open(place).await;
        let (mail, later, url) = (shop.failed_mail("a@example.com").await, shop.later(1).await, shop.url());
        shop.mail.comes_back();
        let retried = aside({
            let (url, id) = (url.clone(), mail.to_string());
            move || run(&url, &["retry", &id[..20], "--reason", "the server is back", "--actor", "grace"])
        });
        assert_eq!(retried.await.exits(0).out, format!("{mail}\tretried\n"));
        reaches(&shop.tasks, mail, TaskStatus::Success).await;
        let (id, gone) = (later.to_string(), TaskId::new().to_string());
        aside({
            let (url, mail) = (url.clone(), mail.to_string());
            move || {
                run(&url, &["delete", &id]).exits(4).says("cannot be deleted: cancel it first");
                run(&url, &["cancel", &id]).exits(0).prints("cancelled");
                run(&url, &["cancel", &id]).exits(4).says("has already ended");
                // Each outcome is printed, and the worst decides the exit code.
                let both =
                    run(&url, &["retry", &gone, &mail, &id, "--json"]).exits(4).says("there is no task");
                let outcomes = both.json();
                assert_eq!(outcomes["items"][2]["outcome"], "retried", "{outcomes}");
                assert_eq!(outcomes["items"].as_array().unwrap().len(), 3);
                run(&url, &["cancel", &id]).exits(0);
                // The task may have begun meanwhile. Then it stops soon.
                run(&url, &["wait", &id, "--timeout", "20s"]).exits(1).prints(&format!("{id}\tcancelled"));
                run(&url, &["delete", &id, "--dry-run"]).exits(0).prints("import\t1");
                run(&url, &["delete", &id]).exits(0).prints("deleted");
                run(&url, &["show", &id]).exits(3).says("there is no task");
                let audit = run(&url, &["audit", "--json"]).exits(0).json();
                let entries = audit["items"].as_array().unwrap();
                let first = entries.last().unwrap();
                assert_eq!(
                    (&first["actor"], &first["via"], &first["action"]),
                    (&"grace".into(), &"cli".into(), &"retry".into())
                );
                assert_eq!(first["reason"], "the server is back");
                assert!(entries[0]["actor"].as_str().unwrap().starts_with("ada@"), "{audit}");
                assert!(entries.iter().any(|entry| entry["outcome"] == "refused"), "refusals too: {audit}");
                let shown = table(&url, &["audit", "--action", "delete"]).exits(0).settled();
                assert!(shown.contains("ada@HOST cli delete") && shown.contains("refused"), "{shown}");
            }
        })
        .await;
        assert!(soon(shop.tasks.get(later)).await.unwrap().is_none());
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_retried_by_a_filter_after_a_preview() {
    for place in places() {
        let shop = Shop::open(place).await;
        let mut mails = Vec::new();
        for number in 0..5 {
            mails.push(shop.failed_mail(&format!("{number}@example.com")).await);
        }
        shop.mail.comes_back();
        let url = shop.url();
        aside(move || {
            let words = ["status:failed", "error:connection refused", "since:6h"];
            let ask = |verb: &[&str], more: &[&str]| run(&url, &[verb, &words, more].concat());
            let preview = table(&url, &[&["retry"][..], &words, &["--dry-run"]].concat()).exits(0);
            insta::assert_snapshot!("preview", preview.settled());
            let json = ask(&["retry"], &["--dry-run", "--json"]).exits(0).json();
            assert_eq!((&json["matching"]["n"], json["sample"].as_array().unwrap().len()), (&5.into(), 3));
            // Without a terminal the command cannot ask for a confirmation.
            ask(&["retry"], &[]).exits(2).says("Retry 5 tasks?").says("--yes").says("send_email");
            run(&url, &["retry"]).exits(2).says("name the tasks").says("--all");
            run(&url, &["retry", "status:failed", "--all"]).exits(2);
            let done = ask(&["retry"], &["--yes", "--reason", "INC-311", "--json"]).exits(0).json();
            assert_eq!(
                (&done["acted"], &done["state"], &done["reason"]),
                (&5.into(), &"done".into(), &"INC-311".into())
            );
            let id = done["id"].as_str().unwrap();
            assert_eq!(run(&url, &["operations", id, "--json"]).exits(0).json()["id"], *id);
            assert_eq!(
                run(&url, &["operations", "--json"]).exits(0).json()["items"].as_array().unwrap().len(),
                1
            );
            run(&url, &["operations", "resume", id, "--yes"]).exits(2).says("the operation is done");
            run(&url, &["operations", "stop", "0193a1b2"]).exits(3).says("there is no operation");
            let audit = table(&url, &["audit", "--action", "retry_many"]).exits(0).out;
            assert!(audit.contains("retry_many") && audit.contains("INC-311"), "{audit}");
        })
        .await;
        for mail in mails {
            assert_eq!(ends(&shop.tasks, mail).await.status, TaskStatus::Success);
        }
        let url = shop.url();
        aside(move || {
            run(&url, &["cancel", "queue:mail", "--yes"]).exits(4).says("no waiting or running task matches");
        })
        .await;
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tries_are_spread_over_a_time() {
    for place in places() {
        let shop = Shop::open(place).await;
        let mut mails = Vec::new();
        for number in 0..4 {
            mails.push(shop.failed_mail(&format!("{number}@example.com")).await);
        }
        shop.mail.comes_back();
        let (url, ids) = (shop.url(), mails.iter().map(ToString::to_string).collect::<Vec<_>>());
        aside(move || {
            let retry = ["retry", "status:failed", "--spread", "4h"];
            run(&url, &retry).exits(2).says("Retry 4 tasks, spread over 4h?");
            run(&url, &["retry", "status:failed", "--spread", "soon"]).exits(2).says("write `30s`");
            run(&url, &["cancel", "status:failed", "--spread", "4h"]).exits(2).says("--spread");
            let done = table(&url, &[&retry[..], &["--yes"]].concat()).exits(0);
            assert_eq!(done.out, "retried: 4 tasks, spread over 4h\n");
            let shown = run(&url, &["operations", "--json"]).exits(0).json();
            assert_eq!(shown["items"][0]["spread"], 14_400.0);
            assert_eq!(run(&url, &["count", "phase:retrying"]).exits(0).out, "3\n");
            // The same for named tasks.
            let named = |verb: &'static str, more: &[&'static str]| {
                let ids = ids[..2].iter().map(String::as_str);
                let words: Vec<_> = std::iter::once(verb).chain(ids).chain(more.iter().copied()).collect();
                run(&url, &words).exits(0);
            };
            named("cancel", &[]);
            named("retry", &["--spread", "2h", "--yes"]);
        })
        .await;
        // The newest is first, and the others follow at equal distances.
        assert_eq!(ends(&shop.tasks, mails[3]).await.status, TaskStatus::Success);
        let second = record(&shop.tasks, mails[2]).await;
        let until = second.run_at.duration_since(std::time::SystemTime::now()).unwrap();
        assert!(until > Duration::from_secs(3300) && until < Duration::from_secs(3600), "{until:?}");
        let named = ends(&shop.tasks, mails[0]).await;
        assert_eq!(named.status, TaskStatus::Success, "the first of the two that were named");
        assert_eq!(record(&shop.tasks, mails[1]).await.status, TaskStatus::Pending);
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_stops_an_act_on_many_tasks_and_it_can_be_gone_on_with() {
    for place in places() {
        let shop = Shop::open(place).await;
        shop.tasks.pause_queue("slow").await.unwrap();
        let later = (0..2000).map(|customer| crate::shop::new_import(&shop.tasks, customer));
        soon(shop.tasks.add_all(later)).await.unwrap();
        let url = shop.url();
        let child = taskflow(&url)
            .args(["cancel", "name:import", "--yes", "--table"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let begun = || async { soon(shop.tasks.counts()).await.unwrap().cancelled > 0 };
        eventually("it has begun", || async { begun().await.then_some(()) }).await;
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let ran = aside(move || Ran::of(&["cancel"], child.wait_with_output().unwrap())).await;
        let left = soon(shop.tasks.counts()).await.unwrap().pending;
        assert!(left > 0, "it had ended before it was stopped: {ran:?}");
        let ran = ran.exits(1).says("stopped after").says("taskflow operations resume");
        let id = ran
            .err
            .lines()
            .find_map(|line| line.split("resume ").nth(1))
            .unwrap()
            .split('`')
            .next()
            .unwrap()
            .to_owned();
        aside(move || run(&url, &["operations", "resume", &id, "--yes"]).exits(0)).await;
        assert_eq!(soon(shop.tasks.counts()).await.unwrap().pending, 0);
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_paused_resumed_and_given_limits() {
    for place in places() {
        let shop = Shop::open(place).await;
        let url = shop.url();
        aside(move || {
            let json = |arguments: &[&str]| {
                run(&url, &[&["queues"], arguments, &["--json"]].concat()).exits(0).json()
            };
            assert_eq!(json(&["pause", "mail", "--reason", "down"])["paused"], true);
            assert_eq!(json(&["mail"])["paused"], true);
            assert_eq!(json(&["resume", "mail"])["paused"], false);
            let set = json(&["set", "slow", "concurrency=8", "max-size=-", "rate=100/1m"]);
            assert_eq!((&set["concurrency"], &set["max_size"]), (&8.into(), &serde_json::Value::Null));
            assert_eq!(
                (&set["rate_limit"]["starts"], &set["rate_limit"]["per"]),
                (&100.into(), &60.0.into())
            );
            assert_eq!(set["limits_from"], "store");
            let reset = json(&["reset", "slow"]);
            assert_eq!((&reset["concurrency"], &reset["max_size"]), (&2.into(), &10_000.into()));
            run(&url, &["queues", "pause", "mial"]).exits(3).says("there is no queue `mial`").says("`mail`");
            run(&url, &["queues", "mial"]).exits(3);
            run(&url, &["queues", "set", "slow", "speed=8"]).exits(2).says("there is no limit `speed`");
            run(&url, &["queues", "set", "slow", "concurrency=many"]).exits(2).says("not a whole number");
            run(&url, &["queues", "set", "slow", "rate=1/1ms"]).exits(2).says("the shortest period is 10 ms");
        })
        .await;
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedules_are_run_paused_resumed_and_removed() {
    for place in places() {
        let shop = Shop::open(place).await;
        shop.schedule("clean_up").await;
        let url = shop.url();
        let (declared, stored) = aside(move || {
            let ask = |arguments: &[&str]| run(&url, &[&["schedules"], arguments].concat());
            // One that a program declares, and one that was added at run time.
            let declared = ask(&["run", "daily_report"]).exits(0).out.trim().parse::<TaskId>().unwrap();
            let stored = ask(&["run", "clean_up", "--json"]).exits(0).json()["task"]
                .as_str()
                .unwrap()
                .parse::<TaskId>()
                .unwrap();
            for name in ["daily_report", "clean_up"] {
                assert_eq!(ask(&["pause", name, "--json"]).exits(0).json()["paused"], true, "{name}");
                assert_eq!(ask(&["resume", name, "--json"]).exits(0).json()["paused"], false, "{name}");
            }
            ask(&["remove", "clean_up"]).exits(0);
            ask(&["clean_up"]).exits(3).says("there is no schedule `clean_up`").says("`daily_report`");
            ask(&["remove", "clean_up"]).exits(3);
            ask(&["run", "daily_reprot"]).exits(3).says("did you mean `daily_report`?");
            (declared, stored)
        })
        .await;
        assert_eq!(record(&shop.tasks, declared).await.source, BY_SCHEDULE);
        reaches(&shop.tasks, stored, TaskStatus::Success).await;
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_added_by_its_name() {
    for place in places() {
        let shop = Shop::open(place).await;
        let url = shop.url();
        let (plain, later) = aside(move || {
            let add = |arguments: &[&str]| run(&url, &[&["add"], arguments].concat());
            let plain =
                add(&["greet", "--arg", "name=Ada", "--tag", "plan=pro", "--key", "hello:1"]).exits(0);
            let again = add(&["greet", "-a", "name=Ada", "--key", "hello:1", "--json"]).exits(0).json();
            assert_eq!((&again["duplicate"], again["id"].as_str()), (&true.into(), Some(plain.out.trim())));
            let waited = add(&["greet", "--args", r#"{"name":"Zoë"}"#, "--wait", "--json"]).exits(0).json();
            assert_eq!(waited["result"], "hello, Zoë");
            add(&["send_email", "-a", "to=a@example.com", "--retries", "0", "--wait"])
                .exits(1)
                .prints("failed");
            let later = add(&[
                "import",
                "-a",
                "customer=18446744073709551615",
                "--in",
                "1h",
                "--queue",
                "default",
                "--priority",
                "-3",
            ]);
            add(&["gret", "-a", "name=Ada"]).exits(3).says("did you mean `greet`?").says("--force");
            add(&["greet"]).exits(2).says("`args.name`: it is missing: a `String`");
            add(&["greet", "-a", "nmae=Ada"]).exits(2).says("did you mean `name`?");
            add(&["greet", "-a", "name"]).exits(2).says("write `name=value`");
            add(&["greet", "-a", "name=1", "-a", "name=2"]).exits(2).says("given twice");
            add(&["greet", "--args", "[1]"]).exits(2).says("not a JSON object");
            add(&["greet", "-a", "name=Ada", "-q", "mial"])
                .exits(3)
                .says("`mial`")
                .says("did you mean `mail`?");
            add(&["greet", "-a", "name=Ada", "--in", "soon"]).exits(2).says("write `30s`");
            add(&["unknown", "--force"]).exits(0);
            let id = |ran: Ran| ran.exits(0).out.trim().parse::<TaskId>().unwrap();
            (id(plain), id(later))
        })
        .await;
        let plain = record(&shop.tasks, plain).await;
        assert_eq!((plain.args.get(), plain.tags["plan"].as_str()), (r#"{"name":"Ada"}"#, "pro"));
        let later = record(&shop.tasks, later).await;
        assert_eq!((later.priority, later.queue.as_str()), (-3, "default"));
        assert_eq!(later.args.get(), r#"{"customer":18446744073709551615}"#);
        assert!(later.run_at > later.created_at + Duration::from_secs(3000));
        shop.close().await;
    }
}
