//! The fields of query strings.

use std::time::SystemTime;

use crate::admin::grammar::{self, Search};
use crate::model::{Cursor, Order, TaskFilter};
use crate::web::call::Call;
use crate::web::problem::Problem;

/// The default of `limit`.
const DEFAULT_LIMIT: usize = 100;

/// The tasks that the query string selects, of those that the actor may see.
pub(super) async fn filter(call: &Call) -> Result<TaskFilter, Problem> {
    let mut pairs = call.query.clone();
    if let Some(text) = call.field("q") {
        let search = Search::parse(text)?;
        if let Some(id) = search.id {
            return Err(Problem::invalid("q", format!("it is an id: GET /api/v1/tasks/{id}")));
        }
        let known = match search.bare.is_empty() {
            true => Vec::new(),
            false => call.console().types(&call.actor).await?,
        };
        pairs.extend(search.expand(&known.iter().map(|task| task.name.as_str()).collect::<Vec<_>>())?);
    }
    let pairs = pairs.iter().map(|(word, value)| (word.as_str(), value.as_str()));
    Ok(call.actor.narrow(grammar::filter(pairs, call.now())?))
}

/// `limit`: from 1 to `most`; default 100.
pub(super) fn limit(call: &Call, most: usize) -> Result<usize, Problem> {
    number(call, "limit", 1..=most).map(|limit| limit.unwrap_or(DEFAULT_LIMIT.min(most)))
}

/// A whole number within a range.
pub(super) fn number(
    call: &Call,
    field: &str,
    range: std::ops::RangeInclusive<usize>,
) -> Result<Option<usize>, Problem> {
    let Some(text) = call.field(field) else { return Ok(None) };
    match text.parse::<usize>() {
        Ok(number) if range.contains(&number) => Ok(Some(number)),
        _ => {
            let (first, last) = range.into_inner();
            Err(Problem::invalid(field, format!("`{text}` is not a whole number from {first} to {last}")))
        }
    }
}

/// `after`: the `next` of the page before.
pub(super) fn cursor(call: &Call) -> Result<Option<Cursor>, Problem> {
    let Some(text) = call.field("after") else { return Ok(None) };
    let id = text.parse().map_err(|_| {
        Problem::invalid("after", format!("`{text}` is no cursor: pass the `next` of the page before"))
    })?;
    Ok(Some(Cursor::after(id)))
}

/// `order`: `newest` or `oldest` first.
pub(super) fn order(call: &Call) -> Result<Order, Problem> {
    let oldest = word(call, "order", &[Order::Newest.as_str(), Order::Oldest.as_str()])?;
    Ok(if oldest == Some(Order::Oldest.as_str()) { Order::Oldest } else { Order::Newest })
}

/// An instant: RFC 3339, a date, or `-6h`.
pub(super) fn instant(call: &Call, field: &str) -> Result<Option<SystemTime>, Problem> {
    let Some(text) = call.field(field) else { return Ok(None) };
    Ok(Some(grammar::instant(field, text, call.now())?))
}

/// One of several words.
pub(super) fn word<'a>(call: &Call, field: &str, words: &[&'a str]) -> Result<Option<&'a str>, Problem> {
    let Some(text) = call.field(field) else { return Ok(None) };
    let found = words.iter().find(|word| **word == text);
    let wrong =
        || Problem::invalid(field, format!("there is no `{text}`; it is one of {}", words.join(", ")));
    found.copied().map(Some).ok_or_else(wrong)
}
