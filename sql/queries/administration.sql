-- name: list
select id, email, username, role, active, bio, image, operator, password_changed_at,
       password_hash is not null as has_password, created_at
from wherry.users
order by id

-- name: find
select id, email, username, role, active, bio, image, operator, password_changed_at
from wherry.users
where id = %(id)s
   or email = %(email)s

-- name: lock_admins
-- The active admins, of whom at least one must remain. Locked, so that two transactions cannot each remove one.
select id
from wherry.users
where role = 'admin'
  and active
order by id
for no key update

-- name: set_standing
update wherry.users
set role = coalesce(%(role)s, role),
    active = coalesce(%(active)s, active),
    operator = coalesce(%(operator)s, operator),
    updated_at = now()
where id = %(id)s
returning id, email, username, role, active, bio, image, operator, password_changed_at
