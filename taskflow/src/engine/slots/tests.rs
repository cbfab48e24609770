use super::*;

type Kind = (&'static str, bool);

const SOON: Duration = Duration::from_micros(10);

fn slots(max_prefetch: usize) -> Slots<Kind> {
    Slots::new(3, 1, max_prefetch, vec![("default".into(), None), ("slow".into(), Some(1))], Seam::default())
}

fn answer(slots: &Slots<Kind>, budget: &ClaimBudget, claimed: &[Kind]) -> Vec<Permit> {
    let begin = slots.admit(claimed.to_vec(), |kind| *kind);
    slots.answered(budget, claimed.len(), false);
    begin.into_iter().map(|(_, permit)| permit).collect()
}

/// How many tasks a claim may take from each queue.
fn limits(budget: &ClaimBudget) -> Vec<(String, usize)> {
    let queues = budget.queues.iter().map(|queue| (queue.name.to_string(), queue.limit.min(budget.limit)));
    queues.filter(|(_, limit)| *limit > 0).collect()
}

/// These limits, in the form that [`limits`] returns.
fn of<const N: usize>(limits: [(&str, usize); N]) -> Vec<(String, usize)> {
    limits.map(|(queue, limit)| (queue.to_owned(), limit)).to_vec()
}

fn set(slots: &Slots<Kind>, queue: &str, limit: Option<usize>, shared: bool) {
    let shared = SharedLimits { global_concurrency: shared.then_some(9), ..SharedLimits::default() };
    slots.set_limits(&[(queue.to_owned(), limit, shared)]);
}

/// Ends the body of a run, and marks its result as stored.
fn end(slots: &Slots<Kind>, permit: &mut Permit) {
    assert!(slots.end_body(permit, SOON, true).is_none());
    slots.leave([permit]);
}

#[test]
fn no_limit_is_exceeded_and_every_permit_comes_back() {
    let slots = slots(0);
    let slow = slots.try_take("slow", true, false).unwrap();
    assert!(slots.try_take("slow", false, false).is_none(), "its queue is full");
    assert!(slots.try_take("default", true, false).is_none(), "its threads are taken");
    assert!(slots.try_take("unknown", false, false).is_none());
    let mut others = [(); 2].map(|()| slots.try_take("default", false, false).unwrap());
    assert!(slots.try_take("default", false, false).is_none(), "all are taken");
    assert_eq!(slots.taken(), 3);
    for permit in &mut others {
        end(&slots, permit);
    }
    assert!(slots.give_back(slow, true).is_none());
    assert_eq!(slots.taken(), 0);
    assert_eq!(slots.budget([]).limit, 3);
}

#[test]
fn without_prefetching_a_slot_becomes_free_when_the_result_is_stored() {
    let slots = slots(0);
    let mut permits = [(); 3].map(|()| slots.try_take("default", false, false).unwrap());
    assert!(slots.end_body(&mut permits[0], SOON, true).is_none());
    assert!(slots.try_take("default", false, false).is_none(), "its result is not stored");
    let budget = slots.budget(&mut permits[..1]);
    assert_eq!(budget.limit, 1);
    slots.undo(&mut permits[..1]);
    slots.leave(&mut permits[..1]);
    assert!(slots.try_take("default", false, false).is_some());
}

#[test]
fn capacity_released_during_a_claim_is_not_taken_twice() {
    let slots = slots(0);
    let mut other = slots.try_take("default", true, false).unwrap();
    let budget = slots.budget([]);
    assert_eq!(limits(&budget), of([("default", 2), ("slow", 1)]));
    end(&slots, &mut other);
    assert!(
        slots.try_take("slow", false, false).is_none(),
        "the claim was offered the one slot of this queue"
    );
    let mut permits = answer(&slots, &budget, &[("slow", false)]);
    assert!(slots.try_take("slow", false, false).is_none());
    end(&slots, &mut permits[0]);
    assert!(slots.try_take("slow", true, false).is_some());
}

#[test]
fn a_limit_that_shrinks_ends_nothing_and_gives_nothing_until_there_is_room() {
    let slots = slots(0);
    let mut permits = [(); 3].map(|()| slots.try_take("default", false, false).unwrap());
    set(&slots, "default", Some(1), false);
    end(&slots, &mut permits[0]);
    end(&slots, &mut permits[1]);
    assert!(slots.try_take("default", false, false).is_none(), "one runs still");
    end(&slots, &mut permits[2]);
    let _running = slots.try_take("default", false, false).unwrap();
    assert!(slots.try_take("default", false, false).is_none());
    set(&slots, "default", None, true);
    assert!(
        slots.try_take("default", false, false).is_none(),
        "only a claim takes it, since it enforces the limit over all processes"
    );
    assert_eq!(limits(&slots.budget([]))[0], ("default".to_owned(), 2));
}

#[test]
fn a_claim_may_take_what_its_write_leaves_and_a_failed_one_takes_nothing() {
    let slots = slots(0);
    let mut slow = slots.try_take("slow", true, false).unwrap();
    assert!(slots.end_body(&mut slow, SOON, true).is_none());
    let budget = slots.budget([&mut slow]);
    assert_eq!((budget.limit, budget.threads), (3, 1));
    assert_eq!(limits(&budget), of([("default", 3), ("slow", 1)]));
    assert!(slots.try_take("default", false, false).is_none(), "the claim has it all");
    slots.undo([&mut slow]);
    assert!(slots.try_take("slow", false, false).is_none(), "it stayed");

    let budget = slots.budget([&mut slow]);
    let permits = answer(&slots, &budget, &[("slow", false), ("default", true)]);
    assert_eq!(limits(&slots.budget([])), of([("default", 1)]));
    assert_eq!(permits.len(), 2);
}

/// The state after a round trip in which three bodies ended: twelve more tasks may be claimed.
fn with_an_open_window() -> Slots<Kind> {
    let slots = Slots::new(3, 3, 20, vec![("default".into(), None), ("other".into(), None)], Seam::default());
    let mut ended = Bodies::default();
    (0..3).for_each(|_| ended.add(SOON));
    let round_trip = Duration::from_millis(1);
    slots.state.lock().window.measure(ended, round_trip, round_trip);
    slots
}

#[test]
fn more_is_claimed_than_may_run() {
    let slots = with_an_open_window();
    let budget = slots.budget([]);
    assert_eq!((budget.limit, budget.prefetch), (7, 4), "half of all");
    assert_eq!(limits(&budget), of([("default", 7), ("other", 7)]));

    let mut running = answer(&slots, &budget, &[("default", false); 7]);
    assert_eq!(running.len(), 3, "no more bodies than slots");
    assert_eq!(slots.taken(), 7);
    assert!(slots.try_take("default", false, false).is_none(), "others come first");
    let budget = slots.budget([]);
    assert_eq!((budget.limit, budget.prefetch), (7, 7), "no slot is free");
    slots.undo([]);

    let (_, mut next) = slots.end_body(&mut running[0], SOON, true).unwrap();
    assert!(slots.end_body(&mut next, SOON, false).is_none(), "nothing is to start");
    slots.leave([&mut running[0], &mut next]);
    assert_eq!(slots.taken(), 5);
}

#[test]
fn a_slot_that_was_offered_to_a_claim_stays_free_for_it() {
    let slots = with_an_open_window();
    let mut running = slots.try_take("default", false, false).unwrap();
    let budget = slots.budget([]);
    assert_eq!(budget.slots(), 2);
    assert!(slots.try_take("other", false, false).is_none());
    end(&slots, &mut running);
    assert!(slots.try_take("other", false, false).is_none());
    assert_eq!(answer(&slots, &budget, &[("default", false); 2]).len(), 2, "all begin at once");
    assert!(slots.try_take("other", false, false).is_some());
}

#[test]
fn nothing_is_claimed_until_a_slot_is_free_for_a_task_that_needs_one() {
    let slots = with_an_open_window();
    let budget = slots.budget([]);
    let mut running = slots.admit(vec![("default", false); 3], |kind| *kind);
    slots.answered(&budget, 3, true);
    assert_eq!(slots.budget([]).limit, 0);
    slots.undo([]);
    assert!(slots.end_body(&mut running[0].1, SOON, true).is_none());
    let budget = slots.budget([]);
    assert_eq!((budget.slots(), budget.prefetch), (1, 1), "one more, to see whether that has changed");
}

#[test]
fn queues_with_limits_are_not_prefetched_from_and_keep_no_other_from_it() {
    let slots = with_an_open_window();
    set(&slots, "other", Some(5), false);
    let budget = slots.budget([]);
    assert_eq!(limits(&budget), of([("default", 7), ("other", 5)]));
    assert_eq!(budget.queues.iter().map(|queue| queue.prefetch).collect::<Vec<_>>(), [true, false]);
    slots.undo([]);
    set(&slots, "other", None, true);
    assert!(!slots.budget([]).queues.get("other").unwrap().prefetch);
}

#[test]
fn an_add_takes_the_slot_of_a_run_whose_result_is_not_stored_but_not_under_a_limit() {
    let slots = with_an_open_window();
    set(&slots, "other", Some(2), false);
    let mut others = [(); 2].map(|()| slots.try_take("other", false, false).unwrap());
    let _running = slots.try_take("default", false, false).unwrap();
    assert!(slots.end_body(&mut others[0], SOON, true).is_none());
    assert!(slots.try_take("other", false, false).is_none());
    assert!(slots.try_take("default", false, false).is_some());
}

#[test]
fn extreme_numbers_do_not_overflow() {
    let queues = || vec![("default".into(), None)];
    for slots in [
        Slots::<Kind>::new(1, 1, usize::MAX, queues(), Seam::default()),
        Slots::new(usize::MAX, usize::MAX, 1, queues(), Seam::default()),
    ] {
        let _running = slots.try_take("default", true, false).unwrap();
        slots.budget([]);
    }
}

#[test]
fn returning_the_tasks_that_wait_for_a_slot_closes_the_window() {
    let slots = with_an_open_window();
    let budget = slots.budget([]);
    let _running = answer(&slots, &budget, &[("default", false); 7]);
    assert!(slots.take_waiting(false).is_empty(), "it has not waited for long");
    assert!(slots.give_back_at().is_some());
    let mut waiting = slots.take_waiting(true);
    assert_eq!(waiting.len(), 4);
    slots.leave(waiting.iter_mut().map(|(_, permit)| permit));
    assert_eq!((slots.taken(), slots.give_back_at()), (3, None));
    assert_eq!(slots.budget([]).limit, 0);
}

#[test]
fn a_slot_is_left_to_a_task_in_the_store_that_needs_one_unless_the_added_task_is_eager() {
    let slots = with_an_open_window();
    let budget = slots.budget([]);
    let _running = slots.admit(vec![("default", false); 2], |kind| *kind);
    slots.answered(&budget, 2, true);
    assert!(slots.try_take("default", false, false).is_none(), "one in the store needs the free slot");
    assert!(slots.try_take("default", false, true).is_some(), "an eager one waits for nothing");
}

#[test]
fn a_slot_in_which_no_task_ran_goes_to_a_waiting_task() {
    let slots = with_an_open_window();
    let added = slots.try_take("default", false, false).unwrap();
    let budget = slots.budget([]);
    let running = slots.admit(vec![("default", false); 4], |kind| *kind);
    assert_eq!(running.len(), 2);
    slots.answered(&budget, 4, false);
    let next = slots.give_back(added, true);
    assert!(next.is_some(), "two wait for a slot");
    assert_eq!(slots.taken(), 4);
}

/// How much of each limit is free for a claim.
fn free(slots: &Slots<Kind>) -> (usize, usize, usize) {
    let budget = slots.budget([]);
    slots.undo([]);
    (budget.limit, budget.threads, budget.queues.iter().map(|queue| queue.limit.min(budget.limit)).sum())
}

#[test]
fn a_dropped_permit_frees_its_slot_once() {
    let slots = slots(0);
    let all = free(&slots);
    drop(slots.try_take("slow", true, false).unwrap());
    assert_eq!((slots.taken(), free(&slots)), (0, all));

    let mut ended = slots.try_take("slow", true, false).unwrap();
    let other = slots.try_take("default", false, false).unwrap();
    assert!(slots.end_body(&mut ended, SOON, true).is_none());
    slots.leave([&mut ended]);
    drop(ended);
    assert_eq!(slots.taken(), 1, "a released permit is not returned again");
    drop(other);
    assert_eq!((slots.taken(), free(&slots)), (0, all));
}

#[test]
fn a_permit_dropped_after_its_body_frees_its_place_and_no_second_slot() {
    let slots = slots(0);
    let all = free(&slots);
    let mut ended = slots.try_take("slow", true, false).unwrap();
    assert!(slots.end_body(&mut ended, SOON, true).is_none());
    assert!(slots.end_body(&mut ended, SOON, true).is_none());
    drop(ended);
    assert_eq!((slots.taken(), free(&slots)), (0, all));
}

#[test]
fn a_permit_that_a_claim_may_use_is_given_back_by_nothing_else() {
    let slots = slots(0);
    let all = free(&slots);
    let mut ended = slots.try_take("default", false, false).unwrap();
    assert!(slots.end_body(&mut ended, SOON, true).is_none());
    let budget = slots.budget([&mut ended]);
    slots.leave([&mut ended]);
    drop(ended);
    slots.answered(&budget, 0, false);
    assert_eq!((slots.taken(), free(&slots)), (0, all));

    let mut ended = slots.try_take("default", false, false).unwrap();
    assert!(slots.end_body(&mut ended, SOON, true).is_none());
    slots.budget([&mut ended]);
    slots.undo([&mut ended]);
    slots.undo([&mut ended]);
    assert_eq!(slots.taken(), 1);
    drop(ended);
    assert_eq!((slots.taken(), free(&slots)), (0, all));
}

#[test]
fn a_panic_between_taking_and_starting_frees_the_slot() {
    let slots = slots(0);
    let all = free(&slots);
    let start = std::panic::AssertUnwindSafe(|| {
        let _permit = slots.try_take("slow", true, false).unwrap();
        assert_eq!(slots.taken(), 1);
        std::panic::resume_unwind(Box::new("before it starts"));
    });
    assert!(std::panic::catch_unwind(start).is_err());
    assert_eq!((slots.taken(), free(&slots)), (0, all));
}

#[test]
fn a_future_that_is_dropped_with_its_permit_frees_the_slot() {
    let slots = slots(0);
    let all = free(&slots);
    let permit = slots.try_take("default", true, false).unwrap();
    let body = async move {
        std::future::pending::<()>().await;
        drop(permit);
    };
    drop(body);
    assert_eq!((slots.taken(), free(&slots)), (0, all));
}
