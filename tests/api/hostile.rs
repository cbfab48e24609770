//! Hostile and huge input: refused with a problem that names the field, never a 500 and never a panic.

use axum::body::Body;
use axum::http::Request;
use proptest::prelude::*;
use taskflow::TaskId;

use crate::app;
use crate::asking::{App, HOST, send};

#[tokio::test]
async fn wrong_and_huge_input_is_refused_with_the_name_of_the_field() {
    let (_tasks, app) = app().await;
    let long = "x".repeat(9000);
    let many = "name=a&".repeat(101);
    for (query, status, field) in [
        ("tasks?limit=0".to_owned(), 422, "limit"),
        ("tasks?limit=1001".to_owned(), 422, "limit"),
        ("tasks?limit=-1".to_owned(), 422, "limit"),
        ("tasks?limit=99999999999999999999999".to_owned(), 422, "limit"),
        ("tasks?view=full&limit=101".to_owned(), 422, "limit"),
        ("tasks?after=abc".to_owned(), 422, "after"),
        ("tasks?after=%00".to_owned(), 422, "after"),
        ("tasks?view=all".to_owned(), 422, "view"),
        ("tasks?lmit=1".to_owned(), 422, "lmit"),
        ("tasks?status=faild".to_owned(), 422, "status"),
        ("tasks?created_after=yesterday".to_owned(), 422, "created_after"),
        ("tasks?created_after=-99999999999999h".to_owned(), 422, "created_after"),
        ("tasks?since=6".to_owned(), 422, "since"),
        ("tasks?name=a%00b".to_owned(), 422, "name"),
        ("tasks?arg.=1".to_owned(), 422, "arg."),
        ("tasks?q=error:%22open".to_owned(), 422, "error"),
        (format!("tasks?q={}", TaskId::new()), 422, "q"),
        (format!("tasks?{many}"), 422, "name"),
        (format!("tasks?name={long}"), 414, ""),
        ("tasks/count?up_to=20001".to_owned(), 422, "up_to"),
        ("tasks/xyz".to_owned(), 404, ""),
        ("tasks/%ff".to_owned(), 400, ""),
        ("queues/%00".to_owned(), 404, ""),
        ("queues/..%2f..%2fetc".to_owned(), 404, ""),
        (format!("operations/{}", TaskId::new()), 404, ""),
        ("audit?since=x".to_owned(), 422, "since"),
        ("audit?limit=5000".to_owned(), 422, "limit"),
        ("tasks?order=random".to_owned(), 422, "order"),
        ("stats?by=color".to_owned(), 422, "by"),
        ("stats?step=7s".to_owned(), 422, "step"),
        ("stats?step=x".to_owned(), 422, "step"),
        ("stats?to=2026-01-01".to_owned(), 422, "from"),
        ("stats?from=2020-01-01&step=1m".to_owned(), 422, "step"),
        ("queues?x=1".to_owned(), 422, "x"),
    ] {
        let answer = app.get("admin", &format!("/api/v1/{query}")).await;
        let shown = &query[..query.len().min(80)];
        assert_eq!(answer.refused(status).1, field, "{shown}");
    }
    assert!(app.get("admin", "/api/v1/tasks?lmit=1").await.text().contains("did you mean `limit`?"));
}

#[tokio::test]
async fn a_body_that_is_no_json_or_too_long_is_refused() {
    let (_tasks, app) = app().await;
    let huge = format!(r#"{{"name":"{}"}}"#, "x".repeat(3 << 20));
    let deep = format!(r#"{{"name":"api.greet","args":{}}}"#, "[".repeat(100_000));
    for (body, status) in
        [("{", 400), ("[]", 422), ("null", 422), ("\u{0}", 400), (&*huge, 413), (&*deep, 400)]
    {
        let answer = app.ask("admin", "POST", "/api/v1/tasks", Some(body)).await;
        assert_eq!(answer.status.as_u16(), status, "{}: {}", &body[..body.len().min(40)], answer.text());
        answer.refused(status);
    }
    let form = Request::post("/api/v1/tasks").header("authorization", app.bearer("admin"));
    let form = form.header("content-type", "text/plain").body(Body::from(r#"{"name":"api.greet"}"#)).unwrap();
    send(&app.router, form).await.refused(415);
    let untyped = Request::post("/api/v1/tasks").header("authorization", app.bearer("admin"));
    let untyped = untyped.body(Body::from(r#"{"name":"api.greet"}"#)).unwrap();
    assert!(send(&app.router, untyped).await.status.is_client_error());
}

#[tokio::test]
async fn hostile_headers_let_nobody_in() {
    let (_tasks, app) = app().await;
    let huge = "x".repeat(60_000);
    let cases: [(&str, &[u8]); 10] = [
        ("authorization", b"Bearer"),
        ("authorization", b"Bearer \xff\xfe"),
        ("authorization", b"Basic YWRtaW46YWRtaW4="),
        ("authorization", huge.as_bytes()),
        ("cookie", b"taskflow=\xff"),
        ("cookie", b";;;===;taskflow;taskflow=;"),
        ("cookie", huge.as_bytes()),
        ("x-forwarded-for", b"127.0.0.1"),
        ("x-remote-user", b"admin"),
        ("sec-fetch-site", b"\xff"),
    ];
    for (name, value) in cases {
        let request = Request::get("/api/v1/tasks").header("host", HOST).header(name, value);
        let answer = send(&app.router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.refused(401).0, "unauthenticated", "{name}");
    }
}

fn tries(app: &App, runtime: &tokio::runtime::Runtime, path: &str) -> Result<(), TestCaseError> {
    let answer = runtime.block_on(app.get("admin", path));
    let is_expected = answer.status.is_success() || answer.status.is_client_error();
    prop_assert!(is_expected, "{path}: {} {}", answer.status, answer.text());
    if answer.status.is_client_error() {
        prop_assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    Ok(())
}

/// Percent-encodes every byte, so that any text is valid in a query.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[test]
fn any_query_is_answered_or_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_tasks, app) = runtime.block_on(app());
    let words = "status|phase|name|queue|tag\\.a|arg\\.a|arg\\.a\\.0|error|key|source|since|created_after|finished_before|all|\
                 limit|after|view|q|.{0,6}";
    let pair = (proptest::string::string_regex(words).unwrap(), ".{0,20}");
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) };
    proptest!(config, |(pairs in prop::collection::vec(pair, 0..4), id in ".{1,12}")| {
        let query: Vec<_> = pairs.iter().map(|(a, b)| format!("{}={}", encoded(a), encoded(b))).collect();
        tries(&app, &runtime, &format!("/api/v1/tasks?{}", query.join("&")))?;
        tries(&app, &runtime, &format!("/api/v1/tasks/count?{}", query.join("&")))?;
        tries(&app, &runtime, &format!("/api/v1/tasks/{}/logs", encoded(&id)))?;
        tries(&app, &runtime, &format!("/api/v1/queues/{}", encoded(&id)))?;
    });
}
