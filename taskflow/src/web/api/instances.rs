//! The live processes.

use axum::response::Response;
use http::StatusCode;

use crate::admin::views::{InstanceView, Listed};
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let mut instances = call.console().tasks().instances().await?;
    if !call.actor.sees_all_queues() {
        let seen = call.console().schedules(&call.actor).await?;
        for instance in &mut instances {
            instance.schedules.retain(|name| seen.iter().any(|schedule| schedule.name == *name));
        }
    }
    Ok(json(StatusCode::OK, &Listed::all(InstanceView::each(instances))))
}
