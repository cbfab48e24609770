//! The store that is measured.

#[cfg(any(feature = "postgres", feature = "redis"))]
use crate::cli::bench::failure::Result;

/// The store that is measured.
#[derive(Clone, Debug)]
pub(in crate::cli::bench) struct Target {
    pub(in crate::cli::bench) url: String,
    /// A unique part of the names of everything that the bench creates there.
    pub(in crate::cli::bench) name: String,
}

impl Target {
    /// A target with a new unique name.
    pub(in crate::cli::bench) fn new(url: String) -> Self {
        let id = taskflow::TaskId::new().to_string().replace('-', "");
        Self { url, name: format!("bench_{}", &id[16..]) }
    }
}

/// The separator (`?` or `&`) with which a `namespace` option is appended to the URL. Refuses a URL that has one.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) fn without_namespace(url: &str) -> Result<char> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    if query.split('&').any(|pair| pair.starts_with("namespace=")) {
        return Err(
            "the bench creates and removes its own namespace: leave `namespace` out of the URL".into()
        );
    }
    Ok(if url.contains('?') { '&' } else { '?' })
}
