-- name: create_table
create table if not exists wherry_migrations (
  name text primary key,
  checksum text not null,
  applied_at timestamptz not null default now()
)

-- name: known
select name, checksum
from wherry_migrations

-- name: record
insert into wherry_migrations (name, checksum)
values (%(name)s, %(checksum)s)
