//! The dashboard in a real browser: what an operator does in an incident, with JavaScript and without.
//!
//! `TASKFLOW_PICTURES=docs/pictures cargo test -p tests --test browser` makes the pictures of the documentation again.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/servers/mod.rs"]
#[allow(unused, reason = "only its notes about missing programs are used")]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use browser::{Browser, Scripts};
use support::{eventually, soon};
use taskflow::web::{Accent, Access, Admin, Args, Role, User};
use taskflow::{
    LogLevel, MemoryStore, QueueConfig, QueueInfo, State, TaskContext, TaskId, TaskManager, TaskStatus,
};
use tokio::sync::Semaphore;
use wrapper::{Before, Wrapper, go_on};

const PASSWORD: &str = "correct horse battery staple";

/// How many mails have failed.
const FAILED: u32 = 450;

/// The permits of a task: it takes its next step when it gets one.
#[derive(Clone)]
struct Steps(Arc<Semaphore>);

#[taskflow::task(name = "send_email", queue = "mail")]
async fn send_email(user_id: u32, to: String) -> Result<(), String> {
    Err(format!("connection refused by smtp.example.com:587 for user {user_id} ({to})"))
}

/// Logs a line for each permit until no more come.
#[taskflow::task(name = "import_orders", queue = "imports")]
async fn import_orders(context: TaskContext, State(steps): State<Steps>, shop: String) {
    let mut row = 0;
    while let Ok(permit) = steps.0.acquire().await {
        permit.forget();
        row += 1;
        context.log(LogLevel::Info, format!("row {row} of {shop} is in"));
        context.progress(0.01 * row as f32, format!("row {row}"));
    }
}

/// A shop in trouble: 450 mails have failed, and one import runs.
struct Shop {
    tasks: TaskManager,
    url: String,
    steps: Steps,
    /// Each batch of retries needs a permit before it is stored.
    retries: Arc<Semaphore>,
    import: TaskId,
}

impl Shop {
    async fn open() -> Self {
        let steps = Steps(Arc::new(Semaphore::new(1)));
        let retries = Arc::new(Semaphore::new(1000));
        let gate = Arc::clone(&retries);
        let store = Wrapper::new(Arc::new(MemoryStore::new()), move |call| match call {
            "retry" => {
                let gate = Arc::clone(&gate);
                Box::pin(async move {
                    gate.acquire().await.unwrap().forget();
                    Ok(())
                }) as Before
            }
            _ => go_on(),
        });
        let builder = TaskManager::builder().store(store).state(steps.clone());
        let builder = builder
            .queue("mail", QueueConfig::new().concurrency(50))
            .queue("imports", QueueConfig::new())
            .only(["send_email", "import_orders"]);
        let tasks = soon(builder.start()).await.unwrap();
        let mails = (0..FAILED).map(|user| send_email(user, format!("user{user}@example.com")));
        soon(tasks.add_all(mails)).await.unwrap();
        eventually("all mails have failed", || async {
            (tasks.counts().await.unwrap().failed == u64::from(FAILED)).then_some(())
        })
        .await;
        soon(tasks.pause_queue("mail")).await.unwrap();
        let import = soon(tasks.add_task(import_orders, ("shop-7".to_owned(),))).await.unwrap().id();
        support::reaches(&tasks, import, TaskStatus::Running).await;

        let ada = User::new("ada", User::hash_password(PASSWORD), Role::Admin);
        let admin = Admin::new(&tasks, Access::users([ada]).unwrap())
            .title("shop")
            .environment("staging", Accent::Orange)
            .args(Args::redact(["password"]));
        let app = Router::new().nest("/admin/tasks", admin.router());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/admin/tasks", listener.local_addr().unwrap());
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { tasks, url, steps, retries, import }
    }

    async fn log_in(&self, browser: &Browser) {
        browser.open(&self.url).await;
        browser.type_into("input[name=name]", "ada").await;
        browser.type_into("input[name=password]", PASSWORD).await;
        browser.click("Log in").await;
        browser.shows("Overview").await;
    }

    async fn mail(&self) -> QueueInfo {
        soon(self.tasks.queues()).await.unwrap().into_iter().find(|queue| queue.name == "mail").unwrap()
    }

    async fn close(self) {
        self.steps.0.close();
        soon(self.tasks.shutdown(Duration::from_secs(5))).await.unwrap();
    }
}

/// Keeps a picture for the documentation if `TASKFLOW_PICTURES` is set.
async fn picture(browser: &Browser, name: &str) {
    let Some(directory) = std::env::var_os("TASKFLOW_PICTURES") else { return };
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(directory);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(format!("{name}.png")), browser.picture().await).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_mends_an_incident() {
    let Some(browser) = Browser::start(Scripts::On, 1440, 900).await else { return };
    let shop = Shop::open().await;
    // Nobody sees anything without logging in. After a wrong password, the page says only that the login was wrong.
    browser.open(&format!("{}/tasks", shop.url)).await;
    browser.type_into("input[name=name]", "ada").await;
    browser.type_into("input[name=password]", "wrong").await;
    browser.click("Log in").await;
    browser.shows("wrong").await;
    assert!(!browser.text().await.contains("send_email"));
    only_refusals(&browser).await;
    shop.log_in(&browser).await;
    browser.shows("450").await;
    picture(&browser, "overview").await;

    // The task of one user, by its argument.
    browser.type_into("input[name=q]", "arg.user_id:42\n").await;
    browser.shows("for user 42 ").await;
    assert_eq!(browser.count("tbody tr[data-id]").await, 1);
    browser.click("send_email").await;
    browser.shows("connection refused by smtp.example.com:587 for user 42").await;
    browser.shows("user42@example.com").await;
    picture(&browser, "task").await;

    // A running task: each line appears by itself.
    browser.open(&format!("{}/tasks/{}", shop.url, shop.import)).await;
    for (permits, line) in [(0, 1), (1, 2), (2, 4)] {
        shop.steps.0.add_permits(permits);
        browser.shows(&format!("row {line} of shop-7 is in")).await;
    }

    // Retry everything that matches: a preview first, then progress, and a stop half way.
    browser.open(&format!("{}/tasks?status=failed&name=send_email", shop.url)).await;
    browser.shows("450").await;
    picture(&browser, "tasks").await;
    browser.find("input[name=all]").await.click().await.unwrap();
    shop.retries.forget_permits(1000);
    browser.click("Retry…").await;
    browser.shows("450").await;
    browser.type_into("input[name=reason]", "INC-311: the mail server was down").await;
    picture(&browser, "preview").await;
    browser.find("#preview form button").await.click().await.unwrap();
    browser.named("Stop").await;
    shop.retries.add_permits(2);
    eventually("two batches are retried", || async {
        (shop.tasks.counts().await.unwrap().pending == 200).then_some(())
    })
    .await;
    browser.click("Stop").await;
    shop.retries.add_permits(1000);
    browser.named("Go on").await;
    let counts = soon(shop.tasks.counts()).await.unwrap();
    assert!(counts.failed > 0 && counts.pending >= 200, "{counts:?}");
    browser.click("Go on").await;
    eventually("the rest is retried", || async {
        (shop.tasks.counts().await.unwrap().pending == u64::from(FAILED)).then_some(())
    })
    .await;

    // Typed text stays while the numbers beside it change.
    browser.open(&format!("{}/queues/mail", shop.url)).await;
    browser.find("input[name=concurrency]").await.clear().await.unwrap();
    browser.type_into("input[name=concurrency]", "7").await;
    let more = (0..25).map(|user| send_email(user, String::new()));
    soon(shop.tasks.add_all(more)).await.unwrap();
    browser.shows("475").await;
    assert_eq!(browser.value("input[name=concurrency]").await, "7");
    picture(&browser, "queue").await;
    browser.click("Save limits").await;
    eventually("the limit is stored", || async { (shop.mail().await.concurrency == Some(7)).then_some(()) })
        .await;

    browser.click("Resume").await;
    eventually("the mails are tried again", || async {
        (shop.tasks.counts().await.unwrap().failed > 0).then_some(())
    })
    .await;
    browser.find("main form[action$='/pause'] button").await.click().await.unwrap();
    browser.find("dialog[open] button.danger, dialog[open] button.primary").await.click().await.unwrap();
    eventually("the queue is paused", || async { shop.mail().await.paused.then_some(()) }).await;

    // The audit log has it all, with the reason.
    browser.open(&format!("{}/audit", shop.url)).await;
    browser.shows("INC-311: the mail server was down").await;
    browser.click("Sign out").await;
    browser.find("input[name=password]").await;
    browser.open(&format!("{}/tasks", shop.url)).await;
    browser.find("input[name=password]").await;
    only_refusals(&browser).await;
    browser.end().await;
    shop.close().await;
}

/// The browser reports each answer 401 as an error of the page. No other error may occur.
async fn only_refusals(browser: &Browser) {
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(|one| one.contains("401")), "{complaints:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_javascript_an_operator_does_the_same() {
    let Some(browser) = Browser::start(Scripts::Off, 1440, 900).await else { return };
    let shop = Shop::open().await;
    shop.log_in(&browser).await;
    browser.type_into("input[name=q]", "arg.user_id:42\n").await;
    browser.shows("for user 42 ").await;
    browser.click("send_email").await;
    browser.shows("user42@example.com").await;
    browser.click("Retry").await;
    eventually("it is retried", || async { (shop.tasks.counts().await.unwrap().pending == 1).then_some(()) })
        .await;

    browser.open(&format!("{}/tasks/{}", shop.url, shop.import)).await;
    browser.shows("row 1 of shop-7 is in").await;

    browser.open(&format!("{}/tasks?status=failed", shop.url)).await;
    browser.find("input[name=all]").await.click().await.unwrap();
    browser.click("Delete…").await;
    browser.shows("449").await;
    browser.find("#preview form button").await.click().await.unwrap();
    eventually("they are deleted", || async {
        (shop.tasks.counts().await.unwrap().failed == 0).then_some(())
    })
    .await;

    browser.open(&format!("{}/queues/mail", shop.url)).await;
    browser.find("input[name=max_size]").await.clear().await.unwrap();
    browser.type_into("input[name=max_size]", "1000").await;
    browser.click("Save limits").await;
    eventually("the limit is stored", || async { (shop.mail().await.max_size == Some(1000)).then_some(()) })
        .await;
    browser.click("Resume").await;
    eventually("the mail is tried again", || async {
        (shop.tasks.counts().await.unwrap().failed == 1).then_some(())
    })
    .await;
    browser.click("Sign out").await;
    browser.find("input[name=password]").await;
    browser.end().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_page_fits_a_phone() {
    let Some(browser) = Browser::start(Scripts::On, 500, 844).await else { return };
    let shop = Shop::open().await;
    shop.log_in(&browser).await;
    let task = format!("tasks/{}", shop.import);
    let pages = [
        "",
        "tasks",
        &task,
        "failures",
        "queues",
        "queues/mail",
        "schedules",
        "workers",
        "types",
        "types/send_email",
        "audit",
        "operations",
    ];
    // A window is at least 500 px wide, so the developer tools of the browser set a smaller screen.
    browser.as_phone(390, 844).await;
    for page in pages {
        browser.open(format!("{}/{page}", shop.url).trim_end_matches('/')).await;
        browser.find("main h1").await;
        let width = browser.run("return document.documentElement.scrollWidth").await;
        assert!(width.as_u64().unwrap() <= 390, "{page} is {width} px wide");
        if page == "tasks" {
            picture(&browser, "tasks-phone").await;
        }
    }
    browser.end().await;
    shop.close().await;
}
