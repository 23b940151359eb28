-- The rows that an import with `onConflict=update` wrote, by a digest of what names them, so that a later record of the
-- same import cannot change them again. Only for tables that have no column for that. Removed when the import ends.
create table import_rows (
  job_id uuid not null,
  row uuid not null,
  constraint import_rows_pkey primary key (job_id, row)
);

-- Records that refer to a row of the same table that does not exist yet: they are written at the end of the file.
create table import_postponed (
  job_id uuid not null,
  record_index bigint not null,
  byte_offset bigint not null,
  data bytea not null,
  constraint import_postponed_pkey primary key (job_id, record_index)
);

-- Why PostgreSQL cannot read a JSON value as a type, and convert it by an expression of `x`; null if it can.
create function input_fault(value json, type text, expression text, out state text, out message text, out constraint_name text)
language plpgsql
as $$
begin
  execute pg_catalog.format(
    'select %s from pg_catalog.json_to_record(pg_catalog.json_build_object(''x'', $1)) as given (x %s)',
    expression,
    type
  ) using value;
exception
  when data_exception or integrity_constraint_violation or program_limit_exceeded or feature_not_supported
    or raise_exception or syntax_error_or_access_rule_violation then
    get stacked diagnostics
      state = returned_sqlstate, message = message_text, constraint_name = constraint_name;
end
$$;
