-- What accounts need beside `users`: one-time links, the addresses they log in from, and counters of attempts.

-- A link is kept only as the SHA-256 of its token: who reads this table cannot use it.
create table password_links (
  token_hash bytea not null,
  user_id integer not null,
  expires_at timestamptz not null,
  used_at timestamptz,
  created_at timestamptz not null default now(),
  constraint password_links_pkey primary key (token_hash),
  constraint password_links_user_id_fkey foreign key (user_id) references users (id) on delete cascade
);

create index password_links_user_id_idx on password_links (user_id);
create index password_links_expires_at_idx on password_links (expires_at);

-- Where an account has logged in from, as a SHA-256: such an address is not shut out when strangers guess elsewhere.
create table login_addresses (
  user_id integer not null,
  address_hash bytea not null,
  seen_at timestamptz not null default now(),
  constraint login_addresses_pkey primary key (user_id, address_hash),
  constraint login_addresses_user_id_fkey foreign key (user_id) references users (id) on delete cascade
);

create index login_addresses_seen_at_idx on login_addresses (seen_at);

-- One row a policy and subject; a window begins with its first use. Half-filled pages keep updates in place.
create table rate_limits (
  policy text not null,
  subject text not null,
  used integer not null,
  expires_at timestamptz not null,
  constraint rate_limits_pkey primary key (policy, subject)
) with (fillfactor = 50);

create index rate_limits_expires_at_idx on rate_limits (expires_at);
