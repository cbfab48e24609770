//! A process that is killed, stopped and restarted by the crash tests. It writes a ledger: a line for every task that
//! was accepted, for every run that began and for every run that came to its end; with `serve`, also for adds that were
//! refused. A line is one write to a file opened for appending, so a killed process leaves whole lines.
//!
//! `worker URL LEDGER add N KIND`: adds N tasks and ends.
//! `worker URL LEDGER run`: runs tasks until it is asked to stop.
//! `worker URL LEDGER serve ADDERS`: runs tasks, and adds them with ADDERS adders as fast as the store answers and the queue
//! has room, until it is asked to stop.
#![allow(clippy::print_stdout, reason = "its parent reads that it is ready, and how it ended")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use taskflow::{AddError, TaskContext, TaskId, TaskManager};
use tokio::signal::unix::{SignalKind, signal};

static LEDGER: OnceLock<File> = OnceLock::new();

fn note(what: &str, id: TaskId, attempt: u32) {
    let line = format!("{what} {id} {attempt} {}\n", std::process::id());
    LEDGER
        .get()
        .expect("the ledger is opened first")
        .write_all(line.as_bytes())
        .expect("the ledger takes a line");
}

/// May run twice.
#[taskflow::task(requeue_on_interrupt, max_lost_runs = 50)]
async fn again(context: TaskContext, millis: u64) {
    run(&context, millis).await;
}

/// Has attempts left.
#[taskflow::task(retries = 50, delay = "10ms", max_delay = "20ms", max_lost_runs = 50)]
async fn retried(context: TaskContext, millis: u64) {
    run(&context, millis).await;
}

/// May not run twice.
#[taskflow::task]
async fn once(context: TaskContext, millis: u64) {
    run(&context, millis).await;
}

/// Ignores every request to stop.
#[taskflow::task]
fn stubborn(context: TaskContext, millis: u64) {
    note("start", context.id(), context.attempt());
    std::thread::sleep(Duration::from_millis(millis));
    note("end", context.id(), context.attempt());
}

/// Kills the process that runs it.
#[taskflow::task(retries = 50, delay = "1ms", max_delay = "1ms")]
async fn poison(context: TaskContext, millis: u64) {
    let _ = millis;
    note("start", context.id(), context.attempt());
    std::process::abort();
}

async fn run(context: &TaskContext, millis: u64) {
    note("start", context.id(), context.attempt());
    if millis > 0 {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    note("end", context.id(), context.attempt());
}

async fn add(tasks: &TaskManager, kind: &str, millis: u64) -> Result<(), AddError> {
    let task = match kind {
        "again" => tasks.add_task(again, (millis,)),
        "retried" => tasks.add_task(retried, (millis,)),
        "once" => tasks.add_task(once, (millis,)),
        "stubborn" => tasks.add_task(stubborn, (millis,)),
        "poison" => tasks.add_task(poison, (millis,)),
        other => panic!("there is no kind `{other}`"),
    };
    note("accepted", task.await?.id(), 0);
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let [url, ledger, command, rest @ ..] = words.as_slice() else { panic!("usage: URL LEDGER COMMAND ..") };
    let ledger =
        OpenOptions::new().create(true).append(true).open(ledger).expect("the ledger can be written");
    LEDGER.set(ledger).expect("it is opened once");
    let lease = std::env::var("LEASE_MS").map_or(10_000, |text| text.parse().expect("LEASE_MS is a number"));
    let builder = TaskManager::builder()
        .store(*url)
        .lease(Duration::from_millis(lease))
        .add_timeout(Duration::from_secs(1));
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be had");

    if let ("add", [count, kind]) = (*command, rest) {
        let tasks = builder.connect().await.expect("the store can be opened");
        let count: usize = count.parse().expect("N is a number");
        let adders = (0..16).map(|adder| {
            let (tasks, kind) = (tasks.clone(), (*kind).to_owned());
            tokio::spawn(async move {
                for _ in (adder..count).step_by(16) {
                    add(&tasks, &kind, 0).await.expect("an add is accepted");
                }
            })
        });
        for adder in adders.collect::<Vec<_>>() {
            adder.await.expect("no adder panics");
        }
        return;
    }

    let tasks = builder.start().await.expect("the store can be opened");
    println!("ready");
    let kinds = ["again", "retried", "once"];
    let adders: usize = rest.first().map_or(0, |text| text.parse().expect("ADDERS is a number"));
    for adder in 0..adders {
        let tasks = tasks.clone();
        tokio::spawn(async move {
            for n in 0_u64.. {
                match add(&tasks, kinds[adder % kinds.len()], n % 5).await {
                    Ok(()) => {}
                    Err(AddError::QueueFull { .. }) => {
                        note("full", TaskId::new(), 0);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    // The database is away: a service would answer 503, and the next request comes.
                    Err(error) if error.is_transient() => note("refused", TaskId::new(), 0),
                    // The manager has shut down.
                    Err(_) => return,
                }
            }
        });
    }
    terminate.recv().await;
    let report = tasks.shutdown(Duration::from_secs(1)).await.expect("it is shut down once");
    println!("{report:?} {:?}", tasks.health());
}
