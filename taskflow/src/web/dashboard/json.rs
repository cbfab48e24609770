//! JSON for people: indented and coloured, from the raw text, so that numbers keep all their digits.

/// How much of a long text is coloured and shown at once, in bytes.
const SHOWN: usize = 64 << 10;

/// A part of the text with the class of its colour; an empty class is plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) class: &'static str,
    pub(crate) text: String,
}

/// A JSON text as a page shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pretty {
    pub(crate) pieces: Vec<Piece>,
    /// The rest of a text that is longer than 64 KiB, indented and without colours.
    pub(crate) rest: Option<String>,
    /// The length of the raw text.
    pub(crate) size: usize,
}

/// Indents and colours a JSON text. Text that is not JSON is shown as it is.
pub(crate) fn pretty(raw: &str) -> Pretty {
    let raw = raw.trim();
    let mut writer = Writer::default();
    let mut at = 0;
    while at < raw.len() {
        at = writer.token(raw, at);
    }
    writer.flush("");
    Pretty { pieces: writer.pieces, rest: Some(writer.rest).filter(|rest| !rest.is_empty()), size: raw.len() }
}

#[derive(Default)]
struct Writer {
    pieces: Vec<Piece>,
    plain: String,
    rest: String,
    written: usize,
    depth: usize,
}

impl Writer {
    /// Writes the token that begins at this byte, and returns where the next one begins.
    fn token(&mut self, raw: &str, at: usize) -> usize {
        let bytes = raw.as_bytes();
        match bytes[at] {
            b' ' | b'\n' | b'\r' | b'\t' => at + 1,
            open @ (b'{' | b'[') => {
                let next = skip_blank(bytes, at + 1);
                if bytes.get(next).is_some_and(|&close| close == open + 2) {
                    self.push("", if open == b'{' { "{}" } else { "[]" });
                    return next + 1;
                }
                self.depth += 1;
                self.push("", &raw[at..=at]);
                self.line();
                at + 1
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.line();
                self.push("", &raw[at..=at]);
                at + 1
            }
            b',' => {
                self.push("", ",");
                self.line();
                at + 1
            }
            b':' => {
                self.push("", ": ");
                at + 1
            }
            b'"' => {
                let end = end_of_string(bytes, at);
                let is_key = bytes.get(skip_blank(bytes, end)) == Some(&b':');
                self.push(if is_key { "k" } else { "s" }, &raw[at..end]);
                end
            }
            _ => {
                let stops = |byte: &u8| {
                    matches!(
                        byte,
                        b',' | b':' | b'{' | b'}' | b'[' | b']' | b'"' | b' ' | b'\n' | b'\r' | b'\t'
                    )
                };
                let end = bytes[at..].iter().position(stops).map_or(raw.len(), |length| at + length.max(1));
                let word = &raw[at..end];
                self.push(if matches!(word, "true" | "false" | "null") { "w" } else { "n" }, word);
                end
            }
        }
    }

    fn line(&mut self) {
        // A text of brackets only must not grow with the square of its length.
        let indent = "  ".repeat(self.depth.min(40));
        self.push("", "\n");
        self.push("", &indent);
    }

    fn push(&mut self, class: &'static str, text: &str) {
        if self.written >= SHOWN {
            self.rest.push_str(text);
            return;
        }
        self.written += text.len();
        if class.is_empty() {
            self.plain.push_str(text);
        } else {
            self.flush("");
            self.pieces.push(Piece { class, text: text.to_owned() });
        }
    }

    fn flush(&mut self, class: &'static str) {
        if !self.plain.is_empty() {
            self.pieces.push(Piece { class, text: std::mem::take(&mut self.plain) });
        }
    }
}

fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// The byte after the closing quote, or the end of a text without one.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(pretty: &Pretty) -> String {
        let head: String = pretty.pieces.iter().map(|piece| piece.text.as_str()).collect();
        head + pretty.rest.as_deref().unwrap_or_default()
    }

    #[test]
    fn numbers_keep_all_their_digits() {
        let shown =
            pretty(r#"{"invoice":18446744073709551615,"list":[1.10,-2e400,{}],"s":"a: {b}","t":true}"#);
        let expected = "{\n  \"invoice\": 18446744073709551615,\n  \"list\": [\n    1.10,\n    -2e400,\n    {}\n  ],\n  \
                        \"s\": \"a: {b}\",\n  \"t\": true\n}";
        assert_eq!(text(&shown), expected);
        let class =
            |word: &str| shown.pieces.iter().find(|piece| piece.text == word).map(|piece| piece.class);
        assert_eq!(class("\"invoice\""), Some("k"));
        assert_eq!(class("18446744073709551615"), Some("n"));
        assert_eq!(class("\"a: {b}\""), Some("s"));
        assert_eq!(class("true"), Some("w"));
    }

    #[test]
    fn only_the_first_64_kib_are_coloured() {
        let raw = format!("[{}1]", "1,".repeat(500_000));
        let shown = pretty(&raw);
        assert!(shown.pieces.len() < 40_000, "{}", shown.pieces.len());
        assert!(shown.rest.is_some());
        assert_eq!(text(&shown).matches('1').count(), 500_001);
        assert_eq!(shown.size, raw.len());
    }

    proptest! {
        #[test]
        fn any_text_is_shown_without_loss(raw in "[\\[\\]{}:,\"\\\\ a0é\n-]{0,80}") {
            let strip = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(strip(&text(&pretty(&raw))), strip(&raw));
        }
    }
}
