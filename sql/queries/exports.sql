-- name: row_bytes
-- What a row takes on disk on average, its out-of-line values included; 0 where nothing is known yet.
select case when reltuples > 0 then (pg_table_size(oid) / reltuples)::bigint else 0 end
from pg_class
where oid = to_regclass(%(table)s)
