//! The function with which other languages add a task, inside any transaction that calls it.
//!
//! It checks the values as an add does, and the stored `max_size` of the queue. It runs with the search path of the store's
//! own schema, so that it can be called from a trigger, from any schema and under any search path.

use std::sync::LazyLock;

use super::sql::shard;
use crate::model::{limits, time};

/// Creates the function, one for each type that a payload may have. A literal without a type counts as text, and only
/// that variant has a default payload, so no call is ambiguous. Existing variants are dropped first, whatever their
/// parameters.
const TEXT: &str = r#"
DO $do$
DECLARE
    old regprocedure;
BEGIN
    FOR old IN
        SELECT p.oid FROM pg_proc p
        WHERE p.proname = 'taskflow_add'
          AND p.pronamespace = (SELECT c.relnamespace FROM pg_class c WHERE c.oid = 'taskflow_tasks'::regclass)
    LOOP
        EXECUTE 'DROP FUNCTION ' || old;
    END LOOP;
END
$do$;

CREATE FUNCTION taskflow_add(
    task_name text,
    task_args text DEFAULT '{}',
    task_queue text DEFAULT 'default',
    task_priority bigint DEFAULT 0,
    task_run_at timestamptz DEFAULT NULL,
    task_max_attempts bigint DEFAULT 1,
    task_expires_at timestamptz DEFAULT NULL,
    task_concurrency_key text DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $add$
DECLARE
    -- A version 7 UUID, whose first 48 bits are the milliseconds since 1970.
    new_id uuid := encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6
    ), 52, 1), 53, 1), 'hex')::uuid;
    -- As text is kept: a symbol for NUL is written twice.
    kept_name text := replace(task_name, '␀', '␀␀');
    kept_queue text := replace(coalesce(task_queue, 'default'), '␀', '␀␀');
    kept_key text := replace(task_concurrency_key, '␀', '␀␀');
    attempts bigint := coalesce(task_max_attempts, 1);
    seen json;
    duplicate text;
    max_size numeric;
    word record;
    moment record;
BEGIN
    FOR word IN
        SELECT * FROM (VALUES
            ('task_name', kept_name, true), ('task_queue', kept_queue, true),
            ('task_concurrency_key', kept_key, false)
        ) AS words (argument, given, is_name)
    LOOP
        IF octet_length(word.given) > {WORD} THEN
            RAISE EXCEPTION '% has % bytes; at most {WORD} are allowed', word.argument, octet_length(word.given)
                USING ERRCODE = 'invalid_parameter_value';
        ELSIF word.is_name AND (word.given IS NULL OR word.given = '' OR word.given ~ '^\s|\s$|[[:cntrl:]]') THEN
            RAISE EXCEPTION '% is %; give a name without control characters, and without blanks around it',
                word.argument, coalesce(quote_literal(word.given), 'null')
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;

    IF octet_length(kept_name || kept_queue || kept_key) > {KEYED_WORDS} THEN
        RAISE EXCEPTION 'task_name, task_queue and task_concurrency_key have % bytes together; at most {KEYED_WORDS} are allowed',
            octet_length(kept_name || kept_queue || kept_key) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF task_priority NOT BETWEEN -32768 AND 32767 THEN
        RAISE EXCEPTION 'task_priority is %; give a number from -32768 to 32767', task_priority
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF attempts NOT BETWEEN 1 AND 4294967295 THEN
        RAISE EXCEPTION 'task_max_attempts is %; give a number from 1 to 4294967295', attempts
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR moment IN
        SELECT * FROM (VALUES ('task_run_at', task_run_at), ('task_expires_at', task_expires_at)) AS times (argument, at)
    LOOP
        IF moment.at NOT BETWEEN to_timestamp({FIRST} / 1000000) AND to_timestamp({LAST} / 1000000) THEN
            RAISE EXCEPTION '% is %; give an instant from {FROM} to {TO}', moment.argument, moment.at
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;

    IF task_args IS NULL THEN
        RAISE EXCEPTION 'task_args is null; give a JSON object of the arguments by name'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF octet_length(task_args) > {PAYLOAD} THEN
        RAISE EXCEPTION 'task_args has % bytes; at most {PAYLOAD} are allowed', octet_length(task_args)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF starts_with(task_args, '{"$tf"') THEN
        RAISE EXCEPTION 'task_args begins with {"$tf", as sealed arguments do; give plain ones'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A NUL in a string is fine for the task, and not for the functions that look into JSON.
    seen := replace(task_args, '\u0000', '\u0001');
    IF json_typeof(seen) <> 'object' THEN
        RAISE EXCEPTION 'task_args is a JSON %; give an object of the arguments by name', json_typeof(seen)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT key INTO duplicate FROM json_object_keys(seen) AS keys (key) GROUP BY key HAVING count(*) > 1 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'task_args names the argument % twice', quote_literal(duplicate)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Few payloads have so many brackets: only those are looked into.
    IF length(task_args) - length(translate(task_args, '[{', '')) > {DEPTH} AND EXISTS (
        WITH RECURSIVE inside (value, depth) AS (
            SELECT seen, 1
            UNION ALL
            SELECT each.value, inside.depth + 1
            FROM inside CROSS JOIN LATERAL (
                SELECT o.value FROM json_each(CASE json_typeof(inside.value) WHEN 'object' THEN inside.value END) o
                UNION ALL
                SELECT a.value FROM json_array_elements(CASE json_typeof(inside.value) WHEN 'array' THEN inside.value END) a
            ) AS each
            WHERE inside.depth <= {DEPTH} AND json_typeof(each.value) IN ('object', 'array')
        )
        SELECT 1 FROM inside WHERE depth > {DEPTH}
    ) THEN
        RAISE EXCEPTION 'task_args nests deeper than {DEPTH} levels'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    -- Whoever adds to a queue with a limit locks its row first.
    SELECT (regexp_match(q.config, '"max_size"\s*:\s*(\d{1,20})\s*[,}]'))[1]::numeric INTO max_size
    FROM taskflow_queues q WHERE q.name = kept_queue;
    IF max_size IS NOT NULL THEN
        PERFORM 1 FROM taskflow_queues q WHERE q.name = kept_queue FOR UPDATE;
        IF (SELECT coalesce(sum(c.waiting_first), 0) FROM taskflow_counts c WHERE c.queue = kept_queue) >= max_size THEN
            RAISE EXCEPTION 'queue % is full: % tasks wait in it', quote_literal(task_queue), max_size
                USING ERRCODE = 'configuration_limit_exceeded', HINT = 'add it again later';
        END IF;
    END IF;

    INSERT INTO taskflow_tasks (id, state, queue, name, args, priority, run_at, scheduled_for, max_attempts, policy,
                                expires_at, concurrency_key)
    VALUES (
        new_id, CASE WHEN task_run_at > now() THEN 1 ELSE 0 END, kept_queue, kept_name, task_args,
        coalesce(task_priority, 0), coalesce(task_run_at, now()), task_run_at, attempts,
        CASE WHEN attempts > 1 THEN '{"retries":' || (attempts - 1) || '}' END, task_expires_at, kept_key
    );
    INSERT INTO taskflow_counts AS c (shard, queue, pending, waiting_first, later)
    VALUES ({SHARD}, kept_queue, 1, 1, CASE WHEN task_run_at > now() THEN 1 ELSE 0 END)
    ON CONFLICT (shard, queue) DO UPDATE SET
        pending = c.pending + 1, waiting_first = c.waiting_first + 1, later = c.later + excluded.later;
    PERFORM pg_notify('taskflow_hints', '');
    RETURN new_id;
END
$add$;

CREATE FUNCTION taskflow_add(
    task_name text,
    task_args jsonb,
    task_queue text DEFAULT 'default',
    task_priority bigint DEFAULT 0,
    task_run_at timestamptz DEFAULT NULL,
    task_max_attempts bigint DEFAULT 1,
    task_expires_at timestamptz DEFAULT NULL,
    task_concurrency_key text DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $add$
BEGIN
    RETURN taskflow_add(task_name, task_args::text, task_queue, task_priority, task_run_at, task_max_attempts,
                        task_expires_at, task_concurrency_key);
END
$add$;

CREATE FUNCTION taskflow_add(
    task_name text,
    task_args json,
    task_queue text DEFAULT 'default',
    task_priority bigint DEFAULT 0,
    task_run_at timestamptz DEFAULT NULL,
    task_max_attempts bigint DEFAULT 1,
    task_expires_at timestamptz DEFAULT NULL,
    task_concurrency_key text DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $add$
BEGIN
    RETURN taskflow_add(task_name, task_args::text, task_queue, task_priority, task_run_at, task_max_attempts,
                        task_expires_at, task_concurrency_key);
END
$add$;

DO $do$
DECLARE
    made record;
BEGIN
    FOR made IN
        SELECT p.oid::regprocedure AS function, c.relnamespace::regnamespace AS home
        FROM pg_proc p JOIN pg_class c ON c.relnamespace = p.pronamespace
        WHERE p.proname = 'taskflow_add' AND c.oid = 'taskflow_tasks'::regclass
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path TO %s, pg_temp', made.function, made.home);
    END LOOP;
END
$do$;
"#;

/// The statements, with the limits of every add filled in.
pub(super) static SQL_ADD: LazyLock<String> = LazyLock::new(|| {
    let (first, last) = (*limits::INSTANTS.start(), *limits::INSTANTS.end());
    TEXT.replace("{SHARD}", shard!())
        .replace("{WORD}", &limits::WORD.to_string())
        .replace("{KEYED_WORDS}", &limits::KEYED_WORDS.to_string())
        .replace("{PAYLOAD}", &limits::PAYLOAD.to_string())
        .replace("{DEPTH}", &limits::DEPTH.to_string())
        .replace("{FIRST}", &first.to_string())
        .replace("{LAST}", &last.to_string())
        .replace("{FROM}", &time::rfc3339(time::from_micros(first)))
        .replace("{TO}", &time::rfc3339(time::from_micros(last)))
});
