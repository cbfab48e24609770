//! Values on their way to the database and back: instants, and text that may hold a NUL character.

use std::borrow::Cow;

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

/// An instant: microseconds since 1970, a `timestamptz` in the database. (sqlx supports this only with a crate of
/// dates.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instant(pub(super) i64);

impl Instant {
    /// The year 2000, from which PostgreSQL counts.
    const EPOCH: i64 = 946_684_800_000_000;
    /// Whether it was neither `infinity` nor `-infinity` in the database. Written back, those become the last and the
    /// first possible instant.
    pub(super) fn is_finite(self) -> bool {
        self.0 != i64::MAX && self.0 != i64::MIN + Self::EPOCH
    }

    /// The first instant of a `timestamptz`, in 4714 BC, in PostgreSQL's count.
    const FIRST: i64 = -211_813_488_000_000_000;
}

impl Type<Postgres> for Instant {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }

    fn compatible(ty: &PgTypeInfo) -> bool {
        ty.oid() == Some(Oid(1184))
    }
}

impl PgHasArrayType for Instant {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for Instant {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let count = self.0.saturating_sub(Self::EPOCH).max(Self::FIRST);
        Encode::<Postgres>::encode(count, buffer)
    }
}

impl Decode<'_, Postgres> for Instant {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let count: i64 = Decode::<Postgres>::decode(value)?;
        Ok(Self(count.saturating_add(Self::EPOCH)))
    }
}

/// The longest duration that can be added to an instant of today, in microseconds: 190,000 years.
pub(super) const LONGEST: i64 = 6_000_000_000_000_000_000;

/// A thousand years: how far back anything is looked up.
pub(super) const MILLENNIUM: i64 = 31_556_952_000_000_000;

/// A duration that the database can add to an instant.
pub(super) fn length(length: std::time::Duration) -> i64 {
    crate::model::time::micros(length).min(LONGEST)
}

/// Marks the escape of a NUL character.
const MARK: char = '\u{2400}';

/// Text in its stored form: PostgreSQL's text holds every character but NUL, which is written `␀0`; so `␀` is written
/// `␀␀`.
pub(super) fn escape_nul(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\0' => kept.extend([MARK, '0']),
            MARK => kept.extend([MARK, MARK]),
            other => kept.push(other),
        }
    }
    Cow::Owned(kept)
}

/// Undoes [`escape_nul`].
pub(super) fn unescape_nul(kept: String) -> String {
    if !kept.contains(MARK) {
        return kept;
    }
    let mut text = String::with_capacity(kept.len());
    let mut characters = kept.chars();
    while let Some(character) = characters.next() {
        match character {
            MARK => match characters.next() {
                Some('0') => text.push('\0'),
                Some(other) => text.push(other),
                None => text.push(MARK),
            },
            other => text.push(other),
        }
    }
    text
}

/// JSON in its stored form. Valid JSON is unchanged, because it has no NUL character and writes one as `\u0000`. If
/// there is one nevertheless, it is replaced by that escape.
pub(super) fn escape_json(json: &str) -> Cow<'_, str> {
    if json.contains('\0') { Cow::Owned(json.replace('\0', "\\u0000")) } else { Cow::Borrowed(json) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_two_are_never_kept_alike() {
        let texts = [
            "",
            "plain",
            "\0",
            "a\0b",
            "\u{2400}",
            "\u{2400}0",
            "\0\0",
            "\u{2400}\0\u{2400}0\0",
            "é\u{10FFFF}",
        ];
        for text in texts {
            let kept = escape_nul(text);
            assert!(!kept.contains('\0'));
            assert_eq!(unescape_nul(kept.clone().into_owned()), text);
            assert_eq!(texts.iter().filter(|other| escape_nul(other) == kept).count(), 1, "{text:?}");
        }
    }

    #[test]
    fn json_is_kept_as_it_is() {
        assert!(matches!(escape_json("{\"a\":\"\\u0000\u{2400}\"}"), Cow::Borrowed(_)));
        assert_eq!(escape_json("\"\0\""), "\"\\u0000\"");
    }
}
