//! Adding tasks from axum handlers, so that they run after the response.

mod background;
mod layer;
mod request;
mod response;

pub use background::{BackgroundTasks, BackgroundTasksRejection};
pub use layer::{BackgroundTasksLayer, BackgroundTasksService, ResponseFuture};
pub use response::ResponseBody;
