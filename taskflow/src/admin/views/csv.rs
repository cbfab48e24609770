//! Tasks as CSV for spreadsheets.

use std::time::SystemTime;

use crate::model::{TaskRecord, sealed, time};

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

/// The line with the names of the columns.
#[must_use]
pub fn header() -> Vec<u8> {
    line(&COLUMNS.map(str::to_owned))
}

/// The line of a task, with its phase at `now`.
#[must_use]
pub fn row(record: &TaskRecord, now: SystemTime) -> Vec<u8> {
    line(&cells(record, now))
}

fn cells(record: &TaskRecord, now: SystemTime) -> [String; COLUMNS.len()] {
    let at = |at: Option<SystemTime>| at.map(time::rfc3339).unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let shown = |text: &str| sealed::shown(text).into_owned();
    [
        record.id.to_string(),
        record.name.clone(),
        record.queue.clone(),
        record.status.to_string(),
        record.phase_at(now).as_str().to_owned(),
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
        shown(record.args.get()),
        record.result.as_ref().map(|result| shown(result.get())).unwrap_or_default(),
        record.error.as_deref().map(shown).unwrap_or_default(),
    ]
}

/// One record of CSV. A spreadsheet executes a cell that looks like a formula, so such a cell gets a `'` before it, unless it
/// is a negative whole number.
fn line(cells: &[String]) -> Vec<u8> {
    let is_number = |cell: &str| cell.starts_with('-') && cell[1..].parse::<u64>().is_ok();
    let is_formula = |cell: &str| cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number(cell);
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let cells = cells.iter().map(|cell| if is_formula(cell) { format!("'{cell}") } else { cell.clone() });
    writer.write_record(cells).expect("memory takes it");
    writer.into_inner().expect("memory takes it")
}
