//! Plays the page `docs/cli.md`: a shell runs every `$` line of its blocks, which must print what the page says.
//!
//! With `UPDATE_DOCS=1` the test writes the printed output into the page.

use std::collections::BTreeMap;
use std::path::PathBuf;

use taskflow::TaskFilter;

use crate::command::{aside, settled, taskflow};
use crate::shop::{Shop, places};
use crate::support::eventually;

fn page() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md"))
}

/// What happens between two commands.
const EVENTS: [&str; 2] = ["# the mail server is back", "# all mails have ended"];

/// A line of the page, or a command with the output that it says.
enum Part {
    Text(String),
    Event(String),
    Command(String, Vec<String>),
}

fn parts(text: &str) -> Vec<Part> {
    let (mut parts, mut is_console) = (Vec::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            is_console = line == "```console";
            parts.push(Part::Text(line.to_owned()));
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| is_console) {
            parts.push(Part::Command(command.to_owned(), Vec::new()));
        } else if EVENTS.contains(&line) && is_console {
            parts.push(Part::Event(line.to_owned()));
        } else if let (true, Some(Part::Command(_, output))) = (is_console, parts.last_mut()) {
            output.push(line.to_owned());
        } else {
            parts.push(Part::Text(line.to_owned()));
        }
    }
    parts
}

fn is_id(word: &str) -> bool {
    word.len() >= 18 && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// The ids of a text in their order.
fn ids(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_hexdigit() && c != '-').filter(|word| is_id(word))
}

/// The text with the names of the page instead of those of this machine, process and store.
fn anonymous(text: &str) -> String {
    let host = taskflow::InstanceInfo::of_this_process(false).host;
    let is_store =
        |line: &str| ["sqlite://", "postgres://", "redis://"].iter().any(|it| line.starts_with(it));
    let text: String = text
        .split_inclusive('\n')
        .map(|line| if is_store(line) { "postgres://db.example/shop\n" } else { line })
        .collect();
    text.replace(&format!("@{host}"), "@pc").replace(&format!("{host}:{}", std::process::id()), "w1:4711")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_incident_at_three_in_the_morning_goes_as_the_page_says() {
    let is_update = std::env::var_os("UPDATE_DOCS").is_some();
    // The page has the output of one store.
    let number = if is_update { 1 } else { usize::MAX };
    for place in places().into_iter().take(number) {
        play(Shop::open(place).await, is_update).await;
    }
}

async fn play(shop: Shop, is_update: bool) {
    for name in ["Ada", "Grace"] {
        shop.greeting(name).await;
    }
    for to in ["ada", "grace", "linus", "margaret", "ken"] {
        shop.failed_mail(&format!("{to}@example.com")).await;
    }
    shop.later(7).await;

    let text = std::fs::read_to_string(page()).unwrap();
    let (mut shown, mut known) = (Vec::new(), BTreeMap::<String, String>::new());
    let mut commands = 0;
    for part in parts(&text) {
        match part {
            Part::Text(line) => shown.push(line),
            Part::Event(event) => {
                match event.as_str() {
                    "# the mail server is back" => shop.mail.comes_back(),
                    "# all mails have ended" => {
                        let filter =
                            || TaskFilter::new().name("send_email").status(taskflow::TaskStatus::Success);
                        let done =
                            || async { (shop.tasks.count(filter(), 10).await.unwrap().n == 5).then_some(()) };
                        eventually("the mails are out", done).await;
                    }
                    other => panic!("nobody knows the event `{other}`"),
                }
                shown.push(event);
            }
            Part::Command(command, expected) => {
                commands += 1;
                let mut command = command;
                // `ID` stands for an id in the output of an earlier command.
                if let (true, Some(id)) = (is_update && command.ends_with(" ID"), known.keys().next()) {
                    command = command.replace(" ID", &format!(" {id}"));
                }
                let mut real = command.clone();
                for (of_page, of_run) in &known {
                    real = real.replace(of_page, of_run);
                }
                let line = real.replacen("taskflow", "\"$TASKFLOW\" --table", 1);
                let url = shop.url();
                let output = aside(move || {
                    let mut command = std::process::Command::new("sh");
                    let program = taskflow(&url);
                    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
                    command
                        .env("TASKFLOW", env!("CARGO_BIN_EXE_taskflow"))
                        .env("COLUMNS", "96")
                        .args(["-c", &line]);
                    command.output().unwrap()
                })
                .await;
                assert!(output.status.success(), "{command}: {output:?}");
                let printed = anonymous(&String::from_utf8(output.stdout).unwrap());
                let expected = expected.join("\n");
                if is_update {
                    known.extend(ids(&printed).map(|id| (id.to_owned(), id.to_owned())));
                } else {
                    assert_eq!(settled(&printed), settled(&expected), "docs/cli.md, `{command}`");
                    let pairs = ids(&expected)
                        .zip(ids(&printed))
                        .map(|(page, run)| (page.to_owned(), run.to_owned()));
                    known.extend(pairs);
                }
                shown.push(format!("$ {command}"));
                shown.push(printed.trim_end().to_owned());
            }
        }
    }
    assert!(commands >= 9, "the page has {commands} commands");
    if is_update {
        std::fs::write(page(), shown.join("\n") + "\n").unwrap();
    }
    shop.close().await;
}
