-- name: lookup
select id, id as key, import_job_id is not distinct from %(job_id)s::uuid as mine
from wherry.comments
where id = any(%(ids)s::integer[])
order by id
for no key update

-- name: existing
select id
from wherry.comments
where id = any(%(ids)s::integer[])

-- name: copy
copy wherry.comments (id, import_job_id, body, article_id, user_id, created_at)
from stdin (format binary)

-- name: update
update wherry.comments
set body = given.body,
    article_id = given.article_id,
    user_id = given.user_id,
    created_at = coalesce(given.created_at, comments.created_at),
    import_job_id = %(job_id)s
from json_to_recordset(%(rows)s::json) as given (
  id integer, body text, article_id integer, user_id integer, created_at timestamptz
)
where comments.id = given.id

-- name: allocate
select nextval('wherry.comments_id_seq')::integer as id
from generate_series(1, %(count)s)
