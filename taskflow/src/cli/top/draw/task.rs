//! One task: its facts, attempts, arguments and log. The page follows its end, where the log grows.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color as Ink, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use taskflow::{LogLevel, TaskRecord};

use super::ink::{bold, dim};
use super::table::spans;
use crate::cli::output::words::clock;
use crate::cli::output::{clean, clean_lines};
use crate::cli::top::state::{Open, State};
use crate::cli::verbs::show;

pub(super) fn draw(state: &State, open: &Open, frame: &mut Frame<'_>, area: Rect) {
    let Some(record) = &open.record else {
        let text = if state.away.is_some() { "" } else { "there is no such task; it may have been deleted" };
        frame.render_widget(Paragraph::new(format!(" {}\n {text}", open.id)).style(dim()), area);
        return;
    };
    let mut lines = facts(record);
    lines.push(Line::default());
    let width = usize::from(area.width).saturating_sub(2);
    if !record.attempts.is_empty() {
        lines.push(Line::styled(" attempts", bold()));
        for parts in show::attempts(record).lines(width) {
            lines.push(Line::from([vec![Span::raw(" ")], spans(parts)].concat()));
        }
        lines.push(Line::default());
    }
    for (title, json) in [("arguments", Some(&record.args)), ("result", record.result.as_ref())] {
        let Some(json) = json.filter(|json| !["{}", "null"].contains(&json.get())) else { continue };
        lines.push(Line::styled(format!(" {title}"), bold()));
        lines.extend(
            clean_lines(&show::indented(json.get())).lines().map(|line| Line::raw(format!(" {line}"))),
        );
        lines.push(Line::default());
    }
    if !open.log.is_empty() {
        lines.push(Line::styled(" log", bold()));
    }
    for line in &open.log {
        let ink = match line.level {
            LogLevel::Debug => dim(),
            LogLevel::Info => Style::new(),
            LogLevel::Warn => Style::new().fg(Ink::Yellow),
            LogLevel::Error => Style::new().fg(Ink::Red),
        };
        lines.push(Line::from(vec![
            Span::styled(format!(" {} #{} ", clock(line.at), line.attempt), dim()),
            Span::styled(format!("{:5} {}", line.level.as_str(), clean(&line.message)), ink),
        ]));
    }
    let room = usize::from(area.height);
    let last = lines.len().saturating_sub(room);
    let first = last.saturating_sub(open.scroll.min(last));
    let shown: Vec<_> = lines.into_iter().skip(first).take(room).collect();
    frame.render_widget(Paragraph::new(shown), area);
}

fn facts(record: &TaskRecord) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (word, text, _) in show::facts(record) {
        let mut texts = text.lines();
        let first = clean(texts.next().unwrap_or_default());
        let style = if word == "error" { Style::new().fg(Ink::Red) } else { Style::new() };
        lines.push(Line::from(vec![Span::styled(format!(" {word:15} "), dim()), Span::styled(first, style)]));
        lines.extend(texts.map(|line| Line::styled(format!(" {:15} {}", "", clean(line)), style)));
    }
    lines
}
