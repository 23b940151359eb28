-- name: copy_errors
copy import_errors (job_id, record_index, record_id, code, name, message, field, value, details)
from stdin (format binary)

-- name: delete_errors
delete from import_errors
where job_id = %(job_id)s

-- name: has_file_error
select 1
from import_errors
where job_id = %(job_id)s
  and record_index = -1

-- name: prepare
-- A generic plan made while the table was small would scan all of it for each batch, so every statement is planned for
-- its own values. The application name lets the worker that takes the job over find this session. One statement sets
-- these and reads the transaction's time and the owner's current role, as each round trip costs about two percent of a
-- batch. The owner's row is not locked: an atomic import would prevent its owner from being demoted until it ends.
select now() as now,
       (select role from users where id = %(owner_id)s and active) as role,
       set_config('plan_cache_mode', 'force_custom_plan', true),
       set_config('application_name', %(name)s, true)

-- name: end_predecessors
-- A worker that was stopped in the middle of a batch holds its rows until its session ends.
select pg_terminate_backend(pid)
from pg_stat_activity
where application_name = %(name)s
  and usename = current_user
  and pid <> pg_backend_pid()

-- name: allow_idle
-- All rows in one transaction: it waits while its source is fetched and read, and for its turn. The name is there from
-- the beginning, so that a worker that takes the job over finds it.
select set_config('idle_in_transaction_session_timeout', '0', true), set_config('application_name', %(name)s, true)

-- name: limit_idle
-- From here on it holds the job's row, which others wait for.
reset idle_in_transaction_session_timeout

-- name: lock_ids
-- Sequences do not roll back, and setval does not look: this keeps two imports from moving one at the same time.
select pg_advisory_xact_lock(hashtext(pg_get_serial_sequence(%(table)s, 'id')))

-- name: reserve_ids
-- The last id that the table's sequence gave, and where it stands afterwards: ahead of the highest id.
select last as before, case when last < %(highest)s then setval(sequence, %(target)s) else last end as after
from cast(pg_get_serial_sequence(%(table)s, 'id') as regclass) as sequence,
  coalesce(pg_sequence_last_value(sequence), 0) as last

-- name: give_ids_back
-- Only by the run that reserved them, if nobody was given an id since and no other import relies on the reservation.
select setval(sequence, greatest(%(used)s, 1), %(used)s > 0)
from cast(pg_get_serial_sequence(%(table)s, 'id') as regclass) as sequence
where pg_sequence_last_value(sequence) = %(reserved)s
  and exists (
    select
    from jobs
    where id = %(job_id)s
      and epoch = %(epoch)s
      and status = 'running'
  )
  and not exists (
    select
    from jobs
    where kind = 'import'
      and resource = %(table)s
      and status = 'running'
      and id <> %(job_id)s
  )

-- name: lock_whole
-- Two imports that each keep all their rows locked until their end would wait for each other for ever.
select pg_advisory_xact_lock(hashtext('wherry whole import'), hashtext(%(table)s))

-- name: errors_page
select record_index, record_id, code, name, message, field, value::text, details::text, created_at, seq
from import_errors
where job_id = %(job_id)s
  and (record_index, seq) > (%(index)s, %(seq)s)
order by record_index, seq
limit %(limit)s
