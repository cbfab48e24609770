//! What a key does. Apart from command lines (`:`), only the capital letters R, C, D, P and X change the store, and only
//! after a question that is answered with `y`. For R, C and D the question has the number of tasks.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use taskflow::TaskId;
use taskflow::admin::Verb;

use super::state::{Act, Mode, Open, Request, State, Tab};

/// How many rows `PageUp` and `PageDown` move.
const PAGE: usize = 10;

/// The verb at the beginning of a question.
pub(super) fn capital(verb: Verb) -> &'static str {
    match verb {
        Verb::Retry => "Retry",
        Verb::Cancel => "Cancel",
        _ => "Delete",
    }
}

pub(super) fn pressed(state: &mut State, key: KeyEvent) -> Vec<Request> {
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return vec![Request::Quit];
    }
    state.message = None;
    match state.mode.clone() {
        Mode::Browse => browse(state, key.code),
        Mode::Filter(text) => typed(state, key.code, text, true),
        Mode::Command(text) => typed(state, key.code, text, false),
        Mode::Confirm(_, act) => {
            state.mode = Mode::Browse;
            match key.code {
                KeyCode::Char('y' | 'Y') => vec![Request::Act(act)],
                _ => {
                    state.message = Some(("nothing was changed".to_owned(), false));
                    Vec::new()
                }
            }
        }
        Mode::Help => {
            state.mode = Mode::Browse;
            Vec::new()
        }
    }
}

/// Handles a key while a line is typed.
fn typed(state: &mut State, code: KeyCode, mut text: String, is_filter: bool) -> Vec<Request> {
    match code {
        KeyCode::Esc => state.mode = Mode::Browse,
        KeyCode::Enter => {
            state.mode = Mode::Browse;
            if !is_filter {
                let line = text.trim();
                let line = line.strip_prefix("taskflow ").unwrap_or(line);
                return if line.is_empty() { Vec::new() } else { vec![Request::Command(line.to_owned())] };
            }
            state.filter = text.trim().to_owned();
            (state.page, state.all_matching) = (0, false);
            state.selected.clear();
            state.set_cursor(0);
            return vec![Request::Read];
        }
        KeyCode::Backspace => {
            text.pop();
            set_text(state, text, is_filter);
        }
        KeyCode::Char(c) => {
            text.push(c);
            set_text(state, text, is_filter);
        }
        _ => {}
    }
    Vec::new()
}

fn set_text(state: &mut State, text: String, is_filter: bool) {
    state.mode = if is_filter { Mode::Filter(text) } else { Mode::Command(text) };
}

fn browse(state: &mut State, code: KeyCode) -> Vec<Request> {
    match code {
        KeyCode::Char('q') if state.open.is_none() => return vec![Request::Quit],
        KeyCode::Esc | KeyCode::Backspace | KeyCode::Char('q' | 'h') if state.open.is_some() => {
            state.open = None
        }
        KeyCode::Esc if state.all_matching || !state.selected.is_empty() => {
            state.all_matching = false;
            state.selected.clear();
        }
        KeyCode::Esc if !state.filter.is_empty() && state.tab == Tab::Tasks => {
            state.filter.clear();
            return vec![Request::Read];
        }
        KeyCode::Char('?') => state.mode = Mode::Help,
        KeyCode::Char(':') => state.mode = Mode::Command(String::new()),
        KeyCode::Char('p') => {
            state.is_paused = !state.is_paused;
            return if state.is_paused { Vec::new() } else { vec![Request::Read] };
        }
        KeyCode::Char('r') => return vec![Request::Read],
        KeyCode::Char(digit @ '1'..='7') => return go(state, digit as usize - '1' as usize),
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') if state.open.is_none() => {
            return go(state, (state.tab.index() + 1) % 7);
        }
        KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => {
            return go(state, (state.tab.index() + 6) % 7);
        }
        KeyCode::Char('j') | KeyCode::Down => step(state, 1),
        KeyCode::Char('k') | KeyCode::Up => step(state, -1),
        KeyCode::PageDown => step(state, PAGE as isize),
        KeyCode::PageUp => step(state, -(PAGE as isize)),
        KeyCode::Char('g') | KeyCode::Home => step(state, isize::MIN),
        KeyCode::Char('G') | KeyCode::End => step(state, isize::MAX),
        KeyCode::Char('R') => return act(state, Verb::Retry),
        KeyCode::Char('C') => return act(state, Verb::Cancel),
        KeyCode::Char('D') => return act(state, Verb::Delete),
        code => return of_page(state, code),
    }
    Vec::new()
}

/// The keys that only some pages have.
fn of_page(state: &mut State, code: KeyCode) -> Vec<Request> {
    let row = state.cursor();
    match (state.tab, code) {
        (_, _) if state.open.is_some() => {}
        (_, KeyCode::Char('/')) => {
            state.tab = Tab::Tasks;
            state.mode = Mode::Filter(state.filter.clone());
        }
        (Tab::Tasks, KeyCode::Enter) => {
            if let Some(task) = state.data.tasks.get(row) {
                open(state, task.id);
                return vec![Request::Read];
            }
        }
        (Tab::Tasks, KeyCode::Char(' ')) => {
            if let Some(task) = state.data.tasks.get(row)
                && !state.selected.remove(&task.id)
            {
                state.selected.insert(task.id);
            }
            state.all_matching = false;
            state.set_cursor(row + 1);
        }
        (Tab::Tasks, KeyCode::Char('a')) => {
            state.all_matching = !state.all_matching;
            state.selected.clear();
        }
        (Tab::Tasks, KeyCode::Char(']')) if state.data.has_more => {
            state.page += 1;
            state.set_cursor(0);
            return vec![Request::Read];
        }
        (Tab::Tasks, KeyCode::Char('[')) if state.page > 0 => {
            state.page -= 1;
            state.set_cursor(0);
            return vec![Request::Read];
        }
        (Tab::Failures, KeyCode::Enter) => {
            if let Some(group) = state.data.failures.groups.get(row) {
                state.filter = group.filter();
                (state.tab, state.page) = (Tab::Tasks, 0);
                return vec![Request::Read];
            }
        }
        (Tab::Queues, KeyCode::Enter) => {
            if let Some(queue) = state.data.queues.get(row) {
                state.filter = taskflow::admin::grammar::text([("queue", queue.name.as_str())]);
                (state.tab, state.page) = (Tab::Tasks, 0);
                return vec![Request::Read];
            }
        }
        (Tab::Queues, KeyCode::Char('P')) => {
            if let Some(queue) = state.data.queues.get(row) {
                let name = queue.name.clone();
                let (verb, act) = if queue.paused {
                    ("Resume", Act::ResumeQueue(name))
                } else {
                    ("Pause", Act::PauseQueue(name))
                };
                state.mode = Mode::Confirm(format!("{verb} queue {}? y/n", queue.name), act);
            }
        }
        (Tab::Schedules, KeyCode::Char(key @ ('P' | 'X'))) => {
            if let Some(schedule) = state.data.schedules.get(row) {
                let name = schedule.name.clone();
                let (verb, act) = match key {
                    'X' => ("Run", Act::RunSchedule(name)),
                    _ if schedule.paused => ("Resume", Act::ResumeSchedule(name)),
                    _ => ("Pause", Act::PauseSchedule(name)),
                };
                state.mode = Mode::Confirm(format!("{verb} schedule {}? y/n", schedule.name), act);
            }
        }
        (Tab::Schedules, KeyCode::Enter) => {
            if let Some(id) = state.data.schedules.get(row).and_then(|it| it.last_task) {
                open(state, id);
                return vec![Request::Read];
            }
        }
        _ => {}
    }
    Vec::new()
}

fn open(state: &mut State, id: TaskId) {
    state.open = Some(Open { id, record: None, log: Vec::new(), scroll: 0 });
}

fn go(state: &mut State, index: usize) -> Vec<Request> {
    state.tab = Tab::ALL[index];
    state.open = None;
    vec![Request::Read]
}

fn step(state: &mut State, by: isize) {
    if let Some(open) = &mut state.open {
        // Down is towards the end of the log.
        open.scroll = match by {
            isize::MAX => 0,
            by => open.scroll.saturating_add_signed(by.saturating_neg()),
        };
        return;
    }
    state.set_cursor(state.cursor().saturating_add_signed(by));
}

/// Asks once more, with the number of tasks.
fn act(state: &mut State, verb: Verb) -> Vec<Request> {
    if state.all_matching && state.open.is_none() && state.tab == Tab::Tasks {
        return vec![Request::Count(verb, state.filter.clone())];
    }
    if let (Tab::Failures, None) = (state.tab, &state.open) {
        return state
            .data
            .failures
            .groups
            .get(state.cursor())
            .map(|group| Request::Count(verb, group.filter()))
            .into_iter()
            .collect();
    }
    let meant = state.meant();
    if meant.is_empty() {
        state.message = Some(("there is no task here; `2` shows tasks".to_owned(), true));
        return Vec::new();
    }
    let count = if meant.len() == 1 { "this task".to_owned() } else { format!("{} tasks", meant.len()) };
    state.mode = Mode::Confirm(format!("{} {count}? y/n", capital(verb)), Act::Tasks(verb, meant));
    Vec::new()
}
