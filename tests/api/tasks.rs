//! Tasks: lists, one task, and what is done to it.

use serde_json::{Value, json};
use taskflow::web::{Actor, Args, Permission};
use taskflow::{TaskStatus, admin::AuditFilter, admin::Console};

use crate::asking::App;
use crate::support::{Gate, Place, eventually, reaches, soon};
use crate::{add, app, builder, greeted};

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_list_is_filtered_and_read_page_by_page() {
    let (tasks, app) = app().await;
    let mut all = Vec::new();
    for number in 0..5 {
        all.push(greeted(&tasks, &app, if number == 2 { "nobody" } else { "ada" }).await.to_string());
    }
    all.reverse();
    let first = app.get("viewer", "/api/v1/tasks?limit=3").await.is(200);
    let path = format!("/api/v1/tasks?limit=3&after={}", first["next"].as_str().unwrap());
    let second = app.get("viewer", &path).await.is(200);
    assert_eq!([ids(&first), ids(&second)].concat(), all);
    assert_eq!(second["next"], Value::Null);
    assert!(first["items"][0].get("args").is_none(), "a row has no arguments");

    let oldest: Vec<String> = all.iter().rev().cloned().collect();
    let first = app.get("viewer", "/api/v1/tasks?order=oldest&limit=3").await.is(200);
    let path = format!("/api/v1/tasks?order=oldest&limit=3&after={}", first["next"].as_str().unwrap());
    let second = app.get("viewer", &path).await.is(200);
    assert_eq!([ids(&first), ids(&second)].concat(), oldest);
    let failed = app.get("viewer", "/api/v1/tasks?order=oldest&error=room&limit=1").await.is(200);
    assert_eq!(ids(&failed), [all[2].clone()]);

    for filter in ["status=failed", "q=status:failed", "arg.to=nobody", "error=ROOM", "q=greet+error:room"] {
        let page = app.get("viewer", &format!("/api/v1/tasks?{filter}")).await.is(200);
        assert_eq!(ids(&page), [all[2].clone()], "{filter}");
        let count = app.get("viewer", &format!("/api/v1/tasks/count?{filter}")).await.is(200);
        assert_eq!(count, json!({ "n": 1, "exact": true }), "{filter}");
    }
    let count = app.get("viewer", "/api/v1/tasks/count?name=api.greet&up_to=3").await.is(200);
    assert_eq!(count, json!({ "n": 3, "exact": false }));
    let whole = app.get("viewer", "/api/v1/tasks?view=full&status=failed").await.is(200);
    assert_eq!(whole["items"][0]["args"], json!({ "to": "nobody" }));
    assert_eq!(whole["items"][0]["attempts"][0]["outcome"], "failed");
}

#[tokio::test]
async fn arguments_keep_their_digits_and_redacted_ones_stay_hidden() {
    let tasks = soon(builder(&Place::memory(), &Gate::default()).start()).await.unwrap();
    let blind = Actor::with("blind", [Permission::View]);
    let app = App::with(&tasks, [blind], |admin| admin.args(Args::redact(["to"])));
    let number = "184467440737095516161234567890.10";
    let id = add(&app, &format!(r#"{{"name":"api.greet","args":{{"to":"ada","number":{number}}}}}"#)).await;
    crate::support::ends(&tasks, id).await;
    let path = format!("/api/v1/tasks/{id}");
    let seen = app.get("admin", &path).await.text();
    assert!(seen.contains(number) && seen.contains(r#""to":"ada""#), "{seen}");
    let redacted = app.get("viewer", &path).await.text();
    assert!(redacted.contains(number) && redacted.contains(r#""to":"•••""#), "{redacted}");
    let hidden = app.get("blind", &path).await.is(200);
    assert_eq!((&hidden["args"], &hidden["result"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_task_is_asked_for_again_by_its_tag() {
    let (tasks, app) = app().await;
    let id = greeted(&tasks, &app, "ada").await;
    let path = format!("/api/v1/tasks/{id}");
    let answer = app.get("viewer", &path).await;
    let tag = answer.header("etag").unwrap().to_owned();
    let task = answer.is(200);
    assert_eq!(task["can"], json!({ "retry": false, "cancel": false, "delete": false }));
    let again = axum::http::Request::get(&path).header("authorization", app.bearer("viewer"));
    let again = again.header("if-none-match", tag).body(axum::body::Body::empty()).unwrap();
    let again = crate::asking::send(&app.router, again).await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
}

#[tokio::test]
async fn an_added_task_has_the_options_of_its_program_and_of_the_request() {
    let (tasks, app) = app().await;
    let body = r#"{"name":"api.wait","priority":7,"run_in":3600,"tags":{"plan":"pro"},"idempotency_key":"k",
                   "retries":2,"timeout":1.5,"reason":"by hand"}"#;
    let answer = app.ask("admin", "POST", "/api/v1/tasks", Some(body)).await;
    let location = answer.header("location").unwrap().to_owned();
    let added = answer.is(201);
    assert_eq!((&added["duplicate"], &added["replacement"]), (&json!(false), &json!(false)));
    let task = app.get("viewer", &location).await.is(200);
    for (field, value) in [
        ("queue", json!("slow")),
        ("priority", json!(7)),
        ("phase", json!("scheduled")),
        ("tags", json!({ "plan": "pro" })),
        ("max_attempts", json!(3)),
        ("timeout", json!(1.5)),
    ] {
        assert_eq!(task[field], value, "{field}");
    }
    let again = app.ask("admin", "POST", "/api/v1/tasks", Some(body)).await.is(200);
    assert_eq!((&again["id"], &again["duplicate"]), (&added["id"], &json!(true)));
    let entry = soon(Console::new(&tasks).audit(AuditFilter::default())).await.unwrap().items.remove(0);
    assert_eq!((&*entry.actor, &*entry.action, entry.reason.as_deref()), ("admin", "add", Some("by hand")));

    for (body, status, code, field) in [
        (r#"{"name":"api.great"}"#, 409, "unknown_task", "name"),
        (r#"{}"#, 422, "invalid", "name"),
        (r#"{"name":"api.greet"}"#, 422, "invalid", "args.to"),
        (r#"{"name":"api.greet","args":{"ot":1}}"#, 422, "invalid", "args.ot"),
        (r#"{"name":"api.greet","args":[1]}"#, 422, "invalid", "args"),
        (r#"{"name":"api.wait","pirority":1}"#, 422, "invalid", "pirority"),
        (r#"{"name":"api.wait","priority":99999}"#, 422, "invalid", "priority"),
        (r#"{"name":"api.wait","run_at":"soon"}"#, 422, "invalid", "run_at"),
        (r#"{"name":"api.wait","run_in":-1}"#, 422, "invalid", "run_in"),
        (r#"{"name":"api.wait","run_in":1e300}"#, 422, "invalid", "run_in"),
        (r#"{"name":"api.wait","run_in":1,"run_at":"2030-01-01"}"#, 422, "invalid", "run_in"),
        (r#"{"name":"api.wait","tags":{"a":1}}"#, 422, "invalid", "tags"),
        (r#"{"name":"api.wait","queue":"lsow"}"#, 422, "unknown_queue", "queue"),
    ] {
        let answer = app.ask("admin", "POST", "/api/v1/tasks", Some(body)).await;
        assert_eq!(answer.refused(status), (code.to_owned(), field.to_owned()), "{body}");
    }
    let typo = app.ask("admin", "POST", "/api/v1/tasks", Some(r#"{"name":"api.wait","pirority":1}"#)).await;
    assert!(typo.text().contains("did you mean `priority`?"), "{}", typo.text());
    let forced = add(&app, r#"{"name":"api.later","args":{"n":1},"force":true}"#).await;
    assert_eq!(crate::support::record(&tasks, forced).await.status, TaskStatus::Pending);
}

#[tokio::test]
async fn a_task_is_cancelled_retried_and_deleted_as_its_status_allows() {
    let (tasks, app) = app().await;
    let id = greeted(&tasks, &app, "nobody").await;
    let ask = |method: &'static str, verb: &'static str| {
        let path = format!("/api/v1/tasks/{id}{verb}");
        let app = app.clone();
        async move { app.ask("operator", method, &path, None).await }
    };
    assert_eq!(ask("POST", "/cancel").await.is(200)["outcome"], "already_finished");
    assert_eq!(ask("POST", "/retry").await.is(200)["id"], id.to_string());
    crate::support::ends(&tasks, id).await;
    assert_eq!(ask("DELETE", "").await.status.as_u16(), 204);
    assert_eq!(ask("DELETE", "").await.refused(404).0, "not_found");
    assert_eq!(ask("POST", "/retry").await.refused(404).0, "not_found");

    let later = add(&app, r#"{"name":"api.wait","run_in":3600}"#).await;
    let path = format!("/api/v1/tasks/{later}");
    assert_eq!(app.ask("operator", "DELETE", &path, None).await.refused(409).0, "not_ended");
    assert_eq!(
        app.ask("operator", "POST", &format!("{path}/retry"), None).await.refused(409).0,
        "not_retryable"
    );
    let cancelled =
        app.ask("operator", "POST", &format!("{path}/cancel"), Some(r#"{"reason":"r"}"#)).await.is(200);
    assert_eq!(
        (&cancelled["outcome"], &cancelled["task"]["status"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
}

#[tokio::test]
async fn many_tasks_are_previewed_and_then_acted_on() {
    let (tasks, app) = app().await;
    for _ in 0..12 {
        add(&app, r#"{"name":"api.wait","run_in":3600}"#).await;
    }
    let post = |path: &'static str, body: Value| {
        let app = app.clone();
        async move { app.ask("admin", "POST", path, Some(&body.to_string())).await }
    };
    let filter = json!({ "name": ["api.wait"], "phase": "scheduled" });
    let preview = post("/api/v1/tasks/cancel", json!({ "filter": filter, "dry_run": true })).await.is(200);
    assert_eq!(preview["matching"], json!({ "n": 12, "exact": true }));
    assert_eq!(
        (preview["sample"].as_array().unwrap().len(), &preview["by_name"]["api.wait"]),
        (3, &json!(12))
    );
    assert_eq!(soon(tasks.counts()).await.unwrap().pending, 12, "a preview changes nothing");

    let off = json!({ "filter": filter, "expect": 30 });
    let off = post("/api/v1/tasks/cancel", off).await;
    assert_eq!(off.json()["matching"], 12);
    assert_eq!(off.refused(409).0, "changed");
    let act =
        json!({ "filter": filter, "frozen_at": preview["frozen_at"], "expect": 12, "reason": "INC-311" });
    let answer = post("/api/v1/tasks/cancel", act).await;
    let location = answer.header("location").unwrap().to_owned();
    assert!(answer.status.is_success(), "{}", answer.text());
    let done = || async {
        let operation = app.get("viewer", &location).await.is(200);
        (operation["state"] == "done").then_some(operation)
    };
    let operation = eventually("the operation is done", done).await;
    assert_eq!((&operation["acted"], &operation["reason"]), (&json!(12), &json!("INC-311")));
    assert_eq!(soon(tasks.counts()).await.unwrap().cancelled, 12);
    let listed = app.get("viewer", "/api/v1/operations").await.is(200);
    assert_eq!(listed["items"][0]["id"], operation["id"]);

    // Relative times count from the instant of the preview, however long ago that was.
    let hour = json!({ "filter": { "created_after": "-1h" }, "frozen_at": "2026-01-01T12:00:00Z" });
    let none = post("/api/v1/tasks/cancel", hour).await.is(200);
    assert!(none["filter"].as_str().unwrap().contains("created_after:2026-01-01T11:00:00Z"), "{none}");

    let spread = json!({ "filter": { "name": ["api.wait"], "status": "cancelled" }, "spread": 7200 });
    let operation = post("/api/v1/tasks/retry", spread).await.is(200);
    assert_eq!((&operation["acted"], &operation["spread"]), (&json!(12), &json!(7200.0)));
    let later = app.get("viewer", "/api/v1/tasks?name=api.wait&phase=scheduled&limit=20").await.is(200);
    assert_eq!(later["items"].as_array().unwrap().len(), 11, "the first is due at once");

    for (body, code, field) in [
        (json!({ "filter": { "all": true }, "spread": 60 }), "invalid", "spread"),
        (json!({}), "invalid", "filter"),
        (json!({ "filter": {}, "ids": [] }), "invalid", "filter"),
        (json!({ "filter": {} }), "empty_filter", ""),
        (json!({ "filter": { "sttus": "failed" } }), "invalid", "sttus"),
        (json!({ "ids": ["x"] }), "invalid", "ids[0]"),
        (json!({ "ids": vec![taskflow::TaskId::new().to_string(); 1001] }), "invalid", "ids"),
        (json!({ "filter": { "all": true }, "expect": -1 }), "invalid", "expect"),
        (json!({ "filter": { "all": true }, "frozen_at": "now" }), "invalid", "frozen_at"),
        (json!({ "filter": { "all": true }, "reason": "x".repeat(501) }), "invalid", "reason"),
        (json!({ "filter": { "all": true }, "dry-run": true }), "invalid", "dry-run"),
    ] {
        let answer = post("/api/v1/tasks/delete", body.clone()).await;
        assert_eq!(answer.refused(422), (code.to_owned(), field.to_owned()), "{body}");
    }
}

#[tokio::test]
async fn an_actor_of_some_queues_sees_and_changes_no_others() {
    let (tasks, app) = app().await;
    let hidden = greeted(&tasks, &app, "nobody").await;
    let seen = add(&app, r#"{"name":"api.wait","run_in":3600,"tags":{"plan":"pro"}}"#).await;
    let me = "slow only";
    // A name that is misspelt is corrected by the names that the actor sees.
    for (actor, is_told) in [("admin", true), (me, false)] {
        let answer = app.ask(actor, "POST", "/api/v1/tasks", Some(r#"{"name":"api.gret"}"#)).await;
        assert_eq!((answer.status.as_u16(), answer.text().contains("api.greet")), (409, is_told), "{actor}");
    }
    for path in ["/api/v1/tasks", "/api/v1/tasks?view=full", "/api/v1/tasks?queue=slow&queue=default"] {
        assert_eq!(ids(&app.get(me, path).await.is(200)), [seen.to_string()], "{path}");
    }
    assert_eq!(app.get(me, "/api/v1/tasks/count").await.is(200)["n"], 1);
    let path = format!("/api/v1/tasks/{hidden}");
    for (method, below) in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/retry"),
        ("POST", "/cancel"),
        ("GET", "/logs"),
        ("GET", "/events"),
    ] {
        let answer = app.ask(me, method, &format!("{path}{below}"), None).await;
        assert_eq!(answer.refused(404).0, "not_found", "{method} {below}");
    }
    for (method, below) in
        [("GET", ""), ("PATCH", ""), ("POST", "/pause"), ("POST", "/resume"), ("DELETE", "/limits")]
    {
        let answer = app.ask(me, method, &format!("/api/v1/queues/default{below}"), None).await;
        assert_eq!(answer.refused(404).0, "not_found", "{method} {below}");
    }
    let names = |json: &Value| -> Vec<String> {
        json["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&app.get(me, "/api/v1/queues").await.is(200)), ["slow"]);
    assert_eq!(names(&app.get(me, "/api/v1/types").await.is(200)), ["api.wait"]);
    assert_eq!(
        app.get(me, "/api/v1/tasks/names").await.is(200),
        json!({ "names": ["api.wait"], "queues": ["slow"], "tag_keys": ["plan"] })
    );
    add(&app, r#"{"name":"api.greet","args":{"to":"ada"},"tags":{"fold":"x","size":"m"}}"#).await;
    let names_of_all = app.get("viewer", "/api/v1/tasks/names?q=L").await.is(200);
    assert_eq!(names_of_all["tag_keys"], json!(["fold", "plan"]));
    assert!(names(&app.get(me, "/api/v1/failures").await.is(200)).is_empty());
    let overview = app.get(me, "/api/v1/overview").await.is(200);
    assert_eq!((&overview["counts"]["total"], &overview["counts"]["failed"]), (&json!(1), &json!(0)));
    assert_eq!(overview["queues"].as_array().unwrap().len(), 1);
    assert!(!app.get(me, "/api/v1/export.csv").await.text().contains(&hidden.to_string()));
    assert_eq!(app.get(me, "/api/v1/stats").await.refused(422).1, "queue");
    let body = json!({ "ids": [hidden.to_string()] }).to_string();
    let acted = app.ask(me, "POST", "/api/v1/tasks/delete", Some(&body)).await.is(200);
    assert_eq!(acted["acted"], 0);
    let body = r#"{"name":"api.greet","args":{"to":"x"}}"#;
    assert_eq!(app.ask(me, "POST", "/api/v1/tasks", Some(body)).await.refused(422).1, "queue");
    reaches(&tasks, hidden, TaskStatus::Failed).await;
    let entries = app.get(me, "/api/v1/audit").await.is(200);
    assert!(entries["items"].as_array().unwrap().iter().all(|entry| entry["actor"] == me), "{entries}");
}
