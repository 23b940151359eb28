-- One table for jobs of every kind. Only src/wherry/jobs/ledger.py writes it.

create table jobs (
  id uuid not null,
  kind text not null,
  status text not null default 'queued',
  owner_id integer,
  resource text not null,
  format text not null,
  options jsonb not null default '{}',
  idempotency_key text,
  fingerprint text,
  source jsonb,
  artifact jsonb,
  expires_at timestamptz,
  total_records bigint,
  success_count bigint not null default 0,
  error_count bigint not null default 0,
  processed_records bigint not null generated always as (success_count + error_count) stored,
  error_summary jsonb not null default '{}',
  checkpoint jsonb,
  epoch integer not null default 0,
  deaths smallint not null default 0,
  death_checkpoint jsonb,
  cancel_requested_at timestamptz,
  progress real not null default 0,
  stage text not null default 'queued',
  stage_progress real not null default 0,
  message text,
  last_event_seq integer not null default 0,
  error jsonb,
  traceparent text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  started_at timestamptz,
  completed_at timestamptz,
  constraint jobs_pkey primary key (id),
  constraint jobs_kind_known check (kind in ('import', 'export', 'capsule')),
  constraint jobs_status_known check (status in ('queued', 'running', 'succeeded', 'partial', 'failed', 'cancelled')),
  constraint jobs_counts_not_negative check (success_count >= 0 and error_count >= 0),
  constraint jobs_owner_id_fkey foreign key (owner_id) references users (id)
);

-- Per owner, kind, resource and key; the jobs of the capsule routes have no owner, and share one space of keys.
create unique index jobs_idempotency_key_idx on jobs (kind, owner_id, resource, idempotency_key) nulls not distinct
where idempotency_key is not null;

create index jobs_owner_id_idx on jobs (owner_id, id desc);
create index jobs_unfinished_idx on jobs (kind, owner_id) where status in ('queued', 'running');
create index jobs_expiry_idx on jobs (expires_at) where expires_at is not null;
create index jobs_completed_at_idx on jobs (completed_at) where completed_at is not null;

create table import_errors (
  job_id uuid not null,
  seq bigint generated always as identity,
  record_index bigint not null,
  record_id text,
  code smallint not null,
  name text not null,
  message text not null,
  field text,
  value jsonb,
  details jsonb,
  created_at timestamptz not null default now(),
  constraint import_errors_pkey primary key (job_id, record_index, seq),
  constraint import_errors_job_id_fkey foreign key (job_id) references jobs (id) on delete cascade
);

create table job_events (
  job_id uuid not null,
  seq integer not null,
  ts timestamptz not null default now(),
  type text not null,
  stage text not null,
  progress real not null,
  stage_progress real not null,
  message text not null,
  meta jsonb,
  constraint job_events_pkey primary key (job_id, seq),
  constraint job_events_job_id_fkey foreign key (job_id) references jobs (id) on delete cascade
);
