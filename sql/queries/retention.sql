-- name: expired_artifacts
select id, kind, artifact ->> 'key' as key
from wherry.jobs
where expires_at < now()
  and artifact is not null
  and not artifact ? 'removedAt'
order by expires_at
limit %(limit)s

-- name: spent_sources
select id, kind, source ->> 'key' as key
from wherry.jobs
where source ? 'key'
  and not source ? 'removedAt'
  and completed_at < now() - case kind when 'import' then %(import_keep)s::interval else interval '0' end
order by completed_at
limit %(limit)s

-- name: delete_expired
delete from {table} as expired
where expired.ctid = any(array(
  select rows.ctid
  from {table} as rows
  join wherry.jobs on jobs.id = rows.job_id
  where jobs.completed_at < now() - %(import_keep)s::interval
    and coalesce(jobs.source ? 'removedAt', true)  -- otherwise the job can still be retried
  limit %(limit)s
))

-- name: delete_abandoned
-- Of imports that have ended, unless a retry may still need them.
delete from {table} as abandoned
where abandoned.ctid = any(array(
  select rows.ctid
  from {table} as rows
  where not exists (
    select
    from wherry.jobs
    where id = rows.job_id
      and (
        status in ('queued', 'running')
        or status in ('failed', 'cancelled') and not coalesce(source ? 'removedAt', true)
      )
  )
  limit %(limit)s
))

-- name: known_jobs
select id, status in ('queued', 'running') as unfinished, source ->> 'key' as source_key, artifact ->> 'key' as artifact_key,
  coalesce(source ? 'removedAt', false) as source_removed, coalesce(artifact ? 'removedAt', false) as artifact_removed
from wherry.jobs
where id = any(%(ids)s)
