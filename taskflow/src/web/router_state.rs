//! What all requests to one router share.

use std::sync::Arc;

use serde::Deserialize;

use tokio::sync::Semaphore;

use super::access::Access;
#[cfg(feature = "dashboard")]
use super::dashboard::cache::Cache;
use super::live::Live;
use super::site::Site;
use crate::admin::{Actor, Args, Permission};
use crate::model::TaskRecord;

/// The colour of an environment in the dashboard and on a terminal. As text, its name in lower case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Accent {
    /// Grey: nothing to be careful about.
    #[default]
    Gray,
    /// Green.
    Green,
    /// Blue.
    Blue,
    /// Orange.
    Orange,
    /// Red: production.
    Red,
}

impl Accent {
    #[cfg_attr(not(feature = "dashboard"), expect(dead_code, reason = "only pages have colours"))]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gray => "gray",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Orange => "orange",
            Self::Red => "red",
        }
    }
}

/// A link from a task to another system.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "dashboard"), expect(dead_code, reason = "only pages have links"))]
pub(crate) struct Link {
    pub(crate) label: String,
    /// A URL with `{name}`, `{queue}`, `{id}`, `{trace_id}` and `{tag.k}`.
    pub(crate) template: String,
}

/// The most open streams of single tasks of one router.
pub(crate) const MAX_FOLLOWED: usize = 64;

/// What all requests to one router share.
#[derive(Debug)]
pub(crate) struct RouterState {
    pub(crate) site: Site,
    pub(crate) access: Access,
    pub(crate) title: Arc<str>,
    pub(crate) environment: Option<(String, Accent)>,
    pub(crate) args: Args,
    pub(crate) links: Vec<Link>,
    pub(crate) live: Live,
    /// A permit for each stream of a single task.
    pub(crate) followed: Arc<Semaphore>,
    #[cfg(feature = "dashboard")]
    pub(crate) cache: Cache,
}

impl RouterState {
    /// The record with the arguments and the result that this actor may see.
    pub(crate) fn shown(&self, actor: &Actor, mut record: TaskRecord) -> TaskRecord {
        if actor.may(Permission::ViewSecrets) {
            return record;
        }
        let hidden = || serde_json::value::to_raw_value(&()).expect("null is JSON");
        let may = actor.may(Permission::ViewArgs);
        record.args = if may { self.args.visible(&record.args) } else { None }.unwrap_or_else(hidden);
        record.result =
            record.result.take().and_then(|json| if may { self.args.visible(&json) } else { None });
        record
    }
}
