//! The overview: how much there is, how fast it goes, and what needs a person.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color as Ink, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::ink::{bold, dim};
use super::table::lines;
use crate::cli::output::clean;
use crate::cli::output::words::number;
use crate::cli::top::state::State;
use crate::cli::verbs::queues;

/// How high the chart is.
const CHART: u16 = 4;

pub(super) fn draw(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let data = &state.data;
    let queues = u16::try_from(data.queues.len()).unwrap_or(u16::MAX).saturating_add(2).min(area.height / 2);
    let [numbers, chart, table, attention] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(CHART + 1),
        Constraint::Length(queues),
        Constraint::Min(1),
    ])
    .areas(area);
    let counts = data.counts;
    let words = [
        ("succeeded", counts.success, Ink::Green),
        ("interrupted", counts.interrupted, Ink::Magenta),
        ("cancelled", counts.cancelled, Ink::Reset),
        ("rejected", counts.rejected, Ink::Red),
        ("in all", counts.total(), Ink::Reset),
    ];
    let spans = words.into_iter().map(|(word, n, ink)| {
        let style = if n == 0 { dim() } else { Style::new().fg(ink) };
        Span::styled(format!(" {} {word} ", number(n)), style)
    });
    frame.render_widget(Paragraph::new(Line::from(spans.collect::<Vec<_>>())), numbers);
    throughput(state, frame, chart);
    if !data.queues.is_empty() {
        frame.render_widget(
            Paragraph::new(lines(&queues::table(&data.queues), table, None, |_| false)),
            table,
        );
    }
    let mut shown = Vec::new();
    if data.attention.is_empty() {
        shown.push(Line::styled(" nothing needs attention", Style::new().fg(Ink::Green)));
    } else {
        shown.push(Line::styled(" needs attention", bold()));
    }
    for it in &data.attention {
        let (mark, ink) = if it.unhealthy { ("✗", Ink::Red) } else { ("!", Ink::Yellow) };
        shown.push(Line::from(vec![
            Span::styled(format!(" {mark} "), Style::new().fg(ink)),
            Span::raw(clean(&it.message)),
            Span::styled(format!("  {}", clean(&it.command)), dim()),
        ]));
    }
    frame.render_widget(Paragraph::new(shown), attention);
}

fn throughput(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let all = &state.data.throughput;
    let [title, bars] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    let most = all.iter().max().copied().unwrap_or(0);
    let text = format!(" runs a minute, the last hour; the most is {}", number(most));
    frame.render_widget(Paragraph::new(text).style(dim()), title);
    let bars = Rect {
        x: bars.x + 1,
        width: bars.width.saturating_sub(2).min(u16::try_from(all.len()).unwrap_or(u16::MAX)),
        ..bars
    };
    frame.render_widget(Sparkline::default().data(all).style(Style::new().fg(Ink::Blue)), bars);
}
