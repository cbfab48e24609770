//! The pages that are one table.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color as Ink, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::ink::{bold, dim};
use crate::cli::output::{Color, Table, clean};
use crate::cli::top::state::{State, Tab};
use crate::cli::verbs::{audit, catalogue, failures, list, queues, schedules};

pub(super) fn draw(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let is_tasks = state.tab == Tab::Tasks;
    let [above, rows] =
        Layout::vertical([Constraint::Length(u16::from(is_tasks)), Constraint::Min(1)]).areas(area);
    if is_tasks {
        frame.render_widget(Paragraph::new(filter_line(state)), above);
    }
    let data = &state.data;
    let (table, nothing) = match state.tab {
        Tab::Tasks => (list::table(&data.tasks, false), "no task matches"),
        Tab::Failures => {
            (failures::table(&data.failures, state.now), "nothing has failed in the last 24 hours")
        }
        Tab::Queues => (queues::table(&data.queues), "there is no queue"),
        Tab::Schedules => (schedules::table(&data.schedules), "there is no schedule"),
        Tab::Workers => (catalogue::workers_table(&data.instances), "no process is connected"),
        Tab::Audit | Tab::Overview => (audit::audit_table(&data.audit), "nobody has done anything"),
    };
    if table.is_empty() {
        frame.render_widget(Paragraph::new(nothing).style(dim()), rows);
        return;
    }
    let marked = |row: usize| {
        is_tasks
            && (state.all_matching || data.tasks.get(row).is_some_and(|it| state.selected.contains(&it.id)))
    };
    frame.render_widget(Paragraph::new(lines(&table, rows, Some(state.cursor()), marked)), rows);
}

fn filter_line(state: &State) -> Line<'static> {
    let mut spans = vec![match state.filter.is_empty() {
        true => Span::styled(" all tasks", dim()),
        false => Span::raw(format!(" {}", clean(&state.filter))),
    }];
    let more = if state.data.has_more { "+" } else { "" };
    let first = if state.page > 0 { format!(" · page {}", state.page + 1) } else { String::new() };
    spans.push(Span::styled(format!(" · {}{more} shown{first}", state.data.tasks.len()), dim()));
    if state.all_matching {
        spans.push(Span::styled(" · all matching are selected", Style::new().fg(Ink::Yellow)));
    } else if !state.selected.is_empty() {
        spans.push(Span::styled(
            format!(" · {} selected", state.selected.len()),
            Style::new().fg(Ink::Yellow),
        ));
    }
    Line::from(spans)
}

/// The titles and the rows that fit. The row under the cursor is always among them.
pub(super) fn lines(
    table: &Table,
    area: Rect,
    cursor: Option<usize>,
    marked: impl Fn(usize) -> bool,
) -> Vec<Line<'static>> {
    let mut lines = table.lines(usize::from(area.width).saturating_sub(2)).into_iter().map(spans);
    let titles = lines.next().unwrap_or_default();
    let room = usize::from(area.height).saturating_sub(1).max(1);
    let first = cursor.map_or(0, |cursor| (cursor + 1).saturating_sub(room));
    let rows = lines.enumerate().skip(first).take(room).map(|(row, mut parts)| {
        parts.insert(0, Span::raw(if marked(row) { "● " } else { "  " }));
        let line = Line::from(parts);
        if Some(row) == cursor { line.style(Style::new().add_modifier(Modifier::REVERSED)) } else { line }
    });
    let mut shown = vec![Line::from([vec![Span::raw("  ")], titles].concat())];
    shown.extend(rows);
    shown
}

pub(super) fn spans(parts: Vec<(String, Color)>) -> Vec<Span<'static>> {
    parts.into_iter().map(|(text, color)| Span::styled(text, style(color))).collect()
}

fn style(color: Color) -> Style {
    match color {
        Color::Plain => Style::new(),
        Color::Dim => dim(),
        Color::Bold => bold(),
        Color::Green => Style::new().fg(Ink::Green),
        Color::Red => Style::new().fg(Ink::Red),
        Color::Yellow => Style::new().fg(Ink::Yellow),
        Color::Blue => Style::new().fg(Ink::Blue),
        Color::Magenta => Style::new().fg(Ink::Magenta),
    }
}
