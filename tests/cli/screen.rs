//! `taskflow top` in a pseudo-terminal.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::command::{aside, run, taskflow};
use crate::shop::{Shop, places};
use crate::support::{DEADLINE, Place};

/// The command in a terminal of 80 columns and 24 lines.
struct Terminal {
    child: Child,
    /// The side of the person: keys go in, and the drawn output comes out.
    person: File,
    /// The side of the command, whose settings it changes.
    program: File,
    drawn: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(url: &str, panics: bool) -> Self {
        let panics = if panics { &[("TASKFLOW_TEST_PANIC", "1")][..] } else { &[] };
        Self::run(url, &["top"], panics)
    }

    fn run(url: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let person: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
        // Without this flag, a process that leads a session gets the terminal as its own, and ends when the terminal is closed.
        let no_control = i32::try_from(OpenptFlags::NOCTTY.bits()).unwrap();
        let program = OpenOptions::new().read(true).write(true).custom_flags(no_control).open(path).unwrap();
        tcsetwinsize(&program, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let side = || Stdio::from(program.try_clone().unwrap());
        let mut command = taskflow(url);
        command.args(arguments).env("TERM", "xterm-256color").envs(variables.iter().copied());
        command.stdin(side()).stdout(side()).stderr(side());
        let child = command.spawn().unwrap();
        let person = File::from(person);
        let (sender, drawn) = channel();
        let mut reader = person.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, person, program, drawn, seen: String::new() }
    }

    /// Waits until `text` has been drawn since the last key.
    fn sees(&mut self, text: &str) {
        let until = Instant::now() + DEADLINE;
        while !self.seen.contains(text) && !letters(&self.seen).contains(&text.replace(' ', "")) {
            let left = until.saturating_duration_since(Instant::now());
            let bytes = self.drawn.recv_timeout(left.min(Duration::from_millis(100)));
            self.seen.push_str(
                &bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default(),
            );
            assert!(!left.is_zero(), "never drawn: {text}\n{}", self.seen);
        }
    }

    fn press(&mut self, keys: &str) {
        self.seen.clear();
        self.person.write_all(keys.as_bytes()).unwrap();
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.program).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits for the end of the command, and checks that it has restored the terminal.
    fn ends(mut self) -> i32 {
        let status = self.child.wait().unwrap();
        assert!(!self.is_raw(), "the terminal still takes keys one by one");
        self.sees("\u{1b}[?1049l");
        status.code().unwrap()
    }
}

/// The drawn text, without spaces and without the sequences that move the cursor: an unchanged cell is not drawn again.
fn letters(drawn: &str) -> String {
    let mut parts = drawn.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    let rest =
        parts.map(|part| part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, text)| text));
    [first].into_iter().chain(rest.map(str::to_owned)).collect::<String>().replace(' ', "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_shows_the_store_acts_and_gives_the_terminal_back() {
    for place in places() {
        let shop = Shop::open(place).await;
        shop.failed_mail("a@example.com").await;
        let url = shop.url();
        aside(move || {
            let mut terminal = Terminal::start(&url, false);
            terminal.sees("1 process");
            assert!(terminal.is_raw());
            terminal.press("2");
            terminal.sees("1 shown");
            terminal.press("D");
            terminal.sees("Delete this task? y/n");
            terminal.press("y");
            terminal.sees("deleted: 1 task");
            terminal.press(":count\r");
            terminal.sees("Enter returns");
            assert!(terminal.seen.contains('0') && !terminal.is_raw(), "{}", terminal.seen);
            terminal.press("\r");
            terminal.sees("Tasks");
            terminal.press("q");
            assert_eq!(terminal.ends(), 0);
            assert_eq!(run(&url, &["count"]).exits(0).out, "0\n");
            let audit = run(&url, &["audit", "--json"]).exits(0).json();
            assert_eq!(
                (&audit["items"][0]["action"], &audit["items"][0]["via"]),
                (&"delete".into(), &"cli".into())
            );
        })
        .await;
        shop.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(debug_assertions)]
async fn a_panic_gives_the_terminal_back() {
    let shop = Shop::open(Place::sqlite()).await;
    let url = shop.url();
    aside(move || {
        let terminal = Terminal::start(&url, true);
        assert_eq!(terminal.ends(), 101);
    })
    .await;
    shop.close().await;
}

#[test]
fn top_needs_a_terminal() {
    run("sqlite://none.db", &["top"]).exits(2).says("needs a terminal").says("status --watch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_asked_before_many_tasks_are_changed() {
    for place in places() {
        let shop = Shop::open(place).await;
        shop.failed_mail("a@example.com").await;
        let url = shop.url();
        aside(move || {
            let ends = |answer: &str, variables: &[(&str, &str)]| {
                let mut terminal = Terminal::run(&url, &["delete", "status:failed"], variables);
                terminal.sees("[y/N]");
                let seen = terminal.seen.clone();
                assert!(seen.contains("send_email") && seen.contains("Delete 1 task?"), "{seen:?}");
                terminal.person.write_all(answer.as_bytes()).unwrap();
                (terminal.child.wait().unwrap().code().unwrap(), seen)
            };
            let (code, seen) = ends("\n", &[]);
            assert_eq!(code, 2, "the answer is no unless it is yes");
            assert!(seen.contains("\u{1b}["), "a terminal is coloured: {seen:?}");
            let (code, seen) = ends("n\n", &[("NO_COLOR", "1")]);
            assert_eq!(code, 2);
            assert!(!seen.contains("\u{1b}[3"), "NO_COLOR is heard: {seen:?}");
            assert_eq!(run(&url, &["count", "status:failed"]).exits(0).out, "1\n");
            assert_eq!(ends("y\n", &[]).0, 0);
            assert_eq!(run(&url, &["count", "status:failed"]).exits(0).out, "0\n");
        })
        .await;
        shop.close().await;
    }
}
