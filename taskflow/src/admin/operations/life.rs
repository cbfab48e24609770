//! The sign of life of an operation: a document that its runner renews, and that is gone soon after the runner is.
//!
//! So a process that is no instance, such as the command line, may run one, and others still notice its death. The store's
//! clock decides, so the clocks of the machines do not matter.

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

/// How often a sign of life is given.
const EVERY: Duration = Duration::from_secs(1);

/// A sign of life of the runner of this operation.
pub(super) fn sign(operation: &Operation) -> DocumentWrite {
    let value = operation.id.to_string().into_bytes();
    DocumentWrite::put(KIND, operation.runner.to_string(), value).expires_in(LASTS)
}

/// Gives signs of life for ever. The last one is left to expire: an operation that was read just before its end must not be
/// taken for one without a runner.
pub(super) async fn keep(console: Console, operation: Operation) -> Infallible {
    loop {
        console.seam().sleep(EVERY).await;
        // One that is not written now is written a second later.
        if let Err(error) = console.tasks().write_documents(vec![sign(&operation)]).await {
            tracing::debug!(%error, operation = %operation.id, "a sign of life was not written");
        }
    }
}

/// Whether this runner lives.
pub(super) async fn shows(console: &Console, runner: TaskId) -> Result<bool, Error> {
    let query = DocumentQuery::one(KIND, runner.to_string());
    Ok(!console.tasks().documents(query).await?.is_empty())
}

/// The keys of all runners that live.
pub(super) async fn all(console: &Console) -> Result<HashSet<String>, Error> {
    let documents = console.tasks().documents(DocumentQuery::all(KIND)).await?;
    Ok(documents.into_iter().map(|document| document.key).collect())
}
