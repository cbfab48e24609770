//! The frame of all pages: the header, the strip of errors, the keys, the help.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color as Ink, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::ink::{bold, dim};
use super::{overview, table, task};
use crate::cli::output::clean;
use crate::cli::output::words::{counted, number};
use crate::cli::top::state::{Mode, State, Tab};
use taskflow::web::Accent;

/// The keys, as the help shows them.
const HELP: &str = "
 1-7 Tab ← →   pages             R  retry     the open task, the selected
 j k ↑ ↓ g G   rows              C  cancel    tasks, all matching ones, or
 Enter  Esc    open, back        D  delete    the one under the cursor
 /             filter            P  pause or resume a queue or schedule
 space         select a task     X  run a schedule now
 a             all that match    :  any line of the `taskflow` command
 [ ]           pages of tasks    p  stop reading, and go on
 r             read now          q  leave

 Small letters change nothing. Capital ones ask once more.";

pub(in crate::cli::top) fn draw(state: &State, frame: &mut Frame<'_>) {
    let [top, strip, page, bottom] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(u16::from(state.away.is_some())),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    header(state, frame, top);
    if let Some(error) = &state.away {
        let text = format!(" the store does not answer: {}", clean(error));
        frame.render_widget(Paragraph::new(text).style(Style::new().bg(Ink::Red).fg(Ink::White)), strip);
    }
    match (&state.open, state.tab) {
        (Some(open), _) => task::draw(state, open, frame, page),
        (None, tab) if !state.read[tab.index()] => {
            frame.render_widget(Paragraph::new("reading …").style(dim()), page)
        }
        (None, Tab::Overview) => overview::draw(state, frame, page),
        (None, _) => table::draw(state, frame, page),
    }
    frame.render_widget(Paragraph::new(footer(state)), bottom);
    if state.mode == Mode::Help {
        help(frame);
    }
}

fn accent(accent: Accent) -> Style {
    match accent {
        Accent::Green => Style::new().fg(Ink::Green),
        Accent::Blue => Style::new().fg(Ink::Blue),
        Accent::Orange => Style::new().fg(Ink::Yellow),
        Accent::Red => Style::new().fg(Ink::White).bg(Ink::Red),
        _ => bold(),
    }
}

fn header(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let name = state.context.as_deref().unwrap_or("taskflow");
    let mut left = vec![Span::styled(format!(" {} ", clean(name)), accent(state.accent)), Span::raw(" ")];
    let runners = state.data.instances.iter().filter(|it| it.runs).count() as u64;
    if state.has_read {
        let counts = state.data.counts;
        left.push(match runners {
            0 => Span::styled("no process runs tasks", Style::new().fg(Ink::Red)),
            n => Span::raw(counted(n, "process")),
        });
        for (n, word, ink) in [
            (counts.pending, "pending", Ink::Reset),
            (counts.running, "running", Ink::Blue),
            (counts.failed, "failed", Ink::Red),
        ] {
            let style = if n == 0 { dim() } else { Style::new().fg(ink) };
            left.push(Span::styled(format!("  {} {word}", number(n)), style));
        }
    }
    let right = if state.is_paused { "paused " } else { "" };
    let used: usize = left.iter().map(Span::width).sum();
    let place = clean(&state.place);
    let room = usize::from(area.width).saturating_sub(used + right.len() + 3);
    // The end of a path says more than its beginning.
    let skipped = place.chars().count().saturating_sub(room);
    let place: String = place.chars().skip(skipped).collect();
    let place = if skipped > 0 && room > 1 {
        format!("…{}", place.chars().skip(1).collect::<String>())
    } else {
        place
    };
    let pad = usize::from(area.width).saturating_sub(used + place.chars().count() + right.len() + 1);
    left.push(Span::raw(" ".repeat(pad)));
    left.push(Span::styled(right, Style::new().fg(Ink::Yellow)));
    if room > 8 {
        left.push(Span::styled(place, dim()));
    }
    let tabs = Tab::ALL.iter().enumerate().flat_map(|(at, tab)| {
        let text = format!(" {} {} ", at + 1, tab.title());
        let style =
            if *tab == state.tab { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        [Span::styled(text, style)]
    });
    frame.render_widget(Paragraph::new(vec![Line::from(left), Line::from(tabs.collect::<Vec<_>>())]), area);
}

/// The keys that work here, or what is asked or answered.
fn footer(state: &State) -> Line<'static> {
    let asked = |text: String| Line::styled(text, Style::new().fg(Ink::Black).bg(Ink::Yellow));
    match &state.mode {
        Mode::Confirm(question, _) => return asked(format!(" {}", clean(question))),
        Mode::Filter(text) => return Line::raw(format!("/{text}█")),
        Mode::Command(text) => return Line::raw(format!(":{text}█")),
        Mode::Browse | Mode::Help => {}
    }
    if let Some((text, is_error)) = &state.message {
        let ink = if *is_error { Ink::Red } else { Ink::Green };
        return Line::styled(format!(" {}", clean(text)), Style::new().fg(ink));
    }
    let keys = match (&state.open, state.tab) {
        (Some(_), _) => "Esc back  j k scroll  R retry  C cancel  D delete  ? help",
        (None, Tab::Overview) => "1-7 pages  / filter  : command  p pause  ? help  q quit",
        (None, Tab::Tasks) => {
            "Enter open  / filter  space select  a all  R retry  C cancel  D delete  ? help"
        }
        (None, Tab::Failures) => "Enter show tasks  R retry group  D delete group  ? help  q quit",
        (None, Tab::Queues) => "Enter show tasks  P pause or resume  : command  ? help  q quit",
        (None, Tab::Schedules) => "Enter last task  P pause or resume  X run now  ? help  q quit",
        (None, _) => "j k rows  / filter  : command  ? help  q quit",
    };
    Line::styled(format!(" {keys}"), dim())
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (78.min(area.width), 13.min(area.height));
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" keys ")), place);
}
