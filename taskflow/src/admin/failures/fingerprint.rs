//! Fingerprints of errors: their texts, with the parts that differ from task to task replaced.

/// A fingerprint is cut to this many bytes.
const COMPARED: usize = 200;

/// The text with ids, hexadecimal numbers of at least 8 digits, other numbers, quoted strings and addresses replaced, then cut
/// to 200 bytes. Two errors with the same fingerprint count as the same failure.
pub(crate) fn fingerprint(error: &str) -> String {
    let mut found = String::new();
    let mut rest = error.trim_start();
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        if found.len() >= COMPARED {
            break;
        }
        let length = match first {
            '"' | '\'' | '`' | '“' if !before.is_alphanumeric() => quoted(rest, first),
            _ => None,
        };
        if let Some(length) = length {
            found.push_str("‹text›");
            (before, rest) = ('›', &rest[length..]);
            continue;
        }
        if first.is_whitespace() {
            found.push(' ');
            rest = rest.trim_start();
            before = ' ';
            continue;
        }
        let end =
            rest.find(|c: char| c.is_whitespace() || "\"'`“,;()<>{}|".contains(c)).unwrap_or(rest.len());
        if end == 0 {
            found.push(first);
            (before, rest) = (first, &rest[first.len_utf8()..]);
            continue;
        }
        // A full stop or the like at the end of a word does not belong to the word.
        let word = rest[..end].trim_end_matches(['.', ':', '!', '?']);
        let word = if word.is_empty() { &rest[..end] } else { word };
        push_word(&mut found, word);
        before = word.chars().next_back().unwrap_or(' ');
        rest = &rest[word.len()..];
    }
    found.truncate(found.floor_char_boundary(COMPARED));
    found
}

/// The length of a quoted string with its quotes, if it ends on the same line.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let close = if quote == '“' { '”' } else { quote };
    let inside = &text[quote.len_utf8()..];
    let end = inside.find([close, '\n'])?;
    inside[end..].starts_with(close).then_some(quote.len_utf8() + end + close.len_utf8())
}

fn push_word(found: &mut String, word: &str) {
    if is_address(word) {
        found.push_str("‹address›");
    } else if is_uuid(word) {
        found.push_str("‹id›");
    } else {
        let hex = word.strip_prefix("0x").unwrap_or(word);
        let all_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        if all_hex && hex.len() >= 8 && hex.bytes().any(|byte| byte.is_ascii_digit()) {
            found.push_str("‹hex›");
        } else {
            push_without_numbers(found, word);
        }
    }
}

fn push_without_numbers(found: &mut String, word: &str) {
    let mut in_number = false;
    for c in word.chars() {
        if c.is_ascii_digit() {
            if !in_number {
                found.push_str("‹n›");
            }
            in_number = true;
        } else {
            found.push(c);
            in_number = false;
        }
    }
}

fn is_uuid(word: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    word.len() == 36
        && word.bytes().enumerate().all(|(at, byte)| match dashes.contains(&at) {
            true => byte == b'-',
            false => byte.is_ascii_hexdigit(),
        })
}

/// A URL, a mail address, an IP address, or a host with a port.
fn is_address(word: &str) -> bool {
    if word.contains("://") {
        return true;
    }
    if let Some((user, host)) = word.split_once('@') {
        return !user.is_empty() && host.contains('.');
    }
    let (host, port) = word.rsplit_once(':').unwrap_or((word, ""));
    let has_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let bare = if has_port { host } else { word };
    let is_ip = bare.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    is_ip || (has_port && (host.contains('.') || host == "localhost"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_differs_from_task_to_task_is_replaced() {
        for (error, expected) in [
            ("connection refused by smtp.example.com:587", "connection refused by ‹address›"),
            ("timed out after 10 s", "timed out after ‹n› s"),
            ("no user 0197c7a8-2f5e-7cc0-8a4f-4d1f0a6b2f10.", "no user ‹id›."),
            ("commit deadbeef01 is gone", "commit ‹hex› is gone"),
            ("at 0x7ffdeadbeef0", "at ‹hex›"),
            ("can't mail \"ada\" at ada@example.com", "can't mail ‹text› at ‹address›"),
            ("queue `reports` is full (100 waiting)", "queue ‹text› is full (‹n› waiting)"),
            ("GET https://a.b/c?d=1: 503", "GET ‹address›: ‹n›"),
            ("peer 10.0.0.7 and [::1]:80", "peer ‹address› and ‹address›"),
            ("a  b\n c", "a b c"),
        ] {
            assert_eq!(fingerprint(error), expected, "{error}");
        }
    }

    #[test]
    fn different_failures_stay_different() {
        assert_ne!(fingerprint("card declined"), fingerprint("card expired"));
        assert_ne!(fingerprint("facade"), fingerprint("deadbeef"));
    }

    proptest! {
        #[test]
        fn any_text_has_a_short_fingerprint(text in "\\PC{0,300}") {
            prop_assert!(fingerprint(&text).len() <= COMPARED);
        }
    }
}
