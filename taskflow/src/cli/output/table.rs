//! Tables that fit the terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::clean::clean;
use super::{Color, Style};

/// The space between two columns.
const GAP: usize = 2;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Column {
    title: &'static str,
    is_right: bool,
    /// The least width of a column that may be cut; `None` for one that is never cut.
    least: Option<usize>,
    /// Columns of a greater rank are left out first; those of rank 0 never.
    rank: u8,
}

impl Column {
    /// A column of texts.
    pub(in crate::cli) const fn text(title: &'static str) -> Self {
        Self { title, is_right: false, least: None, rank: 0 }
    }

    /// A column of numbers.
    pub(in crate::cli) const fn number(title: &'static str) -> Self {
        Self { title, is_right: true, least: None, rank: 0 }
    }

    /// May be cut to that width.
    pub(in crate::cli) const fn least(mut self, least: usize) -> Self {
        self.least = Some(least);
        self
    }

    /// Left out if there is no room, before columns of a smaller rank.
    pub(in crate::cli) const fn rank(mut self, rank: u8) -> Self {
        self.rank = rank;
        self
    }
}

/// One cell: what people see, and what programs get.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Cell {
    shown: String,
    raw: Option<String>,
    color: Color,
}

impl Cell {
    /// A text.
    pub(in crate::cli) fn new(shown: impl Into<String>) -> Self {
        Self { shown: shown.into(), raw: None, color: Color::Plain }
    }

    /// What programs get instead.
    pub(in crate::cli) fn raw(mut self, raw: impl Into<String>) -> Self {
        self.raw = Some(raw.into());
        self
    }

    pub(in crate::cli) fn color(mut self, color: Color) -> Self {
        self.color = color;
        self
    }

    /// A number with commas for people.
    pub(in crate::cli) fn number(n: u64) -> Self {
        Self::new(super::words::number(n)).raw(n.to_string())
    }

    /// A number, but a dim dot for zero, so that only other numbers attract attention.
    pub(in crate::cli) fn some(n: u64) -> Self {
        if n == 0 { Self::new("·").raw("0").color(Color::Dim) } else { Self::number(n) }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

/// Rows below column titles.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(in crate::cli) fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    pub(in crate::cli) fn push(&mut self, row: impl Into<Vec<Cell>>) {
        let row = row.into();
        debug_assert_eq!(row.len(), self.columns.len(), "a cell for each column");
        self.rows.push(row);
    }

    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The parts of each line in this width, the titles first. Spaces between columns are parts of their own.
    pub(in crate::cli) fn lines(&self, width: usize) -> Vec<Vec<(String, Color)>> {
        let cleaned: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| clean(&cell.shown)).collect()).collect();
        let natural: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                let cells = cleaned.iter().map(|row| row[at].width());
                cells.chain([self.columns[at].title.width()]).max().unwrap_or(0)
            })
            .collect();
        let widths = self.widths(&natural, width);
        let titles = self.columns.iter().map(|column| (column.title.to_owned(), Color::Dim));
        let mut lines = vec![line(&self.columns, &widths, titles)];
        for (row, cleaned) in self.rows.iter().zip(cleaned) {
            let cells = cleaned.into_iter().zip(row).map(|(text, cell)| (text, cell.color));
            lines.push(line(&self.columns, &widths, cells));
        }
        lines
    }

    /// The table in this width, each line with a line break.
    pub(in crate::cli) fn shown(&self, width: usize, style: Style) -> String {
        let mut shown = String::new();
        for parts in self.lines(width) {
            let text: String = parts.into_iter().map(|(text, color)| style.paint(color, &text)).collect();
            shown.push_str(text.trim_end());
            shown.push('\n');
        }
        shown
    }

    /// The width of each column; `None` for those that are left out.
    fn widths(&self, natural: &[usize], width: usize) -> Vec<Option<usize>> {
        let least = |at: usize| match self.columns[at].least {
            Some(least) => natural[at].min(least.max(self.columns[at].title.width())),
            None => natural[at],
        };
        let mut kept: Vec<usize> = (0..self.columns.len()).collect();
        let sum = |kept: &[usize]| {
            kept.iter().map(|at| least(*at)).sum::<usize>() + GAP * kept.len().saturating_sub(1)
        };
        while sum(&kept) > width {
            let last = kept.iter().copied().filter(|at| self.columns[*at].rank > 0);
            let Some(dropped) = last.max_by_key(|at| (self.columns[*at].rank, *at)) else { break };
            kept.retain(|at| *at != dropped);
        }
        let mut left = width.saturating_sub(sum(&kept));
        let mut widths = vec![None; self.columns.len()];
        for at in kept {
            let more = (natural[at] - least(at)).min(left);
            left -= more;
            widths[at] = Some(least(at) + more);
        }
        widths
    }

    /// Tab-separated lines with a line of titles.
    pub(in crate::cli) fn tabs(&self) -> String {
        let mut text = String::new();
        let titles = self.columns.iter().map(|column| column.title.to_lowercase().replace(' ', "_"));
        text.push_str(&titles.collect::<Vec<_>>().join("\t"));
        text.push('\n');
        for row in &self.rows {
            let cells = row.iter().map(|cell| escape(cell.raw.as_ref().unwrap_or(&cell.shown)));
            text.push_str(&cells.collect::<Vec<_>>().join("\t"));
            text.push('\n');
        }
        text
    }
}

fn line(
    columns: &[Column],
    widths: &[Option<usize>],
    cells: impl Iterator<Item = (String, Color)>,
) -> Vec<(String, Color)> {
    let mut parts = Vec::new();
    for ((column, width), (text, color)) in columns.iter().zip(widths).zip(cells) {
        let Some(width) = *width else { continue };
        let gap = if parts.is_empty() { 0 } else { GAP };
        let text = cut(&text, width);
        let pad = width.saturating_sub(text.width());
        let (before, after) = if column.is_right { (pad, 0) } else { (0, pad) };
        parts.push((" ".repeat(gap + before), Color::Plain));
        parts.push((text, color));
        parts.push((" ".repeat(after), Color::Plain));
    }
    parts
}

/// The text in at most that many columns of the terminal.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > width {
            break;
        }
        shown.push(c);
    }
    shown.push('…');
    shown
}

/// Tabs and line breaks as `\t` and `\n`, so that a line is a row.
fn escape(text: &str) -> String {
    if !text.contains(['\t', '\n', '\r', '\\']) {
        return text.to_owned();
    }
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { is_colored: false };

    fn table() -> Table {
        let mut table = Table::new([
            Column::text("ID"),
            Column::text("NAME").least(6),
            Column::number("N").rank(1),
            Column::text("ERROR").least(8).rank(2),
        ]);
        table.push([
            Cell::new("a1"),
            "send_email".into(),
            Cell::number(1_234),
            "it was refused\nby all".into(),
        ]);
        table.push([Cell::new("b2"), "日本語".into(), Cell::some(0), "".into()]);
        table
    }

    #[test]
    fn a_table_fits_and_leaves_out_what_matters_least() {
        for width in [10, 20, 30, 40, 80] {
            let shown = table().shown(width, PLAIN);
            assert!(shown.lines().all(|line| line.width() <= width), "{width}\n{shown}");
        }
        assert_eq!(
            table().shown(80, PLAIN),
            "ID  NAME            N  ERROR\na1  send_email  1,234  it was refused by all\nb2  日本語          ·\n"
        );
        assert_eq!(table().shown(12, PLAIN), "ID  NAME\na1  send_em…\nb2  日本語\n");
        let shown = table().shown(34, PLAIN);
        assert!(shown.contains("it was ref…"), "{shown}");
    }

    #[test]
    fn programs_get_whole_values_and_one_line_for_a_row() {
        assert_eq!(
            table().tabs(),
            "id\tname\tn\terror\na1\tsend_email\t1234\tit was refused\\nby all\nb2\t日本語\t0\t\n"
        );
    }

    #[test]
    fn only_the_text_is_coloured() {
        let mut table = Table::new([Column::text("A"), Column::text("B")]);
        table.push([Cell::new("x").color(Color::Red), Cell::new("y")]);
        let shown = table.shown(80, Style { is_colored: true });
        assert!(shown.contains("\u{1b}[31mx\u{1b}[0m  y"), "{shown:?}");
    }
}
