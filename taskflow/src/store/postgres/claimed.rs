//! Turns the rows of a claim into claimed tasks.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::damage::Damage;
use super::error::Fault;
use super::value::{Instant, escape_nul, unescape_nul};
use crate::model::{RetryPolicy, TaskId, time};
use crate::store::{Claim, Claimed, Claims, RunRef, codec};

/// The column that says whether a claim stopped at a task that may not be prefetched.
const NEEDS_SLOT: usize = 20;

/// The column that says when the statement began.
pub(super) const NOW: usize = 21;

/// The column that says how long the statement took, in microseconds.
pub(super) const TOOK: usize = 22;

/// The column that says whether a claim got too little because it met another one.
pub(super) const MET_ANOTHER: usize = 23;

/// A column of the row that holds the values of the statement as a whole.
pub(super) fn says<'r, T>(rows: &'r [PgRow], column: usize) -> Result<Option<T>, Fault>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    for row in rows {
        if row.try_get::<Option<i16>, _>(0)?.is_some() {
            return Ok(row.try_get(column)?);
        }
    }
    Ok(None)
}

/// The claimed tasks, and those that are leased now but cannot be run because their rows are damaged.
pub(super) fn claims(claim: &Claim, rows: &[PgRow]) -> Result<(Claims, Vec<Damage>), Fault> {
    let mut words = Words::of(claim);
    let mut tasks = Vec::with_capacity(rows.len());
    let mut damaged = Vec::new();
    for row in rows {
        if let Some(id) = row.try_get::<Option<Uuid>, _>(3)? {
            let place = (Reverse(row.try_get::<i16, _>(7)?), row.try_get::<i64, _>(8)?);
            match words.claimed(TaskId::from(id), row)? {
                Ok(task) => tasks.push((place, task)),
                Err(damage) => damaged.push(damage),
            }
        }
    }
    tasks.sort_unstable_by_key(|(place, _)| *place);
    let next_due: Option<i64> = says(rows, 2)?;
    let next_due = next_due.map(|micros| Duration::from_micros(codec::to_u64(micros)));
    let needs_slot = says(rows, NEEDS_SLOT)?.unwrap_or(false);
    let tasks = tasks.into_iter().map(|(_, task)| task).collect();
    Ok((Claims { tasks, next_due, needs_slot }, damaged))
}

/// The queue, the priority and the `seq` of each claimed task.
pub(super) fn places(rows: &[PgRow]) -> Result<Vec<(&str, i16, i64)>, Fault> {
    let mut places = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(queue) = row.try_get::<Option<&str>, _>(6)? {
            places.push((queue, row.try_get(7)?, row.try_get(8)?));
        }
    }
    Ok(places)
}

/// Strings and policies that most tasks of a claim share.
struct Words {
    names: HashMap<String, Arc<str>>,
    /// Only those of the answer: a claim may ask for thousands.
    queues: HashMap<String, Arc<str>>,
    policies: HashMap<String, Arc<RetryPolicy>>,
    default_policy: Arc<RetryPolicy>,
}

impl Words {
    fn of(claim: &Claim) -> Self {
        let kept = |word: &Arc<str>| (escape_nul(word).into_owned(), Arc::clone(word));
        Self {
            names: claim.names.iter().map(kept).collect(),
            queues: HashMap::new(),
            policies: HashMap::new(),
            default_policy: Arc::new(RetryPolicy::DEFAULT),
        }
    }

    fn queue(&mut self, kept: &str) -> Arc<str> {
        if let Some(queue) = self.queues.get(kept) {
            return Arc::clone(queue);
        }
        let queue: Arc<str> = Arc::from(unescape_nul(kept.to_owned()));
        self.queues.insert(kept.to_owned(), Arc::clone(&queue));
        queue
    }

    /// The task in a row, or the damage that was found in it.
    fn claimed(&mut self, id: TaskId, row: &PgRow) -> Result<Result<Claimed, Damage>, Fault> {
        let fence: i64 = row.try_get(4)?;
        let word = |known: &HashMap<String, Arc<str>>, kept: &str| {
            known.get(kept).map_or_else(|| Arc::from(unescape_nul(kept.to_owned())), Arc::clone)
        };
        let damaged = |reason: String| Ok(Err(Damage { id, fence, reason }));
        let policy = match row.try_get::<Option<&str>, _>(14)? {
            None => Arc::clone(&self.default_policy),
            Some(json) => match self.policies.get(json) {
                Some(policy) => Arc::clone(policy),
                None => match codec::readable_policy(Some(json)) {
                    Ok(policy) => {
                        let policy = Arc::new(policy);
                        self.policies.insert(json.to_owned(), Arc::clone(&policy));
                        policy
                    }
                    Err(reason) => return damaged(reason),
                },
            },
        };
        let tags = match codec::readable_tags(row.try_get(15)?) {
            Ok(tags) => tags,
            Err(reason) => return damaged(reason),
        };
        let (attempt, max_attempts): (i64, i64) = (row.try_get(9)?, row.try_get(10)?);
        let (log_lines, log_bytes) = (i64::from(row.try_get::<i32, _>(12)?), row.try_get::<i64, _>(13)?);
        let snoozes = i64::from(row.try_get::<i32, _>(17)?);
        let expires_in: Option<i64> = row.try_get(18)?;
        let scheduled_for: Option<Instant> = row.try_get(11)?;
        let numbers = [
            ("fence", fence, 1),
            ("attempt", attempt, 1),
            ("max_attempts", max_attempts, 1),
            ("log_lines", log_lines, 0),
            ("log_bytes", log_bytes, 0),
            ("snoozes", snoozes, 0),
        ];
        for (column, number, least) in numbers {
            if number < least || (column != "fence" && number > i64::from(u32::MAX)) {
                return damaged(format!("its `{column}` is {number}"));
            }
        }
        if expires_in.is_some_and(|micros| micros < 0) {
            return damaged("its `expires_at` is infinite".to_owned());
        }
        if scheduled_for.is_some_and(|at| !at.is_finite()) {
            return damaged("its `scheduled_for` is infinite".to_owned());
        }
        Ok(Ok(Claimed {
            expires_in: expires_in.map(|micros| time::left(micros, 0)),
            snoozes: codec::to_u32(snoozes),
            run: RunRef::new(id, codec::to_u64(fence)),
            name: word(&self.names, row.try_get(5)?),
            queue: self.queue(row.try_get(6)?),
            args: Arc::from(row.try_get::<&str, _>(16)?),
            tags,
            trace: codec::trace(row.try_get(19)?),
            attempt: codec::to_u32(attempt),
            max_attempts: codec::to_u32(max_attempts),
            policy,
            scheduled_for: scheduled_for.map(|at| time::from_micros(at.0)),
            log_lines: codec::to_u32(log_lines),
            log_bytes: codec::to_u32(log_bytes),
        }))
    }
}
