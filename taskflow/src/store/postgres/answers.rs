//! The answer to an add.

use crate::store::row_state::RowState;
use crate::store::{InsertTask, Inserted, InsertedAs, Refusal};

/// For each group the task that each of its adds made, found or replaced; or why the group was refused.
pub(super) type Answers = Vec<Result<Vec<Inserted>, Refusal>>;

/// The answer for a task that began in `state`, or that was refused before and is stored as rejected.
pub(super) fn begun(insert: &InsertTask, state: RowState) -> Result<Inserted, Refusal> {
    let new = &insert.task;
    if state == RowState::Rejected {
        let (queue, max_size) = (new.queue.clone().into_owned(), insert.max_size.unwrap_or(0));
        return Err(Refusal::QueueFull { queue, max_size });
    }
    Ok(Inserted::new(new.id, begun_as(state)))
}

fn begun_as(state: RowState) -> InsertedAs {
    match state {
        RowState::Running => InsertedAs::Leased { fence: 1 },
        RowState::Held => InsertedAs::Held { fence: 1 },
        _ => InsertedAs::Pending,
    }
}
