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

-- name: delete_import_errors
delete from wherry.import_errors
where ctid = any(array(
  select import_errors.ctid
  from wherry.import_errors
  join wherry.jobs on jobs.id = import_errors.job_id
  where jobs.completed_at < now() - %(import_keep)s::interval
  limit %(limit)s
))

-- name: delete_import_rejects
delete from wherry.import_rejects
where ctid = any(array(
  select import_rejects.ctid
  from wherry.import_rejects
  join wherry.jobs on jobs.id = import_rejects.job_id
  where jobs.completed_at < now() - %(import_keep)s::interval
  limit %(limit)s
))

-- name: delete_import_rows
-- Of imports that ended when the database could not be reached.
delete from wherry.import_rows
where ctid = any(array(
  select import_rows.ctid
  from wherry.import_rows
  where not exists (
    select
    from wherry.jobs
    where id = import_rows.job_id
      and status in ('queued', 'running')
  )
  limit %(limit)s
))

-- name: delete_import_postponed
delete from wherry.import_postponed
where ctid = any(array(
  select import_postponed.ctid
  from wherry.import_postponed
  where not exists (
    select
    from wherry.jobs
    where id = import_postponed.job_id
      and status in ('queued', 'running')
  )
  limit %(limit)s
))

-- name: known_jobs
select id, status in ('queued', 'running') as unfinished, source ->> 'key' as source_key, artifact ->> 'key' as artifact_key,
  coalesce(source ? 'removedAt', false) as source_removed, coalesce(artifact ? 'removedAt', false) as artifact_removed
from wherry.jobs
where id = any(%(ids)s)
