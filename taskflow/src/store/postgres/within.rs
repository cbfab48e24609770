//! Adds inside a transaction of the caller's.

use super::error::Fault;
use super::insert::{self, Answers};
use super::session::Session;
use crate::store::{InsertBatch, Start};

/// How often an add that lost a race is done again.
const RACES: usize = 5;

/// Sent by the transaction itself when it commits, to this process too: nobody here knows when that is.
const NOTIFY: &str = "SELECT pg_notify('taskflow_hints', '')";

pub(super) async fn insert(session: &mut Session<'_>, batch: &InsertBatch) -> Result<Answers, Fault> {
    // Nobody knows when the transaction ends, so nothing can begin with it.
    let mut batch = batch.clone();
    batch.groups.iter_mut().flat_map(|group| &mut group.tasks).for_each(|task| task.start = Start::Wait);
    let mut races = 0;
    loop {
        // What fails here must not undo what the caller did before.
        session.script("SAVEPOINT taskflow_add").await?;
        match insert_and_notify(session, &batch).await {
            Ok(answers) => {
                session.script("RELEASE SAVEPOINT taskflow_add").await?;
                return Ok(answers);
            }
            Err(fault) => {
                if fault.ends_connection() {
                    return Err(fault);
                }
                session.script("ROLLBACK TO SAVEPOINT taskflow_add; RELEASE SAVEPOINT taskflow_add").await?;
                session.locked_queues.clear();
                races += 1;
                if !fault.is_race() || races > RACES {
                    return Err(fault);
                }
            }
        }
    }
}

async fn insert_and_notify(session: &mut Session<'_>, batch: &InsertBatch) -> Result<Answers, Fault> {
    let answers = insert::insert(session, batch).await?;
    if session.is_news {
        session.execute(session.query(NOTIFY)).await?;
    }
    Ok(answers)
}
