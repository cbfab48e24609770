//! A shop that sends mails while its mail server is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use taskflow::model::{NewTask, TaskSource};
use taskflow::task::IntoNewTask;
use taskflow::{Cron, LogLevel, QueueConfig, State, TaskContext, TaskId, TaskManager, TaskStatus};

use crate::servers::{postgres, redis};
use crate::support::{Gate, Place, reaches, soon};

/// Whether the mail server answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct MailServer(Arc<AtomicBool>);

impl MailServer {
    pub(crate) fn comes_back(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Sends a mail.
#[taskflow::task(name = "send_email", queue = "mail", retries = 1, delay = "10ms")]
async fn send_email(cx: TaskContext, server: State<MailServer>, to: String) -> Result<String, String> {
    cx.log(LogLevel::Info, format!("connecting to smtp.example.com for {to}"));
    match server.0.0.load(Ordering::SeqCst) {
        true => Ok(format!("sent to {to}")),
        false => {
            cx.log(LogLevel::Error, "no answer");
            Err("connection refused by smtp.example.com:587".to_owned())
        }
    }
}

/// Says hello.
#[taskflow::task(name = "greet")]
async fn greet(name: String) -> Result<String, String> {
    Ok(format!("hello, {name}"))
}

/// Runs until its gate opens.
#[taskflow::task(name = "import", queue = "slow")]
async fn import(cx: TaskContext, gate: State<Gate>, customer: u64) {
    let _ = customer;
    cx.progress(0.25, "a quarter");
    cx.log(LogLevel::Info, "reading");
    gate.pass().await;
    cx.log(LogLevel::Warn, "done");
}

/// Adds up the day.
#[taskflow::schedule(cron = "0 8 * * *", name = "daily_report", queue = "slow")]
async fn daily_report() {}

/// A store with a process that runs tasks.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) place: Place,
    pub(crate) tasks: TaskManager,
    pub(crate) mail: MailServer,
    pub(crate) gate: Gate,
}

impl Shop {
    pub(crate) async fn open(place: Place) -> Self {
        let (mail, gate) = (MailServer::default(), Gate::default());
        let builder =
            place.builder().state(mail.clone()).state(gate.clone()).queue("mail", QueueConfig::new());
        let builder = builder.queue("slow", QueueConfig::new().concurrency(2).max_size(10_000));
        let builder = builder.only(["send_email", "greet", "import", "daily_report"]);
        let tasks = soon(builder.start()).await.unwrap();
        // Other processes see the catalogue of this one after it has been written.
        let seen = soon(TaskManager::builder().store(place.url()).view()).await.unwrap();
        crate::support::eventually("the catalogue is there", || async {
            soon(seen.tasks()).await.unwrap().first().map(drop)
        })
        .await;
        Self { place, tasks, mail, gate }
    }

    pub(crate) fn url(&self) -> String {
        self.place.url()
    }

    /// A mail that has failed.
    pub(crate) async fn failed_mail(&self, to: &str) -> TaskId {
        let id =
            soon(self.tasks.add_task(send_email, (to.to_owned(),)).tag("plan", "pro")).await.unwrap().id();
        reaches(&self.tasks, id, TaskStatus::Failed).await;
        id
    }

    pub(crate) async fn greeting(&self, name: &str) -> TaskId {
        let id = soon(self.tasks.add_task(greet, (name.to_owned(),))).await.unwrap().id();
        reaches(&self.tasks, id, TaskStatus::Success).await;
        id
    }

    /// An import that runs until the gate opens.
    pub(crate) async fn import(&self, customer: u64) -> TaskId {
        let id = soon(self.tasks.add_task(import, (customer,))).await.unwrap().id();
        let running = self.gate.count();
        self.gate.reached(running.max(1)).await;
        reaches(&self.tasks, id, TaskStatus::Running).await;
        id
    }

    /// An import that is due in an hour.
    pub(crate) async fn later(&self, customer: u64) -> TaskId {
        let add = self.tasks.add_task(import, (customer,)).run_in(Duration::from_secs(3600));
        soon(add).await.unwrap().id()
    }

    /// A schedule that is added at run time.
    pub(crate) async fn schedule(&self, name: &str) {
        let greet = self.tasks.add_task(greet, ("all".to_owned(),));
        soon(self.tasks.schedule(greet, Cron::parse("30 3 * * *").unwrap()).named(name)).await.unwrap();
    }

    pub(crate) async fn close(self) {
        self.gate.open();
        soon(self.tasks.shutdown(Duration::from_secs(5))).await.unwrap();
    }
}

/// An import that is not added yet.
pub(crate) fn new_import(tasks: &TaskManager, customer: u64) -> NewTask {
    tasks.add_task(import, (customer,)).into_new_task()
}

/// A SQLite file, and a namespace of each server that is installed.
pub(crate) fn places() -> Vec<Place> {
    let servers = [postgres::shared_url(), redis::shared_url()];
    [Place::sqlite()].into_iter().chain(servers.into_iter().flatten().map(Place::Server)).collect()
}

/// The source of a task of a schedule.
pub(crate) const BY_SCHEDULE: TaskSource = TaskSource::Schedule;
