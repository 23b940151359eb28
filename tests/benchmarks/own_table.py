"""A table of a user's own, for which wherry has no code: ten columns of nine types, a unique key and a CHECK."""

from __future__ import annotations

from wherry.tables.declarations import Declaration, Declarations

OWN = Declarations(
    tables={
        "items": Declaration(table="shop.item"),
        "parts": Declaration(table="shop.part", references={"maker_id": "email"}),
    }
)
OWN_TABLE = """
create schema shop;
create type shop.state as enum ('new', 'sold', 'gone');
create table shop.item (
  id bigint primary key,
  code text not null unique,
  amount numeric(12, 2) not null check (amount >= 0),
  quantity integer not null,
  is_new boolean not null,
  owner uuid not null,
  made_at timestamptz not null,
  sold_on date,
  state shop.state not null,
  meta jsonb
);
create table shop.maker (id bigint primary key, email text not null unique);
create table shop.part (like shop.item including all, maker_id bigint references shop.maker);
"""
