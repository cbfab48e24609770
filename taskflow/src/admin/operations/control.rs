use super::liveness;
use super::operation::{KIND, Operation, OperationState};
use crate::admin::{Actor, AdminError, By, Console};
use crate::model::TaskId;
use crate::store::{Document, DocumentQuery};

impl Console {
    /// Those of the latest 100 operations that this actor may see, newest first. An actor that is narrowed to some queues sees
    /// only its own.
    ///
    /// # Errors
    /// When the store fails or keeps no documents.
    pub async fn operations(&self, actor: &Actor) -> Result<Vec<Operation>, AdminError> {
        let mut query = DocumentQuery::all(KIND);
        query.descending = true;
        query.limit = 100;
        let documents = self.tasks().documents(query).await?;
        // An operation that this version cannot read is skipped.
        let mut all: Vec<Operation> = documents.iter().filter_map(read).collect();
        all.retain(|operation| operation.is_seen_by(actor));
        // Read the signs of life after the operations: else one that has just begun could seem to lack its sign.
        if all.iter().any(|operation| !operation.state.is_over()) {
            let live = liveness::all(self).await?;
            all.iter_mut().for_each(|it| it.seen_with(live.contains(&it.runner.to_string())));
        }
        Ok(all)
    }

    /// One operation that this actor may see.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], and when the store fails.
    pub async fn operation(&self, actor: &Actor, id: TaskId) -> Result<Operation, AdminError> {
        let (operation, _) = self.stored_operation(id).await?;
        match operation.is_seen_by(actor) {
            true => Ok(operation),
            false => Err(no_operation(id)),
        }
    }

    /// Asks an operation to stop, whichever process runs it. It stops after its current batch of at most 100
    /// tasks; what it has done stays. One that was broken off becomes stopped.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`] without the permission of its verb, [`AdminError::NotFound`], and when the store fails.
    pub async fn stop_operation(&self, by: &By, id: TaskId) -> Result<Operation, AdminError> {
        let verb = match self.operation(&by.actor, id).await {
            Ok(operation) => operation.verb,
            Err(error) => return Err(self.refused_operation(by, "stop_operation", id, error).await),
        };
        let act = async {
            loop {
                let (mut operation, version) = self.written_operation(id).await?;
                if operation.state.is_over() {
                    return Ok(operation);
                }
                // So a runner stops too if it lives and its sign of life was only late.
                operation.state = OperationState::Stopping;
                operation.updated_at = self.now();
                let write = operation.write().expected(version);
                if self.tasks().write_documents(vec![write]).await?.first() != Some(&None) {
                    let lives = liveness::is_alive(self, operation.runner).await?;
                    operation.seen_with(lives);
                    return Ok(operation);
                }
            }
        };
        self.audited(by, verb.permission(), "stop_operation", &id.to_string(), None, act).await
    }

    /// Records that an operation could not be read for an act on it, and returns the error.
    pub(super) async fn refused_operation(
        &self,
        by: &By,
        action: &str,
        id: TaskId,
        error: AdminError,
    ) -> AdminError {
        let mut entry = self.entry(by, action);
        entry.target = Some(id.to_string());
        self.refused(entry, error).await
    }

    /// An operation, with a state that takes into account whether its runner lives, and the version of its document.
    pub(super) async fn stored_operation(&self, id: TaskId) -> Result<(Operation, u64), AdminError> {
        let (mut operation, version) = self.written_operation(id).await?;
        if !operation.state.is_over() {
            let lives = liveness::is_alive(self, operation.runner).await?;
            operation.seen_with(lives);
        }
        Ok((operation, version))
    }

    /// An operation as it is stored, whether or not its runner lives, and the version of its document.
    pub(super) async fn written_operation(&self, id: TaskId) -> Result<(Operation, u64), AdminError> {
        let document = self.tasks().documents(DocumentQuery::one(KIND, id.to_string())).await?.pop();
        let found = document.and_then(|document| Some((read(&document)?, document.version)));
        found.ok_or_else(|| no_operation(id))
    }
}

fn no_operation(id: TaskId) -> AdminError {
    AdminError::NotFound { what: "operation", name: id.to_string() }
}

pub(super) fn read(document: &Document) -> Option<Operation> {
    serde_json::from_slice(&document.value).ok()
}
