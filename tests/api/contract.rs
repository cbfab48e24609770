//! The OpenAPI document is true: it has every route, and every answer matches its schema.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use taskflow::Cron;
use taskflow::model::NewTask;
use taskflow::web::Actor;
use taskflow::{TaskManager, TaskStatus};
use tower::ServiceExt;

use crate::asking::App;
use crate::support::{Gate, Place, reaches, soon};
use crate::{add, builder, greeted};

/// An API, and its document, against which each answer is checked.
struct Checked {
    app: App,
    document: Value,
    seen: BTreeSet<(String, String)>,
}

impl Checked {
    async fn new(app: App) -> Self {
        let mut document = app.get("admin", "/api/v1/openapi.json").await.is(200);
        // The contract allows more members in later versions. Here an answer must have exactly those that it names.
        for (name, schema) in document["components"]["schemas"].as_object_mut().unwrap() {
            if !name.ends_with("Base")
                && (schema.get("properties").is_some() || schema.get("allOf").is_some())
            {
                close(schema);
            }
        }
        Self { app, document, seen: BTreeSet::new() }
    }

    /// Sends a request as an admin. `parameter` replaces the parameter in the template of the path.
    async fn ask(
        &mut self,
        method: &str,
        template: &str,
        parameter: &str,
        query: &str,
        body: Option<Value>,
    ) -> Value {
        let start = template.find('{');
        let path = start.map_or_else(
            || template.to_owned(),
            |at| format!("{}{parameter}{}", &template[..at], &template[template.find('}').unwrap() + 1..]),
        );
        let body = body.map(|body| body.to_string());
        let answer = self.app.ask("admin", method, &format!("{path}{query}"), body.as_deref()).await;
        let what = format!("{method} {path}{query}: {} {}", answer.status, answer.text());
        self.seen.insert((method.to_owned(), template.to_owned()));
        let operation = &self.document["paths"][template][method.to_lowercase()];
        let documented = &operation["responses"][answer.status.as_str()];
        assert!(documented.is_object(), "not documented: {what}");
        let Some(content) = documented["content"].as_object() else {
            assert!(answer.body.is_empty(), "{what}");
            return Value::Null;
        };
        let (kind, content) = content.iter().next().unwrap();
        assert!(answer.header("content-type").unwrap().starts_with(kind.as_str()), "{what}");
        if kind != "application/json" {
            return Value::Null;
        }
        let value = answer.json();
        // The schema of this answer, beside the schemas of the document to which it refers.
        let mut schema = content["schema"].clone();
        schema["components"] = self.document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{what}\n{errors:#?}");
        value
    }
}

/// Makes a schema and those inside it refuse members that they do not name.
fn close(schema: &mut Value) {
    let is_object = schema.get("properties").is_some() || schema.get("allOf").is_some();
    if is_object && schema.get("additionalProperties").is_none() {
        schema["unevaluatedProperties"] = json!(false);
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(close);
    }
    if let Some(items) = schema.get_mut("items") {
        close(items);
    }
}

#[tokio::test]
async fn every_route_is_in_the_document_and_answers_as_it_says() {
    let gate = Gate::default();
    let tasks: TaskManager = soon(builder(&Place::memory(), &gate).start()).await.unwrap();
    let app = App::of(&tasks, Vec::<Actor>::new());
    let mut api = Checked::new(app.clone()).await;
    let failed = greeted(&tasks, &app, "nobody").await.to_string();
    greeted(&tasks, &app, "ada").await;
    let running = add(&app, r#"{"name":"api.wait","tags":{"a":"b"},"timeout":60}"#).await;
    reaches(&tasks, running, TaskStatus::Running).await;
    let nightly = NewTask::new("api.greet", Ok(r#"{"to":"ada"}"#.into()));
    soon(tasks.schedule(nightly, Cron::parse("0 3 * * *").unwrap()).named("nightly")).await.unwrap();

    let v1 = |path: &str| format!("/api/v1/{path}");
    for path in [
        "me",
        "openapi.json",
        "overview",
        "tasks",
        "tasks/count",
        "tasks/names",
        "operations",
        "queues",
        "schedules",
        "instances",
        "types",
        "stats",
        "failures",
        "audit",
        "export.csv",
        "export.ndjson",
    ] {
        api.ask("GET", &v1(path), "", "", None).await;
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        api.ask("GET", path, "", "", None).await;
    }
    api.ask("GET", &v1("tasks"), "", "?view=full", None).await;
    api.ask("GET", &v1("stats"), "", "?by=name", None).await;
    let task = v1("tasks/{id}");
    api.ask("GET", &task, &running.to_string(), "", None).await;
    api.ask("GET", &task, &failed, "", None).await;
    api.ask("GET", &v1("tasks/{id}/logs"), &failed, "", None).await;
    api.ask("POST", &v1("tasks/{id}/open"), &failed, "", None).await;
    api.ask("GET", &v1("tasks/{id}/events"), &failed, "", None).await;
    api.ask("POST", &v1("tasks"), "", "", Some(json!({ "name": "api.wait", "run_in": 60 }))).await;
    api.ask("POST", &v1("tasks/{id}/retry"), &failed, "", None).await;
    reaches(&tasks, failed.parse().unwrap(), TaskStatus::Failed).await;
    api.ask("POST", &v1("tasks/{id}/cancel"), &failed, "", None).await;
    api.ask("DELETE", &task, &failed, "", None).await;
    for verb in ["retry", "delete", "cancel"] {
        let filter = json!({ "name": "api.greet" });
        api.ask(
            "POST",
            &v1(&format!("tasks/{verb}")),
            "",
            "",
            Some(json!({ "filter": filter, "dry_run": true })),
        )
        .await;
        api.ask("POST", &v1(&format!("tasks/{verb}")), "", "", Some(json!({ "filter": filter }))).await;
    }
    let operations = api.ask("GET", &v1("operations"), "", "", None).await;
    let operation = operations["items"][0]["id"].as_str().unwrap().to_owned();
    api.ask("GET", &v1("operations/{id}"), &operation, "", None).await;
    api.ask("DELETE", &v1("operations/{id}"), &operation, "", None).await;
    api.ask("GET", &v1("queues/{queue}"), "slow", "", None).await;
    let limits = json!({ "global_concurrency": 4, "rate_limit": { "starts": 1, "per": 60 } });
    api.ask("PATCH", &v1("queues/{queue}"), "slow", "", Some(limits)).await;
    api.ask("DELETE", &v1("queues/{queue}/limits"), "slow", "", None).await;
    api.ask("POST", &v1("queues/{queue}/pause"), "slow", "", None).await;
    api.ask("POST", &v1("queues/{queue}/resume"), "slow", "", None).await;
    api.ask("POST", &v1("schedules/{schedule}/run"), "nightly", "", None).await;
    api.ask("POST", &v1("schedules/{schedule}/pause"), "nightly", "", None).await;
    api.ask("POST", &v1("schedules/{schedule}/resume"), "nightly", "", None).await;
    api.ask("GET", &v1("schedules/{schedule}"), "nightly", "", None).await;
    api.ask("DELETE", &v1("schedules/{schedule}"), "nightly", "", None).await;
    api.ask("GET", &v1("types/{name}"), "api.greet", "", None).await;
    api.ask("POST", &v1("logout"), "", "", None).await;
    gate.open();

    let mut documented = BTreeSet::new();
    for (path, methods) in api.document["paths"].as_object().unwrap() {
        documented
            .extend(methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    let missing: Vec<_> =
        documented.difference(&api.seen).map(|(method, path)| format!("{method} {path}")).collect();
    // Other tests check these: they need a stream without an end, a session, and an operation that was stopped.
    assert_eq!(missing, ["GET /api/v1/events", "POST /api/v1/login", "POST /api/v1/operations/{id}/resume"]);
}

#[tokio::test]
async fn the_document_is_valid_and_names_each_thing_once() {
    let (_tasks, app) = crate::app().await;
    let app = app.under("/x/y");
    let answer = app.get("viewer", "/x/y/api/v1/openapi.json").await;
    let text = answer.text();
    let spec = oas3::from_json(&text).unwrap();
    spec.validate_version().unwrap();
    let document = answer.json();
    assert_eq!(document["servers"][0]["url"], "/x/y");
    let mut ids = BTreeSet::new();
    for (_, _, operation) in spec.operations() {
        assert!(ids.insert(operation.operation_id.clone().unwrap()), "{:?} twice", operation.operation_id);
    }
    assert_eq!(
        jsonschema::meta::validate(&document["components"]["schemas"]["Task"]).map_err(|e| e.to_string()),
        Ok(())
    );
    // Every reference resolves.
    for part in text.split("\"$ref\":\"#").skip(1) {
        let pointer = part.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    let added = app.ask("admin", "POST", "/x/y/api/v1/tasks", Some(r#"{"name":"api.wait"}"#)).await;
    assert!(added.header("location").unwrap().starts_with("/x/y/api/v1/tasks/"), "{:?}", added.headers);
    let request = Request::get("/x/y/api/v1/queues/").header("authorization", app.bearer("viewer"));
    let unknown = app.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(unknown.status().as_u16(), 404);
}
