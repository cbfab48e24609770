//! Chooses the backend for the URL of a store.

#[cfg(feature = "postgres")]
use super::postgres;
#[cfg(feature = "redis")]
use super::redis;
#[cfg(feature = "sqlite")]
use super::sqlite;
use super::{Backend, Target, memory};
use crate::cli::bench::failure::Result;

/// A measurement that works on any backend.
pub(in crate::cli::bench) trait Measured {
    type Output;

    async fn on<B: Backend>(&self, backend: B) -> Result<Self::Output>;
}

/// Measures on the backend that the target's URL names.
pub(in crate::cli::bench) async fn with<M: Measured>(target: &Target, measured: &M) -> Result<M::Output> {
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
        _ => {
            Err("unknown kind of store: write `memory:`, `sqlite://FILE`, `postgres://..` or `redis://..`"
                .into())
        }
    }
}

#[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "redis")))]
fn without(feature: &str) -> crate::cli::bench::failure::Failure {
    format!("this command was built without `{feature}`: build it with `--features cli,{feature}`").into()
}
