-- The X-Request-Id of the request that created the job, for the log lines of its runs.

alter table jobs add column request_id text;
