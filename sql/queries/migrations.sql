-- name: create_table
create table if not exists wherry_migrations (
  name text primary key,
  checksum text not null,
  applied_at timestamptz not null default now()
)

-- name: find_table
select
where to_regclass('wherry_migrations') is not null

-- name: rights
-- Whether this role may create tables in the schema in which this session would create them.
select current_user as role,
       current_database() as database,
       schema,
       exists (
         select
         from pg_namespace
         where nspname = schema
           and has_schema_privilege(oid, 'usage')
           and has_schema_privilege(oid, 'create')
       ) as may_create
from coalesce(current_schema()::text, 'public') as schema

-- name: known
select name, checksum
from wherry_migrations

-- name: record
insert into wherry_migrations (name, checksum)
values (%(name)s, %(checksum)s)
