//! Adds inside a transaction of the caller.

use super::answers::Answers;
use super::error::Fault;
use super::insert;
use super::session::Session;
use crate::store::{InsertBatch, Start};

/// How often an add that lost a race is repeated.
const RACES: usize = 5;

/// The transaction itself sends this when it commits, to this process too: the store does not know when the caller
/// commits.
const NOTIFY: &str = "SELECT pg_notify('taskflow_hints', '')";

/// Begins the add. The savepoint keeps a failed add from undoing what the caller did before. The inserted row keeps
/// the transaction from being committed until the add is answered or undone. The statement timeout is shorter than
/// the time that an answer is awaited, so that a row that stays locked does not leave the connection in the middle of
/// a statement. A timeout that the caller has set stays.
const BEGIN: &str = "
SAVEPOINT taskflow_add;
INSERT INTO taskflow_adding (id, answer) VALUES (gen_random_uuid(), gen_random_uuid());
SELECT set_config('taskflow.before', current_setting('statement_timeout'), true),
       set_config('statement_timeout',
                  CASE current_setting('statement_timeout') WHEN '0' THEN '7s' ELSE current_setting('statement_timeout') END,
                  true)";

/// Ends the add. A transaction sees only rows of its own in this table.
const END: &str = "
DELETE FROM taskflow_adding;
SELECT set_config('statement_timeout', current_setting('taskflow.before'), true);
RELEASE SAVEPOINT taskflow_add";

/// Undoes the add, and its settings as well.
const UNDO: &str = "ROLLBACK TO SAVEPOINT taskflow_add; RELEASE SAVEPOINT taskflow_add";

/// Inserts the groups. The `bool` of an error says whether some of them may still be in the caller's transaction.
pub(super) async fn insert(session: &mut Session<'_>, batch: &InsertBatch) -> Result<Answers, (Fault, bool)> {
    // The store does not know when the transaction ends, so no task can start with it.
    let mut batch = batch.clone();
    batch.groups.iter_mut().flat_map(|group| &mut group.tasks).for_each(|task| task.start = Start::Wait);
    let mut races = 0;
    loop {
        let done = async {
            session.script(BEGIN).await?;
            let answers = insert_and_notify(session, &batch).await?;
            session.script(END).await?;
            Ok(answers)
        };
        let fault: Fault = match done.await {
            Ok(answers) => return Ok(answers),
            Err(fault) => fault,
        };
        if fault.ends_connection() && !fault.is_silence() {
            // The transaction has ended with its connection, or can only be rolled back.
            return Err((fault, false));
        }
        if fault.is_about_no_transaction() {
            return Err((fault, false));
        }
        if let Err(undo) = session.script(UNDO).await {
            // If the server does not answer, the insert may still be under way, and the caller may commit after it.
            let in_doubt = undo.is_silence();
            return Err((fault, in_doubt));
        }
        session.locked_queues.clear();
        races += 1;
        if !fault.is_race() || races > RACES {
            return Err((fault, false));
        }
    }
}

async fn insert_and_notify(session: &mut Session<'_>, batch: &InsertBatch) -> Result<Answers, Fault> {
    let answers = insert::insert(session, batch).await?;
    if session.changes.any() {
        session.execute(session.query(NOTIFY)).await?;
    }
    Ok(answers)
}
