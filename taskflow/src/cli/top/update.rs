//! How events change the state.

use taskflow::TaskId;

use super::keys;
use super::state::{Act, Event, Mode, Request, State, Tab};

/// Applies an event, and answers what is to be done.
pub(super) fn update(state: &mut State, event: Event) -> Vec<Request> {
    match event {
        Event::Key(key) => return keys::pressed(state, key),
        Event::Data(data) => {
            // The cursor stays on its task while others come above it.
            let under = state.data.tasks.get(state.cursor()).map(|task| task.id);
            state.data = *data;
            (state.has_read, state.away) = (true, None);
            if let Some(tab) = state.data.tab {
                state.read[tab.index()] = true;
            }
            let found = under.and_then(|id| state.data.tasks.iter().position(|task| task.id == id));
            if let (Tab::Tasks, Some(row)) = (state.tab, found) {
                state.set_cursor(row);
            }
            let there = |id: &TaskId| state.data.tasks.iter().any(|task| task.id == *id);
            state.selected.retain(there);
        }
        Event::Task(id, record, log) => {
            state.away = None;
            if let Some(open) = state.open.as_mut().filter(|open| open.id == id) {
                (open.record, open.log) = (record.map(|record| *record), log);
            }
        }
        Event::Counted(verb, filter, count) => {
            let question = format!("{} {count}? y/n", keys::capital(verb));
            state.mode = Mode::Confirm(question, Act::Matching(verb, filter));
        }
        Event::Done(text) => {
            state.message = Some((text, false));
            state.selected.clear();
            state.all_matching = false;
            return vec![Request::Read];
        }
        Event::Failed(text) => state.message = Some((text, true)),
        Event::Away(text) => state.away = Some(text),
    }
    Vec::new()
}
