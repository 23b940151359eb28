-- name: defer
-- What procrastinate's own `defer` runs; but it finds the function under any search path.
select wherry.procrastinate_defer_jobs_v1(
  array[(%(queue)s, %(task)s, 0, null, null, %(args)s, null)::wherry.procrastinate_job_to_defer_v1]
)

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
select id, kind
from wherry.jobs
where status in ('queued', 'running')
  and not exists (
    select
    from wherry.procrastinate_jobs
    where procrastinate_jobs.status in ('todo', 'doing')
      and procrastinate_jobs.args ->> 'job_id' = jobs.id::text
  )
