-- name: insert
insert into wherry.jobs (
  id, kind, owner_id, resource, format, options, source, idempotency_key, fingerprint, message, webhook_url, request_id
)
values (
  %(id)s, %(kind)s, %(owner_id)s, %(resource)s, %(format)s, %(options)s, %(source)s, %(idempotency_key)s,
  %(fingerprint)s, %(message)s, %(webhook_url)s, %(request_id)s
)
on conflict (kind, owner_id, resource, idempotency_key) where idempotency_key is not null do nothing
returning *

-- name: by_key
select *
from wherry.jobs
where kind = %(kind)s
  and owner_id is not distinct from %(owner_id)s
  and resource = %(resource)s
  and idempotency_key = %(idempotency_key)s

-- name: release_key
-- A URL that could not be fetched may work later, so the same request then creates a new job.
update wherry.jobs
set idempotency_key = null
where kind = %(kind)s
  and owner_id is not distinct from %(owner_id)s
  and resource = %(resource)s
  and idempotency_key = %(idempotency_key)s
  and status = 'failed'
  and error ->> 'code' = %(released_by)s
returning id

-- name: by_id
select *
from wherry.jobs
where id = %(id)s

-- name: page
select *
from wherry.jobs
where owner_id = %(owner_id)s
  and (%(kind)s::text is null or kind = %(kind)s)
  and (%(status)s::text is null or status = %(status)s)
  and (%(before)s::uuid is null or id < %(before)s)
order by id desc
limit %(limit)s

-- name: lock
select *
from wherry.jobs
where id = %(id)s
for update

-- name: claim
update wherry.jobs
set status = 'running',
    epoch = epoch + 1,
    deaths = case
      when status = 'queued' then 0
      when checkpoint is not distinct from death_checkpoint then deaths + 1
      else 1
    end,
    death_checkpoint = case when status = 'running' then checkpoint end,
    stage = 'running',
    stage_progress = 0,
    message = case when epoch = 0 then 'Started' else 'Taken up again' end,
    started_at = coalesce(started_at, now()),
    updated_at = now()
where id = %(id)s
  and status = any(%(sources)s)
returning *

-- name: advance
update wherry.jobs
set success_count = success_count + %(successes)s,
    error_count = error_count + %(errors)s,
    error_summary = case
      when %(summary)s::jsonb = '{}' then error_summary
      else (
        select jsonb_object_agg(key, total)
        from (
          select key, sum(value::bigint) as total
          from (
            select * from jsonb_each_text(jobs.error_summary)
            union all
            select * from jsonb_each_text(%(summary)s::jsonb)
          ) as counts
          group by key
        ) as totals
      )
    end,
    checkpoint = coalesce(%(checkpoint)s::jsonb, checkpoint),
    total_records = coalesce(%(total_records)s, total_records),
    progress = greatest(progress, coalesce(%(progress)s, progress)),
    stage = coalesce(%(stage)s, stage),
    stage_progress = coalesce(%(stage_progress)s, stage_progress),
    message = coalesce(%(message)s, message),
    updated_at = now()
where id = %(id)s
  and epoch = %(epoch)s
  and status = 'running'
returning cancel_requested_at is not null as cancel_requested, success_count, error_count, progress

-- name: look
select cancel_requested_at is not null as cancel_requested, success_count, error_count, progress
from wherry.jobs
where id = %(id)s
  and epoch = %(epoch)s
  and status = 'running'

-- name: finish
update wherry.jobs
set status = %(status)s,
    artifact = coalesce(%(artifact)s::jsonb, artifact),
    expires_at = now() + %(keep_for)s::interval,
    error = coalesce(%(error)s::jsonb, error),
    total_records = coalesce(%(total_records)s, total_records),
    progress = case when %(status)s in ('succeeded', 'partial') or %(is_read)s then 100 else progress end,
    stage = %(status)s,
    stage_progress = case when %(status)s in ('succeeded', 'partial') then 100 else stage_progress end,
    message = coalesce(%(message)s, message),
    updated_at = now(),
    completed_at = now()
where id = %(id)s
  and epoch = %(epoch)s
  and status = 'running'
  and (cancel_requested_at is null or %(status)s not in ('succeeded', 'partial'))
returning *

-- name: release
update wherry.jobs
set status = 'queued',
    updated_at = now()
where id = %(id)s
  and epoch = %(epoch)s
  and status = 'running'
returning *

-- name: cancel_now
update wherry.jobs
set status = 'cancelled',
    stage = 'cancelled',
    message = %(message)s,
    cancel_requested_at = coalesce(cancel_requested_at, now()),
    updated_at = now(),
    completed_at = now()
where id = %(id)s
  and status = any(%(sources)s)
returning *

-- name: request_cancel
update wherry.jobs
set cancel_requested_at = coalesce(cancel_requested_at, now())
where id = %(id)s
  and status = 'running'
returning *

-- name: expire_artifact
update wherry.jobs
set expires_at = now()
where id = %(id)s
  and artifact is not null
  and (expires_at is null or expires_at > now())
returning *

-- name: count_unfinished
select count(*)
from wherry.jobs
where kind = %(kind)s
  and owner_id is not distinct from %(owner_id)s
  and status in ('queued', 'running')

-- name: count_queued
select count(*)
from wherry.jobs
where kind = %(kind)s
  and status = 'queued'

-- name: append_event
with numbered as (
  update wherry.jobs
  set last_event_seq = last_event_seq + 1,
      updated_at = now()
  where id = %(id)s
  returning id, last_event_seq, stage, progress, stage_progress, message
)
insert into wherry.job_events (job_id, seq, type, stage, progress, stage_progress, message, meta)
select id, last_event_seq, %(type)s, stage, progress, stage_progress, coalesce(message, ''), %(meta)s
from numbered
returning *

-- name: events_since
select *
from wherry.job_events
where job_id = %(id)s
  and seq > %(since)s
order by seq
limit %(limit)s

-- name: notify
select pg_notify('wherry_jobs', %(id)s::text)

-- name: restart
update wherry.jobs
set success_count = 0,
    error_count = 0,
    error_summary = '{}',
    checkpoint = null,
    total_records = null,
    updated_at = now()
where id = %(id)s
  and epoch = %(epoch)s
  and status = 'running'
returning id

-- name: hold
select id
from wherry.jobs
where id = %(id)s
  and epoch = %(epoch)s
  and status = 'running'
for update

-- name: record_source
update wherry.jobs
set source = %(source)s::jsonb,
    updated_at = now()
where id = %(id)s
  and epoch = %(epoch)s
  and status = 'running'
returning id

-- name: record_format
update wherry.jobs
set format = %(format)s,
    updated_at = now()
where id = %(id)s
  and epoch = %(epoch)s
  and status = 'running'
returning id

-- name: retire_artifact
update wherry.jobs
set artifact = artifact || jsonb_build_object('removedAt', now()),
    stage = 'expired',
    updated_at = now()
where id = %(id)s
  and artifact is not null
  and not artifact ? 'removedAt'
returning id

-- name: retire_source
update wherry.jobs
set source = source || jsonb_build_object('removedAt', now())
where id = %(id)s

-- name: delete_ended
delete from wherry.jobs
where id = any(array(
  select id
  from wherry.jobs
  where completed_at < now() - %(keep)s::interval
    and (expires_at is null or expires_at < now())
  order by completed_at
  limit %(limit)s
))
