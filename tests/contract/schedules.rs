//! Ticks of schedules: each dealt with once, by whoever comes first.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use taskflow::store::{Fire, Fired, InsertBatch, InsertGroup, InsertTask, InsertedAs, Refusal, Start};
use taskflow::{NewTask, TaskId};

use super::lab::{LONG, Lab};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn tick(lab: &Lab, schedule: &str, tick: SystemTime, max_size: Option<usize>) -> (Fire, TaskId) {
    let task = NewTask::new("alpha", Ok("{}".into()));
    let id = task.id;
    let mut insert = InsertTask::new(task, Start::Wait);
    insert.max_size = max_size;
    let batch = InsertBatch::new(lab.me.id, LONG, vec![InsertGroup::new(vec![insert])]);
    (Fire::new(schedule.to_owned(), tick, Some(Arc::new(batch))), id)
}

pub(crate) async fn a_tick_is_dealt_with_once_and_no_earlier_one_after_it(lab: Lab) {
    let (first, id) = tick(&lab, "report", at(10), None);
    let Fired::Inserted(inserted) = lab.store.fire(first.clone()).await.unwrap() else { panic!("not fired") };
    assert_eq!((inserted.id, inserted.kind), (id, InsertedAs::Pending));
    assert_eq!(lab.store.fire(first).await.unwrap(), Fired::Before);
    let (again, other) = tick(&lab, "report", at(10), None);
    assert_eq!(lab.store.fire(again).await.unwrap(), Fired::Before);
    assert!(lab.store.get(other).await.unwrap().is_none());
    assert_eq!(lab.store.fire(tick(&lab, "report", at(9), None).0).await.unwrap(), Fired::Before);
    assert!(matches!(
        lab.store.fire(tick(&lab, "report", at(11), None).0).await.unwrap(),
        Fired::Inserted(_)
    ));
    // Another schedule has ticks of its own.
    assert!(matches!(lab.store.fire(tick(&lab, "backup", at(5), None).0).await.unwrap(), Fired::Inserted(_)));
    let known: Vec<_> =
        lab.store.schedules().await.unwrap().into_iter().map(|state| (state.name, state.last_tick)).collect();
    assert_eq!(known, [("backup".to_owned(), at(5)), ("report".to_owned(), at(11))]);
    assert_eq!(lab.store.counts().await.unwrap().pending, 3);
}

pub(crate) async fn a_tick_can_pass_and_a_refused_one_has_passed(lab: Lab) {
    let passed = Fire::new("report".to_owned(), at(1), None);
    assert_eq!(lab.store.fire(passed.clone()).await.unwrap(), Fired::Passed);
    assert_eq!(lab.store.fire(passed).await.unwrap(), Fired::Before);
    let (full, id) = tick(&lab, "report", at(2), Some(0));
    let refusal = Refusal::QueueFull { queue: "default".to_owned(), max_size: 0 };
    assert_eq!(lab.store.fire(full.clone()).await.unwrap(), Fired::Refused(refusal));
    assert!(lab.store.get(id).await.unwrap().is_none());
    assert_eq!(lab.store.fire(full).await.unwrap(), Fired::Before);
}

pub(crate) async fn of_32_that_fire_one_tick_at_once_one_does(lab: Lab) {
    let fires: Vec<_> = (0..32)
        .map(|_| {
            let (store, fire) = (Arc::clone(&lab.store), tick(&lab, "report", at(7), None).0);
            tokio::spawn(async move { store.fire(fire).await.unwrap() })
        })
        .collect();
    let mut fired = 0;
    for fire in fires {
        fired += usize::from(fire.await.unwrap() != Fired::Before);
    }
    assert_eq!((fired, lab.store.counts().await.unwrap().pending), (1, 1));
}
