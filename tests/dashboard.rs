//! The dashboard: every page shows the contents of the store, at any path, with any text in it, and without inline code.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "dashboard/lists.rs"]
mod lists;
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode, header};
use scraper::{Html, Selector};
use support::{eventually, soon};
use taskflow::admin::{By, Console, Face, Selection, Verb};
use taskflow::web::{Access, Actor, Admin, Role};
use taskflow::{Cron, LogLevel, QueueConfig, TaskContext, TaskFilter, TaskManager, TaskStatus};
use tower::ServiceExt;

#[taskflow::task(name = "dashboard.fails")]
async fn fails(context: TaskContext, text: String) -> Result<(), String> {
    context.log(LogLevel::Warn, text.clone());
    context.progress(0.5, text.clone());
    Err(text)
}

#[taskflow::task(name = "dashboard.works")]
async fn works(text: String) -> Result<String, String> {
    Ok(text)
}

/// A manager with tasks that have `text` wherever a text can be.
async fn seeded(text: &str, queue: &str) -> TaskManager {
    let builder = TaskManager::builder().only(["dashboard.fails", "dashboard.works"]);
    let tasks = soon(builder.queue(queue, QueueConfig::new().concurrency(2)).start()).await.unwrap();
    let key = text[..text.floor_char_boundary(200)].to_owned();
    for number in 0..2 {
        let add = tasks.add_task(fails, (text.to_owned(),)).queue(queue).tag(key.clone(), &key);
        soon(add.idempotency_key(format!("{number}{key}"))).await.unwrap();
        soon(tasks.add_task(works, (text.to_owned(),)).queue(queue).tag(key.clone(), &key)).await.unwrap();
    }
    eventually("all end", async || (tasks.counts().await.unwrap().unfinished() == 0).then_some(())).await;
    tasks
}

fn router(tasks: &TaskManager, mount: &str, text: &str) -> Router {
    let admin =
        Admin::new(tasks, Access::open_to_anyone()).title(text).environment(text, taskflow::web::Accent::Red);
    match mount {
        "/" => admin.router(),
        mount => Router::new().nest(mount, admin.router()),
    }
}

struct Answer {
    status: StatusCode,
    location: Option<String>,
    text: String,
}

async fn ask(router: &Router, request: Request<Body>) -> Answer {
    let response = soon(router.clone().oneshot(request)).await.unwrap();
    let status = response.status();
    let location = response.headers().get(header::LOCATION).map(|it| it.to_str().unwrap().to_owned());
    let bytes = soon(axum::body::to_bytes(response.into_body(), 64 << 20)).await.unwrap();
    Answer { status, location, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

async fn get(router: &Router, path: &str) -> Answer {
    let request = Request::get(path).header(header::HOST, "localhost").body(Body::empty()).unwrap();
    ask(router, request).await
}

async fn post(router: &Router, path: &str, form: &str) -> Answer {
    let request = Request::post(path)
        .header(header::HOST, "localhost")
        .header("sec-fetch-site", "same-origin")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(form.to_owned()))
        .unwrap();
    ask(router, request).await
}

fn segment(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The pages, with one task that failed and one that succeeded.
async fn paths(tasks: &TaskManager, base: &str, queue: &str) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/tasks",
        "/tasks?status=failed",
        "/tasks?q=nonsense",
        "/failures",
        "/failures?since=all",
        "/queues",
        "/schedules",
        "/workers",
        "/types",
        "/types/dashboard.fails",
        "/audit",
        "/operations",
        "/nothing",
    ]
    .map(|path| format!("{base}{path}"))
    .into();
    paths.push(if base.is_empty() { "/".to_owned() } else { base.to_owned() });
    paths.push(format!("{base}/queues/{}", segment(queue)));
    for status in [TaskStatus::Failed, TaskStatus::Success] {
        let page = soon(tasks.list(TaskFilter::new().status(status))).await.unwrap();
        paths.push(format!("{base}/tasks/{}", page.items[0].id));
    }
    paths
}

/// The elements of a page with the names of their attributes, in order.
fn shape(text: &str) -> Vec<String> {
    let page = Html::parse_document(text);
    let all = Selector::parse("*").unwrap();
    let elements = page.select(&all).map(|element| {
        let names: BTreeSet<_> = element.value().attrs().map(|(name, _)| name.to_owned()).collect();
        format!("{} {names:?}", element.value().name())
    });
    elements.collect()
}

const BENIGN: &str = "plain";

#[tokio::test]
async fn every_page_shows_what_the_store_holds() {
    let tasks = seeded("no route to the moon", "letters").await;
    for mount in ["/", "/x/y"] {
        let base = mount.trim_end_matches('/');
        let router = router(&tasks, mount, "moonshop");
        for (path, parts) in [
            ("/tasks", &["dashboard.fails", "dashboard.works", "Succeeded", "letters"][..]),
            ("/tasks?status=failed", &["dashboard.fails", "no route to the moon", "status failed"]),
            ("/failures", &["dashboard.fails", "no route to the moon", "2 tasks in 1 group"]),
            ("/queues", &["letters", "Waiting"]),
            ("/queues/letters", &["In one process", "value=\"2\""]),
            ("/types", &["dashboard.works", "text: String"]),
            ("/types/dashboard.works", &["name=\"arg.text\"", "Add a task"]),
            ("/workers", &["runs tasks", "this one"]),
            ("/schedules", &["No schedules"]),
            ("/operations", &["No operations"]),
            ("/audit", &["Nobody has done anything yet"]),
        ] {
            let answer = get(&router, &format!("{base}{path}")).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            for part in parts.iter().chain(&["moonshop"]) {
                assert!(answer.text.contains(part), "{path} lacks `{part}`");
            }
            // All links stay below the mount.
            let page = Html::parse_document(&answer.text);
            for link in page.select(&Selector::parse("[href],[src],[action]").unwrap()) {
                let to = ["href", "src", "action"].iter().find_map(|name| link.attr(name)).unwrap();
                assert!(to.starts_with(base) || to.starts_with('#'), "{path} leads to {to}");
            }
        }
        let home = get(&router, if base.is_empty() { "/" } else { base }).await;
        for part in ["Needs attention", "no route to the moon", "2 failed in the last hour"] {
            assert!(home.text.contains(part), "the overview lacks `{part}`");
        }
        for link in Html::parse_document(&home.text).select(&Selector::parse("nav a").unwrap()) {
            let to = link.attr("href").unwrap();
            assert_eq!(get(&router, to).await.status, StatusCode::OK, "{to}");
        }
    }
}

#[tokio::test]
async fn the_numbers_of_the_strip_sum_to_the_total() {
    let tasks = seeded("sum", "sum").await;
    let router = router(&tasks, "/", "sum");
    let page = Html::parse_document(&get(&router, "/").await.text);
    let numbers = page
        .select(&Selector::parse(".strip b").unwrap())
        .collect::<Vec<_>>()
        .into_iter()
        .map(|it| it.inner_html().parse::<u64>().unwrap());
    assert_eq!(numbers.sum::<u64>(), soon(tasks.counts()).await.unwrap().total());
}

#[tokio::test]
async fn hostile_texts_change_no_element_and_no_attribute() {
    let benign = seeded(BENIGN, "queue").await;
    // Whether a page has this remark depends on how long the runs took.
    let remark = r#"<small class="faint">Not to scale: short runs are drawn wider.</small>"#;
    let kinds = |text: &str| shape(&text.replace(remark, "")).into_iter().collect::<BTreeSet<_>>();
    let mut expected = Vec::new();
    for path in paths(&benign, "", "queue").await {
        let answer = get(&router(&benign, "/", BENIGN), &path).await;
        expected.push((answer.status, kinds(&answer.text)));
    }
    let long = "<b>".repeat(33_000);
    for hostile in [
        "<img src=x onerror=alert(1)>\"'&",
        "\"><script>alert(1)</script>",
        "' onmouseover='alert(1)",
        "</textarea></title></style><svg/onload=alert(1)>",
        "\u{202e}gpj.exe\u{2066} \u{202e}",
        "a\u{0}b{{ 7*7 }}{% raw %}",
        &long,
    ] {
        // No queue may have a name that is so long or that has a NUL.
        let is_name = hostile.len() <= 1_000 && !hostile.contains('\0');
        let queue = if is_name { hostile } else { "queue" };
        let tasks = seeded(hostile, queue).await;
        let router = router(&tasks, "/", hostile);
        for ((status, plain), path) in expected.iter().zip(paths(&tasks, "", queue).await) {
            let answer = get(&router, &path).await;
            assert_eq!(answer.status, *status, "{path} with {hostile:.60}");
            // A long error folds, and pages have different numbers of rows, so only the kinds of elements are compared.
            let more: Vec<_> = kinds(&answer.text).difference(plain).cloned().collect();
            let folded =
                ["details {\"data-error\"}", "details {}", "summary {}", "pre {\"class\"}", "pre {}"];
            let own = ["pre {\"class\", \"id\"}", "button {\"class\", \"data-copy-from\", \"type\"}"];
            let more: Vec<_> = more
                .iter()
                .filter(|it| !folded.contains(&it.as_str()) && !own.contains(&it.as_str()))
                .collect();
            assert!(more.is_empty(), "{path} with {hostile:.60} has {more:#?}");
        }
    }
}

#[tokio::test]
async fn no_page_has_anything_inline() {
    let tasks = seeded("inline", "queue").await;
    let router = router(&tasks, "/", "inline");
    for path in paths(&tasks, "", "queue").await {
        let page = Html::parse_document(&get(&router, &path).await.text);
        for element in page.select(&Selector::parse("*").unwrap()) {
            for (name, _) in element.value().attrs() {
                assert!(name != "style" && !name.starts_with("on"), "{path}: {}", element.html());
            }
            match element.value().name() {
                "style" => panic!("{path} has a style"),
                "script" => {
                    assert!(element.inner_html().is_empty() && element.attr("src").is_some(), "{path}")
                }
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn the_files_are_small_and_kept_for_ever() {
    let tasks = seeded("files", "queue").await;
    let router = router(&tasks, "/", "files");
    let page = get(&router, "/").await.text;
    for (selector, name, limit) in [("link[rel=stylesheet]", "href", 20_000), ("script", "src", 14_000)] {
        let document = Html::parse_document(&page);
        let path = document
            .select(&Selector::parse(selector).unwrap())
            .next()
            .unwrap()
            .attr(name)
            .unwrap()
            .to_owned();
        let request = Request::get(path).header(header::HOST, "localhost").body(Body::empty()).unwrap();
        let response = soon(router.clone().oneshot(request)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        let bytes = soon(axum::body::to_bytes(response.into_body(), 1 << 20)).await.unwrap();
        assert!((1_000..=limit).contains(&bytes.len()), "{selector} has {} bytes", bytes.len());
    }
}

#[tokio::test]
async fn forms_act_and_lead_back_by_303() {
    let tasks = seeded("forms", "queue").await;
    let router = router(&tasks, "/x/y", "forms");
    let failed = soon(tasks.list(TaskFilter::new().status(TaskStatus::Failed))).await.unwrap();
    let id = failed.items[0].id;

    let answer = post(&router, &format!("/x/y/tasks/{id}/retry"), "").await;
    assert_eq!(
        (answer.status, answer.location),
        (StatusCode::SEE_OTHER, Some(format!("/x/y/tasks/{id}?did=retry")))
    );
    eventually("a second run", async || {
        (tasks.get(id).await.unwrap().unwrap().attempts.len() == 2).then_some(())
    })
    .await;

    let preview = post(&router, "/x/y/tasks/preview", "verb=delete&all=true&filter=?status=success").await;
    assert_eq!(preview.status, StatusCode::OK);
    assert!(preview.text.contains("Delete 2 tasks?"), "{}", preview.text);
    assert!(!preview.text.contains("Spread over"), "only tries are spread");
    let spread = post(&router, "/x/y/tasks/act", &format!("{}&spread=10m", filled(&preview.text))).await;
    assert_eq!(spread.status, StatusCode::UNPROCESSABLE_ENTITY);
    let answer = post(&router, "/x/y/tasks/act", &filled(&preview.text)).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert!(answer.location.unwrap().starts_with("/x/y/operations/"));
    eventually("all are deleted", async || (tasks.counts().await.unwrap().success == 0).then_some(())).await;

    let waits = taskflow::NewTask::new("dashboard.works", Ok(r#"{"text":"x"}"#.into()));
    let waits = soon(tasks.add_all([{
        let mut task = waits;
        task.when = taskflow::model::When::In(Duration::from_secs(3600));
        task
    }]));
    let waits = waits.await.unwrap()[0].id();
    soon(tasks.cancel(waits)).await.unwrap();
    let preview = post(&router, "/x/y/tasks/preview", "verb=retry&all=true&filter=?status=cancelled").await;
    assert!(
        preview.text.contains("Spread over") && preview.text.contains("Retry 1 task?"),
        "{}",
        preview.text
    );
    let form = filled(&preview.text);
    let wrong = post(&router, "/x/y/tasks/act", &format!("{form}&spread=soon")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let answer = post(&router, "/x/y/tasks/act", &format!("{form}&spread=10m")).await;
    let page = get(&router, &answer.location.unwrap()).await;
    assert!(page.text.contains("Spread over") && page.text.contains("10 m"), "{}", page.text);

    let answer = post(&router, "/x/y/queues/queue", "concurrency=7&starts=5&per=1m").await;
    assert_eq!(answer.location.as_deref(), Some("/x/y/queues/queue?did=set"));
    let queues = soon(tasks.queues()).await.unwrap();
    assert_eq!(queues.iter().find(|queue| queue.name == "queue").unwrap().concurrency, Some(7));
    let wrong = post(&router, "/x/y/queues/queue", "concurrency=many").await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.text.contains("not a number") && wrong.text.contains("value=\"many\""));

    let added = post(&router, "/x/y/types/dashboard.works/add", "arg.text=hello").await;
    assert!(added.location.unwrap().ends_with("?did=add"));
}

#[tokio::test]
async fn a_paused_queue_says_who_paused_it_and_why() {
    let tasks = seeded("pause", "letters").await;
    let router = router(&tasks, "/", "pause");
    soon(tasks.pause_queue("letters")).await.unwrap();
    let by_a_program = get(&router, "/queues/letters").await.text;
    assert!(by_a_program.contains("Resume") && !by_a_program.contains("Paused by"));

    post(&router, "/queues/letters/pause", "reason=the+printer+burns").await;
    let page = get(&router, "/queues/letters").await.text;
    assert!(page.contains("Paused by anyone now: the printer burns"), "{page}");

    post(&router, "/queues/letters/resume", "").await;
    soon(tasks.pause_queue("letters")).await.unwrap();
    let again = get(&router, "/queues/letters").await.text;
    assert!(again.contains("Resume") && !again.contains("the printer burns"));
}

#[tokio::test]
async fn the_next_ticks_of_a_schedule_are_shown() {
    let tasks = seeded("ticks", "queue").await;
    let hourly = Cron::parse("0 * * * *").unwrap();
    soon(tasks.schedule(works("ticks".to_owned()), hourly).named("hourly").into_future()).await.unwrap();
    let page = Html::parse_document(&get(&router(&tasks, "/", "ticks"), "/schedules").await.text);
    let ticks: Vec<_> = page
        .select(&Selector::parse(".ticks time").unwrap())
        .map(|tick| tick.attr("datetime").unwrap().to_owned())
        .collect();
    assert_eq!(ticks.len(), 5, "{ticks:?}");
    assert!(ticks.iter().all(|tick| tick.contains(":00:00")) && ticks.is_sorted(), "{ticks:?}");
}

#[tokio::test]
async fn tasks_that_are_not_due_are_counted_apart_from_those_that_wait_for_a_retry() {
    let tasks = seeded("apart", "queue").await;
    let hour = Duration::from_secs(3_600);
    for _ in 0..3 {
        soon(tasks.add_task(works, ("later".to_owned(),)).run_in(hour).into_future()).await.unwrap();
    }
    let add = tasks.add_task(fails, ("again".to_owned(),)).retries(1).delay(hour);
    let id = soon(add.into_future()).await.unwrap().id();
    eventually("it failed once", async || {
        let task = tasks.get(id).await.unwrap().unwrap();
        (task.attempt == 1 && task.status == TaskStatus::Pending).then_some(())
    })
    .await;
    let page = Html::parse_document(&get(&router(&tasks, "/", "apart"), "/").await.text);
    let number = |key: &str| {
        let cell = Selector::parse(&format!("[data-v='{key}']")).unwrap();
        page.select(&cell).next().map(|cell| cell.inner_html())
    };
    assert_eq!(number("c.scheduled").as_deref(), Some("3"));
    assert_eq!(number("c.retrying").as_deref(), Some("1"));
    assert_eq!(number("c.waiting").as_deref(), Some("0"));
}

#[tokio::test]
async fn an_actor_of_some_queues_sees_the_types_and_schedules_of_these_only() {
    let tasks = seeded("narrow", "queue").await;
    let daily = Cron::parse("@daily").unwrap();
    soon(tasks.schedule(works("narrow".to_owned()), daily).named("sweep").into_future()).await.unwrap();
    let seen_by = async |queue: &'static str, path: &str| {
        let actor = Actor::new("narrow", Role::Viewer).only_queues([queue]);
        let access = Access::from_request(move |_| std::future::ready(Some(actor.clone())));
        get(&Admin::new(&tasks, access).router(), path).await
    };
    assert!(seen_by("default", "/types").await.text.contains("dashboard.works"));
    assert!(!seen_by("queue", "/types").await.text.contains("dashboard.works"));
    assert_eq!(seen_by("default", "/types/dashboard.works").await.status, StatusCode::OK);
    assert_eq!(seen_by("queue", "/types/dashboard.works").await.status, StatusCode::NOT_FOUND);
    for path in ["/", "/schedules"] {
        assert!(!seen_by("queue", path).await.text.contains("sweep"), "{path}");
    }
    // A bare word of a search stands for the names that the actor sees.
    assert_eq!(seen_by("default", "/tasks?q=works").await.status, StatusCode::SEE_OTHER);
    assert_eq!(seen_by("default", "/api/v1/tasks?q=works").await.status, StatusCode::OK);
    for path in ["/tasks?q=works", "/api/v1/tasks?q=works"] {
        assert_eq!(seen_by("queue", path).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
    }
    let suggestion = r#"value="dashboard.works""#;
    assert!(seen_by("default", "/tasks?status=cancelled").await.text.contains(suggestion));
    assert!(!seen_by("queue", "/tasks?status=cancelled").await.text.contains("dashboard.works"));
    // A schedule that was added at run time may have a queue of its own.
    let own = tasks.add_task(works, ("narrow".to_owned(),)).queue("queue");
    soon(tasks.schedule(own, Cron::parse("@daily").unwrap()).named("tidy").into_future()).await.unwrap();
    for (queue, seen, hidden) in [("default", "sweep", "tidy"), ("queue", "tidy", "sweep")] {
        let page = seen_by(queue, "/schedules").await.text;
        assert!(page.contains(seen) && !page.contains(hidden), "{queue}");
    }
}

/// What others did may concern tasks of other queues.
#[tokio::test]
async fn an_actor_of_some_queues_sees_its_own_acts() {
    let tasks = seeded("own acts", "queue").await;
    let console = Console::new(&tasks);
    let narrow = Actor::new("narrow", Role::Admin).only_queues(["queue"]);
    for actor in [Actor::new("somebody else", Role::Admin), narrow.clone()] {
        let reason = format!("by the hands of {}", actor.name());
        let by = By::new(actor, Face::Program).reason(Some(reason));
        soon(console.pause_queue(&by, "queue")).await.unwrap();
    }
    let all = Admin::new(&tasks, Access::open_to_anyone()).router();
    let access = Access::from_request(move |_| std::future::ready(Some(narrow.clone())));
    let own = Admin::new(&tasks, access).router();
    let [of_another, of_itself] = ["by the hands of somebody else", "by the hands of narrow"];
    for path in ["/audit", "/api/v1/audit"] {
        let (seen, is_asked_for) = (get(&own, path).await.text, format!("{path}?actor=somebody+else"));
        assert!(get(&all, path).await.text.contains(of_another), "{path}");
        assert!(seen.contains(of_itself) && !seen.contains(of_another), "{path}: {seen}");
        assert!(get(&all, &is_asked_for).await.text.contains(of_another), "{path}");
        assert!(!get(&own, &is_asked_for).await.text.contains("by the hands of"), "{path}");
    }
}

#[tokio::test]
async fn the_audit_log_links_an_act_on_many_tasks_to_its_operation() {
    let tasks = seeded("links", "queue").await;
    let by = By::new(Actor::new("ada", Role::Admin), Face::Program);
    let failed = Selection::Filter(TaskFilter::new().status(TaskStatus::Failed));
    let mut running = soon(Console::new(&tasks).begin(&by, Verb::Delete, failed, None, None)).await.unwrap();
    let id = running.within(support::DEADLINE).await.id;
    let page = get(&router(&tasks, "/", "links"), "/audit").await.text;
    assert!(page.contains(&format!("operations/{id}")), "{page}");
    assert!(!page.contains(&format!("tasks/{id}")), "{page}");
}

/// The hidden fields of a page's form, as a browser sends them.
fn filled(page: &str) -> String {
    let page = Html::parse_document(page);
    let mut form = form_urlencoded::Serializer::new(String::new());
    for field in page.select(&Selector::parse("main form input[type=hidden]").unwrap()) {
        form.append_pair(field.attr("name").unwrap(), field.attr("value").unwrap());
    }
    form.finish()
}
