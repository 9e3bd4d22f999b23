"""The history of a person as lines of JSON, streamed as it is computed: of the same rows as an export of kind `history`.

Nothing is pinned: when somebody is erased, files that are being read may go. Before the first line the reading then begins
again with the newest versions; after it the stream is cut, and whoever reads it can tell.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import duckdb

from outhaul.errors import Busy, Damaged, NotFound
from outhaul.export.person import KINDS, Records
from outhaul.export.render import rendered
from outhaul.export.text import lines_of
from outhaul.formats import writing
from outhaul.selection import columns, projection
from outhaul.tables import Devices, Tables
from outhaul.wire import ExportRequest, Pin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence
    from pathlib import Path

    from duckdb import DuckDBPyConnection
    from pyarrow import RecordBatch

    from outhaul.config import Config
    from outhaul.ledger.ledger import Ledger
    from outhaul.schema import RecordKind
    from outhaul.wire import Period, Subject

T = TypeVar("T")

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Histories that are streamed at the same time; more would have to share the memory."""
_SLICE_ROWS = 25_000
"""Rows sorted at a time at most: what waits for whoever reads slowly is held in memory."""
_TRIES = 3
_MEMBERS = ["kind", "timestamp", "deviceId", "userId", "record"]
_GONE = (Damaged, FileNotFoundError, duckdb.IOException)


class History:
    """Streams histories of the people of a data folder; for use on an event loop.

    `versions` gives the newest versions of an app's tables, once what was acknowledged before is in them.
    """

    def __init__(
        self,
        data: Path,
        ledger: Ledger,
        config: Config,
        versions: Callable[[str], Awaitable[dict[str, int]]],
        now: Callable[[], int],
    ) -> None:
        self._tables = data / "tables"
        self._spill = data / "history-spill"
        self._ledger = ledger
        self._config = config
        self._versions = versions
        self._now = now
        self._devices = Devices(Tables(self._tables))
        self._free = AT_ONCE
        self._pool = ThreadPoolExecutor(AT_ONCE, "history")
        self._engine: DuckDBPyConnection | None = None
        self._lock = threading.Lock()
        # What the engine spilled before a crash.
        shutil.rmtree(self._spill, ignore_errors=True)

    async def open(
        self, app_id: str, of: Subject, period: Period | None = None, kinds: Sequence[RecordKind] = KINDS
    ) -> Stream:
        """The records of a user or a device, oldest first; of some kinds, of some period. It must be closed.

        Raises:
            NotFound: nothing is known of them.
            TooLarge: the user has over 10,000 devices, or once had.
            Busy: others are being streamed, or what came before has not landed in time.
        """
        if not self._free:
            raise Busy(
                f"{AT_ONCE} histories are being streamed already.", hint="Come back, or ask for an export."
            )
        self._free -= 1
        try:
            reading = await self._begin(app_id, of, period, kinds)
        except BaseException:
            self._free += 1
            raise
        return Stream(self._pool, reading, self._ended)

    def _ended(self) -> None:
        self._free += 1

    async def _begin(
        self, app_id: str, of: Subject, period: Period | None, kinds: Sequence[RecordKind]
    ) -> Reading:
        loop = asyncio.get_running_loop()
        tried: dict[str, int] | None = None
        for left in reversed(range(_TRIES)):
            versions = await self._versions(app_id)
            request = ExportRequest(kind="history", format="jsonl", of=of, period=period, columns=_MEMBERS)
            reading = Reading()
            begun = loop.run_in_executor(self._pool, self._read, reading, app_id, request, versions, kinds)
            try:
                await _until_done(begun, reading)
            except BaseException as error:
                await loop.run_in_executor(self._pool, reading.close)
                if not isinstance(error, _GONE):
                    raise
                if not left or versions == tried:
                    log.exception("a history cannot be read")
                    raise Damaged(
                        "Stored data cannot be read back.", hint="The server's log says which file."
                    ) from error
                tried = versions
            else:
                break
        return reading

    def _read(
        self,
        reading: Reading,
        app_id: str,
        request: ExportRequest,
        versions: dict[str, int],
        kinds: Sequence[RecordKind],
    ) -> None:
        """Find out what there is, and have the first lines of it ready."""
        theirs = self._known(app_id, request.of, versions)
        pin = Pin(
            versions=versions,
            at=self._now(),
            slice_rows=min(self._config.slice_rows, _SLICE_ROWS),
            time_format="rfc3339",
            session_idle_s=self._config.session_idle_s,
            session_timeout_s=self._config.session_timeout_s,
            tag_types={one.key: one.type for one in self._ledger.tags(app_id)},
            devices=theirs,
        )
        db = reading.connect(self._connected())
        source = Records(self._tables, app_id, request, pin, b"", kinds)
        source.look(db)
        if reading.begin(_batches(db, source, request, pin)) or theirs:
            return
        # No device is known by that, but there may be records that carry it, of other kinds or of another time.
        everything = Records(self._tables, app_id, request, pin, b"")
        everything.look(db)
        if everything.empty:
            raise NotFound("Nothing is known of whom this asks for.", hint="Check the id; capitals matter.")

    def _known(self, app_id: str, of: Subject | None, versions: dict[str, int]) -> list[str]:
        """The user's devices, or the device, if it is known."""
        if of is not None and of.user_id is not None:
            return sorted(one.device_id for one in self._devices.of_user(app_id, versions, of.user_id))
        return list(self._devices.get(app_id, versions, [of.device_id] if of and of.device_id else []))

    def _connected(self) -> DuckDBPyConnection:
        """The engine, started when it is first needed: most servers are asked for exports only."""
        with self._lock:
            if self._engine is None:
                settings = self._config.engine(self._config.history_memory_limit, self._spill)
                self._engine = duckdb.connect(config=settings)
                self._engine.execute("SET GLOBAL TimeZone = 'UTC'")
            return self._engine


class Stream:
    """Lines of JSON, some at a time. What is read ahead is bounded, whoever takes them and however slowly."""

    def __init__(self, pool: ThreadPoolExecutor, reading: Reading, ended: Callable[[], None]) -> None:
        self._pool = pool
        self._reading = reading
        self._ended = ended
        self._open = True

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        taking = asyncio.get_running_loop().run_in_executor(self._pool, self._reading.take)
        lines = await _until_done(taking, self._reading)
        if not lines:
            raise StopAsyncIteration
        return lines

    async def close(self) -> None:
        """Stop reading; what is not taken by then is not computed."""
        if self._open:
            self._open = False
            self._reading.stop()
            try:
                await asyncio.get_running_loop().run_in_executor(self._pool, self._reading.close)
            finally:
                self._ended()


class Reading:
    """What is behind a stream: queries, and the lines that are ready. Blocks; for one thread at a time, but for `stop`."""

    def __init__(self) -> None:
        self._db: DuckDBPyConnection | None = None
        self._batches: Generator[RecordBatch] | None = None
        self._ready = b""
        self._lock = threading.Lock()

    def connect(self, engine: DuckDBPyConnection) -> DuckDBPyConnection:
        """A connection of its own."""
        self._db = engine.cursor()
        return self._db

    def begin(self, batches: Generator[RecordBatch]) -> bool:
        """Compute the first lines; whether there are any."""
        self._batches = batches
        self._ready = self._next()
        return bool(self._ready)

    def take(self) -> bytes:
        """The next lines; nothing after the last."""
        with self._lock:
            if self._ready:
                lines, self._ready = self._ready, b""
                return lines
            return self._next()

    def stop(self) -> None:
        """Let go of what is being computed, from another thread."""
        if self._db is not None:
            self._db.interrupt()

    def close(self) -> None:
        """Give up, once nothing is being computed."""
        with self._lock:
            if self._batches is not None:
                self._batches.close()
            if self._db is not None:
                self._db.close()

    def _next(self) -> bytes:
        batch = next(self._batches, None) if self._batches is not None else None
        if batch is None:
            return b""
        lines = lines_of(batch.column(0))
        return bytes(lines.text[int(lines.offsets[0]) : int(lines.offsets[-1])])


def _batches(
    db: DuckDBPyConnection, source: Records, request: ExportRequest, pin: Pin
) -> Generator[RecordBatch]:
    """The lines in batches, computed a little ahead."""
    line = writing("jsonl", columns(request), pin.time_format).line
    queries = [
        f"SELECT {line} FROM (SELECT {projection(request, b'')} FROM {source.in_order(part)})"
        for part in source.slices(db, pin.slice_rows)
    ]
    results = rendered(db, queries, ahead=1)
    try:
        for batches in results:
            yield from batches
    finally:
        results.close()


async def _until_done(work: asyncio.Future[T], reading: Reading) -> T:
    """What is done on another thread; when nobody waits for it any more, it is stopped and its end waited for."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        reading.stop()
        await asyncio.gather(work, return_exceptions=True)
        raise
