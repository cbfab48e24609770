//! The OpenAPI document, made from the table of routes and the schemas beside this file.

use std::sync::OnceLock;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::web::call::{self, Call};
use crate::web::problem::Problem;
use crate::web::route::{Docs, EMPTY, FILTER, Needs, Route};

/// The schemas of all bodies.
const SCHEMAS: &str = include_str!("schemas.json");

static DOCUMENT: OnceLock<Value> = OnceLock::new();

/// The name, the type and the description of each field of a query string, besides the words of filters.
const FIELDS: [(&str, &str, &str); 18] = [
    ("q", "string", "A filter as in the search box: `status:failed name:send_email since:6h`"),
    ("limit", "integer", "The most items of a page, 1 to 1,000, with `view=full` 1 to 100; default 100"),
    ("after", "string", "The `next` of the page before; for events, how many log lines to leave out"),
    (
        "order",
        "string",
        "`newest` first (default), or `oldest` first; all pages of a list must have the same",
    ),
    ("view", "string", "`row` (default), or `full` with arguments, results, progress and attempts"),
    ("up_to", "integer", "Up to which number to count, 1 to 20,000; default 10,000"),
    ("attempt", "integer", "Only lines of this attempt"),
    ("level", "string", "Only lines of this level and above: `debug`, `info`, `warn` or `error`"),
    ("since", "string", "Only since this instant: RFC 3339, a date in UTC, or `-6h`"),
    ("actor", "string", "Only acts of this actor"),
    ("action", "string", "Only this act"),
    ("target", "string", "Only acts on this thing"),
    ("queue", "string", "Only this queue; for failures it may be repeated"),
    ("name", "string", "Only tasks of this name; for failures it may be repeated"),
    ("from", "string", "The start: RFC 3339, a date in UTC, or `-6h`; default an hour ago; needed with `to`"),
    ("step", "string", "The length of a step in whole minutes: `5m`"),
    ("by", "string", "How to group: `all` (default), `name`, `queue` or `outcome`"),
    ("to", "string", "The end: RFC 3339, a date in UTC, or `-6h`; default now"),
];

/// Makes the document of these routes; only the first call does.
pub(crate) fn describe(routes: impl Iterator<Item = &'static Route>) {
    DOCUMENT.get_or_init(|| document(routes));
}

pub(super) async fn show(call: Call) -> Result<Response, Problem> {
    let mut document = DOCUMENT.get().cloned().unwrap_or_default();
    let base = if call.base.is_empty() { "/" } else { &call.base };
    document["servers"] = json!([{ "url": base }]);
    Ok(call::json(StatusCode::OK, &document))
}

fn document(routes: impl Iterator<Item = &'static Route>) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let Some(docs) = &route.docs else { continue };
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation(route, docs);
    }
    let schemas: Value = serde_json::from_str(SCHEMAS).expect("the schemas are JSON");
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "taskflow",
            "version": "1",
            "summary": "Read, add and control background tasks.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "security": [{ "bearer": [] }, { "session": [] }, { "session_over_http": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Problem": {
                    "description": "It was refused, or it failed.",
                    "content": { "application/problem+json": { "schema": schema("Problem") } },
                },
            },
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": "__Host-taskflow" },
                "session_over_http": { "type": "apiKey", "in": "cookie", "name": "taskflow" },
            },
        },
    })
}

fn operation(route: &Route, docs: &Docs) -> Value {
    let within = route.path.trim_start_matches("/api/v1/").trim_start_matches('/');
    let words = within.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let id = words.fold(route.method.to_ascii_lowercase(), |id, word| format!("{id}_{word}"));
    let tag = within.split(['/', '.']).next().unwrap_or_default();
    let mut responses = Map::new();
    for (status, answer) in docs.answers {
        responses.insert(status.to_string(), response(answer));
    }
    responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/Problem" }));
    let mut operation = json!({
        "operationId": id,
        "tags": [tag],
        "summary": docs.summary,
        "parameters": parameters(route.path, docs),
        "responses": responses,
    });
    match route.needs {
        Needs::Nothing => operation["security"] = json!([]),
        Needs::Actor => {}
        Needs::Permission(permission) => operation["x-permission"] = json!(permission.as_str()),
    }
    if let Some(body) = docs.body {
        let content = json!({ "application/json": { "schema": schema(body) } });
        operation["requestBody"] = json!({ "content": content });
    }
    operation
}

fn response(answer: &str) -> Value {
    let any = json!({});
    match answer {
        EMPTY => json!({ "description": "Done." }),
        // A media type.
        kind if kind.contains('/') => json!({ "description": "Done.", "content": { kind: any } }),
        name => {
            let content = json!({ "application/json": { "schema": schema(name) } });
            json!({ "description": "Done.", "content": content })
        }
    }
}

fn schema(name: &str) -> Value {
    match name {
        "Document" => json!({ "type": "object" }),
        name => json!({ "$ref": format!("#/components/schemas/{name}") }),
    }
}

fn parameters(path: &str, docs: &Docs) -> Vec<Value> {
    let named = path.split('{').skip(1).filter_map(|part| part.split('}').next());
    let in_path = named.map(|name| {
        let schema = if name == "id" { schema("Id") } else { json!({ "type": "string" }) };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let in_query = docs.query.iter().map(|field| {
        if *field == FILTER {
            return json!({
                "name": "filter", "in": "query", "style": "form", "explode": true, "schema": schema("Filter"),
                "description": "Each word of the filter is a field of the query string.",
            });
        }
        let (_, kind, what) = FIELDS.iter().find(|(name, ..)| name == field).unwrap_or(&("", "string", ""));
        json!({ "name": field, "in": "query", "description": what, "schema": { "type": kind } })
    });
    in_path.chain(in_query).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::api::ROUTES;

    #[test]
    fn every_route_is_described_and_each_schema_that_it_names_exists() {
        let schemas: Value = serde_json::from_str(SCHEMAS).expect("JSON");
        let exists = |name: &str| {
            name.is_empty() || name.contains('/') || name == "Document" || schemas.get(name).is_some()
        };
        for route in ROUTES {
            let docs =
                route.docs.unwrap_or_else(|| panic!("{} {} has no documentation", route.method, route.path));
            for name in docs.answers.iter().map(|(_, answer)| *answer).chain(docs.body) {
                assert!(exists(name), "{name}");
            }
            for field in docs.query.iter().filter(|field| **field != FILTER) {
                assert!(FIELDS.iter().any(|(name, ..)| name == field), "{field} is not described");
            }
        }
    }
}
