//! The loop of `taskflow top`: keys and reads in, drawings and acts out.

use std::io::{IsTerminal, Write};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use parking_lot::Mutex;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, KeyEventKind};
use tokio::sync::mpsc;

use super::draw::draw;
use super::source;
use super::state::{Event, Request, State};
use super::update::update;
use crate::cli::failure::{Failure, Result};
use crate::cli::options::{Acting, Global};
use crate::cli::session::{self, Session};

/// The pause after a read is at least this many times as long as the read.
const REST_FACTOR: u32 = 20;

/// The shortest pause between two reads of the store, unless a key asks for one.
const EVERY: Duration = Duration::from_secs(1);

/// How long the thread for the keys waits for a key before it releases its lock.
const FRAME: Duration = Duration::from_millis(100);

/// The options of `taskflow top`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    acting: Acting,
}

/// The terminal. A drop restores its former state; ratatui also restores it after a panic.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn open() -> Result<Self> {
        Ok(Self { terminal: ratatui::try_init()? })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(Failure::usage("`taskflow top` needs a terminal")
            .hint("`taskflow status --watch` prints without one"));
    }
    let target = session::target(global)?;
    // Each act asks its own question, so the session need not ask.
    let acting = Acting { yes: true, ..options.acting.clone() };
    let session = Session::act(global, &acting).await?;
    let mut state = State::new(target.shown(), target.context.clone(), target.accent);
    let keys = Keys::listen();
    let mut screen = Screen::open()?;
    let outcome = live(&session, &mut state, keys, &mut screen).await;
    drop(screen);
    session.end().await;
    outcome
}

/// The keys that are pressed, and `None` for each change of the screen's size.
struct Keys {
    pressed: mpsc::UnboundedReceiver<Option<event::KeyEvent>>,
    /// Held while the keys belong to another program.
    turn: Arc<Mutex<()>>,
}

impl Keys {
    fn listen() -> Self {
        let (sender, pressed) = mpsc::unbounded_channel();
        let turn = Arc::new(Mutex::new(()));
        let mine = turn.clone();
        std::thread::spawn(move || {
            loop {
                let guard = mine.lock();
                let event = match event::poll(FRAME) {
                    Ok(true) => event::read(),
                    Ok(false) => {
                        drop(guard);
                        // So that `command` can take the lock.
                        std::thread::sleep(Duration::from_millis(1));
                        if sender.is_closed() {
                            return;
                        }
                        continue;
                    }
                    Err(_) => return,
                };
                let key = match event {
                    Ok(event::Event::Key(key)) if key.kind == KeyEventKind::Press => Some(key),
                    Ok(event::Event::Resize(..)) => None,
                    Ok(_) => continue,
                    Err(_) => return,
                };
                if sender.send(key).is_err() {
                    return;
                }
            }
        });
        Self { pressed, turn }
    }
}

async fn live(session: &Session, state: &mut State, mut keys: Keys, screen: &mut Screen) -> Result<()> {
    let (events, mut arrived) = mpsc::unbounded_channel::<Event>();
    let mut next_read = Instant::now();
    let mut read_began: Option<Instant> = None;
    // Whether a read was asked for that has not begun.
    let mut is_stale = false;
    loop {
        state.now = SystemTime::now();
        screen.terminal.draw(|frame| draw(state, frame))?;
        // The tests see that a panic leaves the terminal as it was.
        #[cfg(debug_assertions)]
        assert!(std::env::var_os("TASKFLOW_TEST_PANIC").is_none(), "asked to panic");
        let mut requests = Vec::new();
        if read_began.is_none() && (is_stale || (!state.is_paused && next_read <= Instant::now())) {
            read_began = Some(Instant::now());
            is_stale = false;
            let (session, shown, events) = (session.clone(), state.clone(), events.clone());
            tokio::spawn(async move {
                let _ = events.send(source::read(&session, &shown).await);
            });
        }
        let wait = if read_began.is_some() || state.is_paused {
            EVERY
        } else {
            next_read.saturating_duration_since(Instant::now())
        };
        tokio::select! {
            key = keys.pressed.recv() => match key {
                Some(Some(key)) => requests = update(state, Event::Key(key)),
                Some(None) => {}
                // The terminal has gone.
                None => return Ok(()),
            },
            Some(event) = arrived.recv() => {
                let is_read = matches!(event, Event::Data(_) | Event::Task(..) | Event::Away(_)) || read_began.is_some() && matches!(event, Event::Failed(_));
                if let Some(began) = read_began.take_if(|_| is_read) {
                    next_read = Instant::now() + EVERY.max(began.elapsed() * REST_FACTOR);
                }
                requests = update(state, event);
            }
            () = tokio::time::sleep(wait.max(Duration::from_millis(10))) => {}
        }
        for request in requests {
            match request {
                Request::Quit => return Ok(()),
                Request::Read => is_stale = true,
                Request::Count(verb, filter) => {
                    let (session, events) = (session.clone(), events.clone());
                    tokio::spawn(async move {
                        let _ = events.send(source::count(&session, verb, &filter).await);
                    });
                }
                Request::Act(act) => {
                    let (session, events) = (session.clone(), events.clone());
                    tokio::spawn(async move {
                        let _ = events.send(source::act(&session, act).await);
                    });
                }
                Request::Command(line) => {
                    command(session, &line, &keys, screen)?;
                    is_stale = true;
                }
            }
        }
    }
}

/// Runs a line of the `taskflow` command on the same store. The command gets the whole terminal.
fn command(session: &Session, line: &str, keys: &Keys, screen: &mut Screen) -> Result<()> {
    let _turn = keys.turn.lock();
    ratatui::restore();
    match words(line) {
        Some(words) => {
            let mut child = Command::new(std::env::current_exe()?);
            child.args(words).env("TASKFLOW_STORE", &session.target.url);
            if let Some(context) = &session.target.context {
                child.env("TASKFLOW_CONTEXT", context);
            }
            if let Err(error) = child.status() {
                eprintln!("error: {error}");
            }
        }
        None => eprintln!("error: a quotation does not end"),
    }
    eprint!("-- Enter returns to `taskflow top` -- ");
    let _ = std::io::stderr().flush();
    std::io::stdin().read_line(&mut String::new())?;
    screen.terminal = ratatui::try_init()?;
    Ok(())
}

/// The words of a line, with quotes as a shell has them; `None` if one does not end.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_words_that_a_shell_would_see() {
        let expected = ["retry", "status:failed", "error:timed out", ""].map(str::to_owned).to_vec();
        assert_eq!(words("retry  status:failed error:'timed out' \"\""), Some(expected));
        assert_eq!(words("retry 'open"), None);
        assert_eq!(words("  "), Some(Vec::new()));
    }
}
