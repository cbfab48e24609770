//! The API, the dashboard and the test kit never show the text of sealed tasks, except to a person who opens one.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/asking.rs"]
mod asking;
mod support;

use asking::{App, HOST, ORIGIN, send};
use axum::body::Body;
use axum::http::Request;
use support::{Place, ends, soon};
use taskflow::admin::{AuditFilter, AuditOutcome, Console};
use taskflow::crypt::{Encrypt, Key};
use taskflow::testing::TestTasks;
use taskflow::web::{Access, Actor, Admin, Permission};
use taskflow::{LogLevel, TaskContext, TaskId, TaskManager};

const SECRET: &str = "correct-horse-battery";

#[taskflow::task(name = "sealed.fails")]
async fn fails(context: TaskContext, secret: String) -> Result<(), String> {
    context.log(LogLevel::Info, format!("I know {secret}"));
    Err(format!("I told {secret}"))
}

#[taskflow::task(name = "sealed.works")]
async fn works(secret: String) -> Result<String, String> {
    Ok(secret)
}

/// The entries about opened tasks.
fn opens() -> AuditFilter {
    let mut filter = AuditFilter::default();
    filter.action = Some("open".to_owned());
    filter
}

fn all(n: u8) -> Encrypt {
    Encrypt::new(Key::from_parts([n; 4], [n; 32])).args().results().errors().logs()
}

/// A task that failed, and one that returned something.
async fn seeded() -> (Place, TaskManager, [TaskId; 2]) {
    let place = Place::memory();
    let tasks = place.builder().encrypt(all(1)).start().await.unwrap();
    let failed = tasks.add_task(fails, (SECRET.to_owned(),)).await.unwrap().id();
    let worked = tasks.add_task(works, (SECRET.to_owned(),)).await.unwrap().id();
    ends(&tasks, failed).await;
    ends(&tasks, worked).await;
    (place, tasks, [failed, worked])
}

#[tokio::test]
async fn the_api_shows_the_key_and_opens_a_task_for_whoever_may_with_an_entry_in_the_audit_log() {
    let (place, tasks, [failed, worked]) = seeded().await;
    let app = App::of(&tasks, [Actor::with("keyholder", [Permission::View, Permission::ViewSecrets])]);
    let words = "sealed with key 01010101";
    let task = app.get("admin", &format!("/api/v1/tasks/{failed}")).await.is(200);
    assert_eq!(
        (&task["args"], &task["error"], &task["sealed_with"]),
        (&words.into(), &words.into(), &"01010101".into())
    );
    assert_eq!(task["attempts"][0]["error"], words);
    let task = app.get("admin", &format!("/api/v1/tasks/{worked}")).await.is(200);
    assert_eq!(task["result"], words);
    for path in [
        "/api/v1/tasks?status=failed".to_owned(),
        "/api/v1/tasks?view=full".to_owned(),
        format!("/api/v1/tasks/{failed}/logs"),
        format!("/api/v1/tasks/{failed}/events"),
        "/api/v1/export.csv".to_owned(),
        "/api/v1/export.ndjson".to_owned(),
        "/api/v1/failures".to_owned(),
    ] {
        let text = app.get("admin", &path).await.text();
        assert!(text.contains(words), "{path}: {text}");
        assert!(!text.contains(SECRET) && !text.contains("enc1"), "{path}: {text}");
    }
    // Failures that differ only in their sealed values are one group.
    let again = tasks.add_task(fails, ("another".to_owned(),)).await.unwrap().id();
    ends(&tasks, again).await;
    let failures = app.get("admin", "/api/v1/failures").await.is(200);
    assert_eq!((failures["items"].as_array().unwrap().len(), &failures["items"][0]["count"]), (1, &2.into()));

    let open = format!("/api/v1/tasks/{failed}/open");
    for role in ["viewer", "operator"] {
        assert_eq!(app.ask(role, "POST", &open, None).await.refused(403).0, "forbidden");
    }
    let opened = app.ask("admin", "POST", &open, Some(r#"{"reason":"INC-311"}"#)).await.is(200);
    assert_eq!(opened["task"]["args"]["secret"], SECRET);
    assert_eq!(opened["task"]["error"], format!("I told {SECRET}"));
    assert_eq!(opened["lines"][0]["message"], format!("I know {SECRET}"));
    let opened = app.ask("keyholder", "POST", &open, None).await.is(200);
    assert_eq!(opened["lines"].as_array().unwrap().len(), 0, "it may not see log lines");
    let entries = Console::new(&tasks).audit(opens()).await.unwrap();
    let entry = entries.items.last().unwrap();
    assert_eq!(
        (&*entry.actor, entry.target.as_deref(), entry.reason.as_deref()),
        ("admin", Some(&*failed.to_string()), Some("INC-311"))
    );

    // A process without the key shows the same, and opens nothing.
    let keyless = place.builder().connect().await.unwrap();
    let app = App::of(&keyless, []);
    let task = app.get("admin", &format!("/api/v1/tasks/{failed}")).await.is(200);
    assert_eq!(task["args"], words);
    let (code, _) = app.ask("admin", "POST", &open, None).await.refused(409);
    assert_eq!(code, "sealed");
    let entries = Console::new(&keyless).audit(opens()).await.unwrap();
    assert_eq!(entries.items[0].outcome, AuditOutcome::Refused);
    assert!(
        entries.items[0]
            .detail
            .as_ref()
            .unwrap()
            .contains("key `01010101` is not in this process's key ring")
    );
}

#[tokio::test]
async fn the_dashboard_opens_a_task_only_as_the_answer_to_its_button() {
    let (place, tasks, [failed, worked]) = seeded().await;
    let router = Admin::new(&tasks, Access::open_to_anyone()).router();
    let get = async |router: &axum::Router, path: String| {
        let request = Request::get(path).header("host", HOST).body(Body::empty()).unwrap();
        send(router, request).await.text()
    };
    let button = "Open sealed values";
    for id in [failed, worked] {
        let page = get(&router, format!("/tasks/{id}")).await;
        assert!(page.contains("sealed with key 01010101") && page.contains(button), "{page}");
        assert!(!page.contains(SECRET) && !page.contains("enc1"), "{page}");
        let request =
            Request::post(format!("/tasks/{id}/open")).header("host", HOST).header("origin", ORIGIN);
        let opened = send(&router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(opened.status, 200);
        assert_eq!(opened.header("cache-control"), Some("no-store"));
        assert!(opened.text().contains(SECRET) && !opened.text().contains(button));
        assert!(!get(&router, format!("/tasks/{id}")).await.contains(SECRET));
    }
    for path in ["/tasks", "/failures", &format!("/tasks/{failed}/log.txt")] {
        let page = get(&router, path.to_owned()).await;
        assert!(page.contains("sealed with key 01010101") || path == "/tasks", "{path}");
        assert!(!page.contains(SECRET) && !page.contains("enc1"), "{path}");
    }
    let keyless = place.builder().connect().await.unwrap();
    let router = Admin::new(&keyless, Access::open_to_anyone()).router();
    let page = get(&router, format!("/tasks/{failed}")).await;
    assert!(page.contains("sealed with key 01010101") && !page.contains(button));
}

#[tokio::test]
async fn the_test_kit_opens_what_its_own_manager_seals() {
    let t = TestTasks::new().configure(|builder| builder.encrypt(all(1))).start().await;
    let id = t.manager().add_task(works, (SECRET.to_owned(),)).await.unwrap().id();
    t.assert_added(works).with(|(secret,)| secret == SECRET).once();
    assert!(!t.record(id).args.get().contains(SECRET));
    soon(t.drain()).await;
    assert_eq!(t.result::<String>(id), SECRET);
}
