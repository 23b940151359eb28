-- Credentials for scripts, an operator's flag that no import can set, and when a password was last changed: a JWT issued
-- before that is refused.

alter table users
  add column operator boolean not null default false,
  add column password_changed_at timestamptz;

-- A token is stored only as its SHA-256; `prefix` lets its owner recognise it.
create table api_tokens (
  id uuid not null,
  user_id integer not null,
  name text not null,
  prefix text not null,
  token_hash bytea not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  constraint api_tokens_pkey primary key (id),
  constraint api_tokens_token_hash_key unique (token_hash),
  constraint api_tokens_user_id_fkey foreign key (user_id) references users (id) on delete cascade
);

create index api_tokens_user_id_idx on api_tokens (user_id);
create index api_tokens_expires_at_idx on api_tokens (expires_at);
