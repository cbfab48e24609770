//! Exports: many tasks as CSV or as lines of JSON, read page by page as the client takes them.

use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::header::{self, HeaderValue};

use super::query::filter;
use super::row::Whole;
use crate::model::{Cursor, Error, Page, TaskFilter, TaskRecord, time};
use crate::web::call::Call;
use crate::web::problem::Problem;

/// The most rows of one export.
const MAX_ROWS: usize = 100_000;

/// How many records are in memory at once.
const PAGE: usize = 100;

const COLUMNS: [&str; 23] = [
    "id",
    "name",
    "queue",
    "status",
    "phase",
    "priority",
    "source",
    "attempt",
    "max_attempts",
    "created_at",
    "run_at",
    "scheduled_for",
    "expires_at",
    "started_at",
    "finished_at",
    "timeout",
    "idempotency_key",
    "run_key",
    "concurrency_key",
    "tags",
    "args",
    "result",
    "error",
];

#[derive(Clone, Copy, Debug)]
enum Format {
    Csv,
    Lines,
}

pub(super) async fn csv(call: Call) -> Result<Response, Problem> {
    export(call, Format::Csv, "text/csv; charset=utf-8; header=present", "attachment; filename=\"tasks.csv\"")
        .await
}

pub(super) async fn lines(call: Call) -> Result<Response, Problem> {
    export(call, Format::Lines, "application/x-ndjson", "attachment; filename=\"tasks.ndjson\"").await
}

async fn export(
    call: Call,
    format: Format,
    kind: &'static str,
    disposition: &'static str,
) -> Result<Response, Problem> {
    let filter = filter(&call).await?.limit(PAGE);
    // The first page is read here, so that a store that is away is told by the status.
    let first = call.console().tasks().list(filter.clone()).await?;
    let mut parts = VecDeque::new();
    if matches!(format, Format::Csv) {
        parts.push_back(record_of(&COLUMNS.map(str::to_owned)));
    }
    let mut export = Export { call, format, filter, rows: 0, next: None, parts };
    export.write(first);
    let parts = futures_util::stream::unfold(Some(export), |export| async {
        let mut export = export?;
        match export.part().await {
            Ok(Some(part)) => Some((Ok(part), Some(export))),
            Ok(None) => None,
            // The connection breaks, so that nobody takes a part for the whole.
            Err(error) => Some((Err(error), None)),
        }
    });
    let mut response = Response::new(Body::from_stream(parts));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(disposition));
    Ok(response)
}

struct Export {
    call: Call,
    format: Format,
    filter: TaskFilter,
    rows: usize,
    next: Option<Cursor>,
    parts: VecDeque<Bytes>,
}

impl Export {
    async fn part(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return Ok(Some(part));
            }
            let Some(next) = self.next.take().filter(|_| self.rows < MAX_ROWS) else { return Ok(None) };
            self.filter.after = Some(next);
            let page = self.call.console().tasks().list(self.filter.clone()).await?;
            self.write(page);
        }
    }

    fn write(&mut self, page: Page<TaskRecord>) {
        self.next = page.next;
        let left = MAX_ROWS - self.rows;
        let mut text = Vec::new();
        for record in page.items.into_iter().take(left) {
            self.rows += 1;
            match self.format {
                Format::Csv => {
                    let record = self.call.desk.shown(&self.call.actor, record);
                    text.extend_from_slice(&record_of(&cells(&record)));
                }
                Format::Lines => {
                    let whole = Whole::of(&self.call, record);
                    serde_json::to_writer(&mut text, &whole).expect("a record is JSON");
                    text.push(b'\n');
                }
            }
        }
        if !text.is_empty() {
            self.parts.push_back(text.into());
        }
    }
}

fn cells(record: &TaskRecord) -> [String; COLUMNS.len()] {
    let at = |at: Option<std::time::SystemTime>| at.map(time::rfc3339).unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    [
        record.id.to_string(),
        record.name.clone(),
        record.queue.clone(),
        record.status.to_string(),
        record.phase().as_str().to_owned(),
        record.priority.to_string(),
        record.source.as_str().to_owned(),
        record.attempt.to_string(),
        record.max_attempts.to_string(),
        time::rfc3339(record.created_at),
        time::rfc3339(record.run_at),
        at(record.scheduled_for),
        at(record.expires_at),
        at(record.started_at),
        at(record.finished_at),
        record.timeout.map(|timeout| timeout.as_secs_f64().to_string()).unwrap_or_default(),
        text(&record.idempotency_key),
        text(&record.run_key),
        text(&record.concurrency_key),
        serde_json::to_string(&record.tags).expect("texts are JSON"),
        record.args.get().to_owned(),
        record.result.as_ref().map(|result| result.get().to_owned()).unwrap_or_default(),
        text(&record.error),
    ]
}

/// One record of CSV. A spreadsheet executes a cell that looks like a formula, so such a cell gets a quote before it;
/// a negative number is none.
fn record_of(cells: &[String]) -> Bytes {
    let is_number = |cell: &str| cell.starts_with('-') && cell[1..].parse::<u64>().is_ok();
    let is_formula = |cell: &str| cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number(cell);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let cells = cells.iter().map(|cell| if is_formula(cell) { format!("'{cell}") } else { cell.clone() });
    writer.write_record(cells).expect("memory takes it");
    writer.into_inner().expect("memory takes it").into()
}
