//! Opens a store from a URL or from a value.

use std::sync::Arc;

use super::url::without_password;
use super::{MemoryStore, Store};
use crate::model::Error;

/// The argument of [`TaskManagerBuilder::store`](crate::TaskManagerBuilder::store): a URL or a store.
///
/// | URL | store |
/// |---|---|
/// | `memory:` | the memory of this process: for tests and work that may be lost |
/// | `sqlite://relative.db`, `sqlite:///absolute.db` | one file; the path is percent-decoded |
/// | `redis://user:password@host:6379/0` | a Redis or Valkey server (feature `redis`) |
/// | `rediss://user:password@host:6379/0` | the same over TLS (feature `redis-tls`) |
/// | `postgres://user:password@host:port/database` | PostgreSQL 13 or later (feature `postgres`) |
///
/// `sqlite://` takes `?synchronous=full` (the default: an accepted task survives a power loss) or `?synchronous=normal`
/// (faster: an accepted task survives a crash of the process, but not of the machine). An unknown key is an error.
/// `postgres://`, `redis://` and `rediss://` take `?namespace=NAME`, so that several applications or tests can share one server.
///
/// Percent-encode the special characters in a user name or password: `/` is `%2F`, `?` is `%3F`, `#` is `%23`, `@` is
/// `%40`. A URL is refused if it is not certain where its password ends. No error ever shows any part of a password.
pub trait IntoStore: Sized {
    /// Returns the address of the store, without opening it.
    fn into_source(self) -> StoreSource;

    /// Opens the store.
    ///
    /// # Errors
    /// [`Error::StoreUrl`] for a URL that cannot be used, and [`Error::Store`] for a file that cannot be opened.
    fn into_store(self) -> Result<Arc<dyn Store>, Error> {
        self.into_source().open()
    }
}

/// A store that is not yet opened: [`start`](crate::TaskManagerBuilder::start) and
/// [`connect`](crate::TaskManagerBuilder::connect) open it.
pub struct StoreSource(Source);

enum Source {
    Url(String),
    Store(Arc<dyn Store>),
}

impl StoreSource {
    /// Opens the store for a process that creates none: a missing file is an error.
    pub(crate) fn open_existing(self) -> Result<Arc<dyn Store>, Error> {
        match self.0 {
            Source::Url(url) => open(&url, false),
            Source::Store(store) => Ok(store),
        }
    }

    /// Opens the store; a missing file is created. For a file this blocks for a few milliseconds, or longer while another
    /// process has the file locked. A server is not contacted yet.
    ///
    /// # Errors
    /// [`Error::StoreUrl`] for a URL that cannot be used, and [`Error::Store`] for a file that cannot be opened.
    pub fn open(self) -> Result<Arc<dyn Store>, Error> {
        match self.0 {
            Source::Url(url) => open(&url, true),
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

/// The URL without its password, or the address of the store.
impl std::fmt::Display for StoreSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Source::Url(url) => f.write_str(&without_password(url)),
            Source::Store(store) => f.write_str(&store.location()),
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

#[cfg_attr(not(feature = "sqlite"), allow(unused_variables, reason = "only SQLite creates a file"))]
fn open(url: &str, makes: bool) -> Result<Arc<dyn Store>, Error> {
    let refuse = |message: String| Err(Error::StoreUrl { url: without_password(url), message });
    let Some((scheme, rest)) = url.split_once(':') else {
        return refuse("it has no scheme; write `memory:` or `sqlite://tasks.db`".to_owned());
    };
    match scheme {
        "memory" if rest.is_empty() => Ok(Arc::new(MemoryStore::new())),
        "memory" => refuse("`memory:` takes nothing after the colon".to_owned()),
        #[cfg(feature = "sqlite")]
        "sqlite" => match rest.strip_prefix("//") {
            Some(rest) => super::SqliteStore::from_url(url, rest, makes),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        open(url, true).expect_err(url).to_string()
    }

    #[test]
    fn an_unusable_url_is_refused_with_a_valid_form() {
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

    proptest::proptest! {
        #[test]
        fn no_piece_of_a_password_is_shown_for_any_url(
            pieces in proptest::collection::vec("[Q-Z]{6,10}", 1..4),
            joint in proptest::sample::select(vec!["/", "?", "#", "@", ":", "%", "[", "]", " ", "\\", "&", "=", "//", "%2F", "é"]),
            shape in proptest::sample::select(SHAPES.to_vec()),
            scheme in proptest::sample::select(SCHEMES.to_vec()),
        ) {
            // The text after an `@` at the end is always read as a host.
            proptest::prop_assume!(joint != "@" || pieces.len() == 1 || !shape.ends_with("://app:PASSWORD"));
            let password = pieces.join(joint);
            let url = shape.replace("PASSWORD", &password).replace("SCHEME", scheme);
            let shown = match open(&url, true) {
                Err(error) => format!("{error} {error:?}"),
                Ok(store) => format!("{} {store:?}", store.location()),
            };
            for piece in &pieces {
                proptest::prop_assert!(!shown.contains(piece.as_str()), "{url}: {shown}");
            }
        }
    }

    const SCHEMES: &[&str] = &["postgres", "postgresql", "redis", "rediss", "oracle", "http", "Postgres"];

    const SHAPES: &[&str] = &[
        "SCHEME://app:PASSWORD@db/shop",
        "SCHEME://app:PASSWORD@db:5432/shop?namespace=a",
        "SCHEME://app:PASSWORD@[::1]:5432/0",
        "SCHEME://app:PASSWORD@[::1/0",
        "SCHEME://:PASSWORD@db:6379/0",
        "SCHEME://app:PASSWORD@db:port/shop",
        "SCHEME://app:PASSWORD@",
        "SCHEME://app:PASSWORD@/shop",
        "SCHEME://app:PASSWORD",
        "SCHEME://app%3APASSWORD@db:1x/shop",
        "SCHEME://app:PASSWORD@db/shop?listen=never",
        "SCHEME://app:PASSWORD@db/shop?unknown=1#x",
        "SCHEME://db/shop?user=app&password=PASSWORD",
        "SCHEME:app:PASSWORD@db/shop",
        "SCHEME:/app:PASSWORD@db/shop",
        "app:PASSWORD@db/shop",
    ];

    #[cfg(all(feature = "postgres", feature = "redis"))]
    #[test]
    fn a_password_that_must_be_percent_encoded_is_refused_with_the_remedy() {
        for scheme in ["postgres", "redis"] {
            for password in ["s3/cret", "s3?cret", "s3#cret", "12/cret", "12?cret", "12#cret"] {
                let text = refusal(&format!("{scheme}://app:{password}@db/shop"));
                assert!(text.contains("percent-encode") && !text.contains("cret"), "{text}");
            }
            let text = refusal(&format!("{scheme}://app:s3cret"));
            assert!(text.contains("percent-encode") && !text.contains("s3cret"), "{text}");
            let text = refusal(&format!("{scheme}://app%3As3cret@db"));
            assert!(text.contains("percent-encode") && !text.contains("s3cret"), "{text}");
            open(&format!("{scheme}://app:s3%2Fcret@db/0"), true).expect("it is percent-encoded");
            open(&format!("{scheme}://[::1]:6379/0"), true).expect("an address");
        }
    }
}
