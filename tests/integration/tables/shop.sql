create schema shop;
create type shop.state as enum ('draft', 'live', 'it''s');
create domain shop.sku as varchar(20) check (value ~ '^[A-Z0-9-]+$');
create table shop.supplier (
  id bigint generated always as identity primary key,
  email text not null unique,
  parent_id bigint references shop.supplier
);
comment on table shop.supplier is 'Who sells to us.';
comment on column shop.supplier.email is 'Where orders are sent.';
create table shop.price (
  tenant uuid,
  sku shop.sku,
  amount numeric(12, 2) not null,
  label varchar(40),
  valid daterange,
  state shop.state not null default 'draft',
  meta jsonb,
  supplier_id bigint references shop.supplier,
  updated_at timestamptz not null default now(),
  doubled numeric generated always as (amount * 2) stored,
  primary key (tenant, sku)
);
create index on shop.price (state, label);
create index on shop.price (lower(label));
create index on shop.price using gin (meta);
create table shop."Odd ""Name""" ("select" int primary key, "a b" text, "ünïcode" text, "UPPER" text, upper text);
create table shop.no_key (n int, t text);
create table shop.two_keys (a int not null unique, b int not null unique);
create table shop.bad_keys (
  a int unique, b int not null, c int not null unique deferrable, unique (b) include (a)
);
create unique index on shop.bad_keys (a) where a > 0;
create unique index on shop.bad_keys (abs(b));
create table shop.parted (id int, day date, primary key (id, day)) partition by range (day);
create table shop.parted_2024 partition of shop.parted for values from ('2024-01-01') to ('2025-01-01');
create view shop.live as select sku, amount from shop.price where state = 'live';
create table shop.empty ();
create view shop.all_roles as select rolname::text as name from pg_authid;
create view shop.roles as select name from shop.all_roles;
