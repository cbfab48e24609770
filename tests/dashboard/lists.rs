//! Lists of tasks: their search, their order, and the links to them.

use std::time::Duration;

use http::StatusCode;
use scraper::{Html, Selector};
use taskflow::web::{Access, Actor, Admin, Role};

use crate::support::soon;
use crate::{get, router, seeded, works};

#[tokio::test]
async fn a_search_leads_to_its_address_and_says_what_is_wrong_with_it() {
    let tasks = seeded("search", "queue").await;
    let router = router(&tasks, "/", "search");
    let answer = get(&router, "/tasks?q=status:failed+tag.plan:pro").await;
    assert_eq!(answer.location.as_deref(), Some("/tasks?status=failed&tag.plan=pro"));
    assert_eq!(get(&router, "/tasks?q=works").await.location.as_deref(), Some("/tasks?name=dashboard.works"));
    let id = taskflow::TaskId::new();
    assert_eq!(get(&router, &format!("/tasks?q={id}")).await.location, Some(format!("/tasks/{id}")));
    for (path, part) in
        [("/tasks?q=stauts:failed", "did you mean `status`"), ("/tasks?status=lost", "there is no `lost`")]
    {
        let answer = get(&router, path).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        assert!(
            answer.text.contains(part) || answer.text.contains(&part.replace('`', "&#96;")),
            "{path}: {}",
            answer.text
        );
    }
    assert_eq!(get(&router, "/tasks?after=nonsense").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(get(&router, &format!("/tasks/{id}")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_list_is_read_from_its_oldest_task_too() {
    let tasks = seeded("order", "queue").await;
    for _ in 0..60 {
        soon(tasks.add_task(works, ("order".to_owned(),)).run_in(Duration::from_secs(60)).into_future())
            .await
            .unwrap();
    }
    let router = router(&tasks, "/", "order");
    let mut path = "/tasks".to_owned();
    let mut lists = Vec::new();
    for _ in 0..2 {
        let mut ids = Vec::new();
        let mut back = Vec::new();
        loop {
            let page = Html::parse_document(&get(&router, &path).await.text);
            let rows = Selector::parse("tr[data-id]").unwrap();
            ids.extend(page.select(&rows).map(|row| row.attr("data-id").unwrap().to_owned()));
            let link = |rel: &str| {
                let link = Selector::parse(&format!("a[rel={rel}]")).unwrap();
                page.select(&link).next().map(|link| link.attr("href").unwrap().to_owned())
            };
            assert_eq!(link("prev"), back.last().cloned(), "{path}");
            back.push(path);
            match link("next") {
                Some(next) => path = next,
                None => break,
            }
        }
        lists.push(ids);
        path = "/tasks?order=oldest".to_owned();
    }
    assert_eq!(lists[0].len(), 64);
    lists[1].reverse();
    assert_eq!(lists[0], lists[1]);
    let page = get(&router, "/tasks?status=success&order=oldest").await.text;
    assert!(page.contains("/tasks?status=success\" title="), "{page}");
    assert!(
        page.contains("/tasks?status=running&amp;order=oldest")
            || page.contains("status=running&#38;order=oldest")
    );
    assert_eq!(get(&router, "/tasks?order=random").await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn the_keys_of_tags_are_offered_and_the_siblings_of_a_task_linked() {
    let tasks = seeded("offered", "queue").await;
    let trace = taskflow::model::TraceContext::new([0xab; 16], [7; 8], true).unwrap();
    let add = || tasks.add_task(works, ("traced".to_owned(),)).trace_context(trace.clone()).tag("tenant", 7);
    let id = soon(add().concurrency_key("seven").into_future()).await.unwrap().id();
    let sibling = soon(add().run_key("sibling").into_future()).await.unwrap().id();
    let router = router(&tasks, "/", "offered");
    let offers = |text: &str| {
        let page = Html::parse_document(text);
        let options = Selector::parse("#words option").unwrap();
        let offered = page.select(&options).map(|it| it.attr("value").unwrap().to_owned());
        offered.filter(|word| word.starts_with("tag.")).collect::<Vec<_>>()
    };
    assert_eq!(offers(&get(&router, "/tasks").await.text), ["tag.offered:", "tag.tenant:"]);
    let narrow = Actor::new("narrow", Role::Viewer).only_queues(["default"]);
    let access = Access::from_request(move |_| std::future::ready(Some(narrow.clone())));
    let seen = get(&Admin::new(&tasks, access).router(), "/tasks").await.text;
    assert_eq!(offers(&seen), ["tag.tenant:"]);

    let page = get(&router, &format!("/tasks/{id}")).await.text;
    assert!(page.contains("href=\"/tasks?concurrency_key=seven\""), "{page}");
    let link = "/tasks?trace=abababababababababababababababab";
    assert!(page.contains(&format!("href=\"{link}\"")), "{page}");
    let siblings = Html::parse_document(&get(&router, link).await.text);
    let rows = Selector::parse("tr[data-id]").unwrap();
    let ids: Vec<_> = siblings.select(&rows).map(|row| row.attr("data-id").unwrap().to_owned()).collect();
    assert_eq!(ids, [sibling.to_string(), id.to_string()]);
}
