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

-- name: now
select now()

-- name: prepare
-- Lookups by thousands of keys: a plan that was made while the table was small would read all of it. The name tells
-- whose transaction this is to the worker that takes the job over.
select set_config('enable_seqscan', 'off', true), set_config('application_name', %(name)s, true)

-- name: end_predecessors
-- A worker that was stopped in the middle of a batch holds its rows until its session ends.
select pg_terminate_backend(pid)
from pg_stat_activity
where application_name = %(name)s
  and usename = current_user
  and pid <> pg_backend_pid()

-- name: may_rest
-- All rows in one transaction: it waits while its source is fetched and read.
set local idle_in_transaction_session_timeout = 0

-- name: may_not_rest
-- From here on it holds the job's row, which others wait for.
reset idle_in_transaction_session_timeout

-- name: errors
select record_index, record_id, code, name, message, field, value::text, details::text, created_at, seq
from import_errors
where job_id = %(job_id)s
order by record_index, seq

-- name: errors_page
select record_index, record_id, code, name, message, field, value::text, details::text, created_at, seq
from import_errors
where job_id = %(job_id)s
  and (record_index, seq) > (%(index)s, %(seq)s)
order by record_index, seq
limit %(limit)s
