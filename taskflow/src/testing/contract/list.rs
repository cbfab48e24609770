//! The list of the cases, as a macro, which also makes a test of each case.
//!
//! To add a case, write its function into the module of its room, and its name into the list below. If the name is missing
//! there, the compiler warns about unused code.

use super::case::{Case, Part, Run};

/// Calls a macro with all cases. Its arguments are `[MACRO] FIRST`: `MACRO` gets `FIRST`, and then the cases.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_contract_cases {
    ([$($then:tt)*] $($with:tt)*) => {
        $($then)*! {
            $($with)*
            basic {
                insert: a_task_is_read_back_as_it_was_added;
                insert: a_trace_comes_with_every_claim_and_stays_in_the_record;
                insert: an_insert_that_is_repeated_inserts_once;
                insert: a_repeated_insert_answers_as_the_first_did_while_that_holds;
                insert: text_of_every_kind_comes_back_intact;
                insert: a_task_for_later_says_for_when;
                insert: a_task_leased_at_insert_runs_from_the_start;
                insert: a_lease_at_insert_respects_pauses_and_times;
                insert: a_lease_if_idle_never_overtakes_who_is_due;
                insert: a_duplicate_does_not_keep_its_queue_from_being_idle;
                insert: nobody_claims_a_held_task_until_it_is_released;
                insert: a_hold_can_end_in_a_cancel_with_its_reason;
                insert: a_hold_that_nobody_ends_is_ended_by_its_lease;

                keys: a_key_stands_for_the_task_that_waits_runs_or_succeeded_with_it;
                keys: a_key_is_free_again_when_its_task_ended_badly_or_is_gone;
                keys: a_key_twice_in_one_batch_is_one_task;
                keys: of_64_adds_at_once_with_one_key_one_is_new;
                keys: of_64_adds_at_once_with_one_run_key_one_is_new;
                keys: a_run_key_replaces_what_waits_and_keeps_its_id_and_place;
                keys: a_run_key_is_its_names_own_and_free_after_an_attempt;
                keys: a_task_that_comes_back_finds_its_run_key_taken_and_both_run;
                keys: cancelling_a_run_key_cancels_what_waits_with_it;

                claim: equals_are_claimed_first_come_first_served;
                claim: the_highest_priority_goes_first_over_all_queues;
                claim: tasks_of_many_names_in_many_queues_have_one_order;
                claim: no_more_is_claimed_than_asked_from_a_queue_and_in_all;
                claim: only_known_names_are_claimed;
                claim: a_paused_queue_gives_nothing_until_it_is_resumed;
                claim: a_task_for_later_is_claimed_when_its_time_has_come;
                claim: the_next_due_time_is_that_of_the_names_and_queues_asked_for;
                claim: what_is_not_due_hides_nothing_that_is;
                claim: a_claim_brings_all_that_running_takes;
                claim: a_retry_keeps_its_place_before_the_younger;
                claim: many_who_claim_at_once_never_get_the_same_task;

                finish: a_success_keeps_its_result_and_its_attempt;
                finish: a_retry_waits_its_delay_and_counts;
                finish: a_run_can_end_the_task_in_every_other_way;
                finish: what_is_given_back_is_not_counted;
                finish: finishes_are_answered_in_order_and_each_applies_once;
                finish: a_finish_that_is_repeated_is_known_to_be_applied;
                finish: a_finish_under_a_fence_that_no_run_had_is_no_repetition;
                finish: a_late_finish_after_another_claim_changes_nothing;
                finish: a_run_that_was_asked_to_stop_is_not_tried_again;
                finish: reports_keep_progress_and_lines_while_the_run_lives;
                finish: a_repeated_report_stores_no_line_twice;
                finish: lines_of_many_attempts_stay_in_order;
                finish: a_turn_is_a_finish_and_a_claim;
                finish: a_turn_can_claim_what_it_releases;
                finish: a_hold_is_released_in_the_queue_to_which_it_was_replaced;

                leases: a_lease_is_good_until_it_ends_unless_renewed;
                leases: renewing_tells_what_is_lost_and_what_should_stop;
                leases: a_lost_run_with_attempts_left_is_tried_again_after_its_back_off;
                leases: a_lost_run_that_may_be_repeated_goes_back_uncounted;
                leases: a_lost_run_that_may_not_be_repeated_is_interrupted;
                leases: a_task_that_kills_its_processes_is_poison;
                leases: only_lost_runs_in_a_row_make_poison;
                leases: a_manual_retry_ends_a_row_of_lost_runs;
                leases: a_lost_run_that_was_asked_to_stop_is_cancelled;
                leases: a_lost_run_can_say_nothing_more;
                leases: a_process_that_leaves_loses_what_it_left_at_once;
                leases: recovering_moves_each_run_once_until_none_is_left;

                controls: a_cancel_answers_by_what_it_found;
                controls: a_waiting_retry_can_be_cancelled;
                controls: a_running_task_is_asked_to_stop_through_its_own_process;
                controls: a_manual_retry_reopens_the_same_record;
                controls: a_task_cancelled_while_it_was_not_due_is_retried_at_once;
                controls: a_retry_with_a_delay_is_due_after_it;
                controls: what_cannot_be_retried_says_why;
                controls: of_many_who_retry_at_once_one_reopens_each_task;
                controls: a_retried_task_holds_its_key_again;
                controls: only_what_has_ended_is_deleted;
                controls: pruning_takes_what_ended_long_ago_in_bounded_batches;
                controls: a_status_has_a_retention_of_its_own;
                controls: a_pause_is_seen_and_stays_however_empty_the_queue;
                controls: who_listens_hears_of_work_and_of_controls;

                reads: who_is_not_there_is_none_not_an_error;
                reads: ends_are_read_for_many_tasks_at_once;
                reads: an_outline_is_its_record_without_what_may_be_large;
                reads: a_list_is_newest_first_and_filtered;
                reads: a_list_can_be_bounded_by_when_tasks_were_added;
                reads: pages_are_complete_without_duplicates_while_tasks_come_and_end;
                reads: oldest_first_pages_have_every_task_once;
                reads: numbers_are_true_after_every_kind_of_write;
                reads: queues_are_listed_by_name_with_what_is_in_them;
                reads: processes_are_listed_while_they_are_there;
            }
            full {
                insert: a_full_queue_refuses_a_group_whole_and_no_other;
                insert: max_size_is_exact_when_many_insert_at_once;
                insert: max_size_counts_who_waits_for_a_first_attempt_and_nobody_else;

                claim: a_task_that_waits_for_its_key_changes_no_order;
                claim: a_claim_says_how_long_its_tasks_may_still_begin;

                prefetch: beyond_the_free_slots_a_claim_takes_only_what_may_run_twice;
                prefetch: a_claim_ends_at_the_first_task_that_needs_a_slot;
                prefetch: tasks_of_every_name_and_queue_keep_their_order;
                prefetch: a_queue_that_is_not_prefetched_from_needs_a_slot_for_each_task;
                prefetch: what_may_be_prefetched_is_what_a_lost_run_may_repeat;
                prefetch: limits_and_keys_hold_for_what_is_prefetched;
                prefetch: a_turn_prefetches_as_a_claim_does;

                limits: no_more_run_over_all_processes_than_a_queue_allows;
                limits: a_shared_limit_is_exact_when_many_claim_at_once;
                limits: no_more_start_in_a_stretch_of_time_than_a_queue_allows;
                limits: a_rate_limit_is_exact_when_many_claim_at_once;
                limits: a_rate_limit_whose_length_grows_goes_on;
                limits: what_a_full_queue_refuses_is_counted_and_kept_if_asked_for;
                limits: snoozes_are_counted_until_a_manual_retry;
                limits: a_search_for_what_is_not_there_comes_to_an_end;
                limits: a_hold_is_not_claimed_under_any_limit;

                key_limits: no_more_of_one_key_run_than_a_queue_allows;
                key_limits: a_key_is_free_again_after_a_task_whose_hold_was_lost;
                key_limits: a_turn_releases_tasks_that_have_a_key_or_expire;
                key_limits: every_key_gets_on_while_processes_disagree_about_its_limit;
                key_limits: a_key_is_never_stuck_whatever_becomes_of_its_tasks;
                key_limits: a_crowd_of_one_key_costs_others_nothing;
                key_limits: key_limits_are_exact_when_many_claim_and_finish_at_once;

                queue_infos: a_queues_stored_configuration_is_read_back_until_it_is_reset;
                queue_infos: a_configuration_is_replaced_only_if_it_is_the_expected_one;
                queue_infos: queues_tell_what_waits_for_how_long_and_what_ended_lately;

                controls: arguments_are_replaced_if_they_still_are_what_was_read;

                expiry: a_task_that_has_expired_is_never_started;
                expiry: a_manual_retry_forgets_an_expiry_that_has_passed;
                expiry: a_replacement_brings_its_expiry_and_its_key;

                schedules: a_tick_is_dealt_with_once_and_no_earlier_one_after_it;
                schedules: a_tick_can_pass_and_a_refused_one_has_passed;
                schedules: of_32_that_fire_one_tick_at_once_one_does;
                schedules: a_tick_far_ahead_of_the_stores_clock_waits_and_is_not_believed;
                schedules: a_schedule_tells_what_became_of_its_last_tick;
                schedules: ticks_of_a_paused_schedule_pass;
                schedules: a_defined_schedule_is_kept_replaced_and_removed;
                schedules: a_tick_for_a_start_is_dealt_with_if_none_came_between;
                schedules: of_two_declarations_the_younger_process_decides;
                schedules: a_changed_declaration_has_no_earlier_ticks;
                schedules: a_declaration_comes_before_a_definition_while_it_lasts;
                schedules: ticks_that_are_left_out_are_counted_once;
                schedules: what_changed_is_told_once_and_in_order;
                schedules: many_changes_come_in_portions_and_none_is_lost_while_more_come;
                schedules: processes_tell_which_schedules_tick_in_them_and_since_when;

                documents: a_document_is_read_back_as_it_was_written;
                documents: documents_come_in_the_order_of_their_keys;
                documents: an_answer_has_a_limit_and_goes_on_from_its_last_key;
                documents: a_write_that_expects_another_version_writes_nothing;
                documents: each_write_of_a_call_sees_the_one_before_it;
                documents: an_expired_document_is_none;
                documents: expired_documents_are_pruned_in_bounded_batches;
                documents: of_many_that_expect_one_version_one_writes;
                documents: versions_of_writes_at_once_are_each_given_once;
                documents: a_write_beyond_a_limit_is_refused_whole;

                handles: what_one_handle_adds_another_runs;
                handles: what_was_stored_outlasts_its_handle;
                handles: of_many_handles_that_claim_at_once_each_task_goes_to_one;
            }
            histories {
                random: any_history_goes_as_the_model_says;
                documents: any_history_of_documents_goes_as_a_map_says;
            }
        }
    };
}

macro_rules! list {
    (
        basic { $($basic_room:ident: $basic:ident;)* }
        full { $($full_room:ident: $full:ident;)* }
        histories { $($room:ident: $histories:ident;)* }
    ) => {
        pub(super) const CASES: &[Case] = &[
            $(list!(on_store Basic $basic_room $basic),)*
            $(list!(on_store Full $full_room $full),)*
            $(
                Case {
                    room: stringify!($room),
                    name: stringify!($histories),
                    part: Part::Full,
                    run: Run::OnStores(super::$room::$histories),
                },
            )*
        ];
    };
    (on_store $part:ident $room:ident $name:ident) => {
        Case {
            room: stringify!($room),
            name: stringify!($name),
            part: Part::$part,
            run: Run::OnStore(|lab| Box::pin(super::$room::$name(lab))),
        }
    };
}

__store_contract_cases! { [list] }
