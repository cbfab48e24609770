use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::AccessError;
use super::secret::{check_name, hex, random};
use crate::admin::{Actor, Role};

/// A token of a program. Only its SHA-256 is configured, so a leaked configuration lets nobody in.
///
/// ```
/// use taskflow::web::Token;
///
/// let (secret, sha256) = Token::generate();
/// assert!(secret.starts_with("tf_") && secret.len() == 46);
/// assert_eq!(sha256.len(), 64);
/// ```
#[derive(Clone, Debug)]
pub struct Token {
    sha256: String,
    actor: Actor,
}

impl Token {
    /// A token by its SHA-256 in hexadecimal. `name` is the name of its actor.
    pub fn new(name: impl Into<std::sync::Arc<str>>, sha256: impl Into<String>, role: Role) -> Self {
        Self::of(sha256, Actor::new(name, role))
    }

    /// A token of an actor with chosen permissions.
    pub fn of(sha256: impl Into<String>, actor: Actor) -> Self {
        Self { sha256: sha256.into(), actor }
    }

    /// Makes a new token, and its SHA-256. Give the token to the program, and the SHA-256 to [`new`](Self::new).
    #[must_use]
    pub fn generate() -> (String, String) {
        let secret = format!("tf_{}", BASE64_URL_SAFE_NO_PAD.encode(random()));
        let sha256 = hex(&Sha256::digest(&secret));
        (secret, sha256)
    }
}

#[derive(Debug)]
pub(super) struct Tokens(Vec<([u8; 32], Actor)>);

impl Tokens {
    pub(super) fn new(tokens: impl IntoIterator<Item = Token>) -> Result<Self, AccessError> {
        let mut all: Vec<([u8; 32], Actor)> = Vec::new();
        for Token { sha256, actor } in tokens {
            check_name(actor.name(), all.iter().map(|(_, actor)| actor.name()))?;
            let hash = bytes_of(&sha256);
            let hash = hash.ok_or_else(|| AccessError::TokenHash { token: actor.name().to_owned() })?;
            all.push((hash, actor));
        }
        Ok(Self(all))
    }

    pub(super) fn actor(&self, token: &str) -> Option<Actor> {
        let hash = Sha256::digest(token);
        // All are compared, so that the time tells nothing.
        self.0.iter().fold(None, |found, (one, actor)| {
            if bool::from(one[..].ct_eq(&hash[..])) { Some(actor.clone()) } else { found }
        })
    }
}

fn bytes_of(hex: &str) -> Option<[u8; 32]> {
    let hex = hex.trim();
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}
