//! Task rows that another program has damaged.
//!
//! A row is decoded without checking for damage first. Only if that fails, each of its columns is checked here. The row
//! then becomes `failed` with the reason, and each unreadable value is replaced by a readable one. A reader writes
//! nothing; it shows such a row as it will be after the repair.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{OptionalExtension, Row, params_from_iter};

use super::readable::reason;
use super::row_state::RowState;
use super::transaction::Transaction;
use crate::model::TaskId;
use crate::store::codec;

/// The form that the value of a column must have.
#[derive(Clone, Copy, Debug)]
enum Form {
    Id,
    State,
    /// An integer: least value, greatest value, and the replacement for a value that is not an integer.
    Number(i64, i64, i64),
    Instant,
    Text,
    Policy,
    Tags,
    Progress,
    /// A value of this form, or `NULL`.
    Maybe(&'static Form),
}

const COUNT: Form = Form::Number(0, u32::MAX as i64 + 1, 0);

/// The columns of a row, in the order of [`ROW`] and of [`MEND`].
const COLUMNS: [(&str, Form); 29] = [
    ("id", Form::Id),
    ("state", Form::State),
    ("queue", Form::Text),
    ("priority", Form::Number(i16::MIN as i64, i16::MAX as i64, 0)),
    ("name", Form::Text),
    ("attempt", COUNT),
    ("max_attempts", COUNT),
    ("fence", Form::Number(0, 1_000_000_000_000_000, 0)),
    ("lost_runs", COUNT),
    ("snoozes", COUNT),
    ("cancel_requested", Form::Number(0, 1, 0)),
    ("instance", Form::Maybe(&Form::Number(0, i64::MAX, 0))),
    ("run_at", Form::Instant),
    ("created_at", Form::Instant),
    ("scheduled_for", Form::Maybe(&Form::Instant)),
    ("expires_at", Form::Maybe(&Form::Instant)),
    ("started_at", Form::Maybe(&Form::Instant)),
    ("finished_at", Form::Maybe(&Form::Instant)),
    ("source", Form::Text),
    ("idempotency_key", Form::Maybe(&Form::Text)),
    ("run_key", Form::Maybe(&Form::Text)),
    ("concurrency_key", Form::Maybe(&Form::Text)),
    ("policy", Form::Maybe(&Form::Policy)),
    ("tags", Form::Maybe(&Form::Tags)),
    ("trace", Form::Maybe(&Form::Text)),
    ("progress", Form::Maybe(&Form::Progress)),
    ("error", Form::Maybe(&Form::Text)),
    ("result", Form::Maybe(&Form::Text)),
    ("args", Form::Text),
];

/// The number of small columns, which come first.
const SMALL: usize = 25;

/// The place of the column `error`.
const ERROR: usize = 26;

const ROW: &str = "
SELECT id, state, queue, priority, name, attempt, max_attempts, fence, lost_runs, snoozes, cancel_requested, instance,
       run_at, created_at, scheduled_for, expires_at, started_at, finished_at, source, idempotency_key, run_key,
       concurrency_key, policy, tags, trace, progress, error, result, args
FROM taskflow_tasks WHERE seq = ?1";

const MEND: &str = "
UPDATE taskflow_tasks
SET id = ?1, state = ?2, queue = ?3, priority = ?4, name = ?5, attempt = ?6, max_attempts = ?7, fence = ?8,
    lost_runs = ?9, snoozes = ?10, cancel_requested = ?11, instance = ?12, run_at = ?13, created_at = ?14,
    scheduled_for = ?15, expires_at = ?16, started_at = ?17, finished_at = ?18, source = ?19, idempotency_key = ?20,
    run_key = ?21, concurrency_key = ?22, policy = ?23, tags = ?24, trace = ?25, progress = ?26, error = ?27,
    result = ?28, args = ?29, lease_until = NULL
WHERE seq = ?30";

/// The small columns of up to `?2` rows after row number `?1`, in the order of [`COLUMNS`], and the number of each row.
const SLICE: &str = "
SELECT id, state, queue, priority, name, attempt, max_attempts, fence, lost_runs, snoozes, cancel_requested, instance,
       run_at, created_at, scheduled_for, expires_at, started_at, finished_at, source, idempotency_key, run_key,
       concurrency_key, policy, tags, trace, seq
FROM taskflow_tasks WHERE seq > ?1 ORDER BY seq LIMIT ?2";

const IS_TAKEN: &str = "SELECT 1 FROM taskflow_tasks WHERE id = ?1 AND seq <> ?2";

const BY_ID: &str = "SELECT seq FROM taskflow_tasks WHERE id = ?1";

/// Removes a row from all tables that list rows that have not ended.
const LEAVE: [&str; 4] = [
    "DELETE FROM taskflow_later WHERE task = ?1",
    "DELETE FROM taskflow_expiring WHERE task = ?1",
    "DELETE FROM taskflow_blocked WHERE task = ?1",
    "DELETE FROM taskflow_keys WHERE task = ?1",
];

const ENTER_BADLY: &str = "
INSERT OR IGNORE INTO taskflow_ended_badly (state, id) SELECT state, id FROM taskflow_tasks WHERE seq = ?1";

/// A damaged row, as it is after its repair.
#[derive(Debug)]
pub(super) struct DamagedTask {
    pub(super) id: TaskId,
    pub(super) name: String,
    pub(super) state: RowState,
    pub(super) error: String,
}

fn damaged(why: &str) -> String {
    format!("is damaged: {why}")
}

impl Form {
    /// The reason why a value does not have this form; `None` if it does.
    fn flaw(self, value: ValueRef<'_>) -> Option<String> {
        match (self, value) {
            (Self::Maybe(_), ValueRef::Null) => None,
            (Self::Maybe(form), _) => form.flaw(value),
            (Self::Id, ValueRef::Blob(bytes)) => {
                (bytes.len() != 16).then(|| format!("has {} bytes instead of 16", bytes.len()))
            }
            (Self::State, ValueRef::Integer(number)) => {
                let is_known = RowState::ALL.iter().any(|state| state.number() == number);
                (!is_known).then(|| format!("is {number}, which is no state"))
            }
            (Self::Number(least, most, _), ValueRef::Integer(number)) => (!(least..=most).contains(&number))
                .then(|| format!("is {number}, which is not between {least} and {most}")),
            (Self::Instant, ValueRef::Integer(_)) => None,
            (Self::Text | Self::Policy | Self::Tags | Self::Progress, ValueRef::Text(bytes)) => {
                let Ok(text) = std::str::from_utf8(bytes) else { return Some("is not UTF-8".to_owned()) };
                match self {
                    Self::Policy => codec::readable_policy(Some(text)).err().as_deref().map(damaged),
                    Self::Tags => codec::readable_tags(Some(text)).err().as_deref().map(damaged),
                    _ => None,
                }
            }
            _ => Some(format!("is of the type {}", value.data_type())),
        }
    }

    /// A readable value in place of an unreadable one.
    fn mended(self, value: ValueRef<'_>) -> Value {
        match (self, value) {
            (Self::Maybe(Self::Text), ValueRef::Text(_)) => Self::Text.mended(value),
            (Self::Maybe(_), _) => Value::Null,
            (Self::Id, ValueRef::Blob(bytes) | ValueRef::Text(bytes)) => {
                let mut id: Vec<u8> = bytes.iter().copied().take(16).collect();
                id.resize(16, 0);
                Value::Blob(id)
            }
            (Self::Id, _) => Value::Blob(vec![0; 16]),
            (Self::State, _) => Value::Integer(RowState::Failed.number()),
            (Self::Number(least, most, _), ValueRef::Integer(number)) => {
                Value::Integer(number.clamp(least, most))
            }
            (Self::Number(_, _, instead), _) => Value::Integer(instead),
            (Self::Instant, _) => Value::Integer(0),
            (_, ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
                Value::Text(String::from_utf8_lossy(bytes).into_owned())
            }
            (_, ValueRef::Integer(number)) => Value::Text(number.to_string()),
            (_, ValueRef::Real(number)) => Value::Text(number.to_string()),
            (_, ValueRef::Null) => Value::Text(String::new()),
        }
    }
}

/// The first flaw in the first `columns` columns of a row of [`ROW`]; `None` if there is none.
fn flaw(row: &Row<'_>, columns: usize) -> rusqlite::Result<Option<String>> {
    for (column, (name, form)) in COLUMNS.iter().enumerate().take(columns) {
        if let Some(flaw) = form.flaw(row.get_ref(column)?) {
            return Ok(Some(format!("its column `{name}` {flaw}")));
        }
    }
    Ok(None)
}

/// Checks the small columns of up to `limit` rows after row number `from`. Answers the rows that cannot be read, and
/// the last row number that was examined; `None` if there are no more rows.
pub(super) fn among(
    sql: &super::statements::Statements<'_>,
    from: i64,
    limit: i64,
) -> rusqlite::Result<(Vec<i64>, Option<i64>)> {
    let mut query = sql.get(SLICE)?;
    let mut rows = query.query([from, limit])?;
    let (mut flawed, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let seq = row.get(SMALL)?;
        last = Some(seq);
        if flaw(row, SMALL)?.is_some() {
            flawed.push(seq);
        }
    }
    Ok((flawed, last))
}

impl Transaction<'_, '_> {
    /// Makes an unreadable row readable. The task fails with the reason. If it has ended already, it keeps its status,
    /// and gets the reason as its error if it has no other error.
    pub(super) fn fail_damaged(
        &mut self,
        seq: i64,
        error: &rusqlite::Error,
    ) -> rusqlite::Result<Option<DamagedTask>> {
        let found = self.sql.get(ROW)?.query_row([seq], |row| {
            let why = flaw(row, COLUMNS.len())?;
            let values = COLUMNS.iter().enumerate().map(|(column, (_, form))| {
                let value = row.get_ref(column)?;
                Ok(if form.flaw(value).is_some() { form.mended(value) } else { as_it_is(value) })
            });
            Ok((why, values.collect::<rusqlite::Result<Vec<Value>>>()?, row.get_ref(1)?.as_i64().ok()))
        });
        let Some((why, mut values, was)) = found.optional()? else { return Ok(None) };
        let was = was.and_then(|number| RowState::ALL.into_iter().find(|state| state.number() == number));
        let error = reason(&why.unwrap_or_else(|| error.to_string()));
        let ended = was.filter(|state| state.is_final());
        let state = ended.unwrap_or(RowState::Failed);
        values[1] = Value::Integer(state.number());
        if ended.is_none() {
            values[11] = Value::Null;
            values[17] = Value::Integer(self.now);
            values[ERROR] = Value::Text(error.clone());
            for leave in LEAVE {
                self.sql.execute(leave, [seq])?;
            }
        } else if values[ERROR] == Value::Null {
            values[ERROR] = Value::Text(error.clone());
        }
        let Value::Blob(id) = &values[0] else { unreachable!("an id is mended to bytes") };
        if self.sql.get(IS_TAKEN)?.exists(rusqlite::params![id, seq])? {
            values[0] = Value::Blob(TaskId::new().as_bytes().to_vec());
        }
        let number = |value: &Value| if let Value::Integer(number) = value { *number } else { 0 };
        let text = |value: &Value| if let Value::Text(text) = value { text.clone() } else { String::new() };
        let id = match &values[0] {
            Value::Blob(id) => TaskId::from_bytes(id.as_slice().try_into().unwrap_or_default()),
            _ => TaskId::from_bytes([0; 16]),
        };
        let (queue, name, attempt) = (text(&values[2]), text(&values[4]), number(&values[5]));
        values.push(Value::Integer(seq));
        self.sql.execute(MEND, params_from_iter(values))?;
        if state.number() >= RowState::Failed.number() {
            self.sql.execute(ENTER_BADLY, [seq])?;
        }
        if let Some(was) = was.filter(|_| ended.is_none()) {
            let queue = self.counts.queue(&queue);
            self.counts.exit(queue, was, attempt);
            self.counts.enter(queue, state, attempt);
        }
        // If the queue or state was damaged, the counts are wrong now, and the count of its concurrency key may be
        // wrong.
        self.is_suspect = true;
        self.should_notify = true;
        tracing::error!(task = %id, %name, %error, "a task was damaged in the store; it is {} now", state.status());
        Ok(Some(DamagedTask { id, name, state, error }))
    }

    /// Like [`fail_damaged`](Self::fail_damaged), by the task's id.
    pub(super) fn fail_damaged_id(&mut self, id: TaskId, error: &rusqlite::Error) -> rusqlite::Result<bool> {
        let seq = self.sql.get(BY_ID)?.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
        seq.map_or(Ok(None), |seq| self.fail_damaged(seq, error)).map(|it| it.is_some())
    }

    /// Fails the rows among `seqs` that cannot be read.
    pub(super) fn fail_all_damaged(&mut self, seqs: &[i64]) -> rusqlite::Result<()> {
        for seq in seqs {
            let is_flawed = self.sql.get(ROW)?.query_row([seq], |row| Ok(flaw(row, SMALL)?.is_some()));
            if is_flawed.optional()? == Some(true) {
                self.fail_damaged(*seq, &rusqlite::Error::InvalidQuery)?;
            }
        }
        Ok(())
    }
}

/// Copies a value that has the right form.
fn as_it_is(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Text(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Null | ValueRef::Real(_) => Value::Null,
    }
}
