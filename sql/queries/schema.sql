-- name: create
-- Not `create schema if not exists`, which needs the right to create schemas even if there is nothing to create.
do $$
begin
  if to_regnamespace('wherry') is null then
    create schema wherry;
  end if;
end
$$

-- name: enter
-- For the rest of the transaction, what a migration creates is created in the schema, and names are looked up there.
select set_config('search_path', 'wherry', true)

-- name: pin_functions
-- Lets functions find their tables under any search path. `create or replace` loses this, so do it after each migration.
do $$
declare
  routine regprocedure;
begin
  for routine in
    select oid
    from pg_proc
    where pronamespace = 'wherry'::regnamespace
      and prokind in ('f', 'p')
      and not coalesce('search_path=wherry' = any(proconfig), false)
      and proname <> 'input_fault'  -- reads values of the user's own types, on the user's own search path
  loop
    execute format('alter routine %s set search_path = wherry', routine);
  end loop;
end
$$

-- name: begin_move
-- Under an empty search path, every name that PostgreSQL writes has its schema. The move must not queue behind a long
-- transaction for long, because everybody else would queue behind the move.
select set_config('search_path', '', true), set_config('lock_timeout', %(patience)s, true)

-- name: moves
-- The statements that move these objects. Functions are first, because their signatures name the types, and the types of
-- tables' rows. Sequences, indexes, constraints and triggers follow their tables.
with old as (
  select oid
  from pg_namespace
  where nspname = %(schema)s
)
select format('alter routine %%s set schema wherry', pg_proc.oid::regprocedure) as statement, 1 as place
from pg_proc
join old on old.oid = pronamespace
where proname = any(%(functions)s)
  and prokind in ('f', 'p')
union all
select format('alter type %%s set schema wherry', pg_type.oid::regtype), 2
from pg_type
join old on old.oid = typnamespace
where typname = any(%(types)s)
  and typtype in ('c', 'e')
union all
select format('alter table %%s set schema wherry', pg_class.oid::regclass), 3
from pg_class
join old on old.oid = relnamespace
where relname = any(%(tables)s)
  and relkind in ('r', 'p')
order by place, statement

-- name: grants
-- What a role needs to run wherry's API and workers, if another role runs `wherry migrate`. Run this in wherry's
-- database, as the role that runs `wherry migrate`.

-- Everything of wherry's own is in this schema. The API and the workers create nothing in it.
grant usage on schema wherry to {role};

-- Accounts, records, jobs and the queue.
grant select, insert, update, delete on all tables in schema wherry to {role};

-- The API and the workers check that no migration is missing, but only `wherry migrate` records them.
revoke insert, update, delete on wherry.wherry_migrations from {role};

-- New rows take their ids from sequences (usage), and imports move sequences past the ids of their records (update).
grant usage, update on all sequences in schema wherry to {role};

-- The queue consists of functions. Everybody may execute functions, unless that was revoked.
grant execute on all functions in schema wherry to {role};

-- The same rights to whatever later migrations create.
alter default privileges in schema wherry grant select, insert, update, delete on tables to {role};
alter default privileges in schema wherry grant usage, update on sequences to {role};
alter default privileges in schema wherry grant execute on functions to {role};
