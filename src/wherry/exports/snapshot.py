"""Reads the records of a selection in one snapshot of the database: as of one moment, however long it takes.

Rows are tuples in the order of the selection's fields, ordered by the table's key. All of this blocks, so run it in a
thread.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any, cast

import psycopg
from psycopg import capabilities

from wherry.database.pools import TRANSACTION_SETTINGS, basic_options
from wherry.database.queries import load
from wherry.errors import Misconfigured, SnapshotStopped
from wherry.exports import statements
from wherry.exports.selection import Selection
from wherry.exports.statements import Shape

RecordRow = tuple[Any, ...]
RowBatch = Sequence[RecordRow]
ReadConnection = psycopg.Connection[RecordRow]

BATCH_ROWS = 250
"""How many rows libpq returns at a time. One at a time takes twice as long; a thousand do not fit into the CPU cache,
and keep the garbage collector busy (measured)."""

BATCH_BYTES = 1 << 20
"""Target size of a batch, judged by the table's average row: if rows are large, a batch has fewer."""

BATCH_ROWS_UNKNOWN = 25
"""The rows of a batch of a view, or of a table that was never analyzed."""

RECEIVE_BYTES = 1_000_000
"""libpq reads 16 KiB at a time until a message does not fit, and then keeps a larger buffer. One large message before
the first row saves a tenth of the client's time (measured)."""


def require_chunked_rows() -> None:
    """Check at start, rather than in the middle of a job, that libpq can stream rows in batches.

    Raises:
        Misconfigured: libpq is older than 17.
    """
    try:
        capabilities.has_stream_chunked(check=True)
    except psycopg.NotSupportedError as error:
        raise Misconfigured(f"exports need libpq 17 or newer, which psycopg[binary] includes: {error}") from error


@contextmanager
def connected_ahead(conninfo: str) -> Iterator[Future[ReadConnection]]:
    """A connection to read from, opened in a thread while the caller prepares what to read. Closed in the end.

    Connecting takes as long as reading ten thousand records.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="export-connect")
    connecting = thread.submit(_connect, conninfo)
    thread.shutdown(wait=False)
    try:
        yield connecting
    finally:
        connecting.add_done_callback(_disconnect)


def _connect(conninfo: str) -> ReadConnection:
    connection = psycopg.connect(conninfo, autocommit=True, **basic_options("wherry export"))
    try:
        connection.execute("select repeat(' ', %s)", [RECEIVE_BYTES])
    except BaseException:
        connection.close()
        raise
    return connection


def _disconnect(connecting: Future[ReadConnection]) -> None:
    if connecting.exception() is None:
        connecting.result().close()


class Snapshot:
    """Reads one selection once. `batches` runs in one thread; `stop` may be called from any other.

    Meanwhile, `rows` is the number of rows read so far, and `estimate` the number that the planner expects.

    Args:
        connecting: to the database, a hot standby of it, or a transaction pooler; see `connected_ahead`.
        selection: what to read.
        batch_rows: reads at most this many rows at a time, and at most `BATCH_ROWS`.
        max_rows: reads no more than this; afterwards `truncated` tells whether there were more.
    """

    def __init__(
        self, connecting: Future[ReadConnection], selection: Selection, *, batch_rows: int, max_rows: int
    ) -> None:
        self._connecting = connecting
        self._selection = selection
        self._shape = Shape.of(selection)
        self._batch_rows = min(batch_rows, BATCH_ROWS)
        self._max_rows = max_rows
        self._stopping = threading.Event()
        self._connection: ReadConnection | None = None
        self.rows = 0
        self.estimate: int | None = None
        self.truncated = False

    def batches(self) -> Generator[RowBatch, None, None]:
        """All records, in batches.

        Raises:
            SnapshotStopped: `stop` was called.
            psycopg.Error: the database refused a statement or could not be reached.
        """
        with closing(self._connecting.result()) as connection:
            self._connection = connection
            try:
                connection.execute("begin isolation level repeatable read read only")
                connection.execute(TRANSACTION_SETTINGS)  # not in `options`, which a pooler would refuse
                # The transaction blocks nobody, so it may be idle while slow storage catches up.
                connection.execute("set local idle_in_transaction_session_timeout = '10min'")
                self.estimate = self._estimate(connection)
                yield from self._read(connection)
            except psycopg.errors.QueryCanceled:
                self._check()
                raise

    @property
    def found(self) -> int:
        """How many records are known to exist: one more than `rows` if there were more than `max_rows`."""
        return self.rows + self.truncated

    def stop(self) -> None:
        """Stop reading soon, even within a statement. Blocks briefly, and may have to be called again."""
        self._stopping.set()
        connection = self._connection
        if connection is not None and not connection.closed:
            try:
                connection.cancel_safe(timeout=1)
            except psycopg.Error:
                return  # the server cannot be reached, so none of our statements is running there

    def _check(self) -> None:
        if self._stopping.is_set():
            raise SnapshotStopped

    def _read(self, connection: ReadConnection) -> Iterator[RowBatch]:
        # One record more than there may be shows whether there are more.
        values = statements.values(self._selection, limit=self._max_rows + 1)
        size = self._rows_at_a_time(connection)
        self._check()
        with connection.cursor() as cursor:
            stream = cursor.stream(statements.export(self._shape), values, binary=True, size=size)
            with closing(cast("Generator[RecordRow, None, None]", stream)) as rows:
                while batch := list(islice(rows, size)):
                    kept = batch[: self._max_rows - self.rows]
                    self.truncated = len(kept) < len(batch)
                    self.rows += len(kept)
                    if kept:
                        yield kept
                    self._check()

    def _estimate(self, connection: ReadConnection) -> int:
        statement = statements.estimate(self._shape)
        row = connection.execute(statement, statements.values(self._selection)).fetchone()
        planned = int(row[0][0]["Plan"]["Plan Rows"]) if row else 0
        return min(planned, self._max_rows)

    def _rows_at_a_time(self, connection: ReadConnection) -> int:
        row = connection.execute(load("exports")["row_bytes"], vars(self._selection.table.relation)).fetchone()
        average = row[0] if row else None
        most = BATCH_ROWS_UNKNOWN if average is None else BATCH_BYTES // max(1, int(average))
        return max(1, min(self._batch_rows, most))
