-- name: row_bytes
-- Average bytes per row on disk, out-of-line values included; 0 if the table has no statistics yet.
select case when reltuples > 0 then (pg_table_size(oid) / reltuples)::bigint else 0 end
from pg_class
where oid = to_regclass('wherry.' || %(table)s)
