//! Exports: many tasks as CSV or as lines of JSON, read page by page as the client takes them.

use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::header::{self, HeaderValue};

use super::query::filter;
use crate::admin::views::{WholeTask, csv};
use crate::model::{Cursor, Error, Page, TaskFilter, TaskRecord};
use crate::web::call::Call;
use crate::web::problem::Problem;

/// The most rows of one export.
const MAX_ROWS: usize = 100_000;

/// How many records one export has in memory at once.
const PAGE: usize = 100;

#[derive(Clone, Copy, Debug)]
enum Format {
    Csv,
    Lines,
}

pub(super) async fn as_csv(call: Call) -> Result<Response, Problem> {
    export(call, Format::Csv, "text/csv; charset=utf-8; header=present", "attachment; filename=\"tasks.csv\"")
        .await
}

pub(super) async fn as_lines(call: Call) -> Result<Response, Problem> {
    export(call, Format::Lines, "application/x-ndjson", "attachment; filename=\"tasks.ndjson\"").await
}

async fn export(
    call: Call,
    format: Format,
    kind: &'static str,
    disposition: &'static str,
) -> Result<Response, Problem> {
    let filter = filter(&call).await?.limit(PAGE);
    // Read the first page here, so that the status of the answer can say that the store failed.
    let first = call.console().tasks().list(filter.clone()).await?;
    let mut parts = VecDeque::new();
    if matches!(format, Format::Csv) {
        parts.push_back(csv::header().into());
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
        let (left, now) = (MAX_ROWS - self.rows, self.call.now());
        let mut text = Vec::new();
        for record in page.items.into_iter().take(left) {
            self.rows += 1;
            match self.format {
                Format::Csv => {
                    let record = self.call.state.shown(&self.call.actor, record);
                    text.extend_from_slice(&csv::row(&record, now));
                }
                Format::Lines => {
                    let record = self.call.state.shown(&self.call.actor, record);
                    let whole = WholeTask::of(&self.call.actor, record, now);
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
