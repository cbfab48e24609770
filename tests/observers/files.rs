//! The observer that writes a file: rotation, by itself and by others, and full disks.

use super::*;

fn lines_of(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line of {} is torn", path.display());
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

/// The files of a directory whose names begin with this.
fn files(directory: &TempDir) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// A manager with an observer that writes, and another that shows the progress.
struct Flow {
    tasks: TaskManager,
    seen: MemoryObserver,
}

impl Flow {
    async fn start(writes: impl Observer) -> Self {
        let seen = MemoryObserver::new();
        let builder = Place::memory().builder().state(Gate::default()).observer(writes);
        Self { tasks: builder.observer(seen.clone()).start().await.unwrap(), seen }
    }

    /// Runs this many tasks, and waits until the observers have heard of three events of each.
    async fn run(&self, count: usize) {
        let expected = self.seen.events().len() + 3 * count;
        self.tasks.add_all((0..count).map(|_| self.tasks.add_task(ping, ()))).await.unwrap();
        soon(self.seen.wait_until(|events| events.len() == expected)).await;
    }

    /// Ends it, and returns how many events were dropped.
    async fn end(self) -> u64 {
        self.tasks.shutdown(DEADLINE).await.unwrap();
        self.tasks.health().dropped_events
    }
}

/// How many events of each task these files have.
fn events_by_task(files: &[PathBuf]) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    for line in files.iter().flat_map(|file| lines_of(file)) {
        *found.entry(line["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_rotated_by_size_while_ten_thousand_events_flow() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tasks.log");
    let observer = Arc::new(FileObserver::open(&path).unwrap().rotate(100_000, 1000));
    let flow = Flow::start(observer.clone()).await;
    for _ in 0..4 {
        flow.run(1000).await;
    }
    let dropped = flow.end().await;
    let files = files(&directory);
    assert!(files.len() > 10, "{files:?}");
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 100_000));
    let events = events_by_task(&files);
    assert_eq!((events.len(), observer.unwritten(), dropped), (4000, 0, 0));
    assert!(events.values().all(|count| *count == 3));
    // The higher the number, the older.
    let first = |name: &str| lines_of(&directory.path().join(name))[0]["at"].as_str().unwrap().to_owned();
    assert!(first("tasks.log") > first("tasks.log.1") && first("tasks.log.1") > first("tasks.log.2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_rotated_files_are_kept() {
    for (kept, expected) in [(2, vec!["tasks.log", "tasks.log.1", "tasks.log.2"]), (0, vec!["tasks.log"])] {
        let directory = tempfile::tempdir().unwrap();
        let observer = FileObserver::open(directory.path().join("tasks.log")).unwrap().rotate(10_000, kept);
        let flow = Flow::start(observer).await;
        flow.run(300).await;
        flow.end().await;
        let files = files(&directory);
        let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, expected);
        assert!(files.iter().all(|file| (1..=10_000).contains(&fs::metadata(file).unwrap().len())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_longer_than_the_file_may_be_has_a_file_of_its_own() {
    for kept in [100, u32::MAX] {
        let directory = tempfile::tempdir().unwrap();
        let observer = FileObserver::open(directory.path().join("tasks.log")).unwrap().rotate(10, kept);
        let flow = Flow::start(observer).await;
        flow.run(1).await;
        flow.end().await;
        let files = files(&directory);
        assert_eq!(files.iter().map(|file| lines_of(file).len()).collect::<Vec<_>>(), [1, 1, 1]);
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_external_rotator_is_noticed_while_ten_thousand_events_flow() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tasks.log");
    let observer = Arc::new(FileObserver::open(&path).unwrap());
    let flow = Flow::start(observer.clone()).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let rotator = std::thread::spawn({
        let (is_over, path) = (is_over.clone(), path.clone());
        move || {
            let mut moved = 0;
            while !is_over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
                // Renames the file if it exists, and puts a new one in its place every second time.
                if fs::rename(&path, path.with_extension(format!("{moved}"))).is_ok() {
                    moved += 1;
                    if moved % 2 == 0 {
                        fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
                    }
                }
            }
            moved
        }
    });
    for _ in 0..4 {
        flow.run(1000).await;
    }
    is_over.store(true, Ordering::SeqCst);
    let moved = tokio::task::spawn_blocking(|| rotator.join().unwrap()).await.unwrap();
    // The old file is never written to again, also if the new one was put in its place.
    flow.run(10).await;
    let written = || {
        let texts = files(&directory).into_iter().map(|file| fs::read_to_string(file).unwrap_or_default());
        texts.map(|text| text.lines().count()).sum::<usize>()
    };
    eventually("all is written", || async { (written() == 3 * 4010).then_some(()) }).await;
    let last = path.with_extension("last");
    fs::rename(&path, &last).unwrap();
    fs::File::create(&path).unwrap();
    let length = fs::metadata(&last).unwrap().len();
    flow.run(10).await;
    eventually("it was written to the new file", || async {
        (fs::read_to_string(&path).unwrap().lines().count() == 30).then_some(())
    })
    .await;
    assert_eq!(fs::metadata(&last).unwrap().len(), length);
    let dropped = flow.end().await;
    assert!(moved > 2, "moved {moved} times");
    let events = events_by_task(&files(&directory));
    assert_eq!((events.len(), observer.unwritten(), dropped), (4020, 0, 0));
    assert!(events.values().all(|count| *count == 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_truncated_or_removed_goes_on_at_its_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tasks.log");
    let ends = Interest::only([EventKind::Succeeded]);
    let flow = Flow::start(FileObserver::open(&path).unwrap().interest(ends)).await;
    let lines = async |count: usize| {
        eventually("they were written", || async {
            (fs::read_to_string(&path).unwrap_or_default().lines().count() == count).then_some(())
        })
        .await;
    };
    flow.run(3).await;
    lines(3).await;
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    flow.run(2).await;
    lines(2).await;
    fs::remove_file(&path).unwrap();
    flow.run(1).await;
    lines(1).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_drops_lines_counts_them_and_stops_nothing_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tasks.log");
    // A device that has no room for anything.
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let observer = Arc::new(FileObserver::open(&path).unwrap().rotate(1_000_000, 3));
    let flow = Flow::start(observer.clone()).await;
    flow.run(100).await;
    eventually("they were counted", || async { (observer.unwritten() == 300).then_some(()) }).await;
    fs::remove_file(&path).unwrap();
    flow.run(100).await;
    flow.end().await;
    assert_eq!((observer.unwritten(), lines_of(&path).len()), (300, 300));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_rotated_grows_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tasks.log");
    // Nothing can be renamed to a directory that has something in it.
    fs::create_dir_all(directory.path().join("tasks.log.1/in the way")).unwrap();
    let observer = Arc::new(FileObserver::open(&path).unwrap().rotate(1000, 1));
    let flow = Flow::start(observer.clone()).await;
    flow.run(100).await;
    flow.end().await;
    assert_eq!((observer.unwritten(), lines_of(&path).len()), (0, 300));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_that_names_it() {
    let error = FileObserver::open("/nowhere/at/all/tasks.log").unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/at/all/tasks.log: "), "{error}");
}
