"""Writes the rows of a batch to a table, inside the caller's transaction.

How much is asked of the database beforehand depends on the `Care` that a batch is written with. The table may refuse
what the plan allows. Then the driver's exception is raised, and the caller tries again with more care.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import psycopg
from msgspec import UNSET
from msgspec.structs import astuple
from psycopg.rows import scalar_row, tuple_row

from wherry.database.pools import Connection
from wherry.database.queries import load
from wherry.imports import statements
from wherry.imports.copying import (
    UNENCODABLE,
    Copied,
    Places,
    RowEncoder,
    copying,
    given,
    grouped,
    highest_of,
    in_order,
    picker,
)
from wherry.imports.judge import Judge
from wherry.imports.lookup import Lookup, encode, encode_fields
from wherry.imports.models import Batch, DecodedRecord, OnConflict, RecordError, clipped
from wherry.imports.plan import Created, Known, Plan, Rules, Updated, make_plan, related_to
from wherry.imports.references import Resolver
from wherry.tables.derivation import shape_of
from wherry.tables.model import Table, Unique
from wherry.tables.shape import Row


@dataclass(frozen=True)
class Care:
    """How a batch is written.

    Attributes:
        looks_up: whether the rows that its records name are looked up, and those that they refer to. Otherwise its
            sound records are assumed to create rows; the table's constraints refuse the batch if that is wrong.
        updates: whether its sound records are assumed to update the rows that they name, and to create others.
        is_thorough: whether rows with the same values of other unique indexes are looked up, too.
        judges: whether PostgreSQL judges its records beforehand.
        draws: whether records without ids get some that no row has.
    """

    looks_up: bool = False
    updates: bool = False
    is_thorough: bool = False
    judges: bool = False
    draws: bool = False

    def after(self, refused: psycopg.Error) -> Care | None:
        """How to try again; None if nothing else can be done."""
        if self.updates:
            return Care(looks_up=True, is_thorough=True)
        if refused.sqlstate not in ("23505", "23503", "23P01"):
            more = replace(self, judges=True)
        else:  # it concerns other rows
            more = replace(self, looks_up=True, is_thorough=self.looks_up)
        if more != self:
            return more
        return None if self == UTMOST_CARE else UTMOST_CARE


class NotAsAssumed(psycopg.IntegrityError):
    """A batch cannot be written without looking up its records."""


UTMOST_CARE = Care(looks_up=True, is_thorough=True, judges=True, draws=True)


@dataclass(slots=True)
class Tally:
    """The result of a batch.

    Attributes:
        highest: the highest value that new rows have in each column with a sequence.
        postponed: records that refer to rows of the same table that do not exist yet.
        unknown: how many records have each unknown field, if that is noted.
    """

    successes: int = 0
    failures: int = 0
    errors: list[RecordError] = field(default_factory=list)
    highest: Mapping[str, int] = field(default_factory=dict)
    postponed: Sequence[DecodedRecord] = ()
    unknown: Mapping[str, int] = field(default_factory=dict)

    @property
    def rejects(self) -> list[int]:
        """The indexes of the records with errors, in order."""
        return sorted({error.index for error in self.errors})

    @property
    def summary(self) -> dict[str, int]:
        """Errors by name and field."""
        return dict(Counter(error.summary_key for error in self.errors))


class Merger:
    """Writes the batches of one import, one after another.

    Args:
        since: the import's first transaction, if an earlier run has written something.
    """

    def __init__(self, table: Table, job_id: UUID, rules: Rules, since: str | None = None) -> None:
        self.care = Care(looks_up=True)
        """How to write the next batch at first."""
        self.since = since
        self._table = table
        self._shape = shape_of(table)
        self._job_id = job_id
        self._rules = rules
        self._judge = Judge(table)
        self._resolver = Resolver(table, updates=rules.on_conflict is OnConflict.UPDATE)
        self._columns = [table.columns[name] for name in self._shape.columns]
        self._marks = self._shape.marker is None and rules.on_conflict is OnConflict.UPDATE and bool(table.uniques)
        self._lookup = Lookup(table, job_id, self._mine())
        self._encoder, self._ahead_encoder = RowEncoder(table, job_id), RowEncoder(table, job_id)
        self._unique_places = {
            place
            for place, column in enumerate(self._columns)
            if any(column.name in unique.columns for unique in table.uniques if not unique.names_row)
        }
        self._naming = [unique for unique in table.uniques if unique.names_row]
        self._can_update_all = self._shape.policy is None and table.is_locked and not table.has_own_rules
        self._drawn: dict[str, list[int]] = defaultdict(list)
        self._ahead: dict[int, tuple[Batch, list[Copied]]] = {}

    async def write(self, connection: Connection, batch: Batch, care: Care, *, is_last: bool = False) -> Tally:
        """Write the rows of a batch, inside the caller's transaction. Its errors are only returned.

        Args:
            is_last: whether no later record can create the rows that records refer to.

        Raises:
            psycopg.Error: `REFUSALS` and `RACES` among others; the caller must roll the batch back.
            JobFailed: the import's owner has lost the role that it needs.
        """
        await self._prepare(connection)
        _, encoded = self._ahead.pop(id(batch), (batch, None))
        batch, waiting = await self._resolver.resolve(connection, batch, is_last=is_last)
        highest: dict[str, int] = {}
        self._drawn.clear()
        judged = batch
        if care.updates:
            plan = await self._update_or_create(connection, batch, highest, is_last=is_last)
        else:
            judged, known = await self._judge_first(connection, batch, care)
            rows = encoded if judged is batch else None
            assumed = None
            if known is None:
                assumed = await self._assumed(connection, judged, rows, is_judged=care.judges, is_last=is_last)
            plan = assumed or await self._careful(connection, judged, known, care, is_last=is_last)
            await self._carry_out(connection, plan, highest, draw=care.draws)
        if self._marks:
            await self._mark(connection, plan)
        self._learn(plan, batch, judged)
        unknown = _unknown_fields(batch, plan.postponed)
        return Tally(plan.successes, plan.failures, plan.errors, highest, [*waiting, *plan.postponed], unknown)

    async def _judge_first(self, connection: Connection, batch: Batch, care: Care) -> tuple[Batch, Known | None]:
        """The batch with the faults that PostgreSQL finds in it, and what was looked up, both if `care` says so."""
        everything = range(len(batch))
        if care.judges:
            batch = await self._judge.check_inputs(connection, batch, everything)
        known = None
        # How a row is judged that is updated depends on what it has, and a record that is skipped is not judged.
        if care.looks_up or (care.judges and self._rules.on_conflict is not OnConflict.ERROR):
            known = await self._lookup.known(connection, batch, self.since, every=care.is_thorough)
        if care.judges:
            batch = await self._check_rows(connection, batch, known, everything)
        return batch, known

    @property
    def may_doubt(self) -> bool:
        """Whether there are fields whose values only PostgreSQL can read."""
        return self._judge.may_doubt

    def encode_ahead(self, batch: Batch) -> None:
        """In another thread, encode the rows of the batch that is written next, if they will probably be new."""
        if self.care == Care() and not self._marks and not any(entry.keys for entry in batch):
            try:
                encoded = self._ahead_encoder.encode_ahead(batch)
            except UNENCODABLE:
                return  # which is reported when the batch is written
            if encoded is not None:
                self._ahead[id(batch)] = batch, encoded

    async def _carry_out(self, connection: Connection, plan: Plan, highest: dict[str, int], *, draw: bool) -> None:
        for copied in plan.encoded:
            await self._copy(connection, copied, highest)
        for segment in plan.segments:
            await self._create(connection, segment.creates, highest, draw=draw)
            await self._update(connection, segment.updates)

    async def forget(self, connection: Connection) -> None:
        """Delete the notes of what was written and postponed, once no run of the import will need them."""
        if self._marks:
            await connection.execute(load("imports")["delete_rows"], {"job_id": self._job_id})
        if self._table.refers_to_itself:
            await connection.execute(load("imports")["delete_postponed"], {"job_id": self._job_id})

    async def _update_or_create(
        self, connection: Connection, batch: Batch, highest: dict[str, int], *, is_last: bool
    ) -> Plan:
        """Update the rows that the sound records name, without looking them up; those that name none create one.

        Raises:
            NotAsAssumed: some records have to be looked up.
        """
        plan = await self._plan_faulty(connection, batch, is_judged=False, is_last=is_last)
        if plan is None or plan.created or plan.updated:
            raise NotAsAssumed
        segment = plan.segments[0]
        sound = [entry for entry in batch if not entry.errors]
        for entry in sound:
            by = self._key_of(astuple(entry.record))
            if by is None:
                segment.creates.append(Created(entry, self._shape.new(entry.record)))
            else:
                segment.updates.append(Updated(entry, by, self._shape.changes(entry.record)))
        found = await self._update(connection, segment.updates, spares_mine=True)
        others = [each for place, each in enumerate(segment.updates) if place not in found]
        segment.updates = [each for place, each in enumerate(segment.updates) if place in found]
        segment.creates += [Created(each.entry, self._shape.new(each.entry.record)) for each in others]
        await self._create(connection, segment.creates, highest, draw=False)
        plan.successes = len(sound)
        return plan

    def _learn(self, plan: Plan, batch: Batch, judged: Batch) -> None:
        """Choose the care for the next batch, which is probably like this one."""
        before, sound = count_sound(batch), count_sound(judged)
        has_faults = sound < before
        if plan.created == sound and self._has_checked_keys():
            self.care = Care(judges=has_faults)
        elif plan.updated and plan.created + plan.updated == sound == before and self._can_update_all:
            self.care = Care(updates=True)
        else:
            self.care = Care(looks_up=True, is_thorough=bool(plan.errors), judges=has_faults)

    def _has_checked_keys(self) -> bool:
        """Whether the table itself refuses a second row with the same key."""
        return self._table.is_locked or not self._table.uniques

    async def _assumed(
        self, connection: Connection, batch: Batch, encoded: Sequence[Copied] | None, *, is_judged: bool, is_last: bool
    ) -> Plan | None:
        """A plan made without looking up the sound records, or None if any of them may not become a new row.

        `encoded` are the rows of all sound records, if they have been encoded.
        """
        plan = await self._plan_faulty(connection, batch, is_judged=is_judged, is_last=is_last)
        if plan is None or plan.updated or len(plan.segments) > 1:
            return None
        plan.successes = len(batch) - plan.failures - len(plan.postponed)
        if encoded is None:
            sound = [entry for entry in batch if not entry.errors]
            plan.segments[0].creates = [Created(entry, self._shape.new(entry.record)) for entry in sound]
        else:
            plan.segments[0].creates, plan.encoded = [], encoded
        return plan

    async def _plan_faulty(
        self, connection: Connection, batch: Batch, *, is_judged: bool, is_last: bool
    ) -> Plan | None:
        """A plan for the faulty records, which are always looked up because they never reach the table.

        It has the sound records that have keys in common with them, too; None if any of these fails.
        """
        faulty = [place for place, entry in enumerate(batch) if entry.errors]
        if not faulty:
            return Plan()
        if not self._lookup.is_exact:
            return None
        known = await self._lookup.known(connection, [batch[place] for place in faulty], self.since, every=True)
        batch = batch if is_judged else await self._judged(connection, batch, known, faulty)
        related = related_to(self._table, batch, faulty)
        plan = make_plan(self._table, self._rules, known, related, is_last=is_last)
        is_sure = plan.created + plan.updated == count_sound(related) and not plan.lacks_keepers
        return plan if is_sure else None

    async def _careful(
        self, connection: Connection, batch: Batch, known: Known | None, care: Care, *, is_last: bool
    ) -> Plan:
        """A plan for which all records are looked up; more thoroughly if some of them fail."""
        known = known or await self._lookup.known(connection, batch, self.since, every=care.is_thorough)
        plan = await self._planned(connection, batch, known, is_judged=care.judges, is_last=is_last)
        moves = any(each.row[place] is not UNSET for each in plan.updates for place in self._unique_places)
        if (plan.errors or moves) and not care.is_thorough and len(self._naming) < len(self._table.uniques):
            known = await self._lookup.known(connection, batch, self.since, every=True)
            plan = await self._planned(connection, batch, known, is_judged=care.judges, is_last=is_last)
        return plan

    async def _planned(
        self, connection: Connection, batch: Batch, known: Known, *, is_judged: bool, is_last: bool
    ) -> Plan:
        plan = make_plan(self._table, self._rules, known, batch, is_last=is_last)
        if plan.lacks_keepers:
            known = await self._lookup.with_keepers(connection, known)
            plan = make_plan(self._table, self._rules, known, batch, is_last=is_last)
        if is_judged or not plan.errors:
            return plan
        # All faults of a record are reported together.
        failing = {error.index for error in plan.errors}
        which = [place for place, entry in enumerate(batch) if entry.index in failing]
        judged = await self._judged(connection, batch, known, which)
        return plan if judged == batch else make_plan(self._table, self._rules, known, judged, is_last=is_last)

    async def _judged(self, connection: Connection, batch: Batch, known: Known | None, which: Sequence[int]) -> Batch:
        """The batch with the faults that PostgreSQL finds in some of its records."""
        if self._table.has_own_rules:  # whatever is judged beforehand, a trigger may change
            return batch
        batch = await self._judge.check_inputs(connection, batch, which)
        return await self._check_rows(connection, batch, known, which)

    async def _check_rows(
        self, connection: Connection, batch: Batch, known: Known | None, which: Sequence[int]
    ) -> Batch:
        """The batch with the CHECK constraints that some of its records break. Those that are skipped break none."""
        if self._table.has_own_rules:
            return batch
        if known is not None and self._rules.on_conflict is OnConflict.SKIP:
            which = [place for place in which if not known.names_row(self._table, batch[place])]
        updates = self._rules.on_conflict is OnConflict.UPDATE
        return await self._judge.check_rows(connection, batch, which, known if updates else None)

    async def _prepare(self, connection: Connection) -> None:
        """Set the transaction up, and check that the owner still has the role."""
        authority = self._rules.authority
        values = {"name": session_name(self._job_id), "owner_id": authority.owner_id}
        cursor = connection.cursor(row_factory=tuple_row)
        await cursor.execute(load("imports")["prepare"], values)
        row = await cursor.fetchone()
        assert row is not None
        role, transaction, *_ = row
        authority.require(role)
        self.since = self.since or transaction

    async def _create(
        self, connection: Connection, creates: Sequence[Created], highest: dict[str, int], *, draw: bool
    ) -> None:
        copied = grouped(each.row for each in creates if self._is_copied(each))
        inserted = grouped(each.row for each in creates if not self._is_copied(each))
        for groups, may_copy in ((copied, True), (inserted, False)):
            for places, rows in in_order(groups):
                if draw or self._marks:
                    places, rows = await self._with_ids(connection, places, rows)
                if may_copy and self._encoder.can_encode(places):
                    await self._copy(connection, self._encoder.encode(places, rows), highest)
                else:
                    await self._insert(connection, places, rows)
                    for place in places:
                        if self._columns[place].sequence is not None:
                            _raise(highest, self._columns[place].name, highest_of(row[place] for row in rows))

    def _is_copied(self, created: Created) -> bool:
        return self._table.is_copied and not created.entry.is_unparsed

    async def _copy(self, connection: Connection, copied: Copied, highest: dict[str, int]) -> None:
        query = statements.copy(self._table, copied.columns).encode()
        async with copying(connection, query) as copy:
            await copy.write(copied.data)
        for name, value in copied.highest.items():
            _raise(highest, name, value)

    async def _insert(self, connection: Connection, places: Places, rows: Sequence[Row]) -> None:
        if not places:
            await self._insert_defaults(connection, len(rows))
            return
        names = tuple(self._columns[place].name for place in places)
        values = {"rows": self._as_json(places, rows), "job_id": self._job_id}
        await connection.execute(statements.insert(self._table, names).encode(), values)

    async def _insert_defaults(self, connection: Connection, count: int) -> None:
        async with connection.cursor() as cursor:
            await cursor.executemany(statements.insert_defaults(self._table).encode(), [()] * count)

    async def _update(
        self, connection: Connection, updates: Sequence[Updated], *, spares_mine: bool = False
    ) -> set[int]:
        """Update rows; return the positions of the updates that found one.

        `spares_mine` leaves rows as they are that this import wrote.
        """
        groups: dict[tuple[Unique, Places], list[int]] = defaultdict(list)
        for number, each in enumerate(updates):
            groups[each.by, given(each.row)].append(number)
        found: set[int] = set()
        for (by, places), numbers in groups.items():
            self._sort(updates, by, numbers)
            exact = {name for name in by.columns if self._table.columns[name].type.is_exact}
            columns = [self._columns[place] for place in places]
            names = tuple(column.name for column in columns if column.is_settable and column.name not in exact)
            spared = self._mine() if spares_mine and not (by.renews and len(self._naming) > 1) else None
            query = statements.update(
                self._table, by, names, marks=self._marks, spared=spared, keeps_others=spares_mine
            )
            rows = self._as_json(places, (updates[number].row for number in numbers), numbers)
            values = {"rows": rows, "job_id": self._job_id, "since": self.since}
            async with connection.cursor(row_factory=scalar_row) as cursor:
                await cursor.execute(query.encode(), values)
                found.update(await cursor.fetchall())
        return found

    def _sort(self, updates: Sequence[Updated], by: Unique, numbers: list[int]) -> None:
        """Bring updates into the order of their keys, so that two imports of the same rows do not deadlock."""
        if all(self._table.columns[name].type.is_exact for name in by.fields):
            places = [self._shape.columns.index(name) for name in by.fields]
            numbers.sort(key=lambda number: [updates[number].row[place] for place in places])

    def _as_json(self, places: Places, rows: Iterable[Row], numbers: Sequence[int] = ()) -> str:
        """Values at these positions as JSON, for `statements`."""
        names = [f"c{place}" for place in places]
        converted = [
            (name, column.type.to_json)
            for name, column in ((f"c{place}", self._columns[place]) for place in places)
            if column.type.to_json is not None
        ]
        shown: list[dict[str, object]] = [dict(zip(names, values, strict=True)) for values in map(picker(places), rows)]
        for name, to_json in converted:
            for row in shown:
                if row[name] is not None:
                    row[name] = to_json(row[name])
        for row, number in zip(shown, numbers, strict=False):
            row["i"] = number
        return encode(shown)

    async def _with_ids(self, connection: Connection, places: Places, rows: list[Row]) -> tuple[Places, list[Row]]:
        """The rows with values of the sequences of columns that they do not give; none that any row has."""
        for place, column in enumerate(self._columns):
            if column.sequence is not None and place not in places:
                ids = await self._unused(connection, column.name, len(rows))
                rows = [(*row[:place], id_, *row[place + 1 :]) for row, id_ in zip(rows, ids, strict=True)]
                self._drawn[column.name] += ids
                places = tuple(sorted((*places, place)))
        return places, rows

    async def _unused(self, connection: Connection, column: str, count: int) -> list[int]:
        cursor = connection.cursor(row_factory=scalar_row)
        ids: list[int] = []
        while len(ids) < count:
            await cursor.execute(statements.unused(self._table, column).encode(), {"count": count - len(ids)})
            ids += await cursor.fetchall()
        return ids

    async def _mark(self, connection: Connection, plan: Plan) -> None:
        """Note which rows were created, by the first key that each record has."""
        groups: dict[Unique, list[Sequence[Any]]] = defaultdict(list)
        for segment in plan.segments:
            for each in segment.creates:
                record = astuple(each.entry.record)
                by = self._key_of(record)
                if by is not None:
                    groups[by].append(record)
        for by, records in groups.items():
            await self._mark_rows(connection, by, encode_fields(self._table, by.fields, records))
        for by in self._naming:
            if len(by.columns) == 1 and (ids := self._drawn[by.columns[0]]):
                field = f"c{self._shape.columns.index(by.columns[0])}"
                await self._mark_rows(connection, by, encode([{field: id_} for id_ in ids]))

    async def _mark_rows(self, connection: Connection, by: Unique, rows: str) -> None:
        query, values = statements.mark(self._table, by).encode(), {"rows": rows, "job_id": self._job_id}
        await connection.execute(query, values, prepare=False)

    def _key_of(self, record: Sequence[Any]) -> Unique | None:
        """The first key that a record has all values of."""
        return next((key for key in self._naming if self._has(record, key)), None)

    def _has(self, record: Sequence[Any], unique: Unique) -> bool:
        places = self._shape.places
        return all(
            name in places and record[places[name]] is not UNSET and record[places[name]] is not None
            for name in unique.fields
        )

    def _mine(self) -> str:
        """The SQL of whether this import wrote the row `target`."""
        if self._shape.marker is not None:
            return f"target.{self._shape.marker} is not distinct from %(job_id)s::pg_catalog.uuid"
        if self._marks:
            return statements.marked(self._table)
        # Here it only chooses the message. Another session may have written the row since the import began.
        is_later = "pg_catalog.age(target.xmin) <= pg_catalog.age(%(since)s::pg_catalog.xid)"
        return is_later if self._table.is_locked else "false"


def _unknown_fields(batch: Batch, postponed: Sequence[DecodedRecord]) -> Mapping[str, int]:
    """How many records of a batch have each unknown field. Those that are postponed come again."""
    if not any(entry.unknown for entry in batch):
        return {}
    again = {entry.index for entry in postponed}
    return Counter(clipped(name) for entry in batch if entry.index not in again for name in entry.unknown)


def session_name(job_id: UUID) -> str:
    """The `application_name` of the import's sessions while they have a transaction."""
    return f"wherry import {job_id}"


def count_sound(batch: Batch) -> int:
    """How many records have no faults."""
    return sum(1 for entry in batch if not entry.errors)


def _raise(highest: dict[str, int], name: str, value: int) -> None:
    highest[name] = max(highest.get(name, 0), value)
