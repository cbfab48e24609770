//! Three ways to let people and programs into the dashboard and the API: users with passwords, tokens for programs, and the login
//! of the host application.
//!
//! `cargo run --example admin` starts a server and prints what to try. With `--once` it sends itself requests and ends, as in CI.
#![allow(clippy::print_stdout, reason = "it prints what to try")]

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode, header};
use taskflow::TaskManager;
use taskflow::web::{Accent, Access, Actor, Admin, Args, Role, Token, User};
use tower::ServiceExt;

#[taskflow::task]
async fn send_email(to: String, password: String) {
    println!("a mail to {to}, with a password of {} bytes", password.len());
}

/// The actor of a request that the host application has let in. Here a proxy in front of this server names the person; a real
/// application looks up its own session.
async fn known_by_the_proxy(person: Option<String>) -> Option<Actor> {
    let person = person?;
    match person.as_str() {
        "grace" => Some(Actor::new(person, Role::Admin)),
        // Linus sees and changes only the tasks of the queue `mail`.
        "linus" => Some(Actor::new(person, Role::Operator).only_queues(["mail"])),
        _ => None,
    }
}

fn person(parts: &Parts) -> Option<String> {
    parts.headers.get("x-remote-user")?.to_str().ok().map(str::to_owned)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter("warn").init();
    let tasks = TaskManager::builder().store("memory:").start().await?;
    tasks.add_task(send_email, ("ada@example.com".to_owned(), "secret".to_owned())).await?.wait().await?;

    // In production the hash comes from a secret store, and only Ada knows the password.
    let ada = User::new("ada", User::hash_password("correct horse"), Role::Operator);
    let (token, sha256) = Token::generate();
    let access = Access::users([ada])?
        .or(Access::tokens([Token::new("deploys", sha256, Role::Viewer)])?)
        .or(Access::from_request(|parts| known_by_the_proxy(person(parts))));
    let admin = Admin::new(&tasks, access)
        .title("shop")
        .environment("staging", Accent::Orange)
        .args(Args::redact(["password"]))
        .link("runbook", "https://wiki.example/{name}");
    let app = Router::new().nest("/admin", admin.router());

    if std::env::args().any(|argument| argument == "--once") {
        let ask = |header: Option<(header::HeaderName, String)>| {
            let mut request = Request::get("/admin/api/v1/tasks");
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            let request = request.body(Body::empty());
            let app = app.clone();
            async move { Ok::<_, Box<dyn std::error::Error>>(app.oneshot(request?).await?.status()) }
        };
        let nobody = ask(None).await?;
        let program = ask(Some((header::AUTHORIZATION, format!("Bearer {token}")))).await?;
        let grace = ask(Some((header::HeaderName::from_static("x-remote-user"), "grace".to_owned()))).await?;
        println!(
            "nobody: {nobody}, a program with its token: {program}, a person that the proxy knows: {grace}"
        );
        assert_eq!((nobody, program, grace), (StatusCode::UNAUTHORIZED, StatusCode::OK, StatusCode::OK));
        return Ok(());
    }

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    let here = listener.local_addr()?;
    println!("http://{here}/admin: log in as `ada` with `correct horse`, or");
    println!("  curl -H 'Authorization: Bearer {token}' http://{here}/admin/api/v1/tasks");
    println!("  curl -H 'X-Remote-User: grace' http://{here}/admin/api/v1/tasks");
    axum::serve(listener, app).await?;
    Ok(())
}
