-- The timeline of jobs, retries, pauses, workers, and webhooks. Adds only, so that older processes go on working.

-- `round` is one more than the number of retries. `queue_id` is the only queue row that may claim the job; null allows any.
-- `worker` is the host and the process id of the worker that claimed it last.
alter table jobs
  add column round integer not null default 1,
  add column queue_id bigint,
  add column queued_at timestamptz not null default now(),
  add column worker text,
  add column webhook_url text;

update jobs
set queued_at = created_at
where status = 'queued';

create index jobs_recent_idx on jobs (kind, id desc);

-- What happened to jobs of every kind. `job_events` is the log that the capsule routes show.
create table job_history (
  job_id uuid not null,
  id bigint generated always as identity,
  ts timestamptz not null default clock_timestamp(),
  type text not null,
  round integer not null,
  epoch integer not null,
  meta jsonb,
  constraint job_history_pkey primary key (job_id, id),
  constraint job_history_job_id_fkey foreign key (job_id) references jobs (id) on delete cascade
);

create unique index job_history_one_end_idx on job_history (job_id, round) where type = 'ended';

insert into job_history (job_id, ts, type, round, epoch, meta)
select id, completed_at, 'ended', 1, epoch, jsonb_build_object('status', status)
from jobs
where completed_at is not null;

-- The priority of the queue row that an owner's last job got; 0 is the owner of jobs without one.
create table queue_turns (
  kind text not null,
  owner_id integer not null,
  turn integer not null,
  constraint queue_turns_pkey primary key (kind, owner_id)
);

create table queue_pauses (
  kind text not null,
  paused_at timestamptz not null default now(),
  paused_by integer,
  constraint queue_pauses_pkey primary key (kind),
  constraint queue_pauses_kind_known check (kind in ('import', 'export', 'capsule'))
);

-- What `procrastinate_workers`, which has the heartbeats, does not say of a worker.
create table workers (
  worker_id bigint not null,
  host text not null,
  pid integer not null,
  version text not null,
  started_at timestamptz not null default now(),
  constraint workers_pkey primary key (worker_id)
);

-- One row per end of a job that has a webhook. `data` is the job at that moment: a retry changes the job's own row.
create table webhook_events (
  job_id uuid not null,
  round integer not null,
  id text not null,
  url text not null,
  type text not null,
  ended_at timestamptz not null,
  data jsonb not null,
  status text not null default 'pending',
  attempts integer not null default 0,
  next_at timestamptz default now(),
  constraint webhook_events_pkey primary key (job_id, round),
  constraint webhook_events_id_key unique (id),
  constraint webhook_events_status_known check (status in ('pending', 'delivered', 'failed')),
  constraint webhook_events_job_id_fkey foreign key (job_id) references jobs (id) on delete cascade
);

create index webhook_events_pending_idx on webhook_events (next_at) where status = 'pending';

create table webhook_attempts (
  event_id text not null,
  number integer not null,
  ts timestamptz not null default clock_timestamp(),
  response_status integer,
  error text,
  duration_ms integer not null,
  constraint webhook_attempts_pkey primary key (event_id, number),
  constraint webhook_attempts_event_id_fkey foreign key (event_id) references webhook_events (id) on delete cascade
);
