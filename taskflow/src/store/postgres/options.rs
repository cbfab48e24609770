//! How the store uses an application's pool.

/// How a store uses an application's pool, for [`PostgresStore::from_pool`](super::PostgresStore::from_pool).
///
/// ```
/// use taskflow::store::PostgresOptions;
///
/// let behind_pgbouncer = PostgresOptions::new().namespace("shop").listen(false);
/// # drop(behind_pgbouncer);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct PostgresOptions {
    pub(super) namespace: Option<String>,
    pub(super) listens: bool,
}

impl PostgresOptions {
    /// Options without a namespace, and with `LISTEN` for hints.
    pub fn new() -> Self {
        Self { namespace: None, listens: true }
    }

    /// Makes this a separate store in the same database. The name has 1 to 32 of the characters `a` to `z`, `0` to `9`
    /// and `_`. In a URL this is `?namespace=NAME`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Whether the store listens for hints (default `true`). Set this to `false` for a pool behind PgBouncer in
    /// transaction mode: the store then uses no `LISTEN` and nothing that outlives a transaction, and finds the work of
    /// other processes by polling, within a second. In a URL this is `?listen=off`.
    pub fn listen(mut self, listen: bool) -> Self {
        self.listens = listen;
        self
    }
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Options with this namespace, if there is one.
impl From<Option<&str>> for PostgresOptions {
    fn from(namespace: Option<&str>) -> Self {
        Self { namespace: namespace.map(str::to_owned), ..Self::new() }
    }
}
