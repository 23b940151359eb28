-- name: try_lock
select pg_try_advisory_xact_lock(%(key)s)

-- name: held_by
select id
from procrastinate_jobs
where status = 'doing'
  and worker_id = %(worker_id)s
