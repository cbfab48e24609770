//! From the rows of a claim to claimed tasks.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::error::Fault;
use super::value::{Instant, give, keep};
use crate::model::{RetryPolicy, TaskId, time};
use crate::store::{Claim, Claimed, Claims, Run, words};

/// A column of the row that speaks for the statement as a whole.
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

pub(super) fn claims(claim: &Claim, rows: &[PgRow]) -> Result<Claims, Fault> {
    let mut words = Words::of(claim);
    let mut tasks = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(id) = row.try_get::<Option<Uuid>, _>(3)? {
            let place = (Reverse(row.try_get::<i16, _>(7)?), row.try_get::<i64, _>(8)?);
            tasks.push((place, words.claimed(TaskId::from(id), row)?));
        }
    }
    tasks.sort_unstable_by_key(|(place, _)| *place);
    let next_due: Option<i64> = says(rows, 2)?;
    let next_due = next_due.map(|micros| Duration::from_micros(words::count(micros)));
    Ok(Claims { tasks: tasks.into_iter().map(|(_, task)| task).collect(), next_due })
}

/// Words that most tasks of a claim share.
struct Words {
    names: HashMap<String, Arc<str>>,
    queues: HashMap<String, Arc<str>>,
    policies: HashMap<String, Arc<RetryPolicy>>,
    default_policy: Arc<RetryPolicy>,
}

impl Words {
    fn of(claim: &Claim) -> Self {
        let kept = |word: &Arc<str>| (keep(word).into_owned(), Arc::clone(word));
        Self {
            names: claim.names.iter().map(kept).collect(),
            queues: claim.queues.iter().map(|(queue, _)| kept(queue)).collect(),
            policies: HashMap::new(),
            default_policy: Arc::new(RetryPolicy::DEFAULT),
        }
    }

    fn claimed(&mut self, id: TaskId, row: &PgRow) -> Result<Claimed, Fault> {
        let fence: i64 = row.try_get(4)?;
        let word = |known: &HashMap<String, Arc<str>>, kept: &str| {
            known.get(kept).map_or_else(|| Arc::from(give(kept.to_owned())), Arc::clone)
        };
        let policy = match row.try_get::<Option<&str>, _>(14)? {
            None => Arc::clone(&self.default_policy),
            Some(json) => match self.policies.get(json) {
                Some(policy) => Arc::clone(policy),
                None => {
                    let policy = Arc::new(words::policy(Some(json)));
                    self.policies.insert(json.to_owned(), Arc::clone(&policy));
                    policy
                }
            },
        };
        Ok(Claimed {
            expires_in: row.try_get::<Option<i64>, _>(18)?.map(|micros| time::left(micros, 0)),
            snoozes: words::small(row.try_get::<i32, _>(17)?.into()),
            run: Run::new(id, words::count(fence)),
            name: word(&self.names, row.try_get(5)?),
            queue: word(&self.queues, row.try_get(6)?),
            args: Arc::from(row.try_get::<&str, _>(16)?),
            tags: words::tags(row.try_get(15)?),
            attempt: words::small(row.try_get(9)?),
            max_attempts: words::small(row.try_get(10)?),
            policy,
            scheduled_for: row.try_get::<Option<Instant>, _>(11)?.map(|at| time::from_micros(at.0)),
            log_lines: words::small(row.try_get::<i32, _>(12)?.into()),
            log_bytes: words::small(row.try_get(13)?),
        })
    }
}
