-- name: lookup
-- A new account's username is its e-mail address: no other account may have it as a username. Both are looked up by one
-- statement, as two would see different moments. `state` has flags for resources/users.py: admin, active, password.
select id, email as key, import_job_id is not distinct from %(job_id)s::uuid as mine, username as first_key,
  (role = 'admin')::integer + 2 * active::integer + 4 * (password_hash is not null)::integer as state
from wherry.users
where id = any(%(ids)s::integer[])
   or email = any(%(keys)s::text[])
   or username = any(%(keys)s::text[])
order by id
for no key update

-- name: keepers
-- The active admins, of whom at least one must remain. Locked, so that two transactions cannot each remove one.
select id
from wherry.users
where role = 'admin'
  and active
order by id
for no key update

-- name: existing
select id
from wherry.users
where id = any(%(ids)s::integer[])

-- name: copy
copy wherry.users (id, import_job_id, email, username, name, role, active, created_at, updated_at)
from stdin (format binary)

-- name: update
update wherry.users
set email = coalesce(given.email, users.email),
    name = coalesce(given.name, users.name),
    role = coalesce(given.role, users.role),
    active = coalesce(given.active, users.active),
    created_at = coalesce(given.created_at, users.created_at),
    updated_at = coalesce(given.updated_at, now()),
    import_job_id = %(job_id)s
from json_to_recordset(%(rows)s::json) as given (
  id integer, email text, name text, role text, active boolean, created_at timestamptz, updated_at timestamptz
)
where users.id = given.id

-- name: allocate
select nextval('wherry.users_id_seq')::integer as id
from generate_series(1, %(count)s)
