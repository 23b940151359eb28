-- name: take
insert into wherry.rate_limits as bucket (policy, subject, used, expires_at)
values (%(policy)s, %(subject)s, 1, clock_timestamp() + make_interval(secs => %(window)s))
on conflict (policy, subject) do update
set used = case
      when bucket.expires_at <= clock_timestamp() then 1
      else least(bucket.used, %(quota)s) + 1
    end,
    expires_at = case
      when bucket.expires_at <= clock_timestamp() then excluded.expires_at
      else bucket.expires_at
    end
returning used, greatest(1, ceil(extract(epoch from expires_at - clock_timestamp())))::integer as reset_seconds

-- name: take_and_count
-- Also counts the unfinished jobs of the owner, including the one that this transaction has created.
with taken as (
  {take}
)
select used,
       reset_seconds,
       (
         select count(*)
         from wherry.jobs
         where kind = %(kind)s
           and owner_id = %(owner_id)s
           and status in ('queued', 'running')
       ) as unfinished
from taken

-- name: look
select used, greatest(1, ceil(extract(epoch from expires_at - clock_timestamp())))::integer as reset_seconds
from wherry.rate_limits
where policy = %(policy)s
  and subject = %(subject)s
  and expires_at > clock_timestamp()

-- name: look_ahead
-- What an owner has used of a policy, how many unfinished jobs of a kind it has, and whether it has one with this key.
select exists (
         select 1
         from wherry.jobs
         where kind = %(kind)s
           and owner_id = %(owner_id)s
           and idempotency_key = %(idempotency_key)s
       ) as is_known,
       (
         select count(*)
         from wherry.jobs
         where kind = %(kind)s
           and owner_id = %(owner_id)s
           and status in ('queued', 'running')
       ) as unfinished,
       coalesce(used, 0) as used,
       coalesce(greatest(1, ceil(extract(epoch from expires_at - clock_timestamp()))), %(window)s)::integer
         as reset_seconds
from (values (%(policy)s, %(subject)s)) as asked (policy, subject)
left join wherry.rate_limits as bucket
  on bucket.policy = asked.policy
  and bucket.subject = asked.subject
  and expires_at > clock_timestamp()

-- name: give_back
update wherry.rate_limits
set used = greatest(0, least(used, %(quota)s) - 1)
where policy = %(policy)s
  and subject = %(subject)s
  and expires_at > clock_timestamp()

-- name: purge
delete from wherry.rate_limits
where (policy, subject) in (
  select policy, subject
  from wherry.rate_limits
  where expires_at <= clock_timestamp()
  limit %(limit)s
  for update skip locked
)
