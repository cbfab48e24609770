//! Colours.

/// The colour or weight of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) enum Color {
    #[default]
    Plain,
    Dim,
    Bold,
    Green,
    Red,
    Yellow,
    Blue,
    Magenta,
}

/// Whether colours are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Style {
    pub(in crate::cli) is_colored: bool,
}

impl Style {
    /// The text in that colour.
    pub(in crate::cli) fn paint(self, color: Color, text: &str) -> String {
        let code = match color {
            Color::Plain => return text.to_owned(),
            Color::Dim => 2,
            Color::Bold => 1,
            Color::Green => 32,
            Color::Red => 31,
            Color::Yellow => 33,
            Color::Blue => 34,
            Color::Magenta => 35,
        };
        if self.is_colored && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
