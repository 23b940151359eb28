-- name: note
insert into wherry.job_history (job_id, type, round, epoch, meta)
select id, %(type)s, round, epoch, %(meta)s
from wherry.jobs
where id = any(%(job_ids)s)

-- name: timeline
-- The newest ones, in order. What happened at the same time was written in the order of `id`.
select type, ts, round, epoch, meta
from (
  select type, ts, round, epoch, meta, id
  from wherry.job_history
  where job_id = %(job_id)s
  union all
  select 'webhook', attempts.ts, events.round, (events.data ->> 'epoch')::integer,
         jsonb_strip_nulls(jsonb_build_object(
           'id', events.id, 'attempt', attempts.number, 'status', attempts.response_status, 'error', attempts.error
         )),
         null
  from wherry.webhook_events as events
  join wherry.webhook_attempts as attempts on attempts.event_id = events.id
  where events.job_id = %(job_id)s
  order by ts desc, id desc
  limit %(limit)s
) as newest
order by ts, id
