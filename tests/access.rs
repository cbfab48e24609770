//! Access: each route checks its permission and the site of the request. Logins are throttled, and a logout ends its session in
//! every process.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/asking.rs"]
mod asking;
mod support;

use std::time::{Duration, Instant};

use asking::{Answer, App, HOST, ORIGIN, head, send};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::Value;
use support::{Place, eventually, soon};
use taskflow::TaskManager;
use taskflow::web::{Access, Admin, Permission, Role, Token, User};

#[taskflow::task(name = "access.nothing")]
async fn nothing() {}

const PASSWORD: &str = "correct horse";

async fn manager(place: &Place) -> TaskManager {
    soon(place.builder().only(["access.nothing"]).start()).await.unwrap()
}

/// A request of a browser, with the site it comes from and its cookie.
fn browser(method: &str, path: &str, origin: Option<&str>, cookie: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", HOST);
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    request.body(Body::empty()).unwrap()
}

async fn log_in(router: &Router, name: &str, password: &str) -> Answer {
    let body = serde_json::json!({ "name": name, "password": password }).to_string();
    let request = Request::post("/api/v1/login").header("host", HOST).header("origin", ORIGIN);
    let request = request.header("content-type", "application/json").body(Body::from(body)).unwrap();
    send(router, request).await
}

/// Logs in, and answers the cookie.
async fn cookie(router: &Router, name: &str) -> String {
    let answer = log_in(router, name, PASSWORD).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

async fn me(router: &Router, cookie: &str) -> StatusCode {
    send(router, browser("GET", "/api/v1/me", None, Some(cookie))).await.status
}

/// All routes of the API: method, path, and what they require: a permission, any `actor`, or nothing.
async fn routes(app: &App) -> Vec<(String, String, Option<String>)> {
    let document = app.get("admin", "/api/v1/openapi.json").await.is(200);
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let id = "0197c7a8-2f5e-7cc0-8a4f-4d1f0a6b2f10";
        let path = path.replace("{id}", id).replace("{queue}", "none").replace("{schedule}", "none");
        let path = path.replace("{name}", "none");
        for (method, operation) in methods.as_object().unwrap() {
            let needs = match operation["x-permission"].as_str() {
                Some(permission) => Some(permission.to_owned()),
                None if operation["security"] == Value::Array(Vec::new()) => None,
                None => Some("actor".to_owned()),
            };
            routes.push((method.to_uppercase(), path.clone(), needs));
        }
    }
    assert!(routes.len() > 40, "{routes:?}");
    routes
}

fn has(role: Role, needs: &str) -> bool {
    needs == "actor" || role.permissions().iter().any(|permission: &Permission| permission.as_str() == needs)
}

fn assert_secured(answer: &Answer, what: &str) {
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{what}: {name}");
    }
    let policy = answer.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{what}: {policy}");
    assert!(answer.header("cache-control").is_some(), "{what}");
    assert!(answer.header("access-control-allow-origin").is_none(), "{what}");
}

#[tokio::test]
async fn each_route_lets_in_each_role_as_its_permission_says() {
    let tasks = manager(&Place::memory()).await;
    let app = App::of(&tasks, []);
    for (method, path, needs) in routes(&app).await {
        let is_read = method == "GET";
        for role in Role::ALL {
            let what = format!("{method} {path} as {role}");
            let request = |origin: Option<&str>| {
                let request = Request::builder().method(&*method).uri(&*path).header("host", HOST);
                let request = request.header("authorization", app.bearer(role.as_str()));
                let request =
                    if let Some(origin) = origin { request.header("origin", origin) } else { request };
                request.body(Body::empty()).unwrap()
            };
            let answer = head(&app.router, request(None)).await;
            assert_secured(&answer, &what);
            let is_let_in = needs.as_ref().is_none_or(|needs| has(role, needs));
            assert_eq!(answer.status == StatusCode::FORBIDDEN, !is_let_in, "{what}: {}", answer.status);
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{what}");
            assert!(!answer.status.is_server_error(), "{what}: {}", answer.status);
            // A request from another site changes nothing, whoever sends it.
            let foreign = head(&app.router, request(Some("https://evil.example"))).await;
            assert_secured(&foreign, &what);
            assert_eq!(foreign.status == StatusCode::FORBIDDEN, !is_let_in || !is_read, "{what}, foreign");
        }
        for (origin, cookie) in [(None, None), (Some(ORIGIN), None), (Some(ORIGIN), Some("taskflow=guessed"))]
        {
            let what = format!("{method} {path} as nobody from {origin:?}");
            let answer = send(&app.router, browser(&method, &path, origin, cookie)).await;
            assert_secured(&answer, &what);
            let want = match (needs.is_some(), is_read || origin.is_some()) {
                (_, false) => Some(StatusCode::FORBIDDEN),
                (true, true) => Some(StatusCode::UNAUTHORIZED),
                (false, true) => None,
            };
            match want {
                Some(want) => assert_eq!(answer.status, want, "{what}"),
                None => assert!(!answer.status.is_server_error(), "{what}: {}", answer.status),
            }
        }
        // A method that no route has.
        let unknown = head(&app.router, browser("PUT", &path, Some(ORIGIN), None)).await;
        assert_eq!(unknown.status, StatusCode::UNAUTHORIZED, "PUT {path}");
        assert_eq!(app.ask("viewer", "PUT", &path, None).await.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    // A path without a route answers strangers like every other path.
    let unknown = send(&app.router, browser("GET", "/api/v1/secrets", None, None)).await;
    assert_secured(&unknown, "unknown");
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    assert_eq!(app.get("viewer", "/api/v1/secrets").await.refused(404).0, "not_found");
}

#[tokio::test]
async fn a_session_changes_something_only_from_its_own_site() {
    let tasks = manager(&Place::memory()).await;
    let ada = User::new("ada", User::hash_password(PASSWORD), Role::Admin);
    let router = Admin::new(&tasks, Access::users([ada]).unwrap()).router();
    let answer = log_in(&router, "ada", PASSWORD).await;
    let set = answer.header("set-cookie").unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax") && set.contains("Path=/"), "{set}");
    let cookie = set.split(';').next().unwrap().to_owned();
    let pause = |origin| browser("POST", "/api/v1/queues/default/pause", origin, Some(&cookie));
    for origin in [None, Some("null"), Some("https://evil.example"), Some("http://127.0.0.1:3001")] {
        assert_eq!(send(&router, pause(origin)).await.refused(403).0, "cross_origin", "{origin:?}");
    }
    assert_eq!(send(&router, pause(Some(ORIGIN))).await.is(200)["paused"], true);
    // Any other host gets the cookie that browsers accept only over TLS.
    let body = serde_json::json!({ "name": "ada", "password": PASSWORD }).to_string();
    let request = Request::post("/api/v1/login").header("host", "shop.example");
    let request = request.header("origin", "https://shop.example").header("content-type", "application/json");
    let answer = send(&router, request.body(Body::from(body)).unwrap()).await;
    let set = answer.header("set-cookie").unwrap();
    assert!(set.starts_with("__Host-taskflow=") && set.contains("Secure"), "{set}");
}

#[tokio::test]
async fn behind_a_proxy_the_public_origin_counts() {
    let tasks = manager(&Place::memory()).await;
    let (secret, sha256) = Token::generate();
    let access = Access::tokens([Token::new("ci", sha256, Role::Admin)]).unwrap();
    let router = Admin::new(&tasks, access).public_origin("https://shop.example").router();
    let router = Router::new().nest("/admin/tasks", router);
    let pause = |origin: &str| {
        let request = Request::post("/admin/tasks/api/v1/queues/default/pause").header("host", "10.0.0.7:80");
        let request = request.header("authorization", format!("Bearer {secret}")).header("origin", origin);
        send(&router, request.body(Body::empty()).unwrap())
    };
    assert_eq!(pause("https://shop.example").await.status, StatusCode::OK);
    assert_eq!(pause("http://10.0.0.7:80").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_sixth_bad_try_is_refused_and_so_is_the_right_password_then() {
    let tasks = manager(&Place::memory()).await;
    let hash = User::hash_password(PASSWORD);
    let users = ["ada", "bob"].map(|name| User::new(name, hash.clone(), Role::Viewer));
    let router = Admin::new(&tasks, Access::users(users).unwrap()).router();
    for _ in 0..5 {
        assert_eq!(log_in(&router, "ada", "wrong").await.refused(401).0, "unauthenticated");
    }
    for password in ["wrong", PASSWORD] {
        let answer = log_in(&router, "ada", password).await;
        assert_eq!(answer.header("retry-after"), Some("60"));
        assert_eq!(answer.refused(429).0, "too_many");
    }
    cookie(&router, "bob").await;
    // An unknown name is refused and throttled like a known one.
    for _ in 0..5 {
        assert_eq!(log_in(&router, "eve", "wrong").await.refused(401).0, "unauthenticated");
    }
    assert_eq!(log_in(&router, "eve", "wrong").await.refused(429).0, "too_many");
}

#[tokio::test]
async fn many_logins_at_once_starve_nobody() {
    let tasks = manager(&Place::memory()).await;
    let ada = User::new("ada", User::hash_password(PASSWORD), Role::Viewer);
    let router = Admin::new(&tasks, Access::users([ada]).unwrap()).router();
    let logins: Vec<_> = (0..30)
        .map(|number| {
            let router = router.clone();
            tokio::spawn(async move { log_in(&router, &format!("user {number}"), "wrong").await.status })
        })
        .collect();
    // Between these logins, the only thread of this runtime answers other requests.
    let mut slowest = Duration::ZERO;
    while !logins.iter().all(tokio::task::JoinHandle::is_finished) {
        let began = Instant::now();
        assert_eq!(send(&router, browser("GET", "/healthz", None, None)).await.status, StatusCode::OK);
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(slowest < Duration::from_secs(1), "health took {slowest:?}");
    for login in logins {
        assert_eq!(login.await.unwrap(), StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_login_holds_in_every_process_and_a_logout_ends_it_in_all_within_five_seconds() {
    let place = Place::sqlite();
    let hash = User::hash_password(PASSWORD);
    let mut routers = Vec::new();
    for _ in 0..2 {
        let tasks = manager(&place).await;
        let ada = User::new("ada", hash.clone(), Role::Viewer);
        routers.push(Admin::new(&tasks, Access::users([ada]).unwrap()).router());
    }
    let (first, other) = (cookie(&routers[0], "ada").await, cookie(&routers[1], "ada").await);
    for router in &routers {
        assert_eq!((me(router, &first).await, me(router, &other).await), (StatusCode::OK, StatusCode::OK));
    }
    let began = Instant::now();
    let answer = send(&routers[0], browser("POST", "/api/v1/logout", Some(ORIGIN), Some(&first))).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text());
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(me(&routers[0], &first).await, StatusCode::UNAUTHORIZED);
    let ended = || async { (me(&routers[1], &first).await == StatusCode::UNAUTHORIZED).then_some(()) };
    eventually("the session ends in the other process", ended).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(me(&routers[0], &other).await, StatusCode::OK, "the other session goes on");

    let mut everywhere = browser("POST", "/api/v1/logout", Some(ORIGIN), Some(&other));
    *everywhere.body_mut() = Body::from(r#"{"everywhere":true}"#);
    everywhere.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let third = cookie(&routers[0], "ada").await;
    assert_eq!(send(&routers[1], everywhere).await.status, StatusCode::NO_CONTENT);
    let ended = || async { (me(&routers[0], &third).await == StatusCode::UNAUTHORIZED).then_some(()) };
    eventually("all sessions end", ended).await;
}

#[tokio::test]
async fn a_new_password_ends_the_sessions_of_the_old_one() {
    let place = Place::sqlite();
    let tasks = manager(&place).await;
    let admin = |password: &str| {
        let ada = User::new("ada", User::hash_password(password), Role::Viewer);
        Admin::new(&tasks, Access::users([ada]).unwrap()).router()
    };
    let before = admin(PASSWORD);
    let session = cookie(&before, "ada").await;
    assert_eq!(me(&before, &session).await, StatusCode::OK);
    assert_eq!(me(&admin("another"), &session).await, StatusCode::UNAUTHORIZED);
}
