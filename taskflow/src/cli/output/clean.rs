//! Texts that tasks and people wrote, made safe for a terminal: a control sequence in an error must not reach it.

/// The text in one line, with its control characters as escapes.
pub(in crate::cli) fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push(' '),
            c => push(c, &mut shown),
        }
    }
    shown
}

/// Like [`clean`], but keeps line breaks and tabs, and drops carriage returns.
pub(in crate::cli) fn clean_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            '\r' => {}
            c => push(c, &mut shown),
        }
    }
    shown
}

fn push(c: char, shown: &mut String) {
    // Bidirectional overrides would let a name look like another one.
    let is_hidden =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    if c.is_control() || is_hidden {
        shown.extend(c.escape_default());
    } else {
        shown.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_sequence_reaches_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\nc\u{202e}d"), "a\\u{1b}[2Jb\\r c\\u{202e}d");
        assert_eq!(clean_lines("a\r\n\tb\u{7}"), "a\n\tb\\u{7}");
        assert_eq!(clean("Zoë 日本"), "Zoë 日本");
    }
}
