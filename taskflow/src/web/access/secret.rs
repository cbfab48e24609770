//! Random secrets, their text, and the names that go with them.

use super::error::AccessError;

/// The longest name of a user or token, in bytes.
const MAX_NAME: usize = 128;

/// 32 random bytes of the system.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn check_name<'a>(
    name: &str,
    mut others: impl Iterator<Item = &'a str>,
) -> Result<(), AccessError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(AccessError::Name);
    }
    if others.any(|other| other == name) {
        return Err(AccessError::Twice { name: name.to_owned() });
    }
    Ok(())
}
