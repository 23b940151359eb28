-- name: abandoned_after
select current_setting('idle_in_transaction_session_timeout') as setting

-- name: create_table
create table if not exists wherry.wherry_migrations (
  name text primary key,
  checksum text not null,
  applied_at timestamptz not null default now()
)

-- name: installed_in
-- The schema with wherry's table of migrations: `wherry` or, if the installation is older, one of the search path.
select nspname
from pg_class
join pg_namespace on pg_namespace.oid = relnamespace
where relname = 'wherry_migrations'
  and (nspname = 'wherry' or pg_table_is_visible(pg_class.oid))
  and (
    select count(*)
    from pg_attribute
    where attrelid = pg_class.oid
      and attname in ('name', 'checksum', 'applied_at')
  ) = 3
order by nspname = 'wherry' desc
limit 1

-- name: rights
-- Whether this role may create what is missing: the schema or, if it exists, tables in it.
select current_user as role,
       current_database() as database,
       to_regnamespace('wherry') is not null as has_schema,
       coalesce(
         (
           select has_schema_privilege(oid, 'usage') and has_schema_privilege(oid, 'create')
           from pg_namespace
           where nspname = 'wherry'
         ),
         has_database_privilege(current_database(), 'create')
       ) as may_create

-- name: record
insert into wherry.wherry_migrations (name, checksum)
values (%(name)s, %(checksum)s)
