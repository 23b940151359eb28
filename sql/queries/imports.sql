-- name: copy_errors
copy wherry.import_errors (job_id, record_index, record_id, code, name, message, field, value, details)
from stdin (format binary)

-- name: delete_errors
with rejects as (
  delete from wherry.import_rejects
  where job_id = %(job_id)s
)
delete from wherry.import_errors
where job_id = %(job_id)s

-- name: reject
insert into wherry.import_rejects (job_id, indexes)
values (%(job_id)s, %(indexes)s)

-- name: rejects
select unnest(indexes) as index
from wherry.import_rejects
where job_id = %(job_id)s
order by index

-- name: has_file_error
select 1
from wherry.import_errors
where job_id = %(job_id)s
  and record_index = -1

-- name: input_faults
-- Why PostgreSQL cannot read some of these values.
select given.i, found.state, found.message, found.constraint_name
from json_to_recordset(%(rows)s::json) as given (i integer, v json, t text, x text)
cross join lateral wherry.input_fault(given.v, given.t, given.x) as found
where found.state is not null
order by given.i

-- name: delete_rows
delete from wherry.import_rows
where job_id = %(job_id)s

-- name: postpone
insert into wherry.import_postponed (job_id, record_index, byte_offset, data)
values (%(job_id)s, %(index)s, %(offset)s, %(data)s)

-- name: postponed_after
-- The next ones after an index, until their texts reach a size.
select record_index, byte_offset, data
from (
  select record_index, byte_offset, data,
         sum(octet_length(data)) over (order by record_index rows between unbounded preceding and 1 preceding) as before
  from wherry.import_postponed
  where job_id = %(job_id)s
    and record_index > %(place)s
  order by record_index
  limit %(limit)s
) as waiting
where coalesce(before, 0) < %(bytes)s
order by record_index

-- name: postponed_before
-- The same, in the opposite direction.
select record_index, byte_offset, data
from (
  select record_index, byte_offset, data,
         sum(octet_length(data)) over (order by record_index desc rows between unbounded preceding and 1 preceding) as before
  from wherry.import_postponed
  where job_id = %(job_id)s
    and record_index < %(place)s
  order by record_index desc
  limit %(limit)s
) as waiting
where coalesce(before, 0) < %(bytes)s
order by record_index desc

-- name: count_postponed
select count(*) as count
from wherry.import_postponed
where job_id = %(job_id)s

-- name: take_postponed
delete from wherry.import_postponed
where job_id = %(job_id)s
  and record_index = any(%(indexes)s)

-- name: delete_postponed
delete from wherry.import_postponed
where job_id = %(job_id)s

-- name: prepare
-- Looking up thousands of keys must not scan the table. The application name lets a worker that takes over the job find
-- this session. All of this is one statement because each round trip takes about two percent of a batch's time. The
-- owner's row is not locked: otherwise nobody could demote the owner of an atomic import until it ends. The commit does
-- not wait until it is on disk: if the server crashes, a batch is lost together with the checkpoint that says so, and
-- written again. The commit that ends the job waits, for itself and for all that were before it.
select (select role from wherry.users where id = %(owner_id)s and active) as role,
       pg_current_xact_id()::xid::text as transaction,
       set_config('enable_seqscan', 'off', true),
       set_config('synchronous_commit', 'off', true),
       set_config('application_name', %(name)s, true)

-- name: end_predecessors
-- The session of a worker that was suspended in the middle of a batch keeps its row locks until it ends.
select pg_terminate_backend(pid)
from pg_stat_activity
where application_name = %(name)s
  and usename = current_user
  and pid <> pg_backend_pid()

-- name: allow_idle
-- For imports in one transaction, which is idle while the source is fetched and read, and while other imports have
-- their turn. The application name lets a worker that takes over the job find this session.
select set_config('idle_in_transaction_session_timeout', '0', true), set_config('application_name', %(name)s, true)

-- name: limit_idle
-- From here on the transaction locks the job's row, and others may be waiting for that. Not `reset`, because behind a
-- pooler the session has no limit of its own.
select set_config('idle_in_transaction_session_timeout', %(limit)s, true)

-- name: lock_ids
-- setval overwrites whatever value the sequence has by then, so only one import at a time may move it.
select pg_advisory_xact_lock(hashtext(%(sequence)s))

-- name: reserve_ids
-- Unless the sequence is past the highest id, moves it to the target. Returns its value before and after. The lock is that
-- of `lock_ids`, and CASE takes it before the value is read.
select last as before, case when last < %(highest)s then setval(sequence, %(target)s) else last end as after
from cast(%(sequence)s::text as regclass) as sequence
cross join lateral (
  select case
    when pg_advisory_xact_lock(hashtext(%(sequence)s::text)) is not null then coalesce(pg_sequence_last_value(sequence), 0)
  end as last
  offset 0
) as locked

-- name: give_ids_back
-- Only if the run still has its lease, no id was handed out since, and no other import relies on the sequence's value.
select setval(sequence, greatest(%(used)s, 1), %(used)s > 0)
from cast(%(sequence)s as regclass) as sequence
where pg_sequence_last_value(sequence) = %(reserved)s
  and exists (
    select
    from wherry.jobs
    where id = %(job_id)s
      and epoch = %(epoch)s
      and status = 'running'
  )
  and not exists (
    select
    from wherry.jobs
    where kind = 'import'
      and resource = %(resource)s
      and status = 'running'
      and id <> %(job_id)s
  )

-- name: lock_whole
-- Two imports that both keep all of their rows locked until they end could deadlock.
select pg_advisory_xact_lock(hashtext('wherry whole import'), hashtext(%(table)s))

-- name: errors_page
select record_index, record_id, code, name, message, field, value::text, details::text, created_at, seq
from wherry.import_errors
where job_id = %(job_id)s
  and (record_index, seq) > (%(index)s, %(seq)s)
order by record_index, seq
limit %(limit)s
