//! Where searches start.

use super::*;

fn names(names: &[&str]) -> Arc<[Arc<str>]> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// The starts after two claims for these names. The first claim found a task at 10, the second one at 20.
fn after_two_claims(names: &Names) -> SearchStarts {
    let (starts, now) = (SearchStarts::default(), Instant::now());
    starts.claimed(names, vec![("mail", 0, 11), ("mail", 0, 10)], (now, Duration::ZERO, 0));
    starts.claimed(names, vec![("mail", 0, 20)], (now + MARGIN, Duration::ZERO, 0));
    starts.state.lock().is_worth = true;
    starts
}

fn ranges(search: &Search) -> Vec<(i16, i16, Option<i64>)> {
    let bounds = search.low.iter().zip(&search.high);
    bounds.zip(&search.starts).map(|((low, high), start)| (*low, *high, *start)).collect()
}

fn task(seq: i64) -> DueAgain {
    DueAgain { id: TaskId::new(), queue: "mail".to_owned(), priority: 0, seq }
}

#[test]
fn a_search_starts_where_an_earlier_one_found_its_first_task() {
    let names = names(&["send"]);
    let starts = after_two_claims(&names);
    let search = starts.search(&names, ["mail", "other"].into_iter(), &[]);
    assert_eq!(search.queues, ["mail", "mail", "mail", "other"]);
    let all = (i16::MIN, i16::MAX, None);
    assert_eq!(ranges(&search), [(1, i16::MAX, None), (0, 0, Some(10)), (i16::MIN, -1, None), all]);
}

#[test]
fn what_a_claim_saw_a_moment_ago_or_beside_an_insert_is_no_start() {
    let (names, now) = (names(&["send"]), Instant::now());
    let start = |starts: &SearchStarts| starts.search(&names, ["mail"].into_iter(), &[]).starts[1];
    let worth = || {
        let starts = SearchStarts::default();
        starts.state.lock().is_worth = true;
        starts
    };
    let starts = worth();
    starts.claimed(&names, vec![("mail", 0, 10)], (now, Duration::ZERO, 0));
    starts.claimed(&names, vec![("mail", 0, 20)], (now + MARGIN / 2, Duration::ZERO, 0));
    assert_eq!(start(&starts), Some(i64::MIN));
    let starts = worth();
    let inserting = starts.inserting();
    starts.claimed(&names, vec![("mail", 0, 10)], (Instant::now(), Duration::ZERO, 0));
    starts.claimed(&names, vec![("mail", 0, 20)], (Instant::now() + MARGIN, Duration::ZERO, 0));
    assert_eq!(start(&starts), Some(i64::MIN));
    drop(inserting);
    starts.claimed(&names, vec![("mail", 0, 20)], (Instant::now() + MARGIN, Duration::ZERO, 0));
    assert_eq!(start(&starts), Some(10));
}

#[test]
fn claims_for_other_names_have_other_starts() {
    let (all, some) = (names(&["send", "resize"]), names(&["send"]));
    let starts = after_two_claims(&some);
    assert_eq!(ranges(&starts.search(&all, ["mail"].into_iter(), &[])), [(i16::MIN, i16::MAX, None)]);
}

#[test]
fn whether_any_task_is_due_is_searched_from_the_lowest_start_and_by_id() {
    let (some, others) = (names(&["send"]), names(&["resize"]));
    let (starts, now) = (after_two_claims(&some), Instant::now());
    starts.claimed(&others, vec![("mail", 0, 5), ("mail", 3, 7)], (now, Duration::ZERO, 0));
    starts.claimed(&others, vec![("mail", 0, 30), ("mail", 3, 8)], (now + MARGIN, Duration::ZERO, 0));
    let low = task(4);
    starts.are_due_again(vec![low.clone()]);
    let search = starts.search_any(["mail"].into_iter());
    let found = ranges(&search).into_iter().filter_map(|(low, _, start)| Some((low, start?)));
    assert_eq!(found.collect::<Vec<_>>(), [(3, 7), (0, 5)]);
    assert_eq!(search.below, [Uuid::from(low.id)]);
}

#[test]
fn a_start_does_not_pass_what_a_claim_has_just_found() {
    let (names, now) = (names(&["send"]), Instant::now());
    let starts = after_two_claims(&names);
    starts.claimed(&names, vec![("mail", 0, 15)], (now + 3 * MARGIN, Duration::ZERO, 0));
    assert_eq!(starts.search(&names, ["mail"].into_iter(), &[]).starts[1], Some(15), "and not 20");
}

#[test]
fn each_priority_has_its_start_and_the_ranges_cover_all_others() {
    let (names, starts, now) = (names(&["send"]), SearchStarts::default(), Instant::now());
    starts.state.lock().is_worth = true;
    for (at, seq) in [(now, 1), (now + MARGIN, 2)] {
        let priorities = [i16::MAX, 5, 4, i16::MIN, 7];
        starts.claimed(
            &names,
            priorities.map(|priority| ("mail", priority, seq)).into(),
            (at, Duration::ZERO, 0),
        );
    }
    let ranges = ranges(&starts.search(&names, ["mail"].into_iter(), &[]));
    let covered: i64 = ranges.iter().map(|(low, high, _)| i64::from(*high) - i64::from(*low) + 1).sum();
    assert_eq!(covered, 65_536, "{ranges:?}");
    assert!(ranges.is_sorted_by(|a, b| a.0 > b.1), "{ranges:?}");
    assert_eq!(ranges.iter().filter(|(low, high, start)| start.is_some() && low == high).count(), PRIORITIES);
}

#[test]
fn what_is_due_again_below_a_start_is_looked_up_by_id_until_a_look_has_come_by() {
    let names = names(&["send"]);
    let starts = after_two_claims(&names);
    let below = |starts: &SearchStarts| starts.search(&names, ["mail"].into_iter(), &[]).below;
    let (low, high, later) = (task(9), task(10), task(3));
    starts.are_due_again(vec![low.clone(), high]);
    assert_eq!(below(&starts), [Uuid::from(low.id)]);
    assert!(starts.to_look_below(Instant::now()).is_some());
    starts.are_due_again(vec![later.clone()]);
    let found = TaskId::new();
    starts.looked_below(vec![found], false, WORTH);
    assert_eq!(below(&starts), [found, later.id].map(Uuid::from));
    assert!(starts.to_look_below(Instant::now()).is_none(), "it has just looked");
}

#[test]
fn many_tasks_below_or_a_new_one_make_claims_search_from_the_beginning() {
    let names = names(&["send"]);
    let all = [(i16::MIN, i16::MAX, None)];
    let searched = |starts: &SearchStarts| ranges(&starts.search(&names, ["mail"].into_iter(), &[]));
    let starts = after_two_claims(&names);
    starts.are_due_again((0..=MOST_BELOW).map(|_| task(1)).collect());
    assert_eq!(searched(&starts), all);
    let starts = after_two_claims(&names);
    assert!(starts.to_look_below(Instant::now()).is_some());
    starts.looked_below(vec![TaskId::new()], true, WORTH);
    assert_eq!(searched(&starts), all);
}

#[test]
fn a_start_is_used_while_the_server_needs_long_for_what_is_below() {
    let names = names(&["send"]);
    let starts = after_two_claims(&names);
    for (took, is_used) in [(WORTH / 2, false), (WORTH, true), (Duration::ZERO, false)] {
        starts.looked_below(Vec::new(), false, took);
        let search = starts.search(&names, ["mail"].into_iter(), &[]);
        assert_eq!(search.starts.contains(&Some(10)), is_used, "{took:?}");
    }
    assert!(starts.to_look_below(Instant::now() + 2 * LOOK_EVERY).is_some(), "claims have taken tasks");
    assert!(starts.to_look_below(Instant::now() + 4 * LOOK_EVERY).is_none(), "and none since");
}

#[test]
fn tasks_that_come_due_are_searched_from_where_none_had_come_due() {
    let (names, starts) = (names(&["send"]), SearchStarts::default());
    starts.state.lock().is_worth = true;
    let later = |starts: &SearchStarts| starts.search(&names, ["mail"].into_iter(), &[]).later;
    assert_eq!(later(&starts), None);
    starts.nothing_came_due(Some(value::Instant(5 * LATE)));
    starts.nothing_came_due(Some(value::Instant(3 * LATE)));
    assert_eq!(later(&starts), Some(value::Instant(4 * LATE)));
    assert!(starts.to_look_below(Instant::now()).is_some());
    starts.looked_below(Vec::new(), true, WORTH);
    assert_eq!(later(&starts), None);
}

#[test]
fn a_claim_that_takes_longer_than_its_tasks_need_makes_claims_use_the_starts() {
    let names = names(&["send"]);
    let starts = after_two_claims(&names);
    let is_used = || starts.search(&names, ["mail"].into_iter(), &[]).starts.contains(&Some(10));
    starts.looked_below(Vec::new(), false, Duration::ZERO);
    let long_enough = WORTH + 3 * PER_TASK;
    for (took, worth) in [(long_enough, false), (long_enough + Duration::from_micros(1), true)] {
        starts.claimed(&names, vec![("mail", 0, 30)], (Instant::now(), took, 2));
        assert_eq!(is_used(), worth, "{took:?}");
    }
}

#[test]
fn looks_that_take_too_long_are_divided_and_cover_all_ages_in_turn() {
    let mut parts = Parts::default();
    assert_eq!(parts.of(1_000), (i64::MIN, 1_000));
    parts.looked(SLOW);
    let mut covered = Vec::new();
    for _ in 0..4 {
        covered.push(parts.of(1_003));
        parts.looked(SLOW / 2);
    }
    assert_eq!(covered, [(i64::MIN, 250), (250, 500), (500, 750), (750, 1_003)]);
    for _ in 0..4 {
        parts.looked(Duration::ZERO);
    }
    assert!(parts.are_one(), "{parts:?}");
    for _ in 0..20 {
        parts.looked(SLOW);
    }
    assert_eq!(parts.count, MOST_PARTS);
}

#[test]
fn a_look_that_fails_is_not_repeated_at_once_and_looks_at_less() {
    let names = names(&["send"]);
    let starts = after_two_claims(&names);
    assert_eq!(starts.to_look_below(Instant::now()).unwrap().to, [10]);
    starts.could_not_look(Duration::from_secs(7));
    assert!(starts.to_look_below(Instant::now() + Duration::from_secs(300)).is_none());
    let looks = starts.to_look_below(Instant::now() + Duration::from_secs(400)).unwrap();
    assert_eq!((looks.from, looks.to), (vec![i64::MIN], vec![2]));
    assert_eq!(looks.names, [Arc::from("send")]);
}
