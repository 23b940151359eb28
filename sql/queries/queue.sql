-- name: fetch
-- What procrastinate's function does, except that it skips paused kinds, owners who have had their share, and tasks of
-- newer versions, and that it ignores procrastinate's locks, which wherry does not use. `limit 1` in the join, and a result instead of a condition,
-- keep the planner from reading all jobs or all rows first, because it believes that hardly any owner is not full.
with candidate as (
  select waiting.id, job.owner_id
  from wherry.procrastinate_jobs as waiting
  left join lateral (
    select owner_id,
           owner_id = any(
             case when waiting.queue_name = 'webhook' then %(full_receivers)s::integer[] else %(full_owners)s end
           ) as is_full
    from wherry.jobs
    where id = coalesce(
      (waiting.args ->> 'job_id')::uuid,
      (select job_id from wherry.webhook_events where webhook_events.id = waiting.args ->> 'event_id')
    )
    limit 1
  ) as job on true
  where waiting.status = 'todo'
    and (waiting.scheduled_at is null or waiting.scheduled_at <= now())
    and waiting.queue_name = any(%(queues)s::varchar[])
    and waiting.task_name = any(%(tasks)s::varchar[])
    and not exists (select from wherry.queue_pauses where kind = waiting.queue_name)
    and job.is_full is not true
  order by waiting.priority desc, waiting.id
  limit 1
  for update of waiting skip locked
)
update wherry.procrastinate_jobs as taken
set status = 'doing',
    worker_id = %(worker_id)s
from candidate
where taken.id = candidate.id
returning taken.*, candidate.owner_id

-- name: finish_held
-- `attempts` is what it was when this run fetched the row; if it has risen since, another run has the row.
with held as materialized (
  select id
  from wherry.procrastinate_jobs
  where id = %(id)s
    and attempts = %(attempts)s
    and status = 'doing'
  for update
)
select wherry.procrastinate_finish_job_v1(id, %(status)s, %(delete_job)s)
from held

-- name: retry_held
with held as materialized (
  select id
  from wherry.procrastinate_jobs
  where id = %(id)s
    and attempts = %(attempts)s
    and status = 'doing'
  for update
)
select wherry.procrastinate_retry_job_v2(id, %(retry_at)s, %(priority)s, %(queue)s, %(lock)s)
from held

-- name: unqueued
-- Unfinished jobs without a queue row.
select id
from wherry.jobs
where status in ('queued', 'running')
  and not exists (
    select
    from wherry.procrastinate_jobs
    where procrastinate_jobs.status in ('todo', 'doing')
      and procrastinate_jobs.args ->> 'job_id' = jobs.id::text
  )
for update skip locked

-- name: pause
insert into wherry.queue_pauses (kind, paused_by)
values (%(kind)s, %(by)s)
on conflict do nothing

-- name: resume
-- The notification is procrastinate's; 0 is no job's id, and the workers just look for jobs.
with resumed as (
  delete from wherry.queue_pauses
  where kind = %(kind)s
  returning kind
)
select pg_notify('procrastinate_any_queue_v1', '{"type": "job_inserted", "job_id": 0}')
from resumed

-- name: kinds
select known.kind,
  count(*) filter (where jobs.status = 'queued') as queued,
  count(*) filter (where jobs.status = 'running') as running,
  round(extract(epoch from now() - min(jobs.queued_at) filter (where jobs.status = 'queued')), 1)::float8
    as oldest_seconds,
  exists(select from wherry.queue_pauses where queue_pauses.kind = known.kind) as paused
from unnest(%(kinds)s::text[]) with ordinality as known (kind, position)
left join wherry.jobs on jobs.kind = known.kind and jobs.status in ('queued', 'running')
group by known.kind, known.position
order by known.position

-- name: workers
select workers.host,
  workers.pid,
  workers.version,
  round(extract(epoch from now() - beating.last_heartbeat), 1)::float8 as heartbeat_age_seconds,
  array(
    select (held.args ->> 'job_id')::uuid
    from wherry.procrastinate_jobs as held
    where held.worker_id = beating.id
      and held.status = 'doing'
      and held.task_name = %(task)s
    order by held.id
  ) as jobs
from wherry.procrastinate_workers as beating
left join wherry.workers on workers.worker_id = beating.id
order by beating.id

-- name: register_worker
with registered as (
  insert into wherry.procrastinate_workers
  default values
  returning id
)
insert into wherry.workers (worker_id, host, pid, version)
select id, %(host)s, %(pid)s, %(version)s
from registered
returning worker_id

-- name: unregister_worker
with described as (
  delete from wherry.workers
  where worker_id = %(worker_id)s
)
delete from wherry.procrastinate_workers
where id = %(worker_id)s
