-- name: row_bytes
-- Average bytes per row on disk, out-of-line values and partitions included; null if it is not known.
select (sum(pg_table_size(part.oid)) / nullif(sum(greatest(part.reltuples, 0)), 0))::bigint
from pg_class c
cross join lateral (
  select c.oid
  union
  select relid
  from pg_partition_tree(c.oid)
) as parts (oid)
join pg_class part on part.oid = parts.oid
where c.relname = %(name)s
  and c.relnamespace = (select oid from pg_namespace where nspname = %(schema)s)
