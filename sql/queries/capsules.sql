-- name: lock_queue
select pg_advisory_xact_lock(hashtext('capsule_queue'))
