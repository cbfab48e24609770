//! Types: the tasks that running programs have; and the page of one of them, with its options and a form to add it.

use std::time::Duration;

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use serde_json::value::RawValue;

use super::rows::Row;
use crate::admin::{Permission, failures, grammar};
use crate::model::{NewTask, TaskFilter, TaskInfo, When as RunAt};
use crate::web::call::{Call, see_other};
use crate::web::dashboard::chart::{Histogram, Throughput};
use crate::web::dashboard::frame::{self, Cell, Frame, query, segment};
use crate::web::dashboard::history;
use crate::web::dashboard::words::{counted, length, number};
use crate::web::problem::Problem;

#[derive(Template)]
#[template(path = "types.html")]
struct List {
    f: Frame,
    summary: String,
    types: Vec<Shown>,
    has_stats: bool,
}

struct Shown {
    name: String,
    href: String,
    summary: String,
    parameters: String,
    queue: String,
    retries: String,
    runs: String,
    failed: String,
    p50: String,
    p95: String,
    known_by: String,
    is_failing: bool,
    differs: bool,
}

#[derive(Template)]
#[template(path = "type.html")]
struct One {
    f: Frame,
    name: String,
    href: String,
    summary: String,
    differs: bool,
    tasks_query: String,
    strip: Option<Vec<Cell>>,
    chart: Option<Throughput>,
    histogram: Option<Histogram>,
    histogram_text: String,
    failures: Vec<Row>,
    parameters: Vec<(String, String)>,
    facts: Vec<Fact>,
    fields: Vec<Field>,
    run_in: String,
    key: String,
    problem: String,
    may_add: bool,
}

struct Fact {
    label: &'static str,
    text: String,
}

struct Field {
    name: String,
    type_name: String,
    is_optional: bool,
    value: String,
}

pub(crate) async fn list(call: Call) -> Result<Response, Problem> {
    let tasks = call.console().tasks();
    let beat = call.state.live.beat(tasks).await?;
    let types = call.console().types(&call.actor).await?;
    let stats = history::by_name(&call).await;
    let shown = types.iter().map(|it| {
        let day = stats.as_ref().and_then(|stats| stats.of(&it.name));
        let of_day = |text: fn(&history::Day) -> String| day.as_ref().map_or("–".to_owned(), text);
        Shown {
            name: it.name.clone(),
            href: format!("{}/types/{}", call.base, segment(&it.name)),
            summary: it.summary.clone().unwrap_or_default(),
            parameters: it
                .parameters
                .iter()
                .map(|it| format!("{}: {}", it.name, it.type_name))
                .collect::<Vec<_>>()
                .join(", "),
            queue: it.queue.clone(),
            retries: it.retries.to_string(),
            runs: of_day(|day| number(day.runs)),
            failed: of_day(history::Day::failed_share),
            p50: of_day(|day| day.p50.map_or("–".to_owned(), length)),
            p95: of_day(|day| day.p95.map_or("–".to_owned(), length)),
            known_by: counted(it.known_by as u64, "process"),
            is_failing: day.as_ref().is_some_and(|day| day.failed * 20 > day.runs),
            differs: it.differs,
        }
    });
    let view = List {
        f: Frame::new(&call, "Types", "types", Some(&beat)),
        summary: format!("{} that running programs have", counted(types.len() as u64, "task")),
        types: shown.collect(),
        has_stats: stats.is_some(),
    };
    frame::answer(&call, &view)
}

pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    let view = view(&call, &[], String::new()).await?;
    frame::answer(&call, &view)
}

async fn view(call: &Call, form: &[(String, String)], problem: String) -> Result<One, Problem> {
    let tasks = call.console().tasks();
    let (now, beat) = (call.now(), call.state.live.beat(tasks).await?);
    let name = call.param("name");
    let types = call.console().types(&call.actor).await?;
    let info = types.iter().find(|task| task.name == name);
    let info = info.or_else(|| types.iter().find(|task| task.aliases.iter().any(|alias| alias == name)));
    let info = info.ok_or_else(|| Problem::not_found(format!("no running program has a task `{name}`")))?;
    let mut filter = TaskFilter::new().name(&info.name).limit(10);
    filter.statuses = failures::BAD.to_vec();
    let failures = tasks.list_outlines(&call.actor.narrow(filter)).await?.items;
    let said = |name: &str| {
        form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let fields = info.parameters.iter().map(|it| Field {
        name: it.name.clone(),
        type_name: it.type_name.clone(),
        is_optional: it.is_optional,
        value: said(&format!("arg.{}", it.name)),
    });
    let day = history::by_name(call).await.and_then(|stats| stats.of(&info.name));
    let (histogram, histogram_text) = history::run_times(call, &info.name, None).await;
    Ok(One {
        f: Frame::new(call, info.name.clone(), "types", Some(&beat)),
        href: format!("{}/types/{}", call.base, segment(&info.name)),
        summary: info.summary.clone().unwrap_or_default(),
        differs: info.differs,
        tasks_query: query([("name", &info.name)]),
        strip: day.map(|day| strip(&info.name, &day)),
        chart: history::throughput(call, now, Some(&info.name)).await,
        histogram,
        histogram_text,
        failures: failures.iter().map(|record| Row::new(record, now)).collect(),
        parameters: info.parameters.iter().map(|it| (it.name.clone(), it.type_name.clone())).collect(),
        facts: facts(info),
        fields: fields.collect(),
        run_in: said("run_in"),
        key: said("key"),
        problem,
        may_add: call.may(Permission::Add) && call.actor.sees_queue(&info.queue),
        name: info.name.clone(),
    })
}

fn strip(name: &str, day: &history::Day) -> Vec<Cell> {
    let cell = |label, title, value, words: &[(&str, &str)]| Cell {
        key: String::new(),
        class: "",
        label,
        title,
        value,
        query: query([("name", name)].into_iter().chain(words.iter().copied())),
    };
    let time = |length: Option<Duration>| length.map_or("–".to_owned(), self::length);
    vec![
        cell("Runs, 24 h", "Attempts that ended", number(day.runs), &[]),
        cell("Failed", "Attempts that did not succeed", day.failed_share(), &[("status", "failed")]),
        cell("p50 run", "Half of the runs took at most this long", time(day.p50), &[]),
        cell("p95 run", "95 % of the runs took at most this long", time(day.p95), &[]),
        cell("p95 wait", "95 % of the tasks waited at most this long", time(day.wait), &[]),
    ]
}

fn facts(info: &TaskInfo) -> Vec<Fact> {
    let fact = |label, text: String| Fact { label, text };
    let mut facts = vec![
        fact("Queue", info.queue.clone()),
        fact("Priority", info.priority.to_string()),
        fact("Runs", if info.is_blocking { "on a thread of its own" } else { "as a future" }.to_owned()),
        fact("Retries", info.retries.to_string()),
    ];
    if info.retries > 0 {
        facts.push(fact(
            "Delay",
            format!("{} × {}, at most {}", length(info.delay), info.backoff, length(info.max_delay)),
        ));
        facts.push(fact("Jitter", format!("± {:.0} %", info.jitter * 100.0)));
    }
    facts.push(fact("Timeout", info.timeout.map_or("none".to_owned(), length)));
    if info.eager {
        facts.push(fact("Eager", "starts at once if a slot is free".to_owned()));
    }
    let lost = if info.requeue_on_interrupt || info.retries > 0 { "runs again" } else { "is interrupted" };
    facts.push(fact("A lost run", lost.to_owned()));
    if !info.aliases.is_empty() {
        facts.push(fact("Former names", info.aliases.join(", ")));
    }
    facts.push(fact("Known by", counted(info.known_by as u64, "process")));
    facts
}

/// Adds one task with the arguments of the form.
pub(crate) async fn add(call: Call) -> Result<Response, Problem> {
    let form = call.form().await?;
    let name = call.param("name").to_owned();
    let types = call.console().tasks().tasks().await?;
    let Some(info) = types.iter().find(|task| task.name == name && call.actor.sees_queue(&task.queue)) else {
        return Err(Problem::not_found(format!("no running program has a task `{name}`")));
    };
    let task = match new_task(info, &form) {
        Ok(task) => task,
        Err(problem) => return refused(&call, &form, problem).await,
    };
    let (console, by) = (call.console(), call.by());
    let act = async {
        console.tasks().learn_queues().await?;
        Ok(console.tasks().add_all([task]).await?.pop())
    };
    match console.audited(&by, Permission::Add, "add", &name, None, act).await {
        Ok(None) => Err(Problem::degraded("the store did not say which task it added")),
        Ok(Some(added)) => {
            let did = if added.is_duplicate() { "duplicate" } else { "add" };
            Ok(see_other(&format!("{}/tasks/{}?did={did}", call.base, added.id())))
        }
        Err(error) => {
            let problem = Problem::from(error);
            match problem.status {
                StatusCode::UNPROCESSABLE_ENTITY | StatusCode::TOO_MANY_REQUESTS => {
                    refused(&call, &form, problem.detail).await
                }
                _ => Err(problem),
            }
        }
    }
}

async fn refused(call: &Call, form: &[(String, String)], problem: String) -> Result<Response, Problem> {
    frame::page(StatusCode::UNPROCESSABLE_ENTITY, &view(call, form, problem).await?)
}

/// The task that the form describes.
fn new_task(info: &TaskInfo, form: &[(String, String)]) -> Result<NewTask, String> {
    let said = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim());
    let mut args = String::from("{");
    for parameter in &info.parameters {
        let text = said(&format!("arg.{}", parameter.name));
        if text.is_empty() && parameter.is_optional {
            continue;
        }
        let is_text = matches!(parameter.type_name.as_str(), "String" | "& str" | "&str" | "Box<str>");
        let value = match serde_json::from_str::<&RawValue>(text) {
            Ok(json) if !is_text || text.starts_with('"') => json.get().to_owned(),
            // Where the parameter is text, the input is the text itself, even if it looks like a number or lacks a quote.
            _ if is_text => serde_json::Value::from(text).to_string(),
            _ => return Err(format!("`{}` is not JSON: {text}", parameter.name)),
        };
        if args.len() > 1 {
            args.push(',');
        }
        args.push_str(&serde_json::Value::from(parameter.name.as_str()).to_string());
        args.push(':');
        args.push_str(&value);
    }
    args.push('}');
    let mut task = info.new_task(args);
    task.idempotency_key = Some(said("key").to_owned()).filter(|key| !key.is_empty());
    task.when = match said("run_in") {
        "" => RunAt::Now,
        text => RunAt::In(
            grammar::length(text)
                .ok_or_else(|| format!("“Run in” is `{text}`: write a length such as 30s, 5m or 2h"))?,
        ),
    };
    Ok(task)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ParameterInfo;

    fn send_email() -> TaskInfo {
        let parameter =
            |name: &str, kind: &str, is_optional| ParameterInfo::new(name.into(), kind.into(), is_optional);
        let mut info = TaskInfo::new("send_email".to_owned());
        info.parameters = vec![
            parameter("to", "String", false),
            parameter("user", "u64", false),
            parameter("cc", "Option<String>", true),
        ];
        info
    }

    fn args(pairs: &[(&str, &str)]) -> Result<String, String> {
        let form: Vec<_> =
            pairs.iter().map(|(key, value)| (format!("arg.{key}"), (*value).to_owned())).collect();
        let task = new_task(&send_email(), &form)?;
        Ok(task.args.expect("the arguments are JSON").to_string())
    }

    #[test]
    fn the_arguments_of_the_form_are_json_and_texts_need_no_quotes() {
        let big = "18446744073709551615";
        assert_eq!(
            args(&[("to", "ada@b.c"), ("user", big)]).unwrap(),
            format!(r#"{{"to":"ada@b.c","user":{big}}}"#)
        );
        assert_eq!(
            args(&[("to", "\"a\""), ("user", "1"), ("cc", "null")]).unwrap(),
            r#"{"to":"a","user":1,"cc":null}"#
        );
        assert_eq!(args(&[("to", "42"), ("user", "1")]).unwrap(), r#"{"to":"42","user":1}"#);
        assert!(args(&[("to", "a"), ("user", "ada")]).unwrap_err().contains("`user` is not JSON"));
        assert!(args(&[("to", "a"), ("user", "")]).unwrap_err().contains("`user` is not JSON"));
    }
}
