//! The live processes.

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::row::Listed;
use crate::model::InstanceInfo;
use crate::web::call::{Call, json};
use crate::web::problem::Problem;

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    info: InstanceInfo,
    /// Whether other processes run another version.
    skew: bool,
}

pub(super) async fn list(call: Call) -> Result<Response, Problem> {
    let mut instances = call.console().tasks().instances().await?;
    let versions: Vec<String> = instances.iter().map(|it| it.version.clone()).collect();
    if !call.actor.sees_all_queues() {
        let seen = call.console().schedules(&call.actor).await?;
        for instance in &mut instances {
            instance.schedules.retain(|name| seen.iter().any(|schedule| schedule.name == *name));
        }
    }
    let skew = |info: &InstanceInfo| versions.iter().any(|version| *version != info.version);
    let shown = instances.into_iter().map(|info| Shown { skew: skew(&info), info }).collect();
    Ok(json(StatusCode::OK, &Listed::all(shown)))
}
