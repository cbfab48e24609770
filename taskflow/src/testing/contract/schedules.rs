//! Ticks of schedules. The first process that fires a tick handles it; no other process does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::{NewTask, TaskId, TickOutcome};
use crate::store::{
    Declaration, Fire, FireAfter, Fired, InsertBatch, InsertGroup, InsertTask, InsertedAs, Refusal,
    ScheduleChange, ScheduleChanges, ScheduleState, Start,
};

use super::lab::{LONG, Lab, instance};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(4_000_000_000 + seconds)
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
    assert_eq!(known, [("backup".to_owned(), Some(at(5))), ("report".to_owned(), Some(at(11)))]);
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

pub(crate) async fn a_tick_far_ahead_of_the_stores_clock_waits_and_is_not_believed(lab: Lab) {
    const MINUTE: Duration = Duration::from_secs(60);
    let fire = async |schedule: &str, at, ahead| {
        let (mut fire, _) = tick(&lab, schedule, at, None);
        fire.ahead = ahead;
        lab.store.fire(fire).await.unwrap()
    };
    // As if the store's own clock had been far ahead.
    let now = SystemTime::now();
    let far = now + 100_000 * LONG;
    assert!(matches!(fire("report", far, Duration::MAX).await, Fired::Inserted(_)));
    let Fired::Early { by } = fire("report", far + LONG, MINUTE).await else { panic!("not early") };
    assert!(by > 100_000 * LONG && by < 100_002 * LONG, "{by:?}");
    let at_last = async || state(&lab, "report").await.last_tick;
    assert_eq!(fire("report", far - LONG, Duration::MAX).await, Fired::Before);
    assert_eq!(fire("report", now, 200_000 * LONG).await, Fired::Before);
    assert!(matches!(fire("report", now, MINUTE).await, Fired::Inserted(_)));
    assert_eq!(micros(at_last().await), micros(Some(now)));
    // If the clock is set back by less than `ahead`, no tick happens twice.
    assert!(matches!(fire("report", now + MINUTE / 2, MINUTE).await, Fired::Inserted(_)));
    assert_eq!(fire("report", now + MINUTE / 4, MINUTE).await, Fired::Before);
    assert_eq!(micros(at_last().await), micros(Some(now + MINUTE / 2)));
    // A tick that is too early leaves no trace.
    assert!(matches!(fire("backup", far, MINUTE).await, Fired::Early { .. }));
    assert!(
        lab.store.schedules().await.unwrap().iter().all(|state| state.last_tick.is_none_or(|at| at < far))
    );
    assert_eq!(lab.store.counts().await.unwrap().pending, 3);
}

/// Stores keep microseconds.
fn micros(at: Option<SystemTime>) -> Option<u128> {
    at.map(|at| at.duration_since(UNIX_EPOCH).unwrap().as_micros())
}

async fn state(lab: &Lab, schedule: &str) -> ScheduleState {
    let all = lab.store.schedules().await.unwrap();
    all.into_iter().find(|state| state.name == schedule).expect("it is known")
}

pub(crate) async fn a_schedule_tells_what_became_of_its_last_tick(lab: Lab) {
    let (fire, id) = tick(&lab, "report", at(1), None);
    lab.store.fire(fire).await.unwrap();
    let known = state(&lab, "report").await;
    assert_eq!((known.last_outcome, known.last_task), (Some(TickOutcome::Added), Some(id)));
    lab.store.fire(tick(&lab, "report", at(2), Some(0)).0).await.unwrap();
    let known = state(&lab, "report").await;
    assert_eq!((known.last_outcome, known.last_task), (Some(TickOutcome::Refused), Some(id)));
    lab.store.fire(Fire::new("report".to_owned(), at(3), None)).await.unwrap();
    let known = state(&lab, "report").await;
    assert_eq!((known.last_tick, known.last_outcome), (Some(at(3)), Some(TickOutcome::Skipped)));
    assert_eq!((known.paused, known.definition, known.last_start), (false, None, None));
    // Passing the first tick of a schedule leaves nothing out: its ticks begin there.
    lab.store.fire(Fire::new("backup".to_owned(), at(3), None)).await.unwrap();
    let known = state(&lab, "backup").await;
    assert_eq!((known.last_tick, known.last_outcome), (Some(at(3)), None));
}

pub(crate) async fn ticks_of_a_paused_schedule_pass(lab: Lab) {
    let pause = |paused| lab.store.set_schedule("report".to_owned(), ScheduleChange::Paused(paused));
    assert!(!pause(true).await.unwrap(), "it was not known");
    assert!(state(&lab, "report").await.paused);
    let (fire, id) = tick(&lab, "report", at(1), None);
    assert_eq!(lab.store.fire(fire.clone()).await.unwrap(), Fired::Paused);
    assert_eq!(lab.store.fire(fire).await.unwrap(), Fired::Before);
    assert!(lab.store.get(id).await.unwrap().is_none());
    assert_eq!(state(&lab, "report").await.last_outcome, Some(TickOutcome::Paused));
    assert!(pause(false).await.unwrap());
    assert!(matches!(lab.store.fire(tick(&lab, "report", at(2), None).0).await.unwrap(), Fired::Inserted(_)));
}

pub(crate) async fn a_defined_schedule_is_kept_replaced_and_removed(lab: Lab) {
    let change = |change| lab.store.set_schedule("nightly".to_owned(), change);
    let define = |definition: &str, from| ScheduleChange::Defined { definition: definition.to_owned(), from };
    assert!(!change(ScheduleChange::Removed).await.unwrap());
    assert!(!change(define(r#"{"every":60}"#, at(5))).await.unwrap());
    let known = state(&lab, "nightly").await;
    assert_eq!((known.definition.as_deref(), known.last_tick), (Some(r#"{"every":60}"#), Some(at(5))));
    assert_eq!(lab.store.fire(tick(&lab, "nightly", at(5), None).0).await.unwrap(), Fired::Before);
    assert!(matches!(
        lab.store.fire(tick(&lab, "nightly", at(6), None).0).await.unwrap(),
        Fired::Inserted(_)
    ));
    assert!(change(define("ü\u{0}\"", at(10))).await.unwrap());
    let known = state(&lab, "nightly").await;
    assert_eq!((known.definition.as_deref(), known.last_outcome), (Some("ü\u{0}\""), None));
    assert_eq!(lab.store.fire(tick(&lab, "nightly", at(9), None).0).await.unwrap(), Fired::Before);
    // The old definition does not tick any more, and no tick that was handled comes again.
    let of = |definition: &str, at| {
        let (mut fire, _) = tick(&lab, "nightly", at, None);
        fire.definition = Some(definition.to_owned());
        lab.store.fire(fire)
    };
    assert_eq!(of(r#"{"every":60}"#, at(20)).await.unwrap(), Fired::Before);
    assert!(matches!(of("ü\u{0}\"", at(20)).await.unwrap(), Fired::Inserted(_)));
    assert!(change(define("third", at(15))).await.unwrap());
    assert_eq!(state(&lab, "nightly").await.last_tick, Some(at(20)));
    assert_eq!(of("third", at(20)).await.unwrap(), Fired::Before);
    assert!(change(ScheduleChange::Removed).await.unwrap());
    assert_eq!(of("third", at(30)).await.unwrap(), Fired::Before);
    assert!(lab.store.schedules().await.unwrap().is_empty());
    // A schedule without a stored definition is not removed.
    lab.store.fire(Fire::new("report".to_owned(), at(3), None)).await.unwrap();
    assert!(!lab.store.set_schedule("report".to_owned(), ScheduleChange::Removed).await.unwrap());
    assert_eq!(state(&lab, "report").await.last_tick, Some(at(3)));
}

pub(crate) async fn a_tick_for_a_start_is_dealt_with_if_none_came_between(lab: Lab) {
    let start = |tick_at, before| {
        let (mut fire, _) = tick(&lab, "report", tick_at, None);
        fire.after = FireAfter::Start(before);
        lab.store.fire(fire)
    };
    assert!(matches!(start(at(5), None).await.unwrap(), Fired::Inserted(_)));
    assert_eq!(start(at(6), None).await.unwrap(), Fired::Before);
    let known = state(&lab, "report").await;
    assert_eq!((known.last_start, known.last_tick, known.last_outcome), (Some(at(5)), None, None));
    assert_eq!(start(at(6), Some(at(4))).await.unwrap(), Fired::Before);
    assert!(matches!(start(at(6), Some(at(5))).await.unwrap(), Fired::Inserted(_)));
    // Ticks for a start are no ticks of the clock: they do not change the last tick, and a pause does not stop them.
    lab.store.set_schedule("report".to_owned(), ScheduleChange::Paused(true)).await.unwrap();
    assert!(matches!(start(at(7), Some(at(6))).await.unwrap(), Fired::Inserted(_)));
    assert_eq!(lab.store.fire(tick(&lab, "report", at(1), None).0).await.unwrap(), Fired::Paused);
}

pub(crate) async fn processes_tell_which_schedules_tick_in_them_and_since_when(lab: Lab) {
    let mut late = instance("late", 9);
    late.schedules = vec!["report".to_owned(), "ü\"".to_owned()];
    // The store replaces this by the time of its own clock.
    late.started_at = at(0);
    lab.store.join(&late).await.unwrap();
    let seen = async || {
        let all = lab.store.instances().await.unwrap();
        all.into_iter().find(|it| it.id == late.id).expect("it has joined")
    };
    let first = seen().await;
    assert_eq!(first.schedules, late.schedules);
    let before = lab.store.instances().await.unwrap();
    assert!(before.iter().all(|it| it.started_at <= first.started_at), "the last to join is the youngest");
    assert!(first.started_at < at(0));
    lab.store.join(&late).await.unwrap();
    assert_eq!(seen().await.started_at, first.started_at, "to join again is not to start");
}

fn by_declaration(mut fire: Fire, timing: &str) -> Fire {
    fire.declared = Some(timing.to_owned());
    fire
}

pub(crate) async fn of_two_declarations_the_younger_process_decides(lab: Lab) {
    // The ticks of this case must be ahead of the store's clock: `at(0)` is 2 October 2096.
    let tick = |at, timing| lab.store.fire(by_declaration(tick(&lab, "report", at, None).0, timing));
    let declare = async |timing: &str, since, instead_of| {
        let declaration = Declaration::new(timing.to_owned(), since);
        let change = ScheduleChange::Declared { declaration, instead_of };
        lab.store.set_schedule("report".to_owned(), change).await.unwrap();
        state(&lab, "report").await
    };
    let (first, second, third) = (at(0), at(100), at(200));
    assert_eq!(tick(at(1), "hourly").await.unwrap(), Fired::Superseded, "nobody has declared it");
    assert!(lab.store.schedule("report".to_owned()).await.unwrap().is_none(), "and nothing is left of it");
    let known = declare("hourly", first, None).await;
    assert_eq!(known.declared, Some(Declaration::new("hourly".to_owned(), first)));
    assert!(known.last_tick.is_some_and(|begin| begin < at(0)), "it begins now: {known:?}");
    assert_eq!(known.last_outcome, None);
    assert!(matches!(tick(at(1), "hourly").await.unwrap(), Fired::Inserted(_)));
    assert_eq!(tick(at(2), "daily").await.unwrap(), Fired::Superseded);
    // A schedule with the same timing goes on where it was, and `since` is that of the youngest process.
    let known = declare("hourly", second, None).await;
    assert_eq!((known.last_tick, known.last_outcome), (Some(at(1)), Some(TickOutcome::Added)));
    assert_eq!(declare("hourly", first, None).await.declared.unwrap().since, second);
    // An older process with another timing changes nothing, unless it names the declaration that it replaces.
    assert_eq!(declare("daily", first, None).await.declared.unwrap().timing, "hourly");
    assert_eq!(declare("daily", first, Some(first)).await.declared.unwrap().timing, "hourly");
    assert_eq!(declare("daily", first, Some(second)).await.declared.unwrap().timing, "daily");
    assert_eq!(tick(at(2), "hourly").await.unwrap(), Fired::Superseded);
    // A younger process decides, and no tick that was handled comes again.
    let known = declare("weekly", third, None).await;
    assert_eq!((known.last_tick, known.last_outcome), (Some(at(1)), None));
    assert_eq!(tick(at(1), "weekly").await.unwrap(), Fired::Before);
    assert!(matches!(tick(at(2), "weekly").await.unwrap(), Fired::Inserted(_)));
}

pub(crate) async fn a_changed_declaration_has_no_earlier_ticks(lab: Lab) {
    let past = |seconds| SystemTime::now() - Duration::from_secs(seconds);
    let fire = |at, timing| lab.store.fire(by_declaration(tick(&lab, "report", at, None).0, timing));
    let declare = async |timing: &str, since| {
        let declaration = Declaration::new(timing.to_owned(), since);
        let change = ScheduleChange::Declared { declaration, instead_of: None };
        lab.store.set_schedule("report".to_owned(), change).await.unwrap();
    };
    // A schedule that ticked before its first declaration keeps its last tick.
    lab.store.fire(Fire::new("report".to_owned(), past(7200), None)).await.unwrap();
    declare("hourly", at(0)).await;
    assert!(matches!(fire(past(3600), "hourly").await.unwrap(), Fired::Inserted(_)), "a missed tick");
    declare("daily", at(1)).await;
    assert_eq!(fire(past(60), "daily").await.unwrap(), Fired::Before, "the old one's time");
    assert!(matches!(fire(at(0), "daily").await.unwrap(), Fired::Inserted(_)));
}

pub(crate) async fn a_declaration_comes_before_a_definition_while_it_lasts(lab: Lab) {
    let change = |change| lab.store.set_schedule("report".to_owned(), change);
    let define = ScheduleChange::Defined { definition: "stored".to_owned(), from: UNIX_EPOCH };
    let declaration = Declaration::new("hourly".to_owned(), at(7));
    let stored = |at| {
        let (mut fire, _) = tick(&lab, "report", at, None);
        fire.definition = Some("stored".to_owned());
        lab.store.fire(fire)
    };
    let declared = |at| lab.store.fire(by_declaration(tick(&lab, "report", at, None).0, "hourly"));
    change(define).await.unwrap();
    assert!(matches!(stored(at(1)).await.unwrap(), Fired::Inserted(_)));
    change(ScheduleChange::Declared { declaration: declaration.clone(), instead_of: None }).await.unwrap();
    assert_eq!(stored(at(2)).await.unwrap(), Fired::Superseded);
    assert!(matches!(declared(at(2)).await.unwrap(), Fired::Inserted(_)));
    change(ScheduleChange::Undeclared { since: at(6) }).await.unwrap();
    assert_eq!(stored(at(3)).await.unwrap(), Fired::Superseded, "it was declared again since");
    change(ScheduleChange::Undeclared { since: at(7) }).await.unwrap();
    assert_eq!(declared(at(3)).await.unwrap(), Fired::Superseded);
    assert!(matches!(stored(at(3)).await.unwrap(), Fired::Inserted(_)));
    // A declared schedule outlives its definition.
    change(ScheduleChange::Declared { declaration, instead_of: None }).await.unwrap();
    assert!(change(ScheduleChange::Removed).await.unwrap());
    assert!(!change(ScheduleChange::Removed).await.unwrap());
    let known = state(&lab, "report").await;
    assert_eq!((known.last_tick, known.definition), (Some(at(3)), None));
    assert!(matches!(declared(at(4)).await.unwrap(), Fired::Inserted(_)));
}

pub(crate) async fn ticks_that_are_left_out_are_counted_once(lab: Lab) {
    let skip = |tick, skipped| {
        let mut fire = Fire::new("report".to_owned(), tick, None);
        fire.skipped = skipped;
        lab.store.fire(fire)
    };
    skip(at(1), 0).await.unwrap();
    let counted = async || {
        let known = state(&lab, "report").await;
        (known.skipped, known.last_skipped)
    };
    assert_eq!(counted().await, (0, None));
    assert_eq!(skip(at(9), 3).await.unwrap(), Fired::Passed);
    assert_eq!(skip(at(9), 3).await.unwrap(), Fired::Before);
    assert_eq!(counted().await, (3, Some(at(9))));
    let (mut fire, _) = tick(&lab, "report", at(12), None);
    fire.skipped = 2;
    assert!(matches!(lab.store.fire(fire).await.unwrap(), Fired::Inserted(_)));
    assert_eq!(counted().await, (5, Some(at(12))));
    lab.store.fire(tick(&lab, "report", at(13), None).0).await.unwrap();
    assert_eq!(counted().await, (5, Some(at(12))));
}

pub(crate) async fn what_changed_is_told_once_and_in_order(lab: Lab) {
    let set = async |name: &str, change| {
        lab.store.set_schedule(name.to_owned(), change).await.unwrap();
    };
    let define = |text: &str| ScheduleChange::Defined { definition: text.to_owned(), from: at(0) };
    let changes = async |since| lab.store.schedule_changes(since).await.unwrap();
    let names = |changes: &ScheduleChanges| -> Vec<(String, Option<String>)> {
        changes.changed.iter().map(|state| (state.name.clone(), state.definition.clone())).collect()
    };
    let said = |name: &str, text: Option<&str>| (name.to_owned(), text.map(str::to_owned));
    assert_eq!(changes(0).await, ScheduleChanges::default());
    set("b", define("1")).await;
    set("a", define("2")).await;
    set("ü\u{0}", define("3")).await;
    let first = changes(0).await;
    assert_eq!(names(&first), [said("b", Some("1")), said("a", Some("2")), said("ü\u{0}", Some("3"))]);
    assert_eq!(first.changed[0], state(&lab, "b").await, "with all that is known of it");
    assert!(first.version > 0 && !first.more);
    let none = changes(first.version).await;
    assert_eq!((none.version, none.changed.len()), (first.version, 0));
    // Ticks, pauses and declarations are no changes of this kind.
    lab.store.fire(tick(&lab, "a", at(5), None).0).await.unwrap();
    set("a", ScheduleChange::Paused(true)).await;
    let declaration = Declaration::new("hourly".to_owned(), at(0));
    set("c", ScheduleChange::Declared { declaration, instead_of: None }).await;
    set("none", ScheduleChange::Removed).await;
    assert_eq!(changes(first.version).await, none);
    set("b", define("4")).await;
    set("a", ScheduleChange::Removed).await;
    let second = changes(first.version).await;
    assert_eq!(names(&second), [said("b", Some("4")), said("a", None)]);
    set("a", define("5")).await;
    assert_eq!(names(&changes(second.version).await), [said("a", Some("5"))]);
    // A store that was restored from a backup may be behind the caller: it answers its own, lower version.
    let ahead = changes(u64::MAX / 4).await;
    assert!(ahead.version < u64::MAX / 4 && ahead.changed.is_empty());
}

pub(crate) async fn many_changes_come_in_portions_and_none_is_lost_while_more_come(lab: Lab) {
    let most = ScheduleChanges::MAX;
    let define = |name: String| {
        let store = Arc::clone(&lab.store);
        async move {
            let change = ScheduleChange::Defined { definition: "d".to_owned(), from: at(0) };
            store.set_schedule(name, change).await.unwrap();
        }
    };
    let defining = tokio::spawn(futures_util::future::join_all((0..8).map(|lane| {
        let defines: Vec<_> = (0..=most / 8).map(|n| define(format!("{lane}-{n:04}"))).collect();
        async move {
            for define in defines {
                define.await;
            }
        }
    })));
    let mut seen = BTreeSet::new();
    let (mut since, mut is_over) = (0, false);
    loop {
        let was_over = is_over;
        is_over = defining.is_finished();
        let changes = lab.store.schedule_changes(since).await.unwrap();
        assert!(changes.version >= since && changes.changed.len() <= most);
        since = changes.version;
        for state in changes.changed {
            assert!(seen.insert(state.name.clone()), "{} was told twice", state.name);
        }
        if was_over && !changes.more {
            break;
        }
    }
    defining.await.unwrap();
    assert_eq!(seen.len(), (most / 8 + 1) * 8);
    let all = lab.store.schedule_changes(0).await.unwrap();
    assert_eq!((all.changed.len(), all.more), (most, true));
    let rest = lab.store.schedule_changes(all.version).await.unwrap();
    assert_eq!((rest.changed.len(), rest.more, rest.version), (8, false, since));
    let names: Vec<_> = lab.store.schedules().await.unwrap().into_iter().map(|state| state.name).collect();
    assert_eq!(names, seen.into_iter().collect::<Vec<_>>(), "all of them, by name");
}
