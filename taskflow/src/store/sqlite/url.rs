//! Parses URLs of the form `sqlite://path?synchronous=normal`.

use std::path::PathBuf;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::{SqliteStore, Synchronous};
use crate::model::Error;
use crate::store::Store;

impl SqliteStore {
    /// Opens the store of a URL; `rest` is the text after `sqlite://`. `makes` says whether to create a missing store.
    pub(in crate::store) fn from_url(url: &str, rest: &str, makes: bool) -> Result<Arc<dyn Store>, Error> {
        let (path, synchronous) =
            parse(rest).map_err(|message| Error::StoreUrl { url: url.to_owned(), message })?;
        Ok(Arc::new(Self::open_or_make(&path, synchronous, makes)?))
    }
}

fn parse(rest: &str) -> Result<(PathBuf, Synchronous), String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path.is_empty() {
        return Err("it names no file; write `sqlite://relative.db` or `sqlite:///absolute.db`".to_owned());
    }
    let mut synchronous = Synchronous::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        synchronous = match (key, value) {
            ("synchronous", "full") => Synchronous::Full,
            ("synchronous", "normal") => Synchronous::Normal,
            ("synchronous", other) => {
                return Err(format!("`synchronous` cannot be `{other}`; it is `full` or `normal`"));
            }
            (other, _) => {
                return Err(format!("there is no key `{other}`; there is `synchronous=full|normal`"));
            }
        };
    }
    Ok((decode(path)?, synchronous))
}

/// On Unix a path may be any bytes except NUL.
#[cfg(unix)]
fn decode(path: &str) -> Result<PathBuf, String> {
    use std::os::unix::ffi::OsStringExt;

    let bytes: Vec<u8> = percent_decode_str(path).collect();
    if bytes.contains(&0) {
        return Err("a path cannot contain a NUL character (%00); remove it".to_owned());
    }
    Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

#[cfg(not(unix))]
fn decode(path: &str) -> Result<PathBuf, String> {
    match percent_decode_str(path).decode_utf8() {
        Ok(path) => Ok(PathBuf::from(path.into_owned())),
        Err(_) => Err("its percent-decoded path is not UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_percent_decoded_and_may_be_absolute() {
        let parsed = |rest| parse(rest).unwrap();
        assert_eq!(parsed("tasks.db"), (PathBuf::from("tasks.db"), Synchronous::Full));
        assert_eq!(
            parsed("/var/my%20app/a%3Fb.db?synchronous=normal"),
            (PathBuf::from("/var/my app/a?b.db"), Synchronous::Normal)
        );
    }

    #[test]
    fn an_invalid_url_is_refused_with_the_valid_form() {
        let refused = |rest| parse(rest).unwrap_err();
        assert!(refused("").contains("sqlite://relative.db"));
        assert!(refused("?synchronous=full").contains("names no file"));
        assert!(refused("a.db?synchronous=off").contains("`full` or `normal`"));
        assert!(refused("a.db?synchronus=full").contains("`synchronus`"));
    }
}
