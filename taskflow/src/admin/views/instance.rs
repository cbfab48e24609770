use serde::Serialize;

use crate::model::InstanceInfo;

/// A live process.
#[derive(Debug, Serialize)]
pub struct InstanceView {
    #[serde(flatten)]
    info: InstanceInfo,
    /// Whether another live process has another version of taskflow.
    skew: bool,
}

impl InstanceView {
    /// The views of these processes, which must be all live ones.
    #[must_use]
    pub fn each(instances: Vec<InstanceInfo>) -> Vec<Self> {
        let versions: Vec<String> = instances.iter().map(|it| it.version.clone()).collect();
        let skew = |info: &InstanceInfo| versions.iter().any(|version| *version != info.version);
        instances.into_iter().map(|info| Self { skew: skew(&info), info }).collect()
    }
}
