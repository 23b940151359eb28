-- name: try_lock
select pg_try_advisory_xact_lock(%(key)s)

-- name: held_by
-- Without those of periodic tasks, because the next one may be waiting already.
select id, args ->> 'job_id' as job_id
from wherry.procrastinate_jobs
where status = 'doing'
  and worker_id = %(worker_id)s
  and queueing_lock is null

-- name: queue_deliveries
-- Of webhook events without a queue row: a worker that does not know of webhooks has taken it.
select id, wherry.procrastinate_defer_jobs_v1(array[
  ('webhook', 'wherry.deliver', -1000000000, null, null, jsonb_build_object('event_id', id), null)
    ::wherry.procrastinate_job_to_defer_v1
])
from wherry.webhook_events
where status = 'pending'
  and next_at < now() - make_interval(secs => %(seconds)s)
  and not exists (
    select
    from wherry.procrastinate_jobs
    where procrastinate_jobs.status in ('todo', 'doing')
      and procrastinate_jobs.args ->> 'event_id' = webhook_events.id
  )

-- name: forget_workers
delete from wherry.workers
where not exists (
  select
  from wherry.procrastinate_workers
  where procrastinate_workers.id = workers.worker_id
)

-- name: count_alive
select count(*)
from wherry.procrastinate_workers
where last_heartbeat > now() - make_interval(secs => %(seconds)s)
