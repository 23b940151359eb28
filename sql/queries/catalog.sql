-- What PostgreSQL's catalog says about tables. All queries but the first two take the tables' oids.

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
       current_user::text as role
from unnest(%(schemas)s::text[], %(names)s::text[]) with ordinality as given (schema, name, place)
left join pg_namespace n on n.nspname = given.schema
left join pg_class c on c.relnamespace = n.oid and c.relname = given.name and c.relkind in ('r', 'p', 'v', 'm', 'f')
order by given.place

-- name: columns
select a.attrelid::int8 as table,
       a.attname::text as name,
       a.atttypid::int8 as type,
       a.atttypmod as typmod,
       format_type(a.atttypid, a.atttypmod) as declared,
       (
         select quote_ident(n.nspname) || '.' || quote_ident(t.typname)
         from pg_type t
         join pg_namespace n on n.oid = t.typnamespace
         where t.oid = a.atttypid
       ) as cast,
       a.attnotnull as not_null,
       a.attidentity::text as identity,
       a.attgenerated::text as generated,
       a.atthasdef as has_default,
       col_description(a.attrelid, a.attnum) as comment,
       has_column_privilege(a.attrelid, a.attnum, 'select') as may_select
from pg_attribute a
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
       nullif(t.typbasetype, 0)::int8 as base,
       t.typtypmod as base_typmod,
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

-- name: foreign_keys
select k.conrelid::int8 as table,
       k.conname::text as name,
       n.nspname::text as target_schema,
       c.relname::text as target_name,
       array(
         select a.attname::text
         from unnest(k.conkey) with ordinality as part (number, place)
         join pg_attribute a on a.attrelid = k.conrelid and a.attnum = part.number
         order by part.place
       ) as columns
from pg_constraint k
join pg_class c on c.oid = k.confrelid
join pg_namespace n on n.oid = c.relnamespace
where k.conrelid = any(%(oids)s::oid[])
  and k.contype = 'f'
order by k.conrelid, k.conname

-- name: indexes
-- `columns` has null for an expression and leaves INCLUDE columns out. An ordinary index sorts by its columns' own types
-- and collations, in ascending order.
select i.indrelid::int8 as table,
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
