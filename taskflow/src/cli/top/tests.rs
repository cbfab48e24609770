//! What is drawn after which keys, without a terminal and without a store.

use std::time::{Duration, SystemTime};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use taskflow::admin::{AuditEntry, Face, Verb};
use taskflow::model::InstanceId;
use taskflow::{
    InstanceInfo, LogLevel, LogLine, NewTask, QueueInfo, ScheduleInfo, TaskId, TaskRecord, TaskStatus,
};

use super::draw::draw;
use super::state::{Act, Data, Event, Mode, Request, State, Tab};
use super::update::update;
use crate::cli::verbs::attention::Attention;
use taskflow::web::Accent;

fn record(number: u8, name: &str, status: TaskStatus, error: Option<&str>) -> TaskRecord {
    // Half a minute more than whole minutes, so that a slow test shows the same ages.
    let added = SystemTime::now() - Duration::from_secs(330);
    let args = r#"{"to":"ada@example.com","n":18446744073709551615}"#;
    let mut record = NewTask::new(name.to_owned(), Ok(args.into())).record(added);
    let mut bytes = [0x11; 16];
    bytes[15] = number;
    record.id = TaskId::from_bytes(bytes);
    record.queue = "mail".to_owned();
    (record.status, record.error) = (status, error.map(str::to_owned));
    (record.attempt, record.max_attempts) = (1, 3);
    record
}

fn queue(name: &str, pending: u64, paused: bool) -> QueueInfo {
    let mut queue = QueueInfo::new(name.to_owned());
    (queue.pending, queue.running, queue.paused, queue.served_by) = (pending, 2, paused, 1);
    queue.oldest_waiting = (pending > 0).then(|| Duration::from_secs(75));
    queue
}

fn data() -> Data {
    let mut data = Data::default();
    (data.counts.pending, data.counts.running, data.counts.failed, data.counts.success) =
        (12, 2, 3, 1_482_093);
    data.queues = vec![queue("default", 0, false), queue("mail", 12, true)];
    data.attention = vec![
        Attention {
            unhealthy: true,
            message: "queue slow: no process runs it; 4 tasks wait".to_owned(),
            command: "taskflow workers".to_owned(),
        },
        Attention {
            unhealthy: false,
            message: "3 send_email failed in the last hour: timed\u{1b}[2J out".to_owned(),
            command: String::new(),
        },
    ];
    data.tasks = vec![
        record(
            1,
            "send_email",
            TaskStatus::Failed,
            Some("connection refused by smtp.example.com:587, and by the next one too"),
        ),
        record(2, "send_email", TaskStatus::Success, None),
        record(3, "import", TaskStatus::Cancelled, Some("cancelled before it ran")),
    ];
    data.throughput = (0..60).map(|minute| minute * minute % 37).collect();
    let mut worker = InstanceInfo::of_this_process(true);
    (worker.id, worker.host, worker.pid, worker.running) =
        (InstanceId::from_bytes([0x22; 16]), "web-1".to_owned(), 4711, 2);
    (worker.started_at, worker.version) = (SystemTime::now() - Duration::from_secs(330), "1.2.3".to_owned());
    worker.seen_at = worker.started_at;
    data.instances = vec![worker];
    let at = SystemTime::now() - Duration::from_secs(330);
    let mut entry = AuditEntry::at(at, "ada@laptop", Face::Cli, "retry_many");
    entry.count = Some(1_482);
    (entry.filter, entry.reason) = (Some("status:failed".to_owned()), Some("INC-311".to_owned()));
    data.audit = vec![entry];
    let mut schedule = ScheduleInfo::new("daily_report".to_owned());
    (schedule.task, schedule.trigger) = (Some("report".to_owned()), Some("0 8 * * *".to_owned()));
    schedule.next_run = Some(SystemTime::now() + Duration::from_secs(5_430));
    data.schedules = vec![schedule];
    data
}

fn filled() -> State {
    let mut state = State::new("postgres://db.example/shop".to_owned(), Some("prod".to_owned()), Accent::Red);
    update(&mut state, Event::Data(Box::new(data())));
    state.read = [true; 7];
    state
}

fn press(state: &mut State, keys: &str) -> Vec<Request> {
    let mut requests = Vec::new();
    for c in keys.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            c => KeyCode::Char(c),
        };
        requests = update(state, Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
    requests
}

fn screen(state: &State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a backend in memory");
    terminal.draw(|frame| draw(state, frame)).expect("it draws");
    let buffer = terminal.backend().buffer();
    let lines = (0..height).map(|y| {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_page_fits_a_small_and_a_large_terminal() {
    for (width, height) in [(80, 24), (200, 60)] {
        let mut state = filled();
        for tab in Tab::ALL {
            let key = (tab.index() + 1).to_string();
            press(&mut state, &key);
            insta::assert_snapshot!(
                format!("{}_{width}x{height}", tab.title().to_lowercase()),
                screen(&state, width, height)
            );
        }
        press(&mut state, "2?");
        insta::assert_snapshot!(format!("help_{width}x{height}"), screen(&state, width, height));
    }
    // Nothing panics where there is no room at all.
    let mut state = filled();
    for keys in ["1", "2", "?", "x4", "2\n"] {
        press(&mut state, keys);
        for (width, height) in [(1, 1), (10, 3), (40, 5), (300, 2)] {
            screen(&state, width, height);
        }
    }
}

#[test]
fn a_task_is_opened_with_its_attempts_arguments_and_log() {
    let mut state = filled();
    press(&mut state, "2j");
    assert_eq!(press(&mut state, "k\n"), [Request::Read]);
    let id = state.data.tasks[0].id;
    let log = (1..=40)
        .map(|n| LogLine::new(SystemTime::UNIX_EPOCH, LogLevel::Warn, format!("line {n}"), 1))
        .collect();
    let record = Box::new(state.data.tasks[0].clone());
    update(&mut state, Event::Task(id, Some(record), log));
    let end = screen(&state, 80, 24);
    assert!(end.contains("line 40") && !end.contains("line 1 "), "it follows the log: {end}");
    press(&mut state, "g");
    let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
    insta::assert_snapshot!("task_80x24", screen(&state, 80, 24).chars().map(digits).collect::<String>());
    assert!(screen(&state, 80, 60).contains("18446744073709551615"), "numbers keep their digits");
    press(&mut state, "q");
    assert!(state.open.is_none(), "`q` goes back before it leaves");
    assert_eq!(press(&mut state, "q"), [Request::Quit]);
}

#[test]
fn a_capital_letter_asks_once_more_and_only_y_acts() {
    let mut state = filled();
    press(&mut state, "2");
    assert_eq!(press(&mut state, "R"), []);
    assert!(screen(&state, 80, 24).contains("Retry this task? y/n"));
    assert_eq!(press(&mut state, "n"), []);
    assert!(screen(&state, 80, 24).contains("nothing was changed"));
    let first = state.data.tasks[0].id;
    press(&mut state, "R");
    assert_eq!(press(&mut state, "y"), [Request::Act(Act::Tasks(Verb::Retry, vec![first]))]);
    press(&mut state, "  D");
    assert!(screen(&state, 80, 24).contains("Delete 2 tasks? y/n"));
    assert!(
        matches!(&press(&mut state, "y")[..], [Request::Act(Act::Tasks(Verb::Delete, ids))] if ids.len() == 2)
    );
    // Small letters change nothing.
    assert_eq!(press(&mut state, "\u{1b}dcx"), []);
    assert_eq!(state.mode, Mode::Browse);
    press(&mut state, "1R");
    assert!(screen(&state, 80, 24).contains("there is no task here"));
}

#[test]
fn all_matching_tasks_are_counted_before_they_are_acted_on() {
    let mut state = filled();
    press(&mut state, "/status:failed");
    assert!(screen(&state, 80, 24).contains("/status:failed█"));
    assert_eq!(press(&mut state, "\n"), [Request::Read]);
    press(&mut state, "a");
    assert!(screen(&state, 80, 24).contains("all matching are selected"));
    assert_eq!(press(&mut state, "C"), [Request::Count(Verb::Cancel, "status:failed".to_owned())]);
    update(&mut state, Event::Counted(Verb::Cancel, "status:failed".to_owned(), "1,482 tasks".to_owned()));
    assert!(screen(&state, 80, 24).contains("Cancel 1,482 tasks? y/n"));
    let act = Act::Matching(Verb::Cancel, "status:failed".to_owned());
    assert_eq!(press(&mut state, "y"), [Request::Act(act)]);
    update(&mut state, Event::Done("cancelled or asked to stop: 1,482 tasks".to_owned()));
    assert!(!state.all_matching && screen(&state, 80, 24).contains("1,482 tasks"));
}

#[test]
fn queues_and_schedules_are_paused_and_resumed() {
    let mut state = filled();
    press(&mut state, "4jP");
    assert!(screen(&state, 80, 24).contains("Resume queue mail? y/n"));
    assert_eq!(press(&mut state, "y"), [Request::Act(Act::ResumeQueue("mail".to_owned()))]);
    press(&mut state, "5P");
    assert_eq!(press(&mut state, "y"), [Request::Act(Act::PauseSchedule("daily_report".to_owned()))]);
    press(&mut state, "X");
    assert_eq!(press(&mut state, "y"), [Request::Act(Act::RunSchedule("daily_report".to_owned()))]);
    press(&mut state, "4j\n");
    assert_eq!((state.tab, state.filter.as_str()), (Tab::Tasks, "queue:mail"));
}

#[test]
fn a_store_that_is_away_is_a_strip_and_no_end() {
    let mut state = filled();
    update(&mut state, Event::Away("connection refused".to_owned()));
    let shown = screen(&state, 80, 24);
    assert!(
        shown.contains("the store does not answer: connection refused") && shown.contains("1,482,093"),
        "{shown}"
    );
    update(&mut state, Event::Data(Box::new(data())));
    assert!(!screen(&state, 80, 24).contains("does not answer"));
    update(&mut state, Event::Failed("`stauts`: did you mean `status`?".to_owned()));
    assert!(screen(&state, 80, 24).contains("did you mean `status`?"));
}

#[test]
fn the_cursor_stays_on_its_task_while_others_come() {
    let mut state = filled();
    press(&mut state, "2j");
    let mut more = data();
    more.tasks.insert(0, record(9, "new", TaskStatus::Pending, None));
    update(&mut state, Event::Data(Box::new(more)));
    assert_eq!(state.cursor(), 2);
    assert_eq!(state.meant(), [state.data.tasks[2].id]);
}

#[test]
fn a_line_of_the_command_is_taken_and_reading_is_stopped() {
    let mut state = filled();
    assert_eq!(
        press(&mut state, ":taskflow count status:failed\n"),
        [Request::Command("count status:failed".to_owned())]
    );
    assert_eq!(press(&mut state, ":\n"), []);
    assert_eq!(press(&mut state, "p"), []);
    assert!(state.is_paused && screen(&state, 80, 24).contains("paused"));
    assert_eq!(press(&mut state, "p"), [Request::Read]);
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(update(&mut state, Event::Key(ctrl_c)), [Request::Quit]);
}
