//! The format of sealed values, and the place to which each is bound.
//!
//! A sealed value is JSON: `{"$tf":"enc1","k":"a1b2c3d4","n":"..","c":".."}`. `k` is the id of the key, `n` the nonce and `c`
//! the ciphertext with its tag, both in base64url. Two fields are optional. `a` is the attempt of an error or a log line. `b`
//! says that arguments are not bound to the id of their task but to something else: `run_key`, because a later add with that key
//! replaces the arguments while the task keeps its first id; or `schedule`, because each tick gets the same arguments.
//!
//! The associated data names the place: the owner, the task's name, the field and the attempt, each with its length. A value
//! that is moved to another place does not open there.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use serde::Deserialize;

use super::key::Purpose;
use super::{Key, Keys, OpenError};
use crate::model::TaskId;
use crate::model::sealed::is_key_id;

/// The place of a value, to which it is bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) owner: Owner<'a>,
    /// The name under which the task was added.
    pub(crate) name: &'a str,
    pub(crate) field: Field,
}

/// The owner of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner<'a> {
    Task(TaskId),
    /// The tasks of a name with this run key: a replacement keeps the id of the first.
    RunKey(&'a str),
    /// The ticks of the schedules that add tasks of a name.
    Schedule,
}

/// The field of a task that has the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Args,
    Result,
    Error { attempt: u32 },
    Log { attempt: u32 },
}

/// What arguments are bound to, if not to the id of their task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    RunKey,
    Schedule,
}

impl Owner<'_> {
    fn bound(&self) -> Option<Bound> {
        match self {
            Self::Task(_) => None,
            Self::RunKey(_) => Some(Bound::RunKey),
            Self::Schedule => Some(Bound::Schedule),
        }
    }
}

impl Field {
    fn purpose(self) -> Purpose {
        match self {
            Self::Args => Purpose::Args,
            Self::Result => Purpose::Result,
            Self::Error { .. } => Purpose::Error,
            Self::Log { .. } => Purpose::Log,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Args => "args",
            Self::Result => "result",
            Self::Error { .. } => "error",
            Self::Log { .. } => "log",
        }
    }

    fn attempt(self) -> Option<u32> {
        match self {
            Self::Args | Self::Result => None,
            Self::Error { attempt } | Self::Log { attempt } => Some(attempt),
        }
    }
}

impl Place<'_> {
    /// The associated data.
    fn bytes(&self) -> Vec<u8> {
        let text;
        let (kind, owner) = match self.owner {
            Owner::Task(id) => {
                text = id.to_string();
                ("id", text.as_str())
            }
            Owner::RunKey(key) => ("run_key", key),
            Owner::Schedule => ("schedule", ""),
        };
        let attempt = self.field.attempt().map(|attempt| attempt.to_string()).unwrap_or_default();
        let mut bytes = Vec::with_capacity(96 + owner.len() + self.name.len());
        for part in ["taskflow enc1", kind, owner, self.name, self.field.word(), &attempt] {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part.as_bytes());
        }
        bytes
    }
}

/// Seals a text for its place.
pub(crate) fn seal(key: &Key, place: &Place<'_>, plain: &str) -> String {
    let aad = place.bytes();
    let nonce = match place.owner {
        // The same schedule must have the same definition in every process, because a different definition would replace it.
        Owner::Schedule => key.nonce_of(&aad, plain.as_bytes()),
        Owner::Task(_) | Owner::RunKey(_) => {
            let mut nonce = [0; 24];
            getrandom::fill(&mut nonce).expect("the system has random bytes");
            nonce
        }
    };
    let payload = Payload { msg: plain.as_bytes(), aad: &aad };
    let sealed = key.cipher(place.field.purpose()).encrypt(&nonce.into(), payload);
    let sealed = sealed.expect("a value is shorter than the 256 GiB that the cipher takes");
    let attempt = place.field.attempt().map(|attempt| format!(r#","a":{attempt}"#)).unwrap_or_default();
    let bound = match place.owner {
        Owner::Task(_) => "",
        Owner::RunKey(_) => r#","b":"run_key""#,
        Owner::Schedule => r#","b":"schedule""#,
    };
    let mut text = String::with_capacity(128 + sealed.len() / 3 * 4);
    text.push_str(r#"{"$tf":"enc1","k":""#);
    text.push_str(key.id());
    text.push('"');
    text.push_str(&attempt);
    text.push_str(bound);
    text.push_str(r#","n":""#);
    URL_SAFE_NO_PAD.encode_string(nonce, &mut text);
    text.push_str(r#"","c":""#);
    URL_SAFE_NO_PAD.encode_string(sealed, &mut text);
    text.push_str("\"}");
    text
}

/// A sealed value that has been read and not opened.
#[derive(Debug)]
pub(crate) struct Envelope<'a> {
    key: &'a str,
    attempt: Option<u32>,
    bound: Option<Bound>,
    nonce: [u8; 24],
    sealed: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(rename = "$tf")]
    format: &'a str,
    k: &'a str,
    a: Option<u32>,
    b: Option<&'a str>,
    n: &'a str,
    c: &'a str,
}

impl<'a> Envelope<'a> {
    /// Reads a sealed value.
    ///
    /// # Errors
    /// [`OpenError::Damaged`].
    pub(crate) fn read(text: &'a str) -> Result<Self, OpenError> {
        let read = || {
            let written: Written<'a> = serde_json::from_str(text)
                .ok()
                .filter(|it: &Written<'_>| it.format == "enc1" && is_key_id(it.k))?;
            let bound = match written.b {
                None => None,
                Some("run_key") => Some(Bound::RunKey),
                Some("schedule") => Some(Bound::Schedule),
                Some(_) => return None,
            };
            Some(Self {
                key: written.k,
                attempt: written.a,
                bound,
                nonce: URL_SAFE_NO_PAD.decode(written.n).ok()?.try_into().ok()?,
                sealed: URL_SAFE_NO_PAD.decode(written.c).ok()?,
            })
        };
        read().ok_or(OpenError::Damaged)
    }

    /// The error for a value that does not open at the place where it is.
    pub(crate) fn refused(&self) -> OpenError {
        OpenError::Refused { key: self.key.to_owned() }
    }

    /// The id of the key.
    pub(crate) fn key(&self) -> &str {
        self.key
    }

    /// What the arguments are bound to, if not to the id of their task.
    pub(crate) fn bound(&self) -> Option<Bound> {
        self.bound
    }

    /// The attempt of an error or a log line.
    pub(crate) fn attempt(&self) -> Option<u32> {
        self.attempt
    }

    /// Opens the value at that place.
    ///
    /// # Errors
    /// When the ring lacks its key, and when the value was changed or belongs to another place.
    pub(crate) fn open(&self, keys: Option<&dyn Keys>, place: &Place<'_>) -> Result<String, OpenError> {
        if (self.attempt, self.bound) != (place.field.attempt(), place.owner.bound()) {
            return Err(self.refused());
        }
        let found = keys
            .and_then(|keys| keys.by_id(self.key))
            .ok_or_else(|| OpenError::MissingKey { key: self.key.to_owned() })?;
        let aad = place.bytes();
        let payload = Payload { msg: &self.sealed, aad: &aad };
        let opened = found.cipher(place.field.purpose()).decrypt(&self.nonce.into(), payload);
        let opened = opened.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        opened.ok_or_else(|| self.refused())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> Key {
        Key::from_parts([0xa1, 0xb2, 0xc3, 0xd4], [7; 32])
    }

    fn id() -> TaskId {
        "0197c7a8-2f5e-7cc0-8a4f-4d1f0a6b2f10".parse().unwrap()
    }

    fn places() -> Vec<Place<'static>> {
        let other = "0197c7a8-2f5e-7cc0-8a4f-4d1f0a6b2f11".parse().unwrap();
        let mut places = Vec::new();
        let owners =
            [Owner::Task(id()), Owner::Task(other), Owner::RunKey("a"), Owner::RunKey("ab"), Owner::Schedule];
        for owner in owners {
            for name in ["b", "bb", "args"] {
                let fields = [
                    Field::Args,
                    Field::Result,
                    Field::Error { attempt: 1 },
                    Field::Error { attempt: 2 },
                    Field::Log { attempt: 1 },
                ];
                places.extend(fields.map(|field| Place { owner, name, field }));
            }
        }
        places
    }

    fn open(text: &str, place: &Place<'_>) -> Result<String, OpenError> {
        Envelope::read(text)?.open(Some(&key()), place)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    /// Of draft-irtf-cfrg-xchacha-03, A.3.1.
    #[test]
    fn the_cipher_is_the_published_one() {
        use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
        let key = bytes("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
        let nonce: [u8; 24] = bytes("404142434445464748494a4b4c4d4e4f5051525354555657").try_into().unwrap();
        let plain =
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                      sunscreen would be it.";
        let expected = bytes(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39\
             ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
             21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49",
        );
        let aad = bytes("50515253c0c1c2c3c4c5c6c7");
        let cipher = XChaCha20Poly1305::new_from_slice(&key).unwrap();
        let sealed = cipher.encrypt(&nonce.into(), Payload { msg: plain, aad: &aad }).unwrap();
        assert_eq!(sealed, expected);
    }

    #[test]
    fn a_value_opens_at_its_own_place_and_at_no_other() {
        let places = places();
        for place in &places {
            let sealed = seal(&key(), place, "{\"n\":1}");
            for other in &places {
                let opened = open(&sealed, other).ok();
                let is_own = format!("{place:?}") == format!("{other:?}");
                assert_eq!(opened.as_deref(), is_own.then_some("{\"n\":1}"), "{place:?} {other:?}");
            }
        }
    }

    #[test]
    fn no_changed_character_goes_unnoticed() {
        for field in [Field::Args, Field::Error { attempt: 3 }] {
            for owner in [Owner::Task(id()), Owner::RunKey("k")] {
                let place = Place { owner, name: "b", field };
                let sealed = seal(&key(), &place, "{\"to\":\"ada\"}");
                for at in 0..sealed.len() {
                    for bit in 0..7 {
                        let mut bytes = sealed.clone().into_bytes();
                        bytes[at] ^= 1 << bit;
                        let changed = String::from_utf8(bytes).unwrap();
                        assert!(open(&changed, &place).is_err(), "{changed}");
                    }
                }
                for end in 0..sealed.len() {
                    assert!(open(&sealed[..end], &place).is_err());
                }
            }
        }
    }

    #[test]
    fn what_an_envelope_says_of_its_place_cannot_be_rewritten() {
        let error = |attempt| Place { owner: Owner::Task(id()), name: "b", field: Field::Error { attempt } };
        let sealed = seal(&key(), &error(3), "no");
        let rewritten = sealed.replace(r#""a":3"#, r#""a":2"#);
        assert_ne!(rewritten, sealed);
        assert_eq!(open(&rewritten, &error(2)), Err(OpenError::Refused { key: "a1b2c3d4".to_owned() }));

        let args = |owner| Place { owner, name: "b", field: Field::Args };
        let sealed = seal(&key(), &args(Owner::RunKey("")), "{}");
        let rewritten = sealed.replace("run_key", "schedule");
        assert_eq!(
            open(&rewritten, &args(Owner::Schedule)),
            Err(OpenError::Refused { key: "a1b2c3d4".to_owned() })
        );
    }

    #[test]
    fn only_a_schedule_has_the_same_envelope_twice() {
        let sealed = |owner| {
            let place = Place { owner, name: "b", field: Field::Args };
            seal(&key(), &place, "{}")
        };
        assert_eq!(sealed(Owner::Schedule), sealed(Owner::Schedule));
        assert_ne!(sealed(Owner::Task(id())), sealed(Owner::Task(id())));
    }

    proptest! {
        #[test]
        fn every_text_comes_back(plain in "\\PC*", name in "\\PC{1,20}", attempt: u32) {
            let place = Place { owner: Owner::Task(id()), name: &name, field: Field::Log { attempt } };
            let sealed = seal(&key(), &place, &plain);
            prop_assert!(crate::model::sealed::is_sealed(&sealed));
            prop_assert_eq!(crate::model::sealed::key_of(&sealed), Some("a1b2c3d4"));
            prop_assert_eq!(Envelope::read(&sealed).unwrap().attempt(), Some(attempt));
            prop_assert_eq!(open(&sealed, &place).unwrap(), plain);
        }

        #[test]
        fn any_other_text_is_refused_without_a_panic(text in "\\PC*") {
            prop_assert_eq!(open(&text, &Place { owner: Owner::Schedule, name: "b", field: Field::Args }), Err(OpenError::Damaged));
        }
    }
}
