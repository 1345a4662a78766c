//! Every case of hostile input that has a number: the tests that automate it, or the features that it waits for.

use std::{collections::HashSet, fs};

use crate::harness::repository;

/// A case by its number.
struct Case {
    id: &'static str,
    /// What is done, in short.
    what: &'static str,
    /// Tests as `file::name`, files from `tests/`; those of the host's modules begin with `host::`.
    tests: &'static [&'static str],
    /// Features without which the case, or the rest of it, cannot happen.
    waits_for: &'static [&'static str],
}

/// Numbers that there are in each group.
const NUMBERS: [(&str, &[u32]); 9] = [
    ("S", &[1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22, 23, 25]),
    ("U", &[1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 18, 19]),
    ("A", &[1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20]),
    ("R", &[2, 3, 5, 6, 8, 9, 11, 12]),
    ("D", &[1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17]),
    ("C", &[2, 3, 5, 6, 8, 9, 11, 12, 14, 15]),
    ("K", &[2, 3, 5, 6, 8, 9, 11, 12, 14, 15]),
    ("N", &[2, 3, 5, 6, 8, 9, 11, 12, 14, 15]),
    ("L", &[2, 3, 5, 6, 8]),
];

/// Parts of the platform that are not there yet, or whose tests are not.
const FEATURES: [&str; 6] = ["fetch", "cache", "backup", "password resets", "increments in functions", "this suite"];

const fn case(
    id: &'static str,
    what: &'static str,
    tests: &'static [&'static str],
    waits_for: &'static [&'static str],
) -> Case {
    Case { id, what, tests, waits_for }
}

const CASES: &[Case] = &[
    case(
        "S-01",
        "loops without end",
        &[
            "limits::a_loop_without_end_is_stopped",
            "abuse::sandbox::loops_end_half_a_second_after_the_wall_at_the_latest",
            "abuse::sandbox::every_hostile_function_ends_as_it_should_called_by_a_user",
            "abuse::sandbox::every_hostile_function_ends_as_it_should_called_by_root",
            "abuse::sandbox::every_hostile_function_ends_as_it_should_started_by_a_message",
            "abuse::sandbox::every_hostile_function_ends_as_it_should_started_by_a_document",
            "abuse::sandbox::every_hostile_function_ends_as_it_should_started_by_a_topic",
        ],
        &[],
    ),
    case(
        "S-02",
        "sixteen loops at once",
        &["abuse::sandbox::sixteen_loops_of_one_tenant_are_not_noticed_by_another"],
        &[],
    ),
    case(
        "S-04",
        "memory is asked for again and again",
        &[
            "abuse::sandbox::trying_again_for_memory_is_stopped_and_does_not_fill_the_server_s_log",
            "hostile_components::hostile_runs_end_with_a_named_outcome",
        ],
        &[],
    ),
    case(
        "S-05",
        "memory is eaten",
        &[
            "abuse::sandbox::memory_is_bounded_while_it_is_eaten_and_given_back_in_five_seconds",
            "javascript::memory_that_runs_out_can_be_caught",
            "javascript::memory_that_runs_out_uncaught_is_the_outcome_memory",
            "limits::after_hostile_runs_the_memory_is_given_back",
        ],
        &[],
    ),
    case(
        "S-07",
        "recursion and nesting",
        &[
            "javascript::endless_recursion_is_the_outcome_stack",
            "javascript::what_nests_too_deeply_ends_with_a_named_outcome",
            "abuse::sandbox::every_hostile_function_ends_as_it_should_called_by_a_user",
        ],
        &[],
    ),
    case("S-08", "a promise never settles", &["abuse::sandbox::promises_that_nobody_settles_take_no_slot"], &[]),
    case(
        "S-10",
        "a way out of the sandbox is looked for",
        &["abuse::sandbox::nothing_outside_the_sandbox_is_reached"],
        &[],
    ),
    case(
        "S-11",
        "the environment has secrets",
        &["abuse::sandbox::secrets_of_the_server_are_in_no_answer_history_or_log"],
        &[],
    ),
    case(
        "S-13",
        "a run leaves marks",
        &["abuse::sandbox::no_run_leaves_marks_for_another", "javascript::what_one_run_breaks_the_next_finds_whole"],
        &[],
    ),
    case(
        "S-14",
        "chance and time in a snapshot",
        &["abuse::sandbox::chance_and_time_are_those_of_the_run_also_after_a_restart"],
        &[],
    ),
    case(
        "S-16",
        "log lines are forged",
        &["abuse::sandbox::log_entries_stay_what_they_are", "log::a_log_cannot_forge_lines"],
        &[],
    ),
    case(
        "S-17",
        "strange things are thrown and returned",
        &[
            "abuse::sandbox::every_hostile_function_ends_as_it_should_called_by_a_user",
            "javascript::anything_can_be_thrown",
            "javascript::strange_results_are_answered_or_refused_but_break_nothing",
        ],
        &[],
    ),
    case(
        "S-19",
        "a component floods the log and returns nonsense",
        &["hostile_components::hostile_runs_end_with_a_named_outcome"],
        &[],
    ),
    case("S-20", "a component floods resources", &["hostile_components::a_flood_of_resources_ends_at_once"], &[]),
    case("S-22", "a host call hangs", &[], &["fetch"]),
    case("S-23", "callers leave", &["abuse::sandbox::callers_who_leave_take_no_slot_and_no_run_is_lost"], &[]),
    case(
        "S-25",
        "a component loops outside of `handle`",
        &["hostile_components::hostile_runs_end_with_a_named_outcome"],
        &[],
    ),
    case(
        "U-01",
        "an upload is no component",
        &[
            "hostile_components::what_is_no_component_is_refused",
            "hostile_components::a_component_of_more_than_ten_mebibytes_is_refused",
            "hostile_components::damaged_components_are_refused_or_run",
            "hostile_components::bombs_for_the_compiler_are_refused_unread",
            "hostile_components::bombs_of_types_and_instances_are_refused",
        ],
        &[],
    ),
    case(
        "U-03",
        "a component is of another world",
        &["hostile_components::a_component_of_another_world_is_refused_with_both_types"],
        &[],
    ),
    case(
        "U-04",
        "a component imports what is not there",
        &[
            "hostile_components::an_import_that_is_not_there_is_named",
            "hostile_components::the_engine_cannot_be_imported",
        ],
        &[],
    ),
    case(
        "U-06",
        "components are bombs for the compiler",
        &[
            "hostile_components::compiling_ends_when_its_time_is_up",
            "hostile_components::compiling_ends_when_its_processor_time_or_memory_is_used_up",
            "hostile_components::compiling_ends_when_the_caller_goes_away",
            "compiling::bombs_of_one_tenant_do_not_hold_up_another",
        ],
        &[],
    ),
    case("U-07", "an upload is native code", &["hostile_components::native_code_is_never_loaded"], &[]),
    case("U-09", "an upload comes byte by byte", &["edge::slow_clients::bodies_that_drip_are_answered_with_408"], &[]),
    case(
        "U-10",
        "an upload is compressed",
        &["edge::bodies::compressed_bodies_are_refused_with_415", "upload::a_compressed_upload_is_not_unpacked"],
        &[],
    ),
    case(
        "U-12",
        "a top level calls the platform",
        &[
            "abuse::uploads::a_top_level_changes_nothing_whatever_it_calls",
            "upload::the_top_level_cannot_use_the_platform",
        ],
        &[],
    ),
    case(
        "U-13",
        "a top level or a source is large",
        &[
            "abuse::uploads::what_an_upload_leaves_on_disk_is_bounded",
            "upload::what_the_top_level_leaves_in_memory_is_bounded",
            "upload::a_top_level_that_takes_all_memory_is_stopped",
            "upload::source_of_a_mebibyte_is_accepted_and_no_more",
        ],
        &[],
    ),
    case(
        "U-15",
        "a function is replaced while it is called",
        &[
            "abuse::uploads::fifty_callers_during_fifty_updates_get_whole_versions",
            "functions::each_answer_during_updates_is_wholly_of_one_version",
        ],
        &[],
    ),
    case(
        "U-16",
        "a function is deleted while it runs",
        &[
            "abuse::uploads::a_deleted_function_ends_its_runs_and_starts_none_of_those_that_wait",
            "functions::a_function_that_is_deleted_while_it_runs_ends_normally",
            "tasks::a_function_that_fails_or_is_gone_is_in_the_history",
        ],
        &[],
    ),
    case(
        "U-18",
        "native code on disk is changed",
        &[
            "restart::damaged_native_code_is_noticed_and_made_again",
            "components::native_code_that_was_changed_is_compiled_again",
        ],
        &[],
    ),
    case(
        "U-19",
        "thousands of versions and functions",
        &[
            "compiling::old_versions_are_forgotten_with_their_files",
            "compiling::the_number_of_functions_is_limited",
            "host::store::tests::functions::a_list_leaves_out_long_sources",
        ],
        &[],
    ),
    case(
        "A-01",
        "sessions are forged",
        &[
            "accounts::forged_sessions_are_refused_with_one_text",
            "host::credentials::session::only_one_algorithm_is_taken",
        ],
        &[],
    ),
    case(
        "A-02",
        "claims are missing or of another type",
        &["host::credentials::session::claims_are_all_there_and_of_their_type"],
        &[],
    ),
    case(
        "A-04",
        "a token is used with another tenant",
        &[
            "abuse::tenancy::tokens_of_one_tenant_are_worth_as_little_in_another_as_unknown_ones",
            "abuse::tenancy::a_session_of_another_tenant_does_not_sign_a_connection_in",
            "abuse::routes::every_route_of_the_server_is_swept",
        ],
        &[],
    ),
    case(
        "A-05",
        "ids of another tenant are used",
        &[
            "abuse::tenancy::names_of_another_tenant_are_names_of_nothing",
            "abuse::tenancy::a_function_finds_nothing_of_another_tenant",
            "abuse::routes::every_route_of_the_server_is_swept",
        ],
        &[],
    ),
    case(
        "A-07",
        "rights are asked for",
        &[
            "abuse::tenancy::users_cannot_give_themselves_rights_by_any_update",
            "accounts::nobody_gets_rights_by_asking_for_them",
        ],
        &[],
    ),
    case(
        "A-08",
        "passwords are guessed",
        &[
            "edge::attempts::guessing_is_refused_by_account_and_by_address",
            "edge::attempts::behind_a_trusted_proxy_callers_are_told_apart",
            "accounts::guessing_passwords_is_slowed_down",
        ],
        &[],
    ),
    case(
        "A-10",
        "passwords of any length",
        &[
            "edge::attempts::passwords_of_any_length_are_answered",
            "accounts::passwords_have_six_to_128_characters",
            "accounts::long_passwords_are_never_cut",
        ],
        &[],
    ),
    case("A-11", "two hundred sign in at once", &["edge::attempts::two_hundred_sign_in_at_once"], &[]),
    case("A-13", "a reset is used twice", &[], &["password resets"]),
    case(
        "A-14",
        "one address registers at once",
        &[
            "edge::attempts::spellings_of_an_address_register_once",
            "accounts::of_registrations_at_once_exactly_one_works",
        ],
        &[],
    ),
    case(
        "A-16",
        "a function runs as its caller",
        &[
            "abuse::tenancy::a_function_has_the_rights_of_whoever_caused_it_by_every_trigger",
            "functions::a_function_runs_with_the_rights_of_its_caller",
            "tasks::a_job_runs_once_at_its_time_as_whoever_scheduled_it",
        ],
        &[],
    ),
    case("A-17", "keys of the platform in the cache", &[], &["cache"]),
    case(
        "A-19",
        "two tokens, tokens in addresses and logs",
        &[
            "abuse::tenancy::two_tokens_or_one_in_the_address_are_none",
            "accounts::tokens_and_passwords_stay_out_of_the_server_log",
        ],
        &[],
    ),
    case(
        "A-20",
        "the secret is missing or a default",
        &[
            "abuse::tenancy::a_server_does_not_start_with_a_secret_that_everybody_could_have",
            "host::credentials::master_key::the_environment_wins_but_is_held_to_the_same_rules",
        ],
        &[],
    ),
    case(
        "R-02",
        "frames break the rules",
        &[
            "edge::websockets::monstrous_messages_are_closed_with_1009_and_take_no_memory",
            "realtime_websocket::frames_that_break_the_rules_end_the_connection",
        ],
        &[],
    ),
    case(
        "R-03",
        "a socket joins all channels",
        &[
            "edge::websockets::joining_without_end_is_slowed_down",
            "edge::websockets::coming_and_going_leaves_nothing",
            "realtime::a_connection_joins_at_most_a_hundred_channels",
        ],
        &[],
    ),
    case("R-05", "a peer vanishes", &["abuse::realtime::a_client_that_is_silent_is_gone_within_a_minute"], &[]),
    case(
        "R-06",
        "messages are nonsense",
        &[
            "edge::websockets::a_flood_of_pings_is_closed",
            "realtime_websocket::nonsense_is_answered_with_an_error_or_the_end",
        ],
        &[],
    ),
    case(
        "R-08",
        "a session ends while connected",
        &[
            "abuse::realtime::within_a_minute_of_the_end_of_a_session_nothing_more_is_heard",
            "realtime::a_user_who_is_removed_is_disconnected",
            "host::trigger::realtime::a_connection_ends_with_its_session_and_without_auth_after_a_minute",
        ],
        &[],
    ),
    case(
        "R-09",
        "a message forges its sender",
        &[
            "abuse::realtime::what_a_message_says_of_its_sender_counts_for_nothing",
            "realtime::nobody_can_speak_as_the_platform",
            "realtime_sse::who_one_is_does_not_come_from_the_message",
        ],
        &[],
    ),
    case(
        "R-11",
        "ten thousand messages in order",
        &[
            "abuse::realtime::ten_thousand_messages_come_in_order_and_once_and_a_gap_shows",
            "realtime::messages_keep_their_order_and_come_once",
        ],
        &[],
    ),
    case(
        "R-12",
        "a function floods one channel",
        &["abuse::realtime::a_function_that_floods_one_channel_is_not_noticed_in_another"],
        &[],
    ),
    case(
        "D-01",
        "names mean something to the database",
        &[
            "abuse::database::no_name_is_part_of_a_command_to_the_database",
            "documents::a_field_is_never_part_of_a_command_to_the_database",
        ],
        &[],
    ),
    case(
        "D-02",
        "documents are strange",
        &["abuse::database::strange_documents_are_kept_as_they_are_or_refused", "documents::any_json_object_survives"],
        &[],
    ),
    case("D-04", "poisoned rows", &["abuse::database::nothing_that_can_be_stored_breaks_a_query"], &[]),
    case(
        "D-05",
        "documents are large",
        &[
            "abuse::database::a_document_is_a_mebibyte_and_not_a_byte_more",
            "documents::a_document_has_at_most_one_mebibyte",
        ],
        &[],
    ),
    case(
        "D-07",
        "fifty writers",
        &[
            "abuse::database::fifty_writers_never_lock_each_other_out",
            "documents::writers_at_once_do_not_lock_each_other_out",
        ],
        &[],
    ),
    case(
        "D-08",
        "a thousand increments",
        &["abuse::database::of_a_thousand_increments_none_is_lost", "documents::of_increments_at_once_none_is_lost"],
        &["increments in functions"],
    ),
    case(
        "D-10",
        "reading holds up the log of the database",
        &["abuse::database::reading_page_after_page_does_not_make_the_log_of_the_database_grow"],
        &[],
    ),
    case("D-11", "pages that make no sense", &["documents::pages_that_make_no_sense_are_the_first_or_refused"], &[]),
    case(
        "D-13",
        "the database goes away",
        &[
            "abuse::postgres::while_the_database_is_away_requests_are_told_so_at_once_and_nothing_else_ends",
            "crash::nothing_is_lost_on_postgres",
        ],
        &[],
    ),
    case(
        "D-14",
        "the database has no connection left",
        &["abuse::postgres::when_others_have_all_connections_requests_are_told_so"],
        &[],
    ),
    case(
        "D-16",
        "a migration is interrupted",
        &[
            "abuse::database::a_start_that_is_killed_leaves_nothing_that_hinders_the_next",
            "abuse::database::an_older_server_refuses_a_newer_database",
            "abuse::postgres::a_migration_that_is_killed_hinders_nobody_and_a_newer_database_is_refused",
        ],
        &[],
    ),
    case(
        "D-17",
        "two servers on one database",
        &["abuse::database::one_database_under_two_names_has_one_server", "restart::two_servers_do_not_share_a_folder"],
        &[],
    ),
    case("C-02", "a loop is killed", &["abuse::chains::a_loop_that_is_killed_goes_no_deeper_after_the_restart"], &[]),
    case(
        "C-03",
        "one change starts five hundred functions",
        &["abuse::chains::one_change_starts_five_hundred_functions_and_nobody_waits_for_them"],
        &[],
    ),
    case(
        "C-05",
        "a restart at the tick",
        &[
            "tasks::a_restart_at_the_tick_neither_loses_nor_repeats_it",
            "tasks::what_was_missed_is_noted_and_made_up_for_once_when_asked",
        ],
        &[],
    ),
    case("C-06", "a task is longer than its interval", &["tasks::a_task_that_takes_long_does_not_overlap_itself"], &[]),
    case(
        "C-08",
        "schedules that never come",
        &[
            "host::schedule::what_cannot_be_used_is_refused_at_once_with_a_sentence_that_shows_it",
            "tasks::a_task_that_cannot_work_is_refused_with_a_sentence",
        ],
        &[],
    ),
    case(
        "C-09",
        "the clock is changed",
        &[
            "host::schedule::a_night_that_has_an_hour_twice_repeats_only_what_comes_every_hour",
            "tasks::a_clock_that_is_set_makes_neither_a_storm_nor_a_stop",
        ],
        &[],
    ),
    case(
        "C-11",
        "two servers have one schedule",
        &[
            "abuse::postgres::of_two_servers_one_does_each_tick_and_the_other_takes_over",
            "crash::nothing_is_lost_on_three_nodes",
            "nodes::a_tick_is_done_once_whichever_node_has_the_task",
        ],
        &[],
    ),
    case(
        "C-12",
        "a run is killed",
        &[
            "abuse::postgres::a_run_for_an_event_that_is_killed_is_in_the_history_and_runs_again_on_postgres",
            "abuse::postgres::a_run_for_an_event_that_is_killed_is_in_the_history_and_runs_again_on_sqlite",
            "crash::nothing_is_lost_on_sqlite",
            "outbox::events_of_acknowledged_changes_run_after_a_kill",
            "tasks::what_a_crash_interrupts_is_marked_and_jobs_run_again",
        ],
        &[],
    ),
    case(
        "C-14",
        "a function that waits for events always throws",
        &["outbox::what_never_succeeds_is_a_dead_letter_that_can_be_sent_again"],
        &[],
    ),
    case(
        "C-15",
        "a task has a large body or a forbidden target",
        &[
            "host::outgoing::sizes_and_time_are_bounded",
            "tasks::a_task_that_cannot_work_is_refused_with_a_sentence",
            "tasks::an_http_task_does_not_reach_the_servers_own_network",
        ],
        &[],
    ),
    case("K-02", "what is stored is synced", &["abuse::crash::what_is_answered_as_stored_has_been_synced"], &[]),
    case(
        "K-03",
        "the server ends with runs in flight",
        &[
            "abuse::crash::fifty_runs_in_flight_are_answered_before_the_end_and_each_is_in_the_history",
            "restart::the_end_waits_for_runs_in_flight",
        ],
        &[],
    ),
    case(
        "K-05",
        "the history after the end",
        &[
            "abuse::crash::fifty_runs_in_flight_are_answered_before_the_end_and_each_is_in_the_history",
            "restart::the_end_waits_for_runs_in_flight",
        ],
        &[],
    ),
    case("K-06", "the disk is full", &["abuse::crash::a_full_disk_refuses_writes_and_nothing_else"], &[]),
    case(
        "K-08",
        "the output is closed",
        &["edge::survival::a_server_whose_output_is_gone_serves_on", "restart::a_closed_output_does_not_end_a_server"],
        &[],
    ),
    case(
        "K-09",
        "no descriptor is left",
        &[
            "edge::survival::a_server_without_files_waits_and_recovers",
            "edge::survival::few_open_files_are_enough_for_some_connections",
        ],
        &[],
    ),
    case(
        "K-11",
        "a request panics",
        &[
            "host::api::a_handler_that_panics_is_answered_and_its_words_are_not_sent",
            "host::store::sqlite::writer::a_change_that_panics_is_undone_and_others_are_made",
            "host::runtime::guests::a_task_that_panics_ends_alone",
        ],
        &[],
    ),
    case(
        "K-12",
        "the database is damaged",
        &[
            "abuse::crash::a_database_that_is_cut_or_overwritten_is_refused_and_left_alone",
            "restart::a_damaged_database_is_refused_and_left_as_it_is",
        ],
        &[],
    ),
    case("K-14", "a backup while writing", &[], &["backup"]),
    case(
        "K-15",
        "settings are wrong",
        &[
            "abuse::crash::a_start_that_cannot_be_ends_at_once_and_says_which_setting",
            "restart::a_mistake_in_the_settings_is_named_and_nothing_is_started",
            "restart::a_port_in_use_is_named_at_once",
        ],
        &[],
    ),
    case(
        "N-02",
        "names that resolve to loopback",
        &["host::outgoing::a_name_that_stands_for_loopback_is_refused_when_it_is_dialled"],
        &["fetch"],
    ),
    case("N-03", "redirects to loopback", &["host::outgoing::each_redirect_is_looked_at"], &["fetch"]),
    case(
        "N-05",
        "requests with line breaks",
        &["host::outgoing::a_request_that_is_none_is_refused_before_anything_is_dialled"],
        &["fetch"],
    ),
    case("N-06", "a function fetches itself", &[], &["fetch"]),
    case(
        "N-08",
        "floods of mail",
        &["edge::mails::no_way_around_the_limit_of_an_address", "mail::nobodys_mailbox_can_be_flooded"],
        &[],
    ),
    case(
        "N-09",
        "a mail server misbehaves",
        &[
            "abuse::network::a_mail_server_that_misbehaves_holds_up_nobody",
            "mail::a_mail_server_that_is_away_does_not_hold_up_a_run",
        ],
        &[],
    ),
    case(
        "N-11",
        "requests contradict themselves",
        &[
            "edge::heads::contradictions_are_refused_and_end_the_connection",
            "edge::heads::broken_chunks_are_refused_and_end_the_connection",
        ],
        &[],
    ),
    case(
        "N-12",
        "long heads and paths",
        &["edge::heads::large_heads_are_refused", "edge::heads::paths_mean_what_they_say"],
        &[],
    ),
    case(
        "N-14",
        "bodies are hostile JSON",
        &[
            "edge::bodies::hostile_json_is_refused_everywhere",
            "edge::bodies::other_types_are_refused_with_415",
            "http_answers::a_body_may_be_absurd_json",
        ],
        &[],
    ),
    case(
        "N-15",
        "stored markup on pages",
        &[
            "abuse::network::markup_that_is_stored_is_text_on_every_page",
            "abuse::network::what_a_function_answers_is_no_page_of_the_platform",
            "accounts::what_a_visitor_types_is_not_run_on_the_page",
        ],
        &[],
    ),
    case(
        "L-02",
        "ten times the capacity",
        &[
            "abuse::load::ten_times_what_can_be_done_is_answered_or_turned_away",
            "limits::more_runs_than_slots_wait_or_are_turned_away",
        ],
        &[],
    ),
    case(
        "L-03",
        "ten times the quota",
        &[
            "abuse::load::only_who_is_over_the_quota_is_refused",
            "quotas::one_tenant_s_flood_does_not_hold_up_another_s_calls",
        ],
        &[],
    ),
    case(
        "L-05",
        "a thousand tenants",
        &["abuse::load::hundreds_of_functions_of_many_tenants_take_bounded_memory"],
        &[],
    ),
    case("L-06", "fifty first calls", &["abuse::load::first_calls_at_once_compile_once"], &[]),
    case(
        "L-08",
        "five thousand sockets",
        &["abuse::load::five_thousand_idle_sockets_cost_little_and_hold_up_nobody"],
        &[],
    ),
];

#[test]
fn every_case_is_automated_or_names_what_it_waits_for() {
    let ids: Vec<String> = NUMBERS
        .iter()
        .flat_map(|(group, numbers)| numbers.iter().map(move |number| format!("{group}-{number:02}")))
        .collect();

    assert_eq!(CASES.iter().map(|case| case.id).collect::<Vec<_>>(), ids);
    for Case { id, what, tests, waits_for } in CASES {
        assert!(!what.is_empty(), "{id} says what is done");
        assert!(!tests.is_empty() || !waits_for.is_empty(), "{id} is neither automated nor waits for anything");
        for feature in *waits_for {
            assert!(FEATURES.contains(feature), "{id} waits for {feature}, of which nobody knows");
        }
    }
}

#[test]
fn the_tests_that_are_named_exist() {
    let mut missing = Vec::new();
    for Case { id, tests, .. } in CASES {
        assert_eq!(tests.iter().collect::<HashSet<_>>().len(), tests.len(), "{id} names a test twice");
        missing.extend(tests.iter().filter(|test| !exists(test)).map(|test| format!("{id}: {test}")));
    }

    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_test_that_does_not_exist_is_noticed() {
    assert!(exists("abuse::cases::a_test_that_does_not_exist_is_noticed"));
    // Functions that are no tests, and names that are only part of one.
    for wrong in ["abuse::cases::exists", "abuse::cases::a_test_that_does_not", "nothing::at_all", "nothing"] {
        assert!(!exists(wrong), "{wrong}");
    }
}

/// Whether a test of that name is in that file.
fn exists(test: &str) -> bool {
    let Some((module, name)) = test.rsplit_once("::") else { return false };
    let path = module.replace("::", "/");
    let candidates = match path.strip_prefix("host/") {
        Some(path) => {
            [format!("host/src/{path}.rs"), format!("host/src/{path}/mod.rs"), format!("host/src/{path}/tests.rs")]
        }
        None => [format!("tests/{path}.rs"), format!("tests/{path}/mod.rs"), format!("tests/{path}/tests.rs")],
    };
    let sources = candidates.iter().filter_map(|path| fs::read_to_string(repository(path)).ok());
    sources.into_iter().any(|source| has_test(&source, name))
}

/// Whether a function has the attribute of a test, or stands in a block that gives it one.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let is_it = |line: &str| {
        let declared = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        declared.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
    };
    let Some(at) = lines.iter().position(|line| is_it(line)) else { return false };
    let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
    let is_marked = attributes.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
    is_marked || lines[..at].iter().any(|line| line.starts_with("on_every_"))
}
