-- name: expired_artifacts
select id, kind, artifact ->> 'key' as key
from jobs
where expires_at < now()
  and artifact is not null
  and not artifact ? 'removedAt'
order by expires_at
limit %(limit)s

-- name: retire_artifact
with retired as (
  update jobs
  set artifact = artifact || jsonb_build_object('removedAt', now()),
      stage = case when kind = 'capsule' then 'expired' else stage end,
      message = case when kind = 'capsule' then 'Capsule expired' else message end,
      updated_at = now()
  where id = %(id)s
    and artifact is not null
    and not artifact ? 'removedAt'
  returning id, kind
)
select kind
from retired

-- name: spent_sources
select id, kind, source ->> 'key' as key
from jobs
where source ? 'key'
  and not source ? 'removedAt'
  and completed_at < now() - case kind when 'import' then %(import_keep)s::interval else interval '0' end
order by completed_at
limit %(limit)s

-- name: retire_source
update jobs
set source = source || jsonb_build_object('removedAt', now())
where id = %(id)s

-- name: delete_import_errors
delete from import_errors
where ctid = any(array(
  select import_errors.ctid
  from import_errors
  join jobs on jobs.id = import_errors.job_id
  where jobs.completed_at < now() - %(import_keep)s::interval
  limit %(limit)s
))

-- name: delete_jobs
delete from jobs
where id = any(array(
  select id
  from jobs
  where completed_at < now() - %(job_keep)s::interval
    and (expires_at is null or expires_at < now())
  order by completed_at
  limit %(limit)s
))

-- name: known_jobs
select id, status in ('queued', 'running') as unfinished, source ->> 'key' as source_key, artifact ->> 'key' as artifact_key,
  coalesce(source ? 'removedAt', false) as source_removed, coalesce(artifact ? 'removedAt', false) as artifact_removed
from jobs
where id = any(%(ids)s)
