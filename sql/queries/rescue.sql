-- name: try_lock
select pg_try_advisory_xact_lock(%(key)s)

-- name: held_by
select id
from wherry.procrastinate_jobs
where status = 'doing'
  and worker_id = %(worker_id)s

-- name: count_alive
select count(*)
from wherry.procrastinate_workers
where last_heartbeat > now() - make_interval(secs => %(seconds)s)
