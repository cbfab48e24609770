//! Acts on many tasks: the preview, and the start.

use std::time::Duration;

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use super::rows::Row;
use crate::admin::{Selection, Verb, grammar};
use crate::model::{TaskFilter, time};
use crate::web::call::{Call, see_other};
use crate::web::dashboard::frame::{self, Frame, query};
use crate::web::dashboard::words::{counted, number};
use crate::web::problem::Problem;

#[derive(Template)]
#[template(path = "preview.html")]
struct View {
    f: Frame,
    title: String,
    question: String,
    verb: &'static str,
    consequence: &'static str,
    nothing: &'static str,
    is_nothing: bool,
    chips: Vec<String>,
    sample: Vec<Row>,
    more: String,
    fields: Vec<(&'static str, String)>,
    query: String,
    button: String,
}

/// The verb of a form, and the tasks that it selects.
struct Chosen {
    verb: Verb,
    selection: Selection,
    /// The query string of the list.
    query: String,
    chips: Vec<String>,
    is_empty: bool,
}

async fn chosen(call: &Call) -> Result<(Chosen, Vec<(String, String)>), Problem> {
    let form = call.form().await?;
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let verb = match field("verb") {
        Some("retry") => Verb::Retry,
        Some("cancel") => Verb::Cancel,
        Some("delete") => Verb::Delete,
        _ => return Err(Problem::invalid("verb", "it is `retry`, `cancel` or `delete`")),
    };
    let text = field("filter").unwrap_or_default().trim_start_matches('?');
    let pairs: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
    for (word, _) in &pairs {
        grammar::check_word(word, &[])?;
    }
    let query = query(pairs.iter().map(|(k, v)| (k, v)));
    if field("all") == Some("true") {
        let filter = grammar::filter(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())), call.now())?;
        // Whoever ticks “all that match” without a filter means every task.
        let is_open = pairs.is_empty();
        let filter = if is_open { TaskFilter::all() } else { filter };
        let chips = match is_open {
            true => vec!["every task".to_owned()],
            false => {
                pairs.iter().map(|(word, value)| grammar::text([(word.as_str(), value.as_str())])).collect()
            }
        };
        return Ok((
            Chosen { verb, selection: Selection::Filter(filter), query, chips, is_empty: false },
            form,
        ));
    }
    let ids = form.iter().filter(|(key, _)| key == "id");
    let ids: Result<Vec<_>, _> = ids.map(|(_, id)| id.parse()).collect();
    let ids = ids.map_err(|_| Problem::invalid("id", "it is not an id: an id is a UUID"))?;
    let is_empty = ids.is_empty();
    Ok((Chosen { verb, selection: Selection::Ids(ids), query, chips: Vec::new(), is_empty }, form))
}

fn consequence(verb: Verb) -> &'static str {
    match verb {
        Verb::Retry => {
            "Each task runs again with as many attempts as it had at first. Its arguments, key and tags stay. An interrupted \
             task may have had effects before."
        }
        Verb::Cancel => {
            "A waiting task is cancelled and never runs. A running one is asked to stop; what it has done so far stays done."
        }
        Verb::Delete => {
            "The records are deleted with their attempts, log lines and results. This cannot be undone."
        }
    }
}

fn title(verb: Verb) -> &'static str {
    match verb {
        Verb::Retry => "Retry",
        Verb::Cancel => "Cancel",
        Verb::Delete => "Delete",
    }
}

/// Shows how many tasks the act would reach, with examples, and asks for confirmation.
pub(crate) async fn preview(call: Call) -> Result<Response, Problem> {
    let (chosen, _) = chosen(&call).await?;
    let Chosen { verb, selection, query, chips, is_empty } = chosen;
    let beat = call.state.live.beat(call.console().tasks()).await?;
    let preview = match is_empty {
        true => None,
        false => Some(call.console().preview(&call.actor, verb, &selection).await?),
    };
    let matching = preview.as_ref().map_or(0, |preview| preview.matching);
    let now = call.now();
    let at_least = |exact: bool| if exact { "" } else { "at least " };
    let (mut fields, mut sample, mut more, mut many) = (Vec::new(), Vec::new(), String::new(), String::new());
    if let Some(preview) = &preview {
        fields.push(("verb", verb.as_str().to_owned()));
        match &selection {
            Selection::Filter(filter) => {
                // Make relative times absolute, so that the act selects the same tasks as this page.
                let pairs = grammar::pairs(filter);
                fields.push(("filter", frame::query(pairs.iter().map(|(k, v)| (k, v)))));
                fields.push(("all", "true".to_owned()));
            }
            Selection::Ids(ids) => fields.extend(ids.iter().map(|id| ("id", id.to_string()))),
        }
        fields.push(("frozen_at", time::rfc3339(preview.frozen_at)));
        fields.push(("expect", preview.matching.to_string()));
        sample = preview.sample.iter().map(|record| Row::new(record, now)).collect();
        let names = preview.by_name.iter().take(6).map(|(name, n)| format!("{} {name}", number(*n)));
        let names: Vec<_> = names.collect();
        more = match matching.saturating_sub(sample.len() as u64) {
            0 => String::new(),
            left => format!("and {}{} more: {}", at_least(preview.exact), number(left), names.join(", ")),
        };
        many = format!("{}{}", at_least(preview.exact), counted(preview.matching, "task"));
    }
    let view = View {
        f: Frame::new(&call, title(verb), "tasks", Some(&beat)),
        title: format!("{} {}", title(verb), if many.is_empty() { "tasks" } else { &many }),
        question: format!("{} {many}?", title(verb)),
        verb: verb.as_str(),
        consequence: consequence(verb),
        nothing: match is_empty {
            true => "Select tasks in the list first, or “all that match”.",
            false => "None of the selected tasks is in a state in which this is possible.",
        },
        is_nothing: matching == 0,
        chips,
        sample,
        more,
        fields,
        query,
        button: format!("{} {many}", title(verb)),
    };
    frame::page(StatusCode::OK, &view)
}

/// How long the answer waits for the act to end.
const WITHIN: Duration = Duration::from_millis(700);

/// Begins the act that a preview showed, and redirects to the page of its progress.
pub(crate) async fn act(call: Call) -> Result<Response, Problem> {
    let (chosen, form) = chosen(&call).await?;
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let frozen_at = field("frozen_at")
        .ok_or_else(|| Problem::invalid("frozen_at", "it is missing: look at the preview"))?;
    let frozen_at = grammar::instant("frozen_at", frozen_at, call.now())?;
    let expect = field("expect").unwrap_or_default();
    let expect = expect.parse().map_err(|_| Problem::invalid("expect", "it is not a number"))?;
    let spread = match field("spread").filter(|spread| !spread.is_empty()) {
        Some(_) if chosen.verb != Verb::Retry => {
            return Err(Problem::invalid("spread", "only retries are spread"));
        }
        Some(spread) => Some(
            grammar::length(spread)
                .ok_or_else(|| Problem::invalid("spread", "it is not a length of time: write `10m`"))?,
        ),
        None => None,
    };
    let by = call.by().reason(field("reason").map(str::to_owned));
    let (console, selection) = (call.console(), chosen.selection);
    let (frozen_at, expect) = (Some(frozen_at), Some(expect));
    let mut running = match spread {
        Some(spread) => console.begin_retry_over(&by, spread, selection, frozen_at, expect).await?,
        None => console.begin(&by, chosen.verb, selection, frozen_at, expect).await?,
    };
    let operation = running.within(WITHIN).await;
    Ok(see_other(&format!("{}/operations/{}", call.base, operation.id)))
}
