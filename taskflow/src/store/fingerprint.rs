//! A fingerprint of a schema. Until the first release the one migration is edited in place, so two development versions
//! may make different stores with the same migration number. The fingerprint of the migration's text tells them apart.

use crate::model::{StoreError, StoreErrorKind};

/// The FNV-1a hash of these texts. The hasher of the standard library may change between two versions of Rust.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let bytes = texts.into_iter().flat_map(str::bytes);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The error of a place where nobody has made a store yet, for a process that only connects.
pub(super) fn missing(location: &str) -> StoreError {
    StoreError::missing(format!(
        "there is no store at {location} yet; start a manager on it with `.start()`, or run `taskflow migrate`: \
         a manager that only connects does not create it"
    ))
}

/// The error of a store that another development version made.
pub(super) fn refused(location: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::NotAStore,
        format!(
            "{location} was made by another development version of taskflow, and its layout differs; \
             delete that store's data, or use another file or `?namespace=NAME`"
        ),
    )
}
