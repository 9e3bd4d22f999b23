"""Landing: takes closed journal segments in batches and appends what they hold to the tables, exactly once.

A batch is a list of named steps. Its bounds are durable before it begins; each table's commit carries the
position; what landing learned and the new position become durable last, together. So after a crash anywhere the
same batch is repeated with the same knowledge, and tables that already have it are passed over.
"""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from outhaul import journal
from outhaul.durable import sync
from outhaul.errors import Conflict
from outhaul.land import devices, sessions, state, tags, unnamed
from outhaul.land.batch import KINDS, Batch
from outhaul.land.rows import ROWS
from outhaul.land.seen import KEY, Seen
from outhaul.ledger.landing import Checkpoint
from outhaul.schema import DAY, TABLES
from outhaul.sql import quoted
from outhaul.tables import NewFile, Tables, bounds, parquet, width

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from outhaul.config import Config
    from outhaul.journal import Segment
    from outhaul.ledger.ledger import Ledger

log = logging.getLogger(__name__)

# Kinds that may be told twice without harm: only their latest time counts.
_REPEATABLE = {"heartbeat", "device", "location"}
_FEW = 4
_STATE = "state.duckdb"
_FRESH = "fresh.duckdb"


class Lander:
    """Lands the journal below `data`. One per data folder at a time; not thread-safe.

    Raises:
        Conflict: another process is landing there.
    """

    steps: tuple[str, ...] = (
        "read_segments",
        "drop_duplicates",
        "work_out_tags",
        "name_sessions",
        "resolve_references",
        "remember_devices",
        "derive_sessions",
        "follow_activities",
        "follow_jobs",
        "write_files",
        "commit_tables",
        "remember_ids",
        "finish",
        "publish",
        "discard_segments",
        "forget_ids",
    )
    """The steps of a batch, in order; each is a method, and may be repeated after a crash."""

    def __init__(self, data: Path, ledger: Ledger, config: Config, now: Callable[[], int]) -> None:
        self._data = data
        self._journal = data / "journal"
        self._ledger = ledger
        self._config = config
        self._now = now
        self._tables = Tables(data / "tables")
        folder = data / "land"
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._db = _open(folder, config)
        progress = state.prepare(self._db, ledger.checkpoint().position)
        tags.prepare(self._db, self._tables)
        unnamed.prepare(self._db)
        self._position = progress.position
        self._batch_end = progress.batch_end
        self._versions = progress.versions
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._decoding: dict[tuple[int, ...], Future[Batch]] = {}
        shutil.rmtree(folder / "batch", ignore_errors=True)
        self._seen = Seen(folder / "seen", self._position)
        self.publish()

    def close(self) -> None:
        self._decoder.shutdown(cancel_futures=True)
        self._db.close()

    @property
    def position(self) -> int:
        """The journal segment to land next."""
        return self._position

    def land(self) -> bool:
        """Land one batch, if segments are waiting. Returns whether there was one."""
        segments = self._next_segments()
        if not segments:
            return False
        self._segments = segments
        self._batch_end = segments[-1].number + 1
        state.begin(self._db, self._batch_end)
        for step in self.steps:
            getattr(self, step)()
        return True

    # Between batches

    def adopt(self, app_id: str) -> None:
        """Go on from the versions that maintenance made of an app's tables, and tell everybody."""
        self._versions[app_id] = self._tables.newest(app_id)
        state.note_versions(self._db, self._versions)
        self.publish()

    def remembered(self, app_id: str, device_ids: Iterable[str], user_id: str | None) -> int:
        """How many things are known of these devices, and of others as this user's."""
        return state.remembered(self._db, app_id, device_ids, user_id)

    def forget(self, app_id: str, device_ids: Iterable[str], user_id: str | None) -> None:
        """Forget these devices, and that others are this user's, so that no byte of it is left in the folder.

        The state is copied into a new file, which takes the place of the old one at once: deleting only frees pages.
        """
        self.discard_segments()
        state.forget(self._db, app_id, device_ids, user_id)
        fresh = self._folder / _FRESH
        _remove(fresh)
        state.copy(self._db, fresh)
        self._db.close()
        sync(fresh)
        kept = self._folder / _STATE
        _log_of(kept).unlink(missing_ok=True)
        fresh.rename(kept)
        sync(self._folder)
        self._db = _open(self._folder, self._config)

    def _decode(self, segments: list[Segment]) -> Future[Batch]:
        """Decode segments on the thread for it: Python works there while the engine works here."""
        folder = self._folder / "batch" / f"{segments[0].number:012d}"

        def decode() -> Batch:
            batch = Batch(folder, self._config.max_inflated_bytes)
            for segment in segments:
                batch.add(segment)
            return batch

        return self._decoder.submit(decode)

    def _decode_ahead(self) -> None:
        """Begin with the next batch if it is full already; one that can still grow is better left to."""
        assert self._batch_end is not None  # noqa: S101  a batch is under way
        ahead, complete = self._take(self._batch_end)
        if complete:
            self._decoding = {tuple(segment.number for segment in ahead): self._decode(ahead)}

    def _next_segments(self) -> list[Segment]:
        if self._batch_end is not None:
            waiting = journal.segments(self._journal, self._position)
            begun = [segment for segment in waiting if segment.number < self._batch_end]
            if begun:
                return begun
        return self._take(self._position)[0]

    def _take(self, position: int) -> tuple[list[Segment], bool]:
        """The segments of the batch at a position, and whether that is all it can hold."""
        waiting = journal.segments(self._journal, position)
        batch: list[Segment] = []
        size = 0
        for segment in waiting:
            size += segment.size
            if batch and size > self._config.land_batch_bytes:
                return batch, True
            batch.append(segment)
        return batch, False

    # The steps

    def read_segments(self) -> None:
        numbers = [segment.number for segment in self._segments]
        batch = self._decoding.pop(tuple(numbers), None) or self._decode(self._segments)
        batch.result().load(self._db)
        self._decode_ahead()
        self._kinds = [kind for kind in KINDS if self._count(f"in_{kind}")]

    def drop_duplicates(self) -> None:
        """Remove records whose id was landed before, or came earlier in this batch."""
        unique = [kind for kind in self._kinds if kind not in _REPEATABLE]
        self._new_keys = np.empty(0, KEY)
        if not unique:
            return
        union = " UNION ALL ".join(
            f"SELECT seq, md5_number(concat_ws('|', app, '{kind}', length(deviceId), deviceId, id)) AS hash FROM in_{kind}"
            for kind in unique
        )
        rows = self._db.execute(
            f"SELECT seq, (hash >> 64)::UBIGINT AS high, (hash & {2**64 - 1})::UBIGINT AS low FROM ({union})"
        ).fetchnumpy()
        keys = np.empty(len(rows["seq"]), KEY)
        keys["high"], keys["low"] = rows["high"], rows["low"]
        duplicate = self._seen.duplicates(keys, rows["seq"])
        self._new_keys = keys[~duplicate]
        if duplicate.any():
            repeated = {"seq": np.ascontiguousarray(rows["seq"][duplicate])}
            self._db.register("repeated", repeated)
            for kind in unique:
                self._db.execute(f"DELETE FROM in_{kind} WHERE seq IN (SELECT seq FROM repeated)")
            self._db.unregister("repeated")

    def work_out_tags(self) -> None:
        tags.work_out(self._db)

    def name_sessions(self) -> None:
        unnamed.name_sessions(self._db)

    def resolve_references(self) -> None:
        devices.resolve_references(self._db)

    def remember_devices(self) -> None:
        devices.remember_devices(self._db, self._kinds or ["event"])

    def derive_sessions(self) -> None:
        sessions.derive_sessions(
            self._db,
            idle_ms=self._config.session_idle_s * 1000,
            timeout_ms=self._config.session_timeout_s * 1000,
        )

    def follow_activities(self) -> None:
        sessions.follow_activities(self._db)

    def follow_jobs(self) -> None:
        sessions.follow_jobs(self._db)

    def write_files(self) -> None:
        """Write each table's new rows as Parquet files, named after the batch so that repeating it replaces them."""
        self._files: dict[tuple[str, str], list[NewFile]] = {}
        for table, query in ROWS.items():
            self._write_table(table, query)

    def _write_table(self, name: str, query: str) -> None:
        table = TABLES[name]
        order = table.order[0]
        day = f"strftime(\"{order}\", '%Y-%m-%d')" if table.partitioned else "NULL::VARCHAR"
        self._db.execute(f"CREATE OR REPLACE TEMP VIEW out_rows AS SELECT *, {day} AS day FROM ({query})")
        groups = self._db.execute(
            f"SELECT app, day, count(*), {bounds(table)}, {width(table)} FROM out_rows GROUP BY app, day ORDER BY ALL"
        ).fetchall()
        rows_of = "out_rows"
        if len(groups) > _FEW:
            # For many files the rows are made once and kept in their order, so that each reads only its own.
            rows_of = "out_sorted"
            self._db.execute(
                "CREATE OR REPLACE TEMP TABLE out_sorted AS SELECT * FROM out_rows ORDER BY app, day"
            )
        columns = ", ".join(f'"{column.name}"' for column in table.columns)
        keys = ", ".join(f'"{key}"' for key in table.order)
        for app, group_day, rows, low, high, row_bytes in groups:
            relative = f"{self._position:012d}-{self._batch_end:012d}.parquet"
            if table.partitioned:
                relative = f"{DAY.name}={group_day}/{relative}"
            path = self._tables.folder(app, name) / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db.execute(
                f"COPY (SELECT {columns} FROM {rows_of} WHERE app = ? AND day IS NOT DISTINCT FROM ? ORDER BY {keys}) "
                f"TO {quoted(path)} ({parquet(table, row_bytes)})",
                [app, group_day],
            )
            # On disk before the commit that names it.
            sync(path)
            self._files.setdefault((app, name), []).append(
                NewFile(relative, path.stat().st_size, rows, low, high, self._now(), group_day)
            )
        self._db.execute("DROP TABLE IF EXISTS out_sorted")

    def commit_tables(self) -> None:
        """Make the new files part of their tables; those that already are, from before a crash, are passed over."""
        for app, name in sorted(self._files):
            self._commit(app, name)

    def _commit(self, app: str, name: str) -> None:
        assert self._batch_end is not None  # noqa: S101  a batch is under way
        if self._tables.landed(app, name) < self._batch_end:
            self._tables.append(app, name, self._files[app, name], self._batch_end)
        # Also of a commit from before a crash, which may not have got there.
        self._tables.sync(app, name, self._files[app, name])
        version = self._tables.version(app, name)
        if version is not None:
            self._versions.setdefault(app, {})[name] = version

    def remember_ids(self) -> None:
        assert self._batch_end is not None  # noqa: S101  a batch is under way
        day = datetime.fromtimestamp(self._now() / 1000, UTC)
        self._seen.add(self._new_keys, f"{day:%Y%m%d}", self._position, self._batch_end)

    def finish(self) -> None:
        """From here the batch is landed."""
        assert self._batch_end is not None  # noqa: S101  a batch is under way
        state.finish(self._db, self._batch_end, self._versions, self._now())
        self._position = self._batch_end
        self._batch_end = None

    def publish(self) -> None:
        """Tell everybody, through the ledger."""
        self._ledger.save_checkpoint(Checkpoint(self._position, self._versions, self._now()))

    def discard_segments(self) -> None:
        journal.discard(self._journal, self._position)

    def forget_ids(self) -> None:
        """Only now: a batch that is repeated must know what it knew the first time."""
        day = datetime.fromtimestamp(self._now() / 1000, UTC)
        self._seen.tidy(f"{day - timedelta(days=self._config.dedupe_days):%Y%m%d}")

    def _count(self, table: str) -> int:
        row: Any = self._db.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(row[0])


def _open(folder: Path, config: Config) -> duckdb.DuckDBPyConnection:
    settings = config.engine(config.land_memory_limit, folder / "spill")
    try:
        db = duckdb.connect(str(folder / _STATE), config=settings)
    except duckdb.IOException as error:
        raise Conflict(
            f"Another process is landing in {folder}: {error}",
            hint="Run one server per data folder; stop the other one first.",
        ) from error
    # Alone from here on: what a crash left behind can go.
    _remove(folder / _FRESH)
    shutil.rmtree(folder / "spill", ignore_errors=True)
    db.execute("SET TimeZone = 'UTC'")
    return db


def _remove(database: Path) -> None:
    for path in (database, _log_of(database)):
        path.unlink(missing_ok=True)


def _log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}.wal")
