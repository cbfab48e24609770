//! Instants and lengths as people write them.

use std::time::{Duration, SystemTime};

use super::words::invalid;
use crate::admin::AdminError;
use crate::model::time;

/// Reads an instant: RFC 3339, a date in UTC, or a length before or after now, such as `-6h` or `+1h`.
///
/// # Errors
/// [`AdminError::Invalid`] names the field.
pub fn instant(field: &str, text: &str, now: SystemTime) -> Result<SystemTime, AdminError> {
    let relative = text.strip_prefix('-').map(|rest| (rest, true));
    let relative = relative.or_else(|| text.strip_prefix('+').map(|rest| (rest, false)));
    let at = match relative {
        Some((rest, true)) => length(rest).and_then(|length| now.checked_sub(length)),
        Some((rest, false)) => length(rest).and_then(|length| now.checked_add(length)),
        None => time::parse(text),
    };
    at.ok_or_else(|| {
        let message = format!(
            "`{text}` is not an instant: write `2026-11-01T08:00:00Z`, `2026-11-01` or a length such as `-6h`"
        );
        invalid(field, message)
    })
}

/// Reads a length such as `90s`, `1h30m` or `7d`; `None` for other texts.
#[must_use]
pub fn length(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(millis)?;
        total = total.checked_add(Duration::from_millis(part))?;
        rest = after;
    }
    Some(total)
}

pub(super) fn bad_length(text: &str) -> String {
    format!("`{text}` is not a length: write `90s`, `1h30m` or `7d`")
}
