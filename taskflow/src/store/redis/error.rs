//! Turns Redis's errors into the store's.

use redis::{ErrorKind, RedisError};

use crate::model::{StoreError, StoreErrorKind};

/// The error if no connection could be made.
pub(super) fn unreachable(error: RedisError, location: &str) -> StoreError {
    if error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
    {
        return denied(error, location);
    }
    if let Some(reason) = tls_refusal(&error) {
        let message = format!(
            "no TLS connection to `{location}` ({reason}); check that the server speaks TLS there, and that this machine \
             trusts the authority of its certificate, or set `SSL_CERT_FILE` to a file with that authority's certificate"
        );
        return StoreError::with_source(StoreErrorKind::Unavailable, message, error);
    }
    let message = format!(
        "`{location}` cannot be reached; check that the server runs, listens there and has this database"
    );
    StoreError::with_source(StoreErrorKind::Unavailable, message, error)
}

/// The reason why the TLS handshake failed, if it did.
#[cfg(feature = "redis-tls")]
fn tls_refusal(error: &RedisError) -> Option<String> {
    use std::error::Error;

    // The driver wraps the error in an `Arc`.
    let shared = error.source()?.downcast_ref::<std::sync::Arc<dyn Error + Send + Sync>>()?;
    let io = shared.downcast_ref::<std::io::Error>()?;
    io.get_ref()?.downcast_ref::<rustls::Error>().map(ToString::to_string)
}

#[cfg(not(feature = "redis-tls"))]
fn tls_refusal(_: &RedisError) -> Option<String> {
    None
}

/// The store's error for an error answer of Redis, or for an answer that did not come. `in_doubt`: a write was sent and
/// its answer was lost.
pub(super) fn store_error(error: RedisError, location: &str, in_doubt: bool) -> StoreError {
    if in_doubt {
        let message = format!(
            "the connection to `{location}` broke before it answered; the call may have been carried out"
        );
        return StoreError::with_source(StoreErrorKind::Unknown, message, error);
    }
    if is_refusal(&error) {
        return refused(error.detail().unwrap_or("a right is missing"), location);
    }
    let (kind, message) = match error.code() {
        Some("NOAUTH" | "WRONGPASS") => return denied(error, location),
        Some("OOM") => (
            StoreErrorKind::Full,
            format!("`{location}` has reached its `maxmemory`; raise it, or lower the retention"),
        ),
        Some("MISCONF") => (
            StoreErrorKind::Full,
            format!(
                "`{location}` could not save to its disk and refuses writes until it can: its log says why (a full disk, missing rights, \
                 or no memory for the fork)"
            ),
        ),
        Some("READONLY") => (
            StoreErrorKind::Unavailable,
            format!("`{location}` is a replica and takes no writes; name the primary"),
        ),
        Some("MOVED" | "ASK" | "CROSSSLOT") => (
            StoreErrorKind::Denied,
            format!(
                "`{location}` is a node of a cluster that does not hold this namespace; name the node that does ({error})"
            ),
        ),
        Some("LOADING" | "BUSY" | "TRYAGAIN" | "MASTERDOWN" | "CLUSTERDOWN" | "NOREPLICAS") => {
            (StoreErrorKind::Unavailable, format!("`{location}` cannot answer now: {error}"))
        }
        _ if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() => {
            (StoreErrorKind::Unavailable, format!("the connection to `{location}` broke"))
        }
        _ => (StoreErrorKind::Other, format!("`{location}`: Redis refused what it was asked for: {error}")),
    };
    StoreError::with_source(kind, message, error)
}

fn denied(error: RedisError, location: &str) -> StoreError {
    if error.code() == Some("NOPERM") {
        return refused(error.detail().unwrap_or("a right is missing"), location);
    }
    let message = format!(
        "`{location}` denies access; check the user and the password in the URL, and that the user is `on`"
    );
    StoreError::with_source(StoreErrorKind::Denied, message, error)
}

/// The error for a missing right.
pub(super) fn refused(refusal: &str, location: &str) -> StoreError {
    let refusal = refusal.split(" script: ").next().unwrap_or(refusal);
    let namespace = location.rsplit_once("namespace=").map_or("NAMESPACE", |(_, namespace)| namespace);
    StoreError::new(
        StoreErrorKind::Denied,
        format!(
            "the user of `{location}` lacks a right ({refusal}); give it the keys `~{{taskflow:{namespace}}}:*`, the channels \
             `&{{taskflow:{namespace}}}:*` and the commands `+@read +@write +@scripting +@pubsub +@connection +time +info`"
        ),
    )
}

/// Whether the user lacks a right. Redis answers `NOPERM` to a command, and `ERR` to a script that runs one.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    error.code() == Some("NOPERM")
        || error.detail().is_some_and(|why| {
            why.contains("The user executing the script") || why.contains("ACL failure in script")
        })
}

/// The error for an answer that does not have the form that the script returns.
pub(super) fn unexpected(location: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::Other,
        format!("`{location}` gave an unexpected answer; check that it is Redis 7 or later, or Valkey"),
    )
}
