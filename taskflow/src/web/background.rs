//! The extractor for axum handlers.

use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use crate::manager::{AddTask, Hold, TaskHandle, TaskManager};
use crate::model::AddError;
use crate::task::{Call, IntoNewTask, Standalone, Task, TaskFn};

/// Adds tasks that run after the response: an extractor for axum handlers, installed by
/// [`TaskManager::layer`](crate::TaskManager::layer).
///
/// A task added through it is stored at once, and *held*: it starts in no process until the whole response, body included,
/// has been sent.
///
/// - If the handler panics or answers 5xx, its tasks are cancelled, with the reason in their records.
/// - If the client disconnects or a timeout layer drops the handler, the tasks run, because they were accepted.
/// - An `eager` task is not held.
/// - A crash during the hold loses nothing: a hold is a lease, and the tasks run when it has expired.
/// - Waiting for a task in the handler ([`TaskHandle::wait`](crate::TaskHandle::wait)) releases it: it may begin at once,
///   and the handler's later response does not affect it.
///
/// ```standalone_crate
/// use axum::{Json, Router, routing::post};
/// use taskflow::{AddError, BackgroundTasks, TaskId, TaskManager};
///
/// #[taskflow::task(retries = 3)]
/// async fn send_welcome(to: String) {
///     let _ = to;
/// }
///
/// async fn signup(tasks: BackgroundTasks, Json(email): Json<String>) -> Result<Json<TaskId>, AddError> {
///     let task = tasks.add_task(send_welcome, (email,)).await?;
///     Ok(Json(task.id()))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), taskflow::Error> {
/// let tasks = TaskManager::builder().start().await?;
/// let app: Router = Router::new().route("/signup", post(signup)).layer(tasks.layer());
/// # drop(app);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BackgroundTasks(pub(super) Hold);

impl BackgroundTasks {
    /// Adds a task by its function and arguments, as [`TaskManager::add_task`] does, and holds it until the response.
    pub fn add_task<T: Task, P>(&self, task: impl TaskFn<P, Task = T>, args: T::Args) -> AddTask<T::Value> {
        self.0.add_task(task, args)
    }

    /// Adds a call of a task, as [`TaskManager::add`] does, and holds it until the response.
    pub fn add<T: Standalone>(&self, call: Call<T>) -> AddTask<T::Value> {
        self.0.add(call)
    }

    /// Adds many tasks at once, as [`TaskManager::add_all`] does, and holds them until the response.
    ///
    /// # Errors
    /// As for [`TaskManager::add_all`]. After an error none of the tasks is stored.
    pub async fn add_all<I: IntoNewTask>(
        &self,
        items: impl IntoIterator<Item = I>,
    ) -> Result<Vec<TaskHandle<I::Value>>, AddError> {
        self.0.add_all(items).await
    }

    /// The manager behind the extractor. Tasks added through the manager itself are not held.
    #[must_use]
    pub fn manager(&self) -> &TaskManager {
        self.0.manager()
    }
}

impl<S: Sync> FromRequestParts<S> for BackgroundTasks {
    type Rejection = BackgroundTasksRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or(BackgroundTasksRejection)
    }
}

/// The rejection when a handler takes [`BackgroundTasks`] but the layer is not installed. It answers 500 with the remedy.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("`BackgroundTasks` is not installed: add `.layer(tasks.layer())` to the router, after its routes")]
#[non_exhaustive]
pub struct BackgroundTasksRejection;

impl IntoResponse for BackgroundTasksRejection {
    fn into_response(self) -> Response {
        tracing::error!("{self}");
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

/// Answers 429 with `Retry-After` for a full queue, 413 for a task that is too large, and 422 for a task that a hook refused,
/// each with the error's text. Answers 503 if the store failed, its answer was lost, or the manager has been shut down, and 500
/// for a mistake in the program; their text goes only to the log.
impl IntoResponse for AddError {
    fn into_response(self) -> Response {
        let status = status_code(&self);
        match status {
            StatusCode::TOO_MANY_REQUESTS => {
                (status, [(http::header::RETRY_AFTER, "1")], self.to_string()).into_response()
            }
            _ if status.is_server_error() => {
                tracing::error!(error = %self, "a handler could not add a task");
                (status, "the task could not be accepted").into_response()
            }
            _ => (status, self.to_string()).into_response(),
        }
    }
}

fn status_code(error: &AddError) -> StatusCode {
    match error {
        AddError::QueueFull { .. } => StatusCode::TOO_MANY_REQUESTS,
        AddError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        AddError::Store(_) | AddError::Unknown { .. } | AddError::ShutDown => StatusCode::SERVICE_UNAVAILABLE,
        AddError::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        AddError::UnknownQueue { .. }
        | AddError::Argument { .. }
        | AddError::Option { .. }
        | AddError::Hook { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
