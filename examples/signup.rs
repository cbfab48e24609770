//! A web service that works after the response: a mail that is retried while the server is busy, an eager audit entry, a
//! report on its own thread, and routes that show the tasks.
//!
//! `cargo run --example signup` starts it, with the dashboard at `/admin`, and prints `curl` commands to try. Kill it while it
//! works and start it again: no accepted task is lost. `cargo run --example signup -- --demo` keeps adding tasks, so that
//! the dashboard has something to show.
#![allow(clippy::print_stdout, reason = "it prints what to try")]

#[path = "signup/demo.rs"]
mod demo;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use taskflow::{
    AddError, BackgroundTasks, CancelOutcome, Counts, LogLevel, LogLine, QueueConfig, TaskContext, TaskId,
    TaskManager, TaskRecord,
    web::{Accent, Access, Admin, Args},
};

/// A client of a mail server that is busy on the first two attempts.
#[derive(Clone)]
struct Mailer {
    server: &'static str,
}

#[derive(Debug)]
struct Busy(&'static str);

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is busy", self.0)
    }
}

impl std::error::Error for Busy {}

impl Mailer {
    async fn send(&self, context: &TaskContext, to: &str) -> Result<(), Busy> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if context.attempt() < 3 {
            return Err(Busy(self.server));
        }
        context.log(LogLevel::Info, format!("{} took the mail to {to}", self.server));
        Ok(())
    }
}

/// Retried up to five times, with growing delays, while the mail server is busy.
#[taskflow::task(retries = 5, delay = "500ms", backoff = 2.0, timeout = "10s", priority = 5)]
async fn send_welcome(
    context: TaskContext,
    taskflow::State(mailer): taskflow::State<Mailer>,
    to: String,
) -> Result<(), Busy> {
    mailer.send(&context, &to).await
}

/// Starts at once if a slot is free, and does not wait for the response.
#[taskflow::task(eager)]
async fn audit(event: String) {
    println!("audit: {event}");
}

/// A synchronous task: it runs on its own thread, reports its progress, and stops when it is cancelled.
#[taskflow::task(queue = "reports", requeue_on_interrupt)]
fn report(context: TaskContext, month: String) -> Result<String, std::fmt::Error> {
    let mut text = format!("report of {month}:");
    let begin = Instant::now();
    for step in 1..=20_u8 {
        if context.is_cancelled() {
            break;
        }
        // Keep a processor busy for a tenth of a second.
        let mut sum = 0_u64;
        while begin.elapsed() < Duration::from_millis(100) * u32::from(step) {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        write!(text, " {}", sum % 10)?;
        context.progress(f32::from(step) / 20.0, format!("step {step} of 20"));
    }
    Ok(text)
}

#[derive(Deserialize)]
struct Signup {
    email: String,
    plan: String,
}

#[derive(Serialize)]
struct Accepted {
    task: TaskId,
    duplicate: bool,
}

/// Because of the idempotency key, a form that is sent twice adds one mail. If the queue is full, the `?` answers 429.
async fn signup(
    tasks: BackgroundTasks,
    Json(form): Json<Signup>,
) -> Result<(StatusCode, Json<Accepted>), AddError> {
    tasks.add_task(audit, (format!("{} signed up", form.email),)).await?;
    let task = tasks
        .add_task(send_welcome, (form.email.clone(),))
        .idempotency_key(format!("welcome:{}", form.email))
        .tag("plan", form.plan)
        .await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { task: task.id(), duplicate: task.is_duplicate() })))
}

async fn order_report(tasks: BackgroundTasks, Path(month): Path<String>) -> Result<Json<TaskId>, AddError> {
    Ok(Json(tasks.add_task(report, (month,)).await?.id()))
}

/// A task with its attempts and its log lines.
#[derive(Serialize)]
struct Shown {
    task: TaskRecord,
    logs: Vec<LogLine>,
}

async fn show(State(tasks): State<TaskManager>, Path(id): Path<TaskId>) -> Result<Json<Shown>, StatusCode> {
    let unavailable = |_| StatusCode::SERVICE_UNAVAILABLE;
    let task = tasks.get(id).await.map_err(unavailable)?.ok_or(StatusCode::NOT_FOUND)?;
    let logs = tasks.logs(id).await.map_err(unavailable)?.unwrap_or_default();
    Ok(Json(Shown { task, logs }))
}

async fn cancel(
    State(tasks): State<TaskManager>,
    Path(id): Path<TaskId>,
) -> Result<Json<CancelOutcome>, StatusCode> {
    tasks.cancel(id).await.map(Json).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

async fn counts(State(tasks): State<TaskManager>) -> Result<Json<Counts>, StatusCode> {
    tasks.counts().await.map(Json).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter("info").init();
    let url = std::env::var("DATABASE_URL").unwrap_or_else(|_| "sqlite://signup.db".to_owned());
    let tasks = TaskManager::builder()
        .store(&url)
        .state(Mailer { server: "mail.example.com" })
        .queue("reports", QueueConfig::new().concurrency(1).max_size(10))
        .queue("mail", QueueConfig::new().concurrency(8))
        .queue("payments", QueueConfig::new().concurrency(4))
        .queue("webhooks", QueueConfig::new())
        .queue("imports", QueueConfig::new().concurrency(2))
        .start()
        .await?;

    // The dashboard and the API, for browsers on this machine only.
    let admin = Admin::new(&tasks, Access::loopback())
        .title("shop")
        .environment("development", Accent::Blue)
        .args(Args::redact(["password", "card"]));

    let app = Router::new()
        .route("/signup", post(signup))
        .route("/reports/{month}", post(order_report))
        .route("/tasks", get(counts))
        .route("/tasks/{id}", get(show))
        .route("/tasks/{id}/cancel", post(cancel))
        .layer(tasks.layer())
        .with_state(tasks.clone())
        .nest("/admin", admin.router());

    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let here = listener.local_addr()?;
    println!("the dashboard is at http://{here}/admin\n");
    if std::env::args().any(|argument| argument == "--demo") {
        tokio::spawn(demo::add_for_ever(tasks.clone()));
        println!(
            "orders of a shop come in, one every 150 ms; their tasks succeed, fail, retry and take time\n"
        );
    }
    println!("tasks are stored in {url}; try\n");
    println!(
        "  curl -X POST http://{here}/signup -H 'content-type: application/json' \\\n       \
           -d '{{\"email\": \"ada@example.com\", \"plan\": \"pro\"}}'"
    );
    println!("  curl -X POST http://{here}/reports/2026-11");
    println!("  curl http://{here}/tasks/ID        # its attempts, progress and logs");
    println!("  curl -X POST http://{here}/tasks/ID/cancel");
    println!("  curl http://{here}/tasks           # the number of tasks of each status\n");

    // Passes on the addresses of the clients, which `Access::loopback` checks.
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).with_graceful_shutdown(asked_to_stop()).await?;
    println!("{:?}", tasks.shutdown(Duration::from_secs(30)).await?);
    Ok(())
}

/// Returns on Ctrl-C, and on SIGTERM, with which service managers stop a service.
async fn asked_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    // If signals are not available, the service runs until it is killed. That loses no task either.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
