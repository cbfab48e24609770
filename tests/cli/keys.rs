//! Keys for encryption at rest, and what the command shows of sealed tasks.

use taskflow::crypt::{Encrypt, Key};

use crate::command::{Ran, aside, run, table, taskflow};
use crate::shop::{Shop, places};

#[test]
fn a_new_key_is_one_that_programs_read() {
    let first = run("memory:", &["keygen"]).exits(0).out;
    let key: Key = first.parse().unwrap();
    let second = run("memory:", &["keygen", "--json"]).exits(0).json();
    let other: Key = second["key"].as_str().unwrap().parse().unwrap();
    assert_eq!(second["id"], other.id());
    assert_ne!(key.id(), other.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_counts_by_key_and_shows_no_sealed_text() {
    for place in places() {
        let shop = Shop::open(place).await;
        shop.greeting("Grace").await;
        let url = shop.url();
        let all = Encrypt::new(Key::from_parts([1; 4], [1; 32]));
        let sealing = taskflow::TaskManager::builder().store(&*url).encrypt(all).connect().await.unwrap();
        let task = taskflow::NewTask::new("send_email", Ok(r#"{"to":"ada@example.com"}"#.into()));
        let mut task = task;
        task.when = taskflow::model::When::In(std::time::Duration::from_secs(3600));
        let id = sealing.add_all([task]).await.unwrap()[0].id().to_string();
        aside(move || {
            let counted = run(&url, &["keys", "use", "--json"]).exits(0).json();
            assert_eq!(counted["items"][0]["key"], serde_json::Value::Null);
            assert_eq!(counted["items"][0]["ended"], 1);
            assert_eq!(counted["items"][1]["key"], "01010101");
            assert_eq!(counted["items"][1]["waiting"], 1);
            let shown = table(&url, &["show", &id]).exits(0).out;
            assert!(shown.contains("sealed with key 01010101") && !shown.contains("ada@"), "{shown}");
            let shown = run(&url, &["show", &id, "--json"]).exits(0).json();
            assert_eq!(
                (&shown["args"], &shown["sealed_with"]),
                (&"sealed with key 01010101".into(), &"01010101".into())
            );
            rewrap(&url);
            let nothing = run(&url, &["keys", "use", "status:failed"]).exits(0).out;
            assert!(!nothing.contains("01010101"), "{nothing}");
        })
        .await;
        sealing.shutdown(std::time::Duration::ZERO).await.unwrap();
        shop.close().await;
    }
}

/// Seals the tasks of the store again, with another key.
fn rewrap(url: &str) {
    let (old, new) = (Key::from_parts([1; 4], [1; 32]), Key::from_parts([2; 4], [2; 32]));
    let secrets =
        [("OLD", old.secret_text()), ("NEW", new.secret_text()), ("OTHER", Key::generate().secret_text())];
    let rewrap = |words: &[&str]| {
        let mut command = taskflow(url);
        command.envs(secrets.iter().map(|(name, text)| (*name, text.as_str())));
        Ran::of(words, command.args(["keys", "rewrap"]).args(words).output().unwrap())
    };
    let unset = rewrap(&["--key", "NEW", "--also", "LOST"]).exits(2).err;
    assert!(unset.contains("LOST") && unset.contains("names of environment variables"), "{unset}");
    let refused = rewrap(&["--key", "NEW", "--also", "OTHER"]).exits(1).err;
    assert!(refused.contains("1 value cannot be opened") && refused.contains("`01010101`"), "{refused}");
    assert!(refused.contains("with `--also`"), "{refused}");
    let none = rewrap(&["--key", "NEW", "--also", "OLD", "queue:other", "--json"]).exits(0).json();
    assert_eq!(none["sealed"], 0);
    let done = rewrap(&["--key", "NEW", "--also", "OLD"]).exits(0).out;
    assert_eq!(done.trim_end(), "1 sealed anew, 1 left as they were");
    let counted = run(url, &["keys", "use", "--json"]).exits(0).json();
    assert_eq!(
        (&counted["items"][1]["key"], &counted["items"][1]["waiting"]),
        (&"02020202".into(), &1.into())
    );
    let audit = run(url, &["audit", "--json"]).exits(0).out;
    assert!(audit.contains("rewrap") && audit.contains("queue:other"), "{audit}");
    for (_, secret) in &secrets {
        assert!(!audit.contains(secret.as_str()) && !refused.contains(secret.as_str()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_task_is_opened_with_its_key_and_the_audit_log_says_by_whom() {
    for place in places() {
        let shop = Shop::open(place).await;
        let url = shop.url();
        let (key, other) = (Key::from_parts([1; 4], [1; 32]), Key::from_parts([3; 4], [3; 32]));
        let secrets = [("KEY", key.secret_text()), ("OTHER", other.secret_text())];
        let encrypt = Encrypt::new(key).args().logs();
        let sealing = taskflow::TaskManager::builder().store(&*url).encrypt(encrypt).connect().await.unwrap();
        let task = taskflow::NewTask::new("greet", Ok(r#"{"name":"Ada Lovelace"}"#.into()));
        let id = sealing.add_all([task]).await.unwrap()[0].id();
        // The shop has no key.
        let ended = crate::support::ends(&shop.tasks, id).await;
        assert!(ended.error.unwrap().contains("01010101"));
        let id = id.to_string();
        aside(move || {
            let show = |words: &[&str]| {
                let mut command = taskflow(&url);
                command.envs(secrets.iter().map(|(name, text)| (*name, text.as_str())));
                Ran::of(words, command.args(["show", &id]).args(words).output().unwrap())
            };
            let opened =
                show(&["--open", "OTHER", "--open", "KEY", "--reason", "a customer asks", "--table"]);
            assert!(opened.exits(0).out.contains("Ada Lovelace"));
            let json = show(&["--open", "KEY", "--json"]).exits(0).json();
            assert_eq!(
                (&json["args"]["name"], &json["lines"]),
                (&"Ada Lovelace".into(), &serde_json::json!([]))
            );
            let refused = show(&["--open", "OTHER"]).exits(2).says("key `01010101`").says("with `--open`");
            assert_eq!(refused.out, "");
            show(&["--open", "LOST"]).exits(2).says("LOST").says("the name of an environment variable");
            assert!(!show(&["--table"]).exits(0).out.contains("Ada"), "it is as it was");
            let audit = run(&url, &["audit", "--action", "open", "--json"]).exits(0);
            assert!(!audit.out.contains("Ada") && !audit.out.contains(&secrets[0].1), "{audit:?}");
            let audit = audit.json();
            let told: Vec<_> = audit["items"].as_array().unwrap().iter().rev().collect();
            assert_eq!(told.len(), 3, "{audit}");
            assert_eq!(
                (&told[0]["reason"], &told[0]["target"]),
                (&"a customer asks".into(), &id.as_str().into())
            );
            assert_eq!((&told[0]["via"], &told[2]["outcome"]), (&"cli".into(), &"refused".into()));
        })
        .await;
        sealing.shutdown(std::time::Duration::ZERO).await.unwrap();
        shop.close().await;
    }
}
