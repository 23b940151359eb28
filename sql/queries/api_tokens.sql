-- name: insert
insert into wherry.api_tokens (id, user_id, name, prefix, token_hash, expires_at)
values (%(id)s, %(user_id)s, %(name)s, %(prefix)s, %(token_hash)s, %(expires_at)s)
returning id, name, prefix, created_at, expires_at, last_used_at

-- name: count_live
select count(*) as live
from wherry.api_tokens
where user_id = %(user_id)s
  and (expires_at is null or expires_at > now())

-- name: list_live
select id, name, prefix, created_at, expires_at, last_used_at
from wherry.api_tokens
where user_id = %(user_id)s
  and (expires_at is null or expires_at > now())
order by id

-- name: authenticate
-- The owner of a token, if the token is valid and the account is active. Also records the use, at most once per minute.
-- And, if there is one with this id, a job, whoever owns it.
with held as (
  select api_tokens.id as token_id, users.*
  from wherry.api_tokens
  join wherry.users on users.id = api_tokens.user_id
  where token_hash = %(token_hash)s
    and (expires_at is null or expires_at > now())
    and users.active
),
noted as (
  update wherry.api_tokens
  set last_used_at = now()
  from held
  where api_tokens.id = held.token_id
    and (last_used_at is null or last_used_at < now() - interval '1 minute')
)
select {columns}, row_to_json(jobs)::text
from held as users
left join wherry.jobs on jobs.id = %(job_id)s

-- name: live_callers
-- The active accounts with these ids, and those that these valid tokens belong to.
select null::bytea, {columns}
from wherry.users
where id = any(%(user_ids)s)
  and active
union all
select token_hash, {columns}
from wherry.api_tokens
join wherry.users on users.id = api_tokens.user_id
where token_hash = any(%(token_hashes)s)
  and (expires_at is null or expires_at > now())
  and users.active

-- name: delete
delete from wherry.api_tokens
where id = %(id)s
  and user_id = %(user_id)s
  and (expires_at is null or expires_at > now())

-- name: purge
delete from wherry.api_tokens
where expires_at < now()
