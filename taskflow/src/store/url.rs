//! From a URL, or a value, to a store.

use std::sync::Arc;

use super::{MemoryStore, Store};
use crate::model::Error;

/// What [`TaskManagerBuilder::store`](crate::TaskManagerBuilder::store) takes: a URL, or a store.
///
/// | URL | store |
/// |---|---|
/// | `memory:` | this process's memory: for tests and throw-away work |
/// | `sqlite://relative.db`, `sqlite:///absolute.db` | one file; the path is percent-decoded |
/// | `redis://user:password@host:6379/0` | a Redis or Valkey server (feature `redis`) |
/// | `postgres://user:password@host:port/database` | PostgreSQL 13 or later (feature `postgres`) |
///
/// `sqlite://` takes `?synchronous=full` (the default: an accepted task survives a power loss) or
/// `?synchronous=normal` (faster: it survives a crash of the process, not of the machine). A key that is not known is
/// an error. `postgres://` and `redis://` take `?namespace=NAME`: several applications, or tests, on one server.
pub trait IntoStore: Sized {
    /// Where the store is. Nothing is opened.
    fn into_source(self) -> StoreSource;

    /// The store this stands for, opened.
    ///
    /// # Errors
    /// [`Error::StoreUrl`] for a URL that cannot be used, and [`Error::Store`] for a file that cannot be opened.
    fn into_store(self) -> Result<Arc<dyn Store>, Error> {
        self.into_source().open()
    }
}

/// A store that is not opened yet: [`start`](crate::TaskManagerBuilder::start) and
/// [`connect`](crate::TaskManagerBuilder::connect) open it.
pub struct StoreSource(Source);

enum Source {
    Url(String),
    Store(Arc<dyn Store>),
}

impl StoreSource {
    /// Opens the store. A file takes a few milliseconds, in which this blocks; a server is reached later.
    ///
    /// # Errors
    /// [`Error::StoreUrl`] for a URL that cannot be used, and [`Error::Store`] for a file that cannot be opened.
    pub fn open(self) -> Result<Arc<dyn Store>, Error> {
        match self.0 {
            Source::Url(url) => open(&url),
            Source::Store(store) => Ok(store),
        }
    }
}

impl std::fmt::Debug for StoreSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Source::Url(url) => f.debug_tuple("StoreSource").field(&without_password(url)).finish(),
            Source::Store(store) => f.debug_tuple("StoreSource").field(store).finish(),
        }
    }
}

impl<S: Store> IntoStore for S {
    fn into_source(self) -> StoreSource {
        StoreSource(Source::Store(Arc::new(self)))
    }
}

impl IntoStore for Arc<dyn Store> {
    fn into_source(self) -> StoreSource {
        StoreSource(Source::Store(self))
    }
}

impl IntoStore for &str {
    fn into_source(self) -> StoreSource {
        StoreSource(Source::Url(self.to_owned()))
    }
}

impl IntoStore for String {
    fn into_source(self) -> StoreSource {
        StoreSource(Source::Url(self))
    }
}

impl IntoStore for &String {
    fn into_source(self) -> StoreSource {
        StoreSource(Source::Url(self.clone()))
    }
}

fn open(url: &str) -> Result<Arc<dyn Store>, Error> {
    let refuse = |message: String| Err(Error::StoreUrl { url: without_password(url), message });
    let Some((scheme, rest)) = url.split_once(':') else {
        return refuse("it has no scheme; write `memory:` or `sqlite://tasks.db`".to_owned());
    };
    match scheme {
        "memory" if rest.is_empty() => Ok(Arc::new(MemoryStore::new())),
        "memory" => refuse("`memory:` takes nothing behind it".to_owned()),
        #[cfg(feature = "sqlite")]
        "sqlite" => match rest.strip_prefix("//") {
            Some(rest) => super::SqliteStore::from_url(url, rest),
            None => refuse("write `sqlite://relative.db` or `sqlite:///absolute.db`".to_owned()),
        },
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => refuse("this program was built without the feature `sqlite` of taskflow".to_owned()),
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(Arc::new(super::RedisStore::open(url)?)),
        #[cfg(not(feature = "redis"))]
        "redis" | "rediss" => {
            refuse("this program was built without the feature `redis` of taskflow".to_owned())
        }
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(super::PostgresStore::open(url)?)),
        #[cfg(not(feature = "postgres"))]
        "postgres" | "postgresql" => {
            refuse("this program was built without the feature `postgres` of taskflow".to_owned())
        }
        "file" => refuse("a SQLite file is written `sqlite://tasks.db`".to_owned()),
        _ => refuse(format!(
            "there is no store `{scheme}`; there are `memory:`, `sqlite://`, `postgres://` and `redis://`"
        )),
    }
}

/// The URL as it may be shown: what stands between the user's name and the host is left out.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let (before, query) = rest[authority.len()..].split_once('?').unwrap_or((&rest[authority.len()..], ""));
    let shown = |pair: &str| match pair.split_once('=') {
        Some(("password", _)) => "password=***".to_owned(),
        _ => pair.to_owned(),
    };
    let query: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(shown).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    let tail = format!("{before}{mark}{}", query.join("&"));
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let user = user.split(':').next().unwrap_or(user);
            format!("{scheme}://{user}:***@{host}{tail}")
        }
        _ => format!("{scheme}://{authority}{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        open(url).expect_err(url).to_string()
    }

    #[test]
    fn a_url_that_cannot_be_used_says_what_would_be_right() {
        assert!(refusal("tasks.db").contains("sqlite://tasks.db"));
        assert!(refusal("mysql://localhost/app").contains("no store `mysql`"));
        assert!(refusal("memory:shared").contains("takes nothing"));
        #[cfg(feature = "sqlite")]
        assert!(refusal("sqlite:tasks.db").contains("sqlite://relative.db"));
        #[cfg(not(feature = "sqlite"))]
        assert!(refusal("sqlite://tasks.db").contains("without the feature `sqlite`"));
    }

    #[test]
    fn a_password_is_never_shown() {
        let text = refusal("oracle://app:s3cr:t@db.example/tasks?x=1");
        assert!(!text.contains("s3cr") && text.contains("oracle://app:***@db.example/tasks?x=1"), "{text}");
        let text = refusal("oracle://db.example/tasks?user=app&password=s3cret&x=1");
        assert!(text.contains("db.example/tasks?user=app&password=***&x=1"), "{text}");
    }
}
