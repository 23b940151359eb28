-- What PostgreSQL's catalog says about tables. Most queries take the tables' oids, and none of these waits for a lock.

-- name: matching
-- Tables whose schema and name match the patterns of LIKE, but no partitions: their parents stand for them.
select n.nspname::text as schema, c.relname::text as name
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p')
  and not c.relispartition
  and n.nspname like %(schema)s
  and c.relname like %(name)s
  and n.nspname not like 'pg\_%%'
  and n.nspname not in ('information_schema', 'wherry')
order by n.nspname, c.relname

-- name: relations
-- One row for each name, in order; `oid` is null if there is no such relation.
select given.schema,
       given.name,
       c.oid::int8 as oid,
       c.relkind::text as kind,
       c.relkind = 'r' and exists (select from pg_inherits where inhparent = c.oid) as has_children,
       c.reltuples::int8 as estimated_rows,
       obj_description(c.oid, 'pg_class') as comment,
       pg_get_userbyid(c.relowner)::text as owner,
       c.relrowsecurity as has_row_security,
       c.relrowsecurity and not row_security_active(c.oid) as bypasses_row_security,
       has_schema_privilege(n.oid, 'usage') as may_enter,
       has_any_column_privilege(c.oid, 'select') as may_select,
       has_any_column_privilege(c.oid, 'insert') and allowed.events & 8 <> 0 as may_insert,
       has_any_column_privilege(c.oid, 'update') and allowed.events & 4 <> 0 as may_update,
       exists (select from pg_rewrite where ev_class = c.oid and ev_type = '3') as has_insert_rules,
       -- COPY cannot write into a table whose rows are restricted for us
       c.relrowsecurity and row_security_active(c.oid) as is_restricted,
       exists (
         select
         from pg_trigger
         where tgrelid = c.oid
           and not tgisinternal
           and tgenabled in ('O', 'A')
           and (tgtype & 3) = 3  -- before each row
           and (tgtype & 20) <> 0  -- on INSERT or UPDATE
       ) as has_own_rules,
       current_user::text as role
from unnest(%(schemas)s::text[], %(names)s::text[]) with ordinality as given (schema, name, place)
left join pg_namespace n on n.nspname = given.schema
left join pg_class c on c.relnamespace = n.oid and c.relname = given.name and c.relkind in ('r', 'p', 'v', 'm', 'f')
-- 8 and 4 are INSERT and UPDATE in what `pg_relation_is_updatable` says about views. It would wait for a locked table.
cross join lateral (
  select case when c.relkind in ('r', 'p') then 12 else coalesce(pg_relation_is_updatable(c.oid, true), 0) end as events
) as allowed
order by given.place

-- name: columns
select a.attrelid::int8 as table,
       a.attname::text as name,
       a.atttypid::int8 as type,
       a.atttypmod as typmod,
       format_type(a.atttypid, a.atttypmod) as declared,
       a.attnotnull as not_null,
       a.attidentity::text as identity,
       a.attgenerated::text as generated,
       a.atthasdef as has_default,
       exists (
         select
         from pg_attrdef d
         join pg_depend p on p.classid = 'pg_attrdef'::regclass and p.objid = d.oid
         join pg_class q on p.refclassid = 'pg_class'::regclass and q.oid = p.refobjid and q.relkind = 'S'
         where d.adrelid = a.attrelid
           and d.adnum = a.attnum
       ) as is_drawn,
       quote_ident(c.nspname) || '.' || quote_ident(l.collname) as collation,
       coalesce(l.collisdeterministic, true) as is_deterministic,
       s.name as sequence,
       has_sequence_privilege(s.oid, 'update') and has_sequence_privilege(s.oid, 'usage, select') as may_move,
       col_description(a.attrelid, a.attnum) as comment,
       has_column_privilege(a.attrelid, a.attnum, 'select') as may_select,
       has_column_privilege(a.attrelid, a.attnum, 'insert') as may_insert,
       has_column_privilege(a.attrelid, a.attnum, 'update') as may_update
from pg_attribute a
left join pg_collation l on l.oid = a.attcollation
left join pg_namespace c on c.oid = l.collnamespace
left join lateral (
  select quote_ident(n.nspname) || '.' || quote_ident(q.relname) as name, q.oid
  from pg_depend p
  join pg_class q on p.classid = 'pg_class'::regclass and q.oid = p.objid and q.relkind = 'S'
  join pg_namespace n on n.oid = q.relnamespace
  where p.refclassid = 'pg_class'::regclass
    and p.refobjid = a.attrelid
    and p.refobjsubid = a.attnum
    and p.deptype in ('a', 'i')
  limit 1
) as s on true
where a.attrelid = any(%(oids)s::oid[])
  and a.attnum > 0
  and not a.attisdropped
order by a.attrelid, a.attnum

-- name: types
-- The columns' types, and those that they are made of: a domain's base type, an array's elements.
with recursive used (oid) as (
  select distinct atttypid
  from pg_attribute
  where attrelid = any(%(oids)s::oid[])
    and attnum > 0
    and not attisdropped
  union
  select part.oid
  from used
  join pg_type t on t.oid = used.oid
  cross join lateral (
    values (t.typbasetype),
           ((select e.oid from pg_type e where e.typarray = t.oid))
  ) as part (oid)
  where part.oid <> 0
)
select t.oid::int8 as oid,
       n.nspname::text as schema,
       t.typname::text as name,
       quote_ident(n.nspname) || '.' || quote_ident(t.typname) as sql_name,
       nullif(t.typbasetype, 0)::int8 as base,
       t.typtypmod as base_typmod,
       t.typnotnull as not_null,
       (
         select json_object_agg(
           k.conname, coalesce(obj_description(k.oid, 'pg_constraint'), pg_get_constraintdef(k.oid))
         )
         from pg_constraint k
         where k.contypid = t.oid
           and k.contype = 'c'
       ) as checks,
       (select e.oid from pg_type e where e.typarray = t.oid)::int8 as element,
       -- the schema of the operators by which a B-tree compares values; null if the type has none
       (
         select operators.nspname::text
         from pg_opclass c
         join pg_am m on m.oid = c.opcmethod and m.amname = 'btree'
         join pg_amop a
           on a.amopfamily = c.opcfamily
           and a.amoplefttype = c.opcintype
           and a.amoprighttype = c.opcintype
           and a.amopstrategy = 3
         join pg_operator o on o.oid = a.amopopr
         join pg_namespace operators on operators.oid = o.oprnamespace
         where c.opcdefault
           and (
             c.opcintype = t.oid
             or c.opcintype = case
               when t.typtype = 'e' then 'anyenum'::regtype
               when t.typtype = 'r' then 'anyrange'::regtype
               when t.typtype = 'm' then 'anymultirange'::regtype
             end
             or exists (
               select
               from pg_cast
               where castsource = t.oid
                 and casttarget = c.opcintype
                 and castmethod = 'b'
                 and castcontext = 'i'
             )
           )
         order by c.opcintype = t.oid desc
         limit 1
       ) as operators,
       (
         select array_agg(e.enumlabel::text order by e.enumsortorder)
         from pg_enum e
         where e.enumtypid = t.oid
       ) as labels
from used
join pg_type t on t.oid = used.oid
join pg_namespace n on n.oid = t.typnamespace

-- name: constraints
-- `type`: `c` CHECK, `f` foreign key, others by name only. The arrays have the names of columns.
select k.conrelid::int8 as table,
       k.conname::text as name,
       k.contype::text as type,
       coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true) as is_enforced,  -- since PostgreSQL 18
       obj_description(k.oid, 'pg_constraint') as comment,
       n.nspname::text as target_schema,
       c.relname::text as target_name,
       has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') as may_read_target,
       array(
         select a.attname::text
         from unnest(k.conkey) with ordinality as part (number, place)
         join pg_attribute a on a.attrelid = k.conrelid and a.attnum = part.number
         order by part.place
       ) as columns,
       array(
         select a.attname::text
         from unnest(k.confkey) with ordinality as part (number, place)
         join pg_attribute a on a.attrelid = k.confrelid and a.attnum = part.number
         order by part.place
       ) as target_columns
from pg_constraint k
left join pg_class c on c.oid = k.confrelid
left join pg_namespace n on n.oid = c.relnamespace
where k.conrelid = any(%(oids)s::oid[])
  and k.contype in ('p', 'u', 'f', 'c', 'x')
  -- a foreign key to a partitioned table has a row for each partition, too
  and not exists (select from pg_constraint p where p.oid = k.conparentid and p.conrelid = k.conrelid)
order by k.conrelid, k.conname

-- name: expressions
-- The SQL of a table's defaults, generated columns and CHECK constraints. Waits if somebody is changing the table.
select 'column' as kind, a.attname::text as name, pg_get_expr(d.adbin, d.adrelid) as expression
from pg_attrdef d
join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
where d.adrelid = to_regclass(%(table)s)
union all
select 'check', conname::text, pg_get_expr(conbin, conrelid)
from pg_constraint
where conrelid = to_regclass(%(table)s)
  and contype = 'c'

-- name: indexes
-- `columns` has null for an expression and leaves INCLUDE columns out. An ordinary index sorts by its columns' own types
-- and collations, in ascending order.
select i.indrelid::int8 as table,
       c.relname::text as name,
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) as nulls_are_equal,  -- since PostgreSQL 15
       i.indisunique as is_unique,
       i.indisprimary as is_primary,
       i.indimmediate as is_immediate,
       i.indpred is not null as is_partial,
       m.amname::text as method,
       array(
         select a.attname::text
         from generate_series(0, i.indnkeyatts - 1) as part (place)
         left join pg_attribute a
           on a.attrelid = i.indrelid and a.attnum = i.indkey[part.place] and i.indkey[part.place] <> 0
         order by part.place
       ) as columns,
       (
         select bool_and(
           o.opcdefault
           and (i.indoption[part.place] & 1) = 0
           and (i.indcollation[part.place] = 0 or i.indcollation[part.place] = a.attcollation)
         )
         from generate_series(0, i.indnkeyatts - 1) as part (place)
         join pg_opclass o on o.oid = i.indclass[part.place]
         left join pg_attribute a
           on a.attrelid = i.indrelid and a.attnum = i.indkey[part.place] and i.indkey[part.place] <> 0
       ) as is_ordinary
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_am m on m.oid = c.relam
where i.indrelid = any(%(oids)s::oid[])
  and i.indisvalid
  and i.indisready
  and i.indislive
order by i.indrelid, i.indisprimary desc, c.relname

-- name: own_sources
-- The tables of the system and of wherry that views read, directly or through other views.
with recursive used (view, oid) as (
  select oid, oid
  from pg_class
  where oid = any(%(oids)s::oid[])
    and relkind in ('v', 'm')
  union
  select used.view, part.relid[1]::oid
  from used
  join pg_rewrite r on r.ev_class = used.oid
  -- not from pg_depend, which has no entries for system tables
  cross join lateral regexp_matches(r.ev_action::text, ':relid (\d+)', 'g') as part (relid)
)
select used.view::int8 as table, n.nspname::text as schema, c.relname::text as name
from used
join pg_class c on c.oid = used.oid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('pg_catalog', 'information_schema', 'wherry')
order by used.view, n.nspname, c.relname
