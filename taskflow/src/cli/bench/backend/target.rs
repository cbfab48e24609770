//! Which store is measured.

#[cfg(any(feature = "postgres", feature = "redis"))]
use crate::cli::Result;

/// Which store is measured.
#[derive(Clone, Debug)]
pub(in crate::cli::bench) struct Target {
    pub(in crate::cli::bench) url: String,
    /// What everything that is made there has in its name.
    pub(in crate::cli::bench) name: String,
}

impl Target {
    /// With a name that nothing else there has.
    pub(in crate::cli::bench) fn new(url: String) -> Self {
        let id = taskflow::TaskId::new().to_string().replace('-', "");
        Self { url, name: format!("bench_{}", &id[16..]) }
    }
}

/// The mark that puts a namespace behind a URL that has none.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) fn without_namespace(url: &str) -> Result<char> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    if query.split('&').any(|pair| pair.starts_with("namespace=")) {
        return Err(
            "the bench takes a namespace of its own and removes it: leave `namespace` out of the URL".into(),
        );
    }
    Ok(if url.contains('?') { '&' } else { '?' })
}
