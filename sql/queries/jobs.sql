-- name: insert
insert into wherry.jobs (
  id, kind, owner_id, resource, format, options, source, idempotency_key, fingerprint, message, webhook_url, request_id
)
values (
  %(id)s, %(kind)s, %(owner_id)s, %(resource)s, %(format)s, %(options)s, %(source)s, %(idempotency_key)s,
  %(fingerprint)s, %(message)s, %(webhook_url)s, %(request_id)s
)
on conflict (kind, owner_id, resource, idempotency_key) where idempotency_key is not null do nothing
returning *, pg_notify('wherry_jobs', id::text)

-- name: by_key
select *
from wherry.jobs
where kind = %(kind)s
  and owner_id is not distinct from %(owner_id)s
  and resource = %(resource)s
  and idempotency_key = %(idempotency_key)s

-- name: release_key
-- A URL that could not be fetched may work later, so the same request then creates a new job. The old one cannot be
-- retried any more, or there would be two.
update wherry.jobs
set idempotency_key = null,
    source = coalesce(source, '{}') || jsonb_build_object('removedAt', now())
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

-- name: by_ids
select *
from wherry.jobs
where id = any(%(ids)s)

-- name: page
select *
from wherry.jobs
where owner_id = %(owner_id)s
  and (%(kind)s::text is null or kind = %(kind)s)
  and (%(status)s::text is null or status = %(status)s)
  and (%(resource)s::text is null or resource = %(resource)s)
  and (%(before)s::uuid is null or id < %(before)s)
order by id desc
limit %(limit)s

-- name: page_of_everybody
-- A statement of its own, so that the one above always uses the index on owners.
select *
from wherry.jobs
where (%(kind)s::text is null or kind = %(kind)s)
  and (%(status)s::text is null or status = %(status)s)
  and (%(resource)s::text is null or resource = %(resource)s)
  and (%(before)s::uuid is null or id < %(before)s)
order by id desc
limit %(limit)s

-- name: lock
select *
from wherry.jobs
where id = %(id)s
for no key update

-- name: claim
-- A job that runs is claimed only after its worker was found dead. Only its newest queue row may claim a job: otherwise
-- the row of an earlier round would take a retried job from its new worker.
with before as (
  select *
  from wherry.jobs
  where id = %(id)s
    and status = any(%(sources)s)
    and (queue_id is null or %(queue_id)s::bigint is null or queue_id = %(queue_id)s)
    and (%(may_be_suspect)s or status = 'queued' or deaths = 0)
  for no key update
),
claimed as (
  update wherry.jobs
  set status = 'running',
      epoch = jobs.epoch + 1,
      worker = %(worker)s,
      deaths = case
        when jobs.status = 'queued' then 0
        when jobs.checkpoint is not distinct from jobs.death_checkpoint then jobs.deaths + 1
        else 1
      end,
      death_checkpoint = case when jobs.status = 'running' then jobs.checkpoint end,
      stage = 'running',
      stage_progress = 0,
      message = case when jobs.epoch = 0 then 'Started' else 'Taken up again' end,
      last_event_seq = jobs.last_event_seq + case when jobs.kind = 'capsule' then 1 else 0 end,
      started_at = coalesce(jobs.started_at, now()),
      updated_at = now()
  from before
  where jobs.id = before.id
  returning jobs.*
),
noted as (
  insert into wherry.job_history (job_id, type, round, epoch, meta)
  select id, 'died', before.round, before.epoch,
         jsonb_strip_nulls(jsonb_build_object('worker', before.worker, 'deaths', claimed.deaths))
  from before
  join claimed using (id)
  where before.status = 'running'
  union all
  select id, 'claimed', round, epoch, jsonb_build_object('worker', worker)
  from claimed
),
logged as (
  insert into wherry.job_events (job_id, seq, type, stage, progress, stage_progress, message)
  select id, last_event_seq, 'job_started', stage, progress, stage_progress, message
  from claimed
  where kind = 'capsule'
)
select *, pg_notify('wherry_jobs', id::text)
from claimed

-- name: advance
with advanced as (
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
  returning *
),
noted as (
  insert into wherry.job_history (job_id, type, round, epoch, meta)
  select id, 'checkpoint', round, epoch,
         jsonb_build_object('processed', processed_records, 'errors', error_count, 'progress', progress)
  from advanced
  where %(sampled)s
)
select cancel_requested_at is not null as cancel_requested, success_count, error_count, progress,
       pg_notify('wherry_jobs', id::text)
from advanced

-- name: look
select cancel_requested_at is not null as cancel_requested, success_count, error_count, progress
from wherry.jobs
where id = %(id)s
  and epoch = %(epoch)s
  and status = 'running'

-- name: finish
-- By the run that has the lease, or by a cancel, which needs none. The event of a webhook has a copy of the job, because
-- a retry changes the job; it is queued in the same transaction, so that each end has exactly one. Its
-- priority is low, so that a fetch reads rows that wait for their next attempt last.
with ended as (
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
      last_event_seq = last_event_seq + case when kind = 'capsule' then 1 else 0 end,
      cancel_requested_at = case
        when %(status)s = 'cancelled' then coalesce(cancel_requested_at, now())
        else cancel_requested_at
      end,
      updated_at = now(),
      completed_at = now()
  where id = %(id)s
    and status = any(%(sources)s)
    and (%(epoch)s::integer is null or epoch = %(epoch)s)
    and (cancel_requested_at is null or %(status)s not in ('succeeded', 'partial'))
  returning *
),
noted as (
  insert into wherry.job_history (job_id, type, round, epoch, meta)
  select id, 'ended', round, epoch,
         jsonb_strip_nulls(jsonb_build_object('status', status, 'code', error ->> 'code', 'by', %(by)s::integer))
  from ended
),
logged as (
  insert into wherry.job_events (job_id, seq, type, stage, progress, stage_progress, message)
  select id, last_event_seq, %(event)s, stage, progress, stage_progress, coalesce(message, '')
  from ended
  where kind = 'capsule'
),
announced as (
  insert into wherry.webhook_events (job_id, round, id, url, type, ended_at, data)
  select id, round, 'msg_' || replace(id::text, '-', '') || '_' || round, webhook_url, 'job.' || status, completed_at,
         to_jsonb(ended) - array['checkpoint', 'death_checkpoint', 'fingerprint', 'traceparent', 'webhook_url']
           || jsonb_build_object(
             'options', jsonb_strip_nulls(jsonb_build_object('webhookUrl', options -> 'webhookUrl'))
           )
  from ended
  where webhook_url is not null
  returning id
)
select *, pg_notify('wherry_jobs', id::text),
       (
         select wherry.procrastinate_defer_jobs_v1(array[
           ('webhook', 'wherry.deliver', -1000000000, null, null, jsonb_build_object('event_id', id), null)
             ::wherry.procrastinate_job_to_defer_v1
         ])
         from announced
       )
from ended

-- name: release
with released as (
  update wherry.jobs
  set status = 'queued',
      queued_at = now(),
      updated_at = now()
  where id = %(id)s
    and epoch = %(epoch)s
    and status = 'running'
    and cancel_requested_at is null
  returning *
),
noted as (
  insert into wherry.job_history (job_id, type, round, epoch, meta)
  select id, 'released', round, epoch, jsonb_build_object('reason', %(reason)s::text)
  from released
)
select *, pg_notify('wherry_jobs', id::text)
from released

-- name: request_cancel
with requested as (
  update wherry.jobs
  set cancel_requested_at = now(),
      updated_at = now()
  where id = %(id)s
    and status = 'running'
    and cancel_requested_at is null
  returning *
),
noted as (
  insert into wherry.job_history (job_id, type, round, epoch, meta)
  select id, 'cancel_requested', round, epoch, jsonb_strip_nulls(jsonb_build_object('by', %(by)s::integer))
  from requested
)
select *, pg_notify('wherry_jobs', id::text)
from requested

-- name: retry
-- A new round of a job that has ended. What an earlier run reported about the file as a whole no longer holds.
with outdated as (
  delete from wherry.import_errors
  where job_id = %(id)s
    and record_index = -1
  returning name
),
retried as (
  update wherry.jobs
  set status = 'queued',
      round = round + 1,
      queued_at = now(),
      deaths = 0,
      death_checkpoint = null,
      stage = 'queued',
      progress = 0,
      stage_progress = 0,
      message = 'Queued again',
      error = null,
      error_summary = (
        select coalesce(jsonb_object_agg(key, total), '{}')
        from (
          select key, value::bigint - (select count(*) from outdated where name = key) as total
          from jsonb_each_text(error_summary)
        ) as counts
        where total > 0
      ),
      artifact = null,
      expires_at = null,
      cancel_requested_at = null,
      completed_at = null,
      updated_at = now()
  where id = %(id)s
    and completed_at is not null
  returning *
),
noted as (
  insert into wherry.job_history (job_id, type, round, epoch, meta)
  select id, 'retried', round, epoch, jsonb_strip_nulls(jsonb_build_object('by', %(by)s::integer))
  from retried
)
select *, pg_notify('wherry_jobs', id::text)
from retried

-- name: expire_artifact
update wherry.jobs
set expires_at = now()
where id = %(id)s
  and artifact is not null
  and (expires_at is null or expires_at > now())
returning *

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
returning pg_notify('wherry_jobs', job_id::text)

-- name: events_since
select *
from wherry.job_events
where job_id = %(id)s
  and seq > %(since)s
order by seq
limit %(limit)s

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
returning pg_notify('wherry_jobs', id::text)

-- name: enqueue
-- Writes the job's queue row, and lets only this row claim the job. Owners take turns: the turn of a job is that of the
-- first row that can be fetched, or one after the owner's last job of its kind, whichever is later. An owner's last turn
-- no longer counts once the owner has no unfinished job and the others have moved past it.
with placed as (
  select jobs.id,
         jobs.kind,
         coalesce(jobs.owner_id, 0) as owner_id,
         coalesce(least(front.priority, case when last.counts then last.turn - 1 end), 0) as turn
  from wherry.jobs
  left join lateral (
    select priority
    from wherry.procrastinate_jobs as waiting
    where status = 'todo'
      and task_name = %(task)s
      and (scheduled_at is null or scheduled_at <= now())
      and not exists (select from wherry.queue_pauses where queue_pauses.kind = queue_name)
    order by priority desc, waiting.id
    limit 1
  ) as front on true
  left join lateral (
    select turn,
           turn >= front.priority or exists (
             select
             from wherry.jobs as others
             where others.kind = jobs.kind
               and (others.owner_id = jobs.owner_id or (others.owner_id is null and jobs.owner_id is null))
               and others.status in ('queued', 'running')
               and others.id <> jobs.id
           ) as counts
    from wherry.queue_turns
    where queue_turns.kind = jobs.kind
      and queue_turns.owner_id = coalesce(jobs.owner_id, 0)
  ) as last on true
  where jobs.id = %(id)s
),
remembered as (
  insert into wherry.queue_turns (kind, owner_id, turn)
  select kind, owner_id, turn
  from placed
  on conflict (kind, owner_id) do update
  set turn = excluded.turn
),
queued as (
  select placed.id, queue_id
  from placed
  cross join unnest(wherry.procrastinate_defer_jobs_v1(array[
    (placed.kind, %(task)s, placed.turn, null, null, jsonb_build_object('job_id', placed.id), null)
      ::wherry.procrastinate_job_to_defer_v1
  ])) as queue_id
)
update wherry.jobs
set queue_id = queued.queue_id
from queued
where jobs.id = queued.id

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
with retired as (
  update wherry.jobs
  set artifact = artifact || jsonb_build_object('removedAt', now()),
      stage = 'expired',
      last_event_seq = last_event_seq + case when kind = 'capsule' then 1 else 0 end,
      updated_at = now()
  where id = %(id)s
    and artifact is not null
    and not artifact ? 'removedAt'
  returning *
),
noted as (
  insert into wherry.job_history (job_id, type, round, epoch)
  select id, 'artifact_expired', round, epoch
  from retired
),
logged as (
  insert into wherry.job_events (job_id, seq, type, stage, progress, stage_progress, message)
  select id, last_event_seq, 'job_expired', stage, progress, stage_progress, coalesce(message, '')
  from retired
  where kind = 'capsule'
)
select pg_notify('wherry_jobs', id::text)
from retired

-- name: retire_source
update wherry.jobs
set source = source || jsonb_build_object('removedAt', now())
where id = %(id)s
  and completed_at <= now() - %(keep)s::interval
returning id

-- name: delete_ended
delete from wherry.jobs
where id = any(array(
  select id
  from wherry.jobs
  where completed_at < now() - %(keep)s::interval
    and (expires_at is null or expires_at < now())
    and not exists (select from wherry.webhook_events where job_id = jobs.id and status = 'pending')
  order by completed_at
  limit %(limit)s
))
  and completed_at < now() - %(keep)s::interval  -- a retry that was committed meanwhile clears it
