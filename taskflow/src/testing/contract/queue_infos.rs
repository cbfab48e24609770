//! What is shown of a queue: its stored configuration, and how long its tasks wait.

use std::time::{Duration, Instant, SystemTime};

use crate::model::QueueConfig;

use super::lab::*;

pub(crate) async fn a_queues_stored_configuration_is_read_back_until_it_is_reset(lab: Lab) {
    assert!(lab.store.queue_states().await.expect("states").is_empty());
    let config = QueueConfig::new()
        .concurrency(3)
        .global_concurrency(5)
        .key_concurrency(1)
        .max_size(1_000)
        .rate_limit(10, Duration::from_millis(1500))
        .record_rejected(true);
    lab.store.set_queue("mail".to_owned(), Some(config.clone())).await.expect("set");
    lab.store.set_paused("reports".to_owned(), true).await.expect("pause");
    let states = lab.store.queue_states().await.expect("states");
    let seen: Vec<_> = states.into_iter().map(|it| (it.name, it.paused, it.config)).collect();
    let expected = [("mail".to_owned(), false, Some(config.clone())), ("reports".to_owned(), true, None)];
    assert_eq!(seen, expected);
    let infos = lab.store.queues().await.expect("queues");
    assert_eq!(infos.iter().map(|it| &*it.name).collect::<Vec<_>>(), ["mail", "reports"]);
    assert_eq!(infos[0].global_concurrency, Some(5));
    assert_eq!(infos[0].limits_from, crate::model::LimitsFrom::Store);

    let changed = config.concurrency(9);
    lab.store.set_queue("mail".to_owned(), Some(changed.clone())).await.expect("set");
    lab.store.set_paused("mail".to_owned(), true).await.expect("pause");
    let state = lab.store.queue_states().await.expect("states").remove(0);
    assert_eq!((state.paused, state.config), (true, Some(changed)));
    lab.store.set_queue("mail".to_owned(), None).await.expect("reset");
    lab.store.set_paused("reports".to_owned(), false).await.expect("resume");
    let states = lab.store.queue_states().await.expect("states");
    assert_eq!(states.len(), 1, "a pause is not part of the configuration: {states:?}");
    assert_eq!((states[0].paused, &states[0].config), (true, &None));
}

pub(crate) async fn a_configuration_is_replaced_only_if_it_is_the_expected_one(lab: Lab) {
    let (one, two) = (QueueConfig::new().concurrency(1), QueueConfig::new().rate_limit(2, LONG));
    let replace = async |from: Option<&QueueConfig>, to: Option<&QueueConfig>| {
        lab.store.replace_queue("mail".to_owned(), from.cloned(), to.cloned()).await.expect("an answer")
    };
    let stored = async || {
        let states = lab.store.queue_states().await.expect("states");
        states.into_iter().find(|state| state.name == "mail").and_then(|state| state.config)
    };
    assert!(!replace(Some(&one), Some(&two)).await, "there is none yet");
    assert_eq!(stored().await, None);
    assert!(replace(None, Some(&one)).await);
    assert!(!replace(None, Some(&two)).await);
    assert!(!replace(Some(&two), None).await);
    assert_eq!(stored().await, Some(one.clone()));
    lab.store.set_paused("mail".to_owned(), true).await.expect("pause");
    assert!(replace(Some(&one), Some(&two)).await);
    assert_eq!(stored().await, Some(two.clone()));
    assert!(replace(Some(&two), None).await);
    assert_eq!(stored().await, None);
    assert!(lab.store.queue_states().await.expect("states")[0].paused);

    // Of several calls that replace the same configuration at once, one succeeds.
    let replacing =
        (0..8).map(|n| lab.store.replace_queue("mail".to_owned(), None, Some(one.clone().max_size(n))));
    let replaced = futures_util::future::join_all(replacing).await;
    assert_eq!(replaced.into_iter().filter(|answer| matches!(answer, Ok(true))).count(), 1);
}

pub(crate) async fn queues_tell_what_waits_for_how_long_and_what_ended_lately(lab: Lab) {
    // Taken before the add, because the task is stored a while before the add returns.
    let since = Instant::now();
    lab.add(with(task("alpha"), |task| task.priority = -1)).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    for _ in 0..2 {
        lab.add(task("alpha")).await;
    }
    lab.add(with(task("alpha"), |task| task.when = crate::model::When::In(LONG))).await;
    lab.add(with(task("alpha"), |task| task.when = crate::model::When::At(SystemTime::now() - LONG))).await;
    let ended = lab.run(with(task("beta"), |task| task.queue = "mail".into())).await;
    lab.finish(ended, success()).await;
    let failed = lab.run(with(task("beta"), |task| task.queue = "mail".into())).await;
    lab.finish(failed, retry(LONG)).await;
    let infos = lab.store.queues().await.expect("queues");
    let [default, mail] = &infos[..] else { panic!("{infos:?}") };
    assert_eq!((default.pending, default.scheduled, default.waiting(), default.running), (5, 1, 4, 0));
    // A task added now, with a time an hour ago, has waited since it was added.
    let oldest = default.oldest_waiting.expect("four wait");
    assert!(
        oldest >= Duration::from_millis(55) && oldest <= since.elapsed() + Duration::from_millis(5),
        "{oldest:?}"
    );
    assert_eq!(default.finished_last_minute, 0);
    assert_eq!((mail.pending, mail.scheduled, mail.finished, mail.finished_last_minute), (1, 1, 1, 1));
    assert_eq!(mail.oldest_waiting, None);
}
