-- name: lookup
select id, slug as key, import_job_id is not distinct from %(job_id)s::uuid as mine
from wherry.articles
where id = any(%(ids)s::integer[])
   or slug = any(%(keys)s::text[])
order by id
for no key update

-- name: existing
select id
from wherry.articles
where id = any(%(ids)s::integer[])

-- name: copy
copy wherry.articles (
  id, import_job_id, slug, title, body, description, author_id, tags, status, published_at, created_at, updated_at
)
from stdin (format binary)

-- name: update
-- Null leaves a column as it is; `published_at` alone may be set to null.
update wherry.articles
set slug = coalesce(given.slug, articles.slug),
    title = coalesce(given.title, articles.title),
    body = coalesce(given.body, articles.body),
    description = coalesce(given.description, articles.description),
    author_id = coalesce(given.author_id, articles.author_id),
    tags = coalesce(given.tags, articles.tags),
    status = coalesce(given.status, articles.status),
    published_at = case when given.sets_published_at then given.published_at else articles.published_at end,
    updated_at = now(),
    import_job_id = %(job_id)s
from json_to_recordset(%(rows)s::json) as given (
  id integer, slug text, title text, body text, description text, author_id integer, tags text[], status text,
  published_at timestamptz, sets_published_at boolean
)
where articles.id = given.id

-- name: allocate
select nextval('wherry.articles_id_seq')::integer as id
from generate_series(1, %(count)s)
