-- The records that imports refused, by index: a row for each batch that has any.
create table import_rejects (
  job_id uuid not null,
  seq bigint generated always as identity,
  indexes bigint[] not null,
  constraint import_rejects_pkey primary key (job_id, seq),
  constraint import_rejects_job_id_fkey foreign key (job_id) references jobs (id) on delete cascade
);

-- An older `wherry migrate` gave it a search path on which it does not find the types of the user's own tables.
alter function input_fault(json, text, text) reset search_path;
