//! The sign of life of an operation: a document that its runner renews, and that expires soon after the runner has died.
//!
//! So a process that is not an instance, such as the command line, can run an operation, and others still notice when that
//! process dies. The store's clock decides, so the clocks of the machines do not matter.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use super::operation::Operation;
use crate::admin::Console;
use crate::model::{Error, TaskId};
use crate::store::{DocumentQuery, DocumentWrite};

const KIND: &str = "operation_runner";

/// How long after its last sign of life an operation counts as broken off.
const LASTS: Duration = Duration::from_secs(5);

/// How often the runner renews its sign of life.
const EVERY: Duration = Duration::from_secs(1);

/// The write of a sign of life for this operation's runner.
pub(super) fn sign(operation: &Operation) -> DocumentWrite {
    let value = operation.id.to_string().into_bytes();
    DocumentWrite::put(KIND, operation.runner.to_string(), value).expires_in(LASTS)
}

/// Renews the sign of life for ever. Nobody deletes the last one: a reader that has read the operation just before its end must
/// not take it for one without a runner.
pub(super) async fn keep(console: Console, operation: Operation) -> Infallible {
    loop {
        console.seam().sleep(EVERY).await;
        // After a failed write, the next one follows a second later.
        if let Err(error) = console.tasks().write_documents(vec![sign(&operation)]).await {
            tracing::debug!(%error, operation = %operation.id, "a sign of life was not written");
        }
    }
}

/// Whether this runner lives.
pub(super) async fn is_alive(console: &Console, runner: TaskId) -> Result<bool, Error> {
    let query = DocumentQuery::one(KIND, runner.to_string());
    Ok(!console.tasks().documents(query).await?.is_empty())
}

/// The keys of all runners that live.
pub(super) async fn all(console: &Console) -> Result<HashSet<String>, Error> {
    let documents = console.tasks().documents(DocumentQuery::all(KIND)).await?;
    Ok(documents.into_iter().map(|document| document.key).collect())
}
