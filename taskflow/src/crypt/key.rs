//! Keys, and the ciphers that are derived from them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::KeyError;

/// The beginning of the text of a key. The number is the version of the format.
const BEGINNING: &str = "tfk1_";

/// A key: 32 secret random bytes, and an id of 4 bytes that is not secret, by which sealed values name their key.
///
/// Its text is `tfk1_`, the id in hexadecimal, `_`, and the secret bytes in base64url. `taskflow keygen` prints a new one. Keep
/// it where you keep the password of the database. `Debug` shows only the id.
///
/// ```
/// use taskflow::crypt::Key;
///
/// let key = Key::generate();
/// let again: Key = key.secret_text().parse()?;
/// assert_eq!(again.id(), key.id());
/// assert_eq!(format!("{key:?}"), format!("Key({})", key.id()));
/// # Ok::<(), taskflow::crypt::KeyError>(())
/// ```
#[derive(Clone)]
pub struct Key(Arc<Inner>);

struct Inner {
    id: String,
    secret: Zeroizing<[u8; 32]>,
    args: XChaCha20Poly1305,
    result: XChaCha20Poly1305,
    error: XChaCha20Poly1305,
    log: XChaCha20Poly1305,
    nonce: Zeroizing<[u8; 32]>,
}

/// The purpose of a derived key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Args,
    Result,
    Error,
    Log,
}

impl Key {
    /// A new key, made of random bytes from the system.
    ///
    /// # Panics
    /// When the system has no random bytes.
    #[must_use]
    pub fn generate() -> Self {
        let (mut id, mut secret) = ([0; 4], Zeroizing::new([0; 32]));
        getrandom::fill(&mut id).expect("the system has random bytes");
        getrandom::fill(&mut *secret).expect("the system has random bytes");
        Self::of(id, secret)
    }

    /// A key of these bytes, which must be random. Use it for keys from a key management service, for example. Two keys in one
    /// ring need different ids.
    #[must_use]
    pub fn from_parts(id: [u8; 4], secret: [u8; 32]) -> Self {
        Self::of(id, Zeroizing::new(secret))
    }

    /// The key in this environment variable.
    ///
    /// # Errors
    /// When the variable is not set, or its text is not a key.
    pub fn from_env(variable: &str) -> Result<Self, KeyError> {
        let text = std::env::var(variable).map(Zeroizing::new);
        let text = text.map_err(|_| KeyError::NotSet { variable: variable.to_owned() })?;
        text.parse().map_err(|_| KeyError::NotAKey { variable: Some(variable.to_owned()) })
    }

    fn of(id: [u8; 4], secret: Zeroizing<[u8; 32]>) -> Self {
        let id = id.iter().fold(String::with_capacity(8), |text, byte| text + &format!("{byte:02x}"));
        let root = Hkdf::<Sha256>::new(Some(b"taskflow enc1"), &*secret);
        let derived = |purpose: &str| {
            let mut key = Zeroizing::new([0; 32]);
            root.expand(purpose.as_bytes(), &mut *key).expect("32 bytes are one block of SHA-256");
            key
        };
        let cipher = |purpose| XChaCha20Poly1305::new((&*derived(purpose)).into());
        Self(Arc::new(Inner {
            id,
            args: cipher("args"),
            result: cipher("result"),
            error: cipher("error"),
            log: cipher("log"),
            nonce: derived("nonce"),
            secret,
        }))
    }

    /// Its id: 8 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The key as text, **with the secret**. Keep it in a safe place.
    #[must_use]
    pub fn secret_text(&self) -> String {
        format!("{BEGINNING}{}_{}", self.0.id, URL_SAFE_NO_PAD.encode(self.0.secret.as_slice()))
    }

    pub(super) fn cipher(&self, purpose: Purpose) -> &XChaCha20Poly1305 {
        match purpose {
            Purpose::Args => &self.0.args,
            Purpose::Result => &self.0.result,
            Purpose::Error => &self.0.error,
            Purpose::Log => &self.0.log,
        }
    }

    /// A nonce derived from this text and this place: always the same for them, and in practice never the same for any other.
    /// (HKDF's first step is an HMAC with the salt as its key.)
    pub(super) fn nonce_of(&self, place: &[u8], plain: &[u8]) -> [u8; 24] {
        let message = Zeroizing::new([place, plain].concat());
        let mut nonce = [0; 24];
        let derived = Hkdf::<Sha256>::new(Some(&*self.0.nonce), &message);
        derived.expand(b"nonce", &mut nonce).expect("24 bytes are a part of one block of SHA-256");
        nonce
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let parts = || {
            let (id, secret) = text.trim().strip_prefix(BEGINNING)?.split_once('_')?;
            let is_id = id.len() == 8 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let id = u32::from_str_radix(id, 16).ok().filter(|_| is_id)?;
            let secret = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).ok()?);
            Some(Self::of(id.to_be_bytes(), Zeroizing::new(secret.as_slice().try_into().ok()?)))
        };
        parts().ok_or(KeyError::NotAKey { variable: None })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_key_is_read_back_and_any_other_is_refused_without_being_shown() {
        let key = Key::from_parts([0xa1, 0xb2, 0xc3, 0xd4], [7; 32]);
        let text = key.secret_text();
        assert_eq!(text, "tfk1_a1b2c3d4_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
        let again: Key = format!(" {text}\n").parse().unwrap();
        assert_eq!(again.secret_text(), text);
        for wrong in [
            "",
            "tfk1_",
            "tfk2_a1b2c3d4_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            "tfk1_a1b2c3d_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            "tfk1_A1B2C3D4_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            "tfk1_+1b2c3d4_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            "tfk1_a1b2c3d4_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw",
            "tfk1_a1b2c3d4_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwd",
            "tfk1_a1b2c3d4_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
        ] {
            let error = wrong.parse::<Key>().unwrap_err();
            assert!(!error.to_string().contains("BwcH"), "{wrong}");
        }
        assert_eq!(format!("{key:?}"), "Key(a1b2c3d4)");
    }

    #[test]
    fn two_new_keys_differ() {
        let keys = [Key::generate(), Key::generate()];
        assert_ne!(keys[0].secret_text(), keys[1].secret_text());
    }
}
