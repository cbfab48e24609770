use super::operation::{KIND, Operation, OperationState};
use crate::admin::{Actor, AdminError, By, Console};
use crate::model::{InstanceId, TaskId};
use crate::store::{Document, DocumentQuery};

impl Console {
    /// The operations that this actor may see, newest first, of the latest 100: an actor of some queues sees its own.
    ///
    /// # Errors
    /// When the store fails or keeps no documents.
    pub async fn operations(&self, actor: &Actor) -> Result<Vec<Operation>, AdminError> {
        let mut query = DocumentQuery::all(KIND);
        query.descending = true;
        query.limit = 100;
        let documents = self.tasks().documents(query).await?;
        let live = self.live_runners().await?;
        // An operation that this version cannot read is skipped.
        let all = documents.iter().filter_map(|document| read(document, &live));
        Ok(all.filter(|operation| operation.is_seen_by(actor)).collect())
    }

    /// One operation that this actor may see.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], and when the store fails.
    pub async fn operation(&self, actor: &Actor, id: TaskId) -> Result<Operation, AdminError> {
        let (operation, _) = self.stored_operation(id).await?;
        match operation.is_seen_by(actor) {
            true => Ok(operation),
            false => Err(AdminError::NotFound { what: "operation", name: id.to_string() }),
        }
    }

    /// Asks an operation to stop, in whatever process it runs. It stops after its current batch of at most 100
    /// tasks; what it has done stays.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`] without the permission of its verb, [`AdminError::NotFound`], and when the store fails.
    pub async fn stop_operation(&self, by: &By, id: TaskId) -> Result<Operation, AdminError> {
        let verb = self.operation(&by.actor, id).await?.verb;
        let act = async {
            loop {
                let (mut operation, version) = self.stored_operation(id).await?;
                if operation.state.is_over() {
                    return Ok(operation);
                }
                operation.state = OperationState::Stopping;
                operation.updated_at = self.now();
                let write = operation.write().expected(version);
                if self.tasks().write_documents(vec![write]).await?.first() != Some(&None) {
                    return Ok(operation);
                }
            }
        };
        self.audited(by, verb.permission(), "stop_operation", &id.to_string(), None, act).await
    }

    pub(super) async fn stored_operation(&self, id: TaskId) -> Result<(Operation, u64), AdminError> {
        let document = self.tasks().documents(DocumentQuery::one(KIND, id.to_string())).await?.pop();
        let live = self.live_runners().await?;
        let found = document.and_then(|document| Some((read(&document, &live)?, document.version)));
        found.ok_or_else(|| AdminError::NotFound { what: "operation", name: id.to_string() })
    }

    async fn live_runners(&self) -> Result<Vec<InstanceId>, AdminError> {
        Ok(self.tasks().instances().await?.into_iter().map(|instance| instance.id).collect())
    }
}

fn read(document: &Document, live: &[InstanceId]) -> Option<Operation> {
    let mut operation: Operation = serde_json::from_slice(&document.value).ok()?;
    if !operation.state.is_over() && !live.contains(&operation.runner) {
        operation.state = match operation.state {
            OperationState::Stopping => OperationState::Stopped,
            _ => OperationState::BrokenOff,
        };
    }
    Some(operation)
}
