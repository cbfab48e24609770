//! The facade: what a recorder of the crate `metrics` is given.

use super::*;

/// The name of a metric with its labels, as on the page.
fn on_page(key: &metrics::Key) -> String {
    let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let labels = key.labels().map(|label| format!("{}=\"{}\"", label.key(), quote(label.value())));
    let labels = labels.collect::<Vec<_>>().join(",");
    if labels.is_empty() { key.name().to_owned() } else { format!("{}{{{labels}}}", key.name()) }
}

#[tokio::test]
async fn the_facade_counts_as_the_page_does() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _here = metrics::set_default_local_recorder(&recorder);
    let tasks = builder(&Place::memory()).start().await.unwrap();
    a_day(&tasks).await;
    let page = samples(&tasks.metrics().await);
    let as_they_happen = [
        "taskflow_tasks_added_total",
        "taskflow_attempts_total",
        "taskflow_retries_total",
        "taskflow_tasks_ended_total",
        "taskflow_task_wait_seconds",
        "taskflow_task_run_seconds",
    ];
    let mut compared = BTreeSet::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let (name, key) = (key.key().name(), on_page(key.key()));
        let (sample, counted) = match value {
            DebugValue::Counter(count) => (key, count),
            DebugValue::Histogram(values) => (key.replacen('{', "_count{", 1), values.len() as u64),
            DebugValue::Gauge(_) => continue,
        };
        if let Some(name) = as_they_happen.into_iter().find(|it| *it == name) {
            assert_eq!(page.get(&sample).copied().unwrap_or_default(), counted as f64, "{sample}");
            compared.extend((counted > 0).then_some(name));
        }
    }
    assert_eq!(compared, BTreeSet::from(as_they_happen));
}

#[tokio::test]
async fn a_recorder_is_given_every_gauge_and_counter_of_the_page() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _here = metrics::set_default_local_recorder(&recorder);
    let small = |tasks: TaskManagerBuilder| {
        tasks.queue("small", QueueConfig::new().max_size(1)).state(Gate::default())
    };
    let t = TestTasks::new().configure(small).start().await;
    let tasks = t.manager();
    tasks.add_task(work, ("well".to_owned(),)).queue("small").run_in(Duration::from_hours(9)).await.unwrap();
    assert!(tasks.add_task(work, ("well".to_owned(),)).queue("small").await.is_err(), "it is full");
    t.advance("15s").await;
    t.advance("15s").await;
    let page = samples(&tasks.metrics().await);
    let pushed: BTreeMap<String, f64> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .filter_map(|(key, _, _, value)| {
            let value = match value {
                DebugValue::Gauge(value) => *value,
                DebugValue::Counter(count) => count as f64,
                DebugValue::Histogram(_) => return None,
            };
            Some((on_page(key.key()), value))
        })
        .collect();
    // The values of histograms and the counters of tasks go to the recorder as they happen. The lateness of this program's
    // schedules grows while the page is read. The test kit runs tasks in a second manager, whose store calls count, too.
    let apart = ["_seconds", "taskflow_tasks_", "taskflow_attempts_", "taskflow_retries_", "taskflow_store_"];
    let mut compared = 0;
    for (sample, value) in page.iter().filter(|(sample, _)| !apart.iter().any(|part| sample.contains(part))) {
        assert_eq!(pushed.get(sample), Some(value), "{sample}: {pushed:?}");
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
    for sample in [
        r#"taskflow_queue_tasks{queue="small",phase="scheduled"}"#,
        r#"taskflow_adds_refused_total{reason="full"}"#,
    ] {
        assert_eq!(pushed.get(sample), Some(&1.0), "{sample}");
    }
}

#[tokio::test]
async fn a_gauge_whose_labels_are_gone_is_set_to_nothing() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _here = metrics::set_default_local_recorder(&recorder);
    let t = TestTasks::new().configure(|tasks| tasks.state(Gate::default())).start().await;
    // A snapshot removes the value, so the next snapshot shows only a later push.
    let limit = || {
        let all = snapshotter.snapshot().into_vec();
        all.into_iter().find_map(|(key, _, _, value)| match value {
            DebugValue::Gauge(value)
                if on_page(key.key()).starts_with("taskflow_queue_limit{queue=\"default\"") =>
            {
                Some(*value)
            }
            _ => None,
        })
    };
    let limited = async |most| {
        t.manager().set_queue("default", QueueConfig::new().global_concurrency(most)).await.unwrap();
        t.advance("15s").await;
    };
    t.advance("15s").await;
    assert_eq!(limit(), None);
    limited(7).await;
    assert_eq!(limit(), Some(7.0));
    limited(8).await;
    t.manager().reset_queue("default").await.unwrap();
    t.advance("15s").await;
    assert_eq!(limit(), Some(0.0));
}

#[tokio::test]
async fn nothing_is_read_for_the_facade_while_no_recorder_is_installed() {
    let reads = Arc::new(AtomicUsize::new(0));
    let counting = reads.clone();
    let around = move |store| {
        let reads = counting.clone();
        let hook = move |call| {
            reads.fetch_add(usize::from(call == "queues"), Ordering::Relaxed);
            go_on()
        };
        Arc::new(Wrapper::new(store, hook)) as Arc<dyn taskflow::Store>
    };
    let t = TestTasks::new().around(around).configure(|tasks| tasks.state(Gate::default())).start().await;
    for _ in 0..4 {
        t.advance("15s").await;
    }
    assert_eq!(reads.load(Ordering::Relaxed), 0);
    let recorder = DebuggingRecorder::new();
    let _here = metrics::set_default_local_recorder(&recorder);
    t.advance("15s").await;
    // The test kit has two managers.
    assert_eq!(reads.load(Ordering::Relaxed), 2);
    t.advance("15s").await;
    assert_eq!(reads.load(Ordering::Relaxed), 4);
}
