-- name: event
select id, url, type, ended_at, data
from wherry.webhook_events
where id = %(id)s
  and status = 'pending'

-- name: record_attempt
-- The waits begin with the one after the first attempt. Returns nothing if the event has meanwhile ended.
with attempted as (
  update wherry.webhook_events
  set attempts = attempts + 1,
      status = case
        when %(delivered)s then 'delivered'
        when %(gives_up)s or attempts >= cardinality(%(waits)s::float8[]) then 'failed'
        else 'pending'
      end,
      next_at = case
        when not %(delivered)s and not %(gives_up)s
          then clock_timestamp() + make_interval(secs => (%(waits)s::float8[])[attempts + 1])
      end
  where id = %(id)s
    and status = 'pending'
  returning id, attempts, status
)
insert into wherry.webhook_attempts (event_id, number, ts, response_status, error, duration_ms)
select
  id,
  attempts,
  clock_timestamp() - make_interval(secs => %(duration_ms)s / 1000.0),
  %(response_status)s::integer,
  %(error)s::text,
  %(duration_ms)s
from attempted
returning (select case when status = 'pending' then (%(waits)s::float8[])[attempts] end from attempted) as retry_seconds

-- name: deliveries
select
  id,
  url,
  type,
  status,
  case when status = 'pending' then next_at end as next_attempt_at,
  (
    select coalesce(jsonb_agg(to_jsonb(attempt) order by number), '[]')
    from (
      select number, ts, response_status as status, error, duration_ms
      from wherry.webhook_attempts
      where event_id = webhook_events.id
    ) as attempt
  ) as attempts
from (
  select *
  from wherry.webhook_events
  where job_id = %(job_id)s
  order by round desc
  limit %(limit)s
) as webhook_events
order by round
