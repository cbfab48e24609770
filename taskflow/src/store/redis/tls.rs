//! TLS to the server, for `rediss://`: what the driver leaves to the program.

/// Makes TLS possible, or says what is missing.
#[cfg(feature = "redis-tls")]
pub(super) fn prepare() -> Result<(), String> {
    use rustls::crypto::{CryptoProvider, ring};

    // If another library of the program brings a second cryptography provider, rustls chooses neither and panics. A
    // provider that the program has chosen stays.
    if CryptoProvider::get_default().is_none() {
        // Another thread may have chosen just now.
        let _ = ring::default_provider().install_default();
    }
    Ok(())
}

/// Makes TLS possible, or says what is missing.
#[cfg(not(feature = "redis-tls"))]
pub(super) fn prepare() -> Result<(), String> {
    Err("this program was built without the feature `redis-tls` of taskflow, which TLS to Redis needs"
        .to_owned())
}
