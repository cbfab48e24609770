//! Code around tasks: middleware, a hook on adds, and observers. The program ends by itself.
//!
//! ```sh
//! cargo run -p examples --example hooks
//! ```
#![allow(clippy::print_stdout, reason = "it prints the events")]

use std::error::Error;
use std::time::{Duration, Instant};

use taskflow::observe::{
    BoxFuture, EventKind, Interest, LogObserver, MemoryObserver, Middleware, Next, Run, RunOutcome,
};
use taskflow::{AddError, LogLevel, NewTask, QueueConfig, TaskContext, TaskManager};

/// The tenant that asked for the work. The middleware reads it from a tag, and the body uses it.
struct Tenant(String);

/// Logs how long each attempt took, and hands the tenant to the body.
struct Timed;

impl Middleware for Timed {
    fn run<'a>(&'a self, run: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome> {
        Box::pin(async move {
            let tenant = run.tags().get("tenant").map_or("nobody", String::as_str);
            run.extensions().insert(Tenant(tenant.to_owned()));
            let began = Instant::now();
            let outcome = next.run().await;
            if let Some(context) = TaskContext::current() {
                let took = began.elapsed();
                context
                    .log(LogLevel::Info, format!("{} took {took:.1?}: {:?}", run.name(), outcome.outcome()));
            }
            outcome
        })
    }
}

/// Retries after 50 ms when the other side answers 429, whatever delay the policy says. The retry counts like any other.
struct Throttled;

impl Middleware for Throttled {
    fn run<'a>(&'a self, _: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome> {
        Box::pin(async move {
            let outcome = next.run().await;
            match outcome.error() {
                Some(error) if error.starts_with("429") => outcome.then_retry_in(Duration::from_millis(50)),
                _ => outcome,
            }
        })
    }
}

/// The middleware of a task runs inside that of the builder.
#[taskflow::task(retries = 3, delay = "1h", middleware = [Throttled])]
async fn charge(context: TaskContext, cents: u32) -> Result<String, String> {
    if context.attempt() == 1 {
        return Err("429 Too Many Requests".to_owned());
    }
    let tenant = context.extension::<Tenant>().ok_or("no middleware")?;
    Ok(format!("charged {cents} to {}", tenant.0))
}

#[taskflow::task]
async fn report(context: TaskContext) -> Result<String, String> {
    Ok(context.queue().to_owned())
}

/// Tags tasks that name no tenant with `acme`, moves reports to the queue `slow`, and refuses charges of 0.
fn check(task: &mut NewTask) -> Result<(), AddError> {
    task.tags.entry("tenant".to_owned()).or_insert_with(|| "acme".to_owned());
    match &*task.name {
        "report" => task.queue = "slow".into(),
        "charge" if task.args.as_deref().is_ok_and(|args| args == r#"{"cents":0}"#) => {
            return Err(AddError::refused("a charge of nothing"));
        }
        _ => {}
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let seen = MemoryObserver::new().interest(Interest::ALL.without(EventKind::Log));
    let tasks = TaskManager::builder()
        .queue("slow", QueueConfig::new().concurrency(1))
        .middleware(Timed)
        .on_add(check)
        .observer(LogObserver::stderr())
        .observer(seen.clone())
        .start()
        .await?;

    let charged = tasks.add_task(charge, (4200,)).await?;
    assert_eq!(charged.wait().await?, "charged 4200 to acme");
    let reported = tasks.add_task(report, ()).await?;
    assert_eq!(reported.wait().await?, "slow");
    let refused = tasks.add_task(charge, (0,)).await.expect_err("the hook refuses it");
    println!("{refused}");

    // Queued events reach the observers before the shutdown ends.
    tasks.shutdown(Duration::from_secs(5)).await?;
    for event in seen.events() {
        println!("{:<10} {:<7} attempt {}", event.kind.kind(), event.name, event.attempt);
    }
    Ok(())
}
