//! The stores, each with its floor: the same work hand-written on the raw driver, as durable as taskflow's.

mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod slots;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
mod worker;

use std::collections::BTreeMap;

use super::Result;
use super::ours::Place;
use super::queue::Queue;

/// Versions, and what an accepted task survives.
pub(super) type Facts = BTreeMap<&'static str, String>;

/// A store in which the bench may make and remove what it likes.
pub(super) trait Backend: Send + Sync {
    type Floor: Queue;

    /// Another empty place for taskflow.
    fn place(&self) -> Result<Place>;

    /// Another empty floor, that runs as many tasks at once.
    fn floor(&self, slots: usize) -> impl Future<Output = Result<Self::Floor>> + Send;

    fn facts(&self) -> impl Future<Output = Result<Facts>> + Send;

    /// Removes all that the bench has made so far.
    fn remove(&self) -> impl Future<Output = Result<()>> + Send;

    /// How many finished tasks the store keeps.
    fn keeps(&self) -> u64 {
        u64::MAX
    }
}

/// What is measured on a store, whichever it is.
pub(super) trait Measured {
    type Output;

    async fn on<B: Backend>(&self, backend: B) -> Result<Self::Output>;
}

/// Which store is measured.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) url: String,
    /// What everything that is made there has in its name.
    pub(super) name: String,
}

impl Target {
    /// With a name that nothing else there has.
    pub(super) fn new(url: String) -> Self {
        let id = taskflow::TaskId::new().to_string().replace('-', "");
        Self { url, name: format!("bench_{}", &id[16..]) }
    }
}

/// Measures on a store.
pub(super) async fn with<M: Measured>(target: &Target, measured: &M) -> Result<M::Output> {
    match target.url.split(':').next().unwrap_or_default() {
        "memory" => measured.on(memory::Memory).await,
        #[cfg(feature = "sqlite")]
        "sqlite" => measured.on(sqlite::Sqlite::open(target)?).await,
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => measured.on(postgres::Postgres::open(target).await?).await,
        #[cfg(feature = "redis")]
        "redis" => measured.on(redis::Redis::open(target).await?).await,
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(without("sqlite")),
        #[cfg(not(feature = "postgres"))]
        "postgres" | "postgresql" => Err(without("postgres")),
        #[cfg(not(feature = "redis"))]
        "redis" => Err(without("redis")),
        _ => Err("there is no such store: write `memory:`, `sqlite://FILE`, `postgres://..` or `redis://..`"
            .into()),
    }
}

#[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "redis")))]
fn without(feature: &str) -> crate::cli::Failure {
    format!("this command was built without `{feature}`: build it with `--features cli,{feature}`").into()
}

/// The mark that puts a namespace behind a URL that has none.
#[cfg(any(feature = "postgres", feature = "redis"))]
fn without_namespace(url: &str) -> Result<char> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    if query.split('&').any(|pair| pair.starts_with("namespace=")) {
        return Err(
            "the bench takes a namespace of its own and removes it: leave `namespace` out of the URL".into(),
        );
    }
    Ok(if url.contains('?') { '&' } else { '?' })
}
