-- name: any_account
select exists (select 1 from wherry.users) as found

-- name: lock_first
select pg_advisory_xact_lock(%(key)s)

-- name: taken
select coalesce(bool_or(email = %(email)s), false) as email,
       coalesce(bool_or(username = %(username)s), false) as username
from wherry.users
where (email = %(email)s or username = %(username)s)
  and id is distinct from %(except_id)s

-- name: insert
insert into wherry.users (email, username, name, role, operator, password_hash, bio, image)
values (%(email)s, %(username)s, %(username)s, %(role)s, %(operator)s, %(password_hash)s, %(bio)s, %(image)s)
returning id, email, username, role, active, bio, image, operator, password_changed_at

-- name: by_id
select id, email, username, role, active, bio, image, operator, password_changed_at
from wherry.users
where id = %(id)s

-- name: with_job
-- An account and, if there is one with this id, a job, whoever owns it: one value, as its many columns
-- would take longer to read.
select {columns}, row_to_json(jobs)::text
from wherry.users
left join wherry.jobs on jobs.id = %(job_id)s
where users.id = %(user_id)s

-- name: live_role
select role
from wherry.users
where id = %(id)s
  and active

-- name: for_login
select id, email, username, role, active, bio, image, operator, password_changed_at, password_hash,
       exists (
         select 1
         from wherry.login_addresses
         where user_id = users.id
           and address_hash = %(address_hash)s
           and seen_at > now() - make_interval(days => %(known_days)s)
       ) as known_address
from wherry.users
where email = %(email)s

-- name: remember_address
insert into wherry.login_addresses as known (user_id, address_hash)
values (%(user_id)s, %(address_hash)s)
on conflict (user_id, address_hash) do update
set seen_at = excluded.seen_at
where known.seen_at < excluded.seen_at - interval '1 day'

-- name: update
update wherry.users
set email = coalesce(%(email)s, email),
    username = coalesce(%(username)s, username),
    name = case when name = username then coalesce(%(username)s, name) else name end,
    password_hash = coalesce(%(password_hash)s, password_hash),
    password_changed_at = coalesce(%(password_changed_at)s, password_changed_at),
    bio = case when %(sets_bio)s then %(bio)s else bio end,
    image = case when %(sets_image)s then %(image)s else image end,
    updated_at = now()
where id = %(id)s
  and active
returning id, email, username, role, active, bio, image, operator, password_changed_at

-- name: rehash
update wherry.users
set password_hash = %(password_hash)s
where id = %(id)s
  and password_hash = %(old_hash)s

-- name: lock
-- Transactions that create, use or revoke an account's links lock its row, so that they run one after the other.
select
from wherry.users
where id = %(id)s
for no key update

-- name: create_reset_link
with account as (
  select id, email
  from wherry.users
  where email = %(email)s
    and active
  for no key update
)
insert into wherry.password_links (token_hash, user_id, sent_to, expires_at)
select %(token_hash)s, id, email, now() + %(valid_for)s
from account
returning expires_at

-- name: create_onboarding_link
with account as (
  select id
  from wherry.users
  where id = %(user_id)s
    and active
    and password_hash is null
  for no key update
)
insert into wherry.password_links (token_hash, user_id, expires_at)
select %(token_hash)s, id, now() + %(valid_for)s
from account
returning expires_at

-- name: link_owner
select user_id
from wherry.password_links
join wherry.users on users.id = password_links.user_id
where token_hash = %(token_hash)s
  and used_at is null
  and expires_at > now()
  and users.active
  and case when sent_to is null then users.password_hash is null else users.email = sent_to end

-- name: void_links
update wherry.password_links
set used_at = now()
where user_id = %(user_id)s
  and used_at is null

-- name: purge_links
delete from wherry.password_links
where expires_at < now() - interval '1 day'

-- name: purge_addresses
delete from wherry.login_addresses
where seen_at < now() - make_interval(days => %(known_days)s)
