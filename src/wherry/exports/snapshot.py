"""Reads a selection in one snapshot of the database.

In: a selection and a limit. Out: batches of rows (tuples in the order of the selection's fields), strictly by id, all
as of one moment, however long the reading takes. Blocking: it belongs in a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, cast

import psycopg
from psycopg import capabilities, sql

from wherry.database.pools import connection_options
from wherry.database.queries import load
from wherry.errors import Misconfigured, SnapshotStopped
from wherry.exports import statements
from wherry.exports.selection import Selection

RecordRow = tuple[Any, ...]
RowBatch = Sequence[RecordRow]

BATCH_ROWS = 250
"""Rows that the client library hands over at once: one at a time takes twice as long; a thousand no longer fit the
processor's cache, and make the garbage collector work (measured)."""

BATCH_BYTES = 1 << 20
"""The most that a batch should hold, by the table's average row: few rows at a time where rows are large."""

RECEIVE_BYTES = 1_000_000
"""libpq reads 16 KiB at a time until a message does not fit, and then keeps the larger buffer: one such message before
the first row saves a tenth of the client's time (measured)."""


def require_chunked_rows() -> None:
    """Check at start, not in the middle of a job, that the client library can stream in batches.

    Raises:
        Misconfigured: libpq is older than 17.
    """
    try:
        capabilities.has_stream_chunked(check=True)
    except psycopg.NotSupportedError as error:
        raise Misconfigured(f"exports need libpq 17 or newer, as psycopg[binary] brings it: {error}") from error


class Snapshot:
    """One reading of a selection. `batches` is for one thread; `stop` may be called from any other.

    While it runs, `rows` counts what was read, and `estimate` is the planner's opinion of how many there will be.

    Args:
        conninfo: the database, or a hot standby of it.
        selection: what to read.
        window_rows: rows a statement; between two statements the server holds nothing but the snapshot.
        max_rows: where to end; `truncated` says afterwards whether there was more.
    """

    def __init__(self, conninfo: str, selection: Selection, *, window_rows: int, max_rows: int) -> None:
        self._conninfo = conninfo
        self._selection = selection
        self._window_rows = window_rows
        self._max_rows = max_rows
        self._stopping = threading.Event()
        self._connection: psycopg.Connection[RecordRow] | None = None
        self.rows = 0
        self.estimate: int | None = None
        self.truncated = False

    def batches(self) -> Generator[RowBatch, None, None]:
        """Every row, a batch at a time.

        Raises:
            SnapshotStopped: by `stop`.
            psycopg.Error: as the database says.
        """
        options = connection_options(self._conninfo, "wherry export")
        with closing(psycopg.connect(self._conninfo, autocommit=True, **options)) as connection:
            self._connection = connection
            try:
                connection.execute("select repeat(' ', %s)", [RECEIVE_BYTES])
                connection.execute("begin isolation level repeatable read read only")
                # It holds no lock that blocks anyone, so it may idle while slow storage catches up.
                connection.execute("set local idle_in_transaction_session_timeout = '10min'")
                self.estimate = self._estimate(connection)
                yield from self._windows(connection)
            except psycopg.errors.QueryCanceled:
                self._check()
                raise

    @property
    def found(self) -> int:
        """How many records are known to exist: one more than `rows` if there were more than `max_rows`."""
        return self.rows + self.truncated

    def stop(self) -> None:
        """End the reading soon, in the middle of a statement too. Blocks for a moment; call it again if need be."""
        self._stopping.set()
        connection = self._connection
        if connection is not None and not connection.closed:
            try:
                connection.cancel_safe(timeout=1)
            except psycopg.Error:
                return  # a server that cannot be reached has no statement of ours to cancel

    def _check(self) -> None:
        if self._stopping.is_set():
            raise SnapshotStopped

    def _windows(self, connection: psycopg.Connection[RecordRow]) -> Iterator[RowBatch]:
        statement = statements.window(self._selection)
        position = statements.id_position(self._selection)
        size = self._batch_rows(connection)
        last = 0
        while True:
            room = min(self._window_rows, self._max_rows - self.rows)
            if room == 0:
                self.truncated = any(self._stream(connection, statement, last, 1, 1))
                return
            count = 0
            for batch in self._stream(connection, statement, last, room, size):
                count += len(batch)
                last = batch[-1][position]
                self.rows += len(batch)
                yield statements.without_added_id(self._selection, batch)
            if count < room:
                return

    def _stream(
        self, connection: psycopg.Connection[RecordRow], statement: sql.Composed, after: int, limit: int, size: int
    ) -> Iterator[list[RecordRow]]:
        values = statements.values(self._selection, after=after, limit=limit)
        self._check()
        with connection.cursor() as cursor:
            rows = cast("Generator[RecordRow, None, None]", cursor.stream(statement, values, binary=True, size=size))
            with closing(rows):
                while batch := list(islice(rows, size)):
                    yield batch
                    self._check()

    def _estimate(self, connection: psycopg.Connection[RecordRow]) -> int:
        statement = statements.estimate(self._selection)
        row = connection.execute(statement, statements.values(self._selection)).fetchone()
        planned = int(row[0][0]["Plan"]["Plan Rows"]) if row else 0
        return min(planned, self._max_rows)

    def _batch_rows(self, connection: psycopg.Connection[RecordRow]) -> int:
        row = connection.execute(load("exports")["row_bytes"], {"table": self._selection.resource.name}).fetchone()
        average = int(row[0]) if row else 0
        return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, average)))
