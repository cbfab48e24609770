use std::time::Duration;

use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_000_000_000;
const FENCE: u64 = 7;

const ENDS: [TaskStatus; 5] = [
    TaskStatus::Success,
    TaskStatus::Failed,
    TaskStatus::Interrupted,
    TaskStatus::Cancelled,
    TaskStatus::Rejected,
];

fn task(stage: Stage) -> TaskState {
    TaskState {
        stage,
        attempt: 2,
        max_attempts: 3,
        fence: FENCE,
        lost_runs: 1,
        snoozes: 4,
        cancel_requested: false,
        has_begun: true,
        run_at: NOW - 10,
        expires_at: None,
    }
}

fn asked_to_stop() -> TaskState {
    TaskState { cancel_requested: true, ..task(Stage::Running) }
}

/// Every state of a row, as far as the rules distinguish them.
fn states() -> Vec<TaskState> {
    let stages = [Stage::Waiting, Stage::Held, Stage::Running].into_iter().chain(ENDS.map(Stage::Ended));
    let mut states = Vec::new();
    for stage in stages {
        for attempt in 0..=3 {
            for expires_at in [None, Some(NOW), Some(NOW + 1)] {
                for flag in [false, true] {
                    states.push(TaskState {
                        attempt,
                        expires_at,
                        cancel_requested: flag && stage == Stage::Running,
                        // An attempt that was given back leaves attempt number 0, but the task has begun.
                        has_begun: stage == Stage::Running || (stage != Stage::Held && (attempt > 0 || flag)),
                        ..task(stage)
                    });
                }
            }
        }
    }
    states
}

/// Every command for a task.
#[derive(Clone, Debug)]
enum Command {
    Finish(u64, FinishKind),
    Release(u64, HoldOutcome),
    Cancel,
    CancelByRunKey,
    Retry(Option<TaskId>),
    Recover(RetryPolicy),
}

fn kinds() -> Vec<FinishKind> {
    let mut kinds = vec![FinishKind::Success { result: "1".into() }];
    for outcome in [AttemptOutcome::Failed, AttemptOutcome::Snoozed, AttemptOutcome::HandedBack] {
        for status in TaskStatus::ALL {
            kinds.push(FinishKind::End { status, outcome, error: "broken".to_owned() });
        }
        for delay in [Duration::ZERO, Duration::from_secs(1), Duration::MAX] {
            kinds.push(FinishKind::Retry { delay, outcome, error: "broken".to_owned() });
            kinds.push(FinishKind::GiveBack { delay, outcome: Some(outcome) });
        }
    }
    kinds.push(FinishKind::GiveBack { delay: Duration::ZERO, outcome: None });
    kinds
}

fn policies() -> Vec<RetryPolicy> {
    let mut policies = Vec::new();
    for requeue_on_interrupt in [false, true] {
        for max_lost_runs in [1, 3] {
            policies.push(RetryPolicy {
                retries: 2,
                requeue_on_interrupt,
                max_lost_runs,
                ..RetryPolicy::DEFAULT
            });
        }
    }
    policies
}

fn commands(fence: u64) -> Vec<Command> {
    let mut commands = vec![Command::Cancel, Command::CancelByRunKey, Command::Retry(None)];
    commands.push(Command::Retry(Some(TaskId::new())));
    commands.extend(kinds().into_iter().map(|kind| Command::Finish(fence, kind)));
    commands.push(Command::Release(fence, HoldOutcome::Run));
    commands.push(Command::Release(fence, HoldOutcome::Cancel { reason: "5xx".to_owned() }));
    commands.extend(policies().into_iter().map(Command::Recover));
    commands
}

fn decide<'c>(task: &TaskState, command: &'c Command) -> Option<Change<'c>> {
    let there = Some(task);
    match command {
        Command::Finish(fence, kind) => finish(there, *fence, kind, NOW).change,
        Command::Release(fence, outcome) => release(there, *fence, outcome).change,
        Command::Cancel => cancel(there, "no more").change,
        Command::CancelByRunKey => cancel_by_run_key(there).change,
        Command::Retry(holder) => retry(TaskId::new(), there, 3, *holder, Duration::ZERO, NOW).change,
        Command::Recover(policy) => recover(task, policy, 0.5, NOW),
    }
}

/// Calls `check` for every state and every command that changes it.
fn for_each_change(mut check: impl FnMut(&TaskState, &Command, &Change<'_>)) {
    for state in states() {
        for command in commands(state.fence) {
            if let Some(change) = decide(&state, &command) {
                check(&state, &command, &change);
            }
        }
    }
}

fn is_over(state: &TaskState) -> bool {
    matches!(state.stage, Stage::Ended(_))
}

#[test]
fn exactly_the_ended_tasks_have_an_end_time() {
    for_each_change(|before, command, change| {
        assert_eq!(change.finished_at(NOW).is_some(), is_over(&change.next), "{before:?} {command:?}");
        assert_eq!(is_over(&change.next), change.next.stage.status().is_final(), "{before:?} {command:?}");
    });
}

#[test]
fn only_a_manual_retry_reopens_an_ended_task() {
    for_each_change(|before, command, change| {
        assert_eq!(is_over(before), matches!(command, Command::Retry(None)), "{before:?} {command:?}");
        assert_eq!(change.reopens, is_over(before), "{before:?} {command:?}");
    });
}

#[test]
fn no_command_begins_a_run_or_a_hold() {
    for_each_change(|before, command, change| {
        assert_ne!(change.next.stage, Stage::Held, "{before:?} {command:?}");
        if change.next.stage == Stage::Running {
            assert_eq!((before.stage, change.next.cancel_requested), (Stage::Running, true), "{command:?}");
            assert!(matches!(command, Command::Cancel));
        }
    });
}

#[test]
fn a_run_that_ends_other_than_by_its_own_finish_leaves_the_next_fence_and_nothing_else_does() {
    for_each_change(|before, command, change| {
        let is_lost = before.stage == Stage::Running && matches!(command, Command::Recover(_));
        assert_eq!(change.next.fence, before.fence + u64::from(is_lost), "{before:?} {command:?}");
        if before.stage == Stage::Running && change.next.stage != Stage::Running {
            assert!(is_lost || matches!(command, Command::Finish(..)), "{before:?} {command:?}");
        }
    });
}

#[test]
fn a_stale_fence_changes_nothing() {
    for state in states() {
        for fence in [0, state.fence - 1, state.fence + 1, u64::MAX] {
            for kind in kinds() {
                let decision = finish(Some(&state), fence, &kind, NOW);
                assert_eq!((decision.answer, decision.change), (Finished::Stale, None));
            }
            for outcome in [HoldOutcome::Run, HoldOutcome::Cancel { reason: String::new() }] {
                let decision = release(Some(&state), fence, &outcome);
                assert_eq!((decision.answer, decision.change), (false, None));
            }
        }
    }
}

#[test]
fn a_second_finish_or_release_under_the_same_fence_is_a_repetition() {
    for_each_change(|before, command, change| match command {
        Command::Finish(fence, _) => {
            for kind in kinds() {
                let again = finish(Some(&change.next), *fence, &kind, NOW);
                let status = change.next.stage.status();
                assert_eq!((again.answer, again.change), (Finished::Repeated(status), None), "{before:?}");
            }
        }
        Command::Release(fence, outcome) => {
            let again = release(Some(&change.next), *fence, outcome);
            assert_eq!((again.answer, again.change), (true, None), "{before:?}");
            let kind = FinishKind::Success { result: "1".into() };
            let late = finish(Some(&change.next), *fence, &kind, NOW);
            let finished = if before.has_begun {
                Finished::Repeated(change.next.stage.status())
            } else {
                Finished::Stale
            };
            assert_eq!(late.answer, finished, "a hold is no run: {before:?}");
        }
        _ => {}
    });
}

#[test]
fn a_late_finish_of_a_lost_run_is_stale() {
    for_each_change(|before, command, change| {
        if before.stage == Stage::Running && matches!(command, Command::Recover(_)) {
            for kind in kinds() {
                let late = finish(Some(&change.next), before.fence, &kind, NOW);
                assert_eq!((late.answer, late.change), (Finished::Stale, None), "{before:?}");
            }
        }
    });
}

#[test]
fn only_the_ends_of_runs_count_attempts_back_and_never_below_zero() {
    for_each_change(|before, command, change| {
        let uncounted = before.attempt.saturating_sub(1);
        let attempt = change.next.attempt;
        match command {
            Command::Finish(_, FinishKind::GiveBack { .. }) => assert_eq!(attempt, uncounted),
            Command::Recover(policy) if before.stage == Stage::Running && policy.requeue_on_interrupt => {
                let expected = if is_over(&change.next) { before.attempt } else { uncounted };
                assert_eq!(attempt, expected);
            }
            _ => assert_eq!(attempt, before.attempt, "{before:?} {command:?}"),
        }
    });
}

#[test]
fn no_waiting_or_ended_task_is_asked_to_stop() {
    for_each_change(|before, command, change| {
        let is_running = change.next.stage == Stage::Running;
        assert_eq!(change.next.cancel_requested, is_running, "{before:?} {command:?}");
    });
}

#[test]
fn a_task_that_was_asked_to_stop_never_waits_again() {
    let task = asked_to_stop();
    for command in commands(FENCE) {
        let Some(change) = decide(&task, &command) else { continue };
        assert_ne!(change.next.stage, Stage::Waiting, "{command:?}");
        assert_eq!(change.next.run_at, task.run_at, "{command:?}");
    }
    let kind = FinishKind::Retry {
        delay: Duration::ZERO,
        outcome: AttemptOutcome::Failed,
        error: "broken".to_owned(),
    };
    let decision = finish(Some(&task), FENCE, &kind, NOW);
    assert_eq!(decision.answer, Finished::Applied(TaskStatus::Cancelled));
    let change = decision.change.unwrap();
    assert_eq!(change.error, ErrorChange::Set(CANCELLED.into()));
    let run = EndedRun { outcome: AttemptOutcome::Failed, error: Some("broken") };
    assert_eq!(change.ended_run, Some(run), "the attempt keeps its own error");
}

#[test]
fn a_task_that_was_asked_to_stop_can_still_succeed() {
    let kind = FinishKind::Success { result: "[1]".into() };
    for task in [task(Stage::Running), asked_to_stop()] {
        let decision = finish(Some(&task), FENCE, &kind, NOW);
        assert_eq!(decision.answer, Finished::Applied(TaskStatus::Success));
        let change = decision.change.unwrap();
        assert_eq!((change.result, &change.error), (Some("[1]"), &ErrorChange::Clear));
        assert_eq!(change.next.lost_runs, 0);
    }
}

#[test]
fn a_retry_waits_for_its_delay_and_keeps_the_attempt() {
    let kind = FinishKind::Retry {
        delay: Duration::from_secs(2),
        outcome: AttemptOutcome::TimedOut,
        error: "slow".to_owned(),
    };
    let change = finish(Some(&task(Stage::Running)), FENCE, &kind, NOW).change.unwrap();
    let expected =
        TaskState { run_at: NOW + 2_000_000, lost_runs: 0, stage: Stage::Waiting, ..task(Stage::Running) };
    assert_eq!(change.next, expected);
    assert_eq!(change.error, ErrorChange::Set("slow".into()));
    assert_eq!(change.ended_run, Some(EndedRun { outcome: AttemptOutcome::TimedOut, error: Some("slow") }));
}

#[test]
fn a_run_that_is_given_back_keeps_its_error_and_a_snooze_is_counted() {
    for (outcome, snoozes) in
        [(None, 4), (Some(AttemptOutcome::HandedBack), 4), (Some(AttemptOutcome::Snoozed), 5)]
    {
        let kind = FinishKind::GiveBack { delay: Duration::ZERO, outcome };
        let change = finish(Some(&task(Stage::Running)), FENCE, &kind, NOW).change.unwrap();
        assert_eq!((change.next.attempt, change.next.snoozes, change.next.run_at), (1, snoozes, NOW));
        assert_eq!(change.error, ErrorChange::Keep);
        assert_eq!(change.ended_run.map(|run| run.outcome), outcome, "one that never began leaves no trace");
    }
}

#[test]
fn an_end_with_a_status_that_is_not_final_counts_as_failed() {
    for status in TaskStatus::ALL {
        let kind = FinishKind::End { status, outcome: AttemptOutcome::Failed, error: "broken".to_owned() };
        let decision = finish(Some(&task(Stage::Running)), FENCE, &kind, NOW);
        let expected = if status.is_final() { status } else { TaskStatus::Failed };
        assert_eq!(decision.answer, Finished::Applied(expected));
    }
}

#[test]
fn a_hold_ends_as_its_holder_says_and_keeps_the_time_of_the_task() {
    let held = TaskState { attempt: 0, has_begun: false, run_at: NOW + 5, ..task(Stage::Held) };
    let change = release(Some(&held), FENCE, &HoldOutcome::Run).change.unwrap();
    assert_eq!(change.next, TaskState { stage: Stage::Waiting, ..held });
    let outcome = HoldOutcome::Cancel { reason: "5xx".to_owned() };
    let cancelled = release(Some(&held), FENCE, &outcome).change.unwrap();
    assert_eq!(cancelled.next.stage, Stage::Ended(TaskStatus::Cancelled));
    assert_eq!(cancelled.error, ErrorChange::Set("5xx".into()));
    // The task is not in the state that the other release asks for.
    assert!(!release(Some(&change.next), FENCE, &outcome).answer);
    assert!(!release(Some(&cancelled.next), FENCE, &HoldOutcome::Run).answer);
}

#[test]
fn a_cancel_ends_waiting_tasks_asks_running_ones_and_leaves_ended_ones() {
    for state in states() {
        let expected = match state.stage {
            Stage::Waiting | Stage::Held => CancelOutcome::Cancelled,
            Stage::Running => CancelOutcome::Requested,
            Stage::Ended(_) => CancelOutcome::AlreadyFinished,
        };
        let decision = cancel(Some(&state), "no more");
        assert_eq!(decision.answer, expected);
        assert_eq!(decision.change.is_none(), is_over(&state));
        if let Some(change) = decision.change.filter(|change| is_over(&change.next)) {
            assert_eq!(change.error, ErrorChange::Set("no more".into()));
        }
        let by_run_key = cancel_by_run_key(Some(&state));
        assert_eq!(by_run_key.answer, state.waits_for_first());
        assert_eq!(by_run_key.change.is_some(), state.waits_for_first());
    }
    assert_eq!(cancel(None, "").answer, CancelOutcome::NotFound);
}

#[test]
fn a_manual_retry_gives_new_attempts_and_clears_the_error() {
    let failed = TaskState { expires_at: Some(NOW), ..task(Stage::Ended(TaskStatus::Failed)) };
    let change = retry(TaskId::new(), Some(&failed), 4, None, Duration::ZERO, NOW).change.unwrap();
    let expected = TaskState {
        stage: Stage::Waiting,
        max_attempts: 6,
        lost_runs: 0,
        snoozes: 0,
        run_at: NOW,
        expires_at: None,
        ..failed
    };
    assert_eq!(change.next, expected);
    assert_eq!((change.error, change.reopens), (ErrorChange::Clear, true));
    let later = TaskState { expires_at: Some(NOW + 1), ..failed };
    let change = retry(TaskId::new(), Some(&later), u32::MAX, None, Duration::ZERO, NOW).change.unwrap();
    assert_eq!((change.next.expires_at, change.next.max_attempts), (Some(NOW + 1), u32::MAX));
}

#[test]
fn a_manual_retry_is_refused_for_missing_open_or_succeeded_tasks_and_for_taken_keys() {
    let (id, holder) = (TaskId::new(), TaskId::new());
    assert!(matches!(retry(id, None, 1, None, Duration::ZERO, NOW).answer, Err(Error::NotFound { .. })));
    for state in states() {
        let decision = retry(id, Some(&state), 1, Some(holder), Duration::ZERO, NOW);
        assert!(decision.change.is_none());
        match (decision.answer, state.stage) {
            (Err(Error::KeyTaken { holder: it, .. }), Stage::Ended(status)) => {
                assert!(it == holder && status != TaskStatus::Success);
            }
            (Err(Error::NotRetryable { status, .. }), stage) => {
                assert!(stage == Stage::Ended(TaskStatus::Success) || !status.is_final());
                assert_eq!(status, stage.status());
            }
            (answer, _) => panic!("{answer:?}"),
        }
    }
}

#[test]
fn a_recovery_ends_holds_moves_lost_runs_on_and_cancels_expired_tasks() {
    let policy = RetryPolicy { retries: 2, ..RetryPolicy::DEFAULT };
    let (id, name): (_, Arc<str>) = (TaskId::new(), Arc::from("a"));
    for state in states() {
        let change = recover(&state, &policy, 0.5, NOW);
        let is_over = state.stage == Stage::Waiting && state.has_expired(NOW);
        let has_lease = matches!(state.stage, Stage::Held | Stage::Running);
        assert_eq!(change.is_some(), is_over || has_lease, "{state:?}");
        let Some(change) = change else { continue };
        let recovered = change.recovered(&state, id, Arc::clone(&name));
        assert_eq!(recovered.status, change.next.stage.status());
        assert_eq!(recovered.error.is_some(), recovered.status.is_final());
        match state.stage {
            Stage::Held => assert_eq!(change.next, TaskState { stage: Stage::Waiting, ..state }),
            Stage::Running => {
                assert_eq!(change.next.lost_runs, state.lost_runs + 1);
                let run = EndedRun { outcome: AttemptOutcome::Lost, error: Some(WORKER_LOST) };
                assert_eq!(change.ended_run, Some(run));
            }
            _ => assert_eq!(change.error, ErrorChange::Set(Recovered::EXPIRED.into())),
        }
    }
}

#[test]
fn every_end_of_a_run_is_kept_unless_it_never_began() {
    for_each_change(|before, command, change| {
        let leaves_a_run = before.stage == Stage::Running && change.next.stage != Stage::Running;
        let never_began = matches!(command, Command::Finish(_, FinishKind::GiveBack { outcome: None, .. }));
        assert_eq!(change.ended_run.is_some(), leaves_a_run && !never_began, "{before:?} {command:?}");
    });
}

fn any_command() -> impl Strategy<Value = Option<Command>> {
    // The fence is filled in when it is known. `None` is a claim.
    let all = commands(0);
    prop_oneof![1 => Just(None), 3 => proptest::sample::select(all).prop_map(Some)]
}

proptest! {
    #[test]
    fn whatever_happens_to_a_task_its_fence_only_grows_and_no_run_is_ended_twice(
        steps in proptest::collection::vec((any_command(), 0..3_u64), 1..40),
        is_held in any::<bool>(),
    ) {
        let stage = if is_held { Stage::Held } else { Stage::Waiting };
        let mut state = TaskState {
            attempt: 0, fence: 1, lost_runs: 0, snoozes: 0, has_begun: false, ..task(stage)
        };
        let mut finished = std::collections::HashSet::new();
        for (step, behind) in steps {
            let before = state;
            let Some(command) = step else {
                if state.stage == Stage::Waiting {
                    let (attempt, fence) = (state.attempt + 1, state.fence + 1);
                    state = TaskState { stage: Stage::Running, attempt, fence, has_begun: true, ..state };
                }
                continue;
            };
            // Sometimes an old run writes under its old fence.
            let fence = state.fence.saturating_sub(behind);
            let command = match command {
                Command::Finish(_, kind) => Command::Finish(fence, kind),
                Command::Release(_, outcome) => Command::Release(fence, outcome),
                other => other,
            };
            if let Some(change) = decide(&state, &command) {
                state = change.next;
            }
            prop_assert!(state.fence >= before.fence);
            if state != before && let Command::Finish(fence, _) = command {
                prop_assert!(finished.insert(fence), "the run {fence} ended twice");
                prop_assert_eq!(fence, before.fence);
            }
        }
    }
}
