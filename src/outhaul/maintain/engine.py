"""The engine of maintenance: files of tables, merged or written again with fewer rows."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb

from outhaul.durable import sync
from outhaul.errors import Damaged
from outhaul.maintain.pieces import LOOKED_AT, WRITTEN, pieces
from outhaul.schema import DAY, TABLES
from outhaul.sql import named, quoted
from outhaul.tables import NewFile, StoredFile, Tables, bounds, parquet, width

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from outhaul.config import Config

T = TypeVar("T")

_SPILL = "spill-maintain"
_LOOK_S = 0.1


class Engine:
    """Reads and writes the files of tables; what it spills is gone once it is `renew`ed."""

    def __init__(self, data: Path, config: Config, now: Callable[[], int]) -> None:
        self.tables = Tables(data / "tables")
        self._config = config
        self._folder = data / "land" / _SPILL
        self._now = now
        self.in_hand = 0
        """How often an erasure took the files of an app in hand: which files there are is then no longer as it was."""
        self.uncommitted = 0
        """Commits under way: their files are in no version yet, and are not to be taken for ones that nobody reads."""
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="maintain")
        self.db = self._open()

    def _open(self) -> DuckDBPyConnection:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        db = duckdb.connect(config=self._config.engine(self._config.land_memory_limit, self._folder))
        # GLOBAL: what is done aside has a cursor of its own.
        db.execute("SET GLOBAL TimeZone = 'UTC'")
        return db

    def renew(self) -> None:
        """Let go of everything that was read, in memory and on disk."""
        self._worker.submit(lambda: None).result()
        self.db.close()
        self.db = self._open()

    def merge(self, app_id: str, name: str, files: list[StoredFile]) -> None:
        """Put one sorted file in the place of several of the same day."""
        order = ", ".join(named(column) for column in TABLES[name].order)
        stem = f"merged-{files[0].path.stem}-{files[-1].path.stem}-{self._now()}"
        rows = f"SELECT * FROM {scan(files)} ORDER BY {order}"
        new = self._write(self.db, app_id, name, stem, files, rows)
        self._check(new, files, sum(file.rows for file in files))
        self.tables.replace(app_id, name, files, new)

    def aside(self, work: Callable[[DuckDBPyConnection], T]) -> Generator[bool, None, T]:
        """Have something long done on another thread, which may read and write files but not commit; what comes of it.

        Meanwhile it is the turn of others, now and then.
        """
        job = self._worker.submit(lambda: work(self.db.cursor()))
        while not job.done():
            wait([job], _LOOK_S)
            yield True
        return job.result()

    def remove(
        self, app_id: str, name: str, files: list[StoredFile], condition: str, allowed: Callable[[], None]
    ) -> Generator[bool, None, None]:
        """Write those of the files that have rows that meet a condition again without them, and commit.

        `allowed` raises where nothing may be committed any more.
        """
        for some in pieces(files, LOOKED_AT):
            allowed()
            holding = yield from self.aside(partial(_holding, files=some, condition=condition))
            for few in pieces(holding, WRITTEN):
                allowed()
                write = partial(self._without, app_id=app_id, name=name, files=few, condition=condition)
                self.uncommitted += 1
                try:
                    kept = yield from self.aside(write)
                    allowed()
                    self.tables.remove(app_id, name, few, kept, self._now())
                finally:
                    self.uncommitted -= 1
                yield True

    def _without(
        self, db: DuckDBPyConnection, *, app_id: str, name: str, files: list[StoredFile], condition: str
    ) -> list[NewFile]:
        """Write files again without the rows that meet a condition, in the order they had."""
        count = self.tables.removed(app_id, name).files
        kept = []
        for number, file in enumerate(files, count + 1):
            row: Any = db.execute(f"SELECT count(*) FROM {scan([file])} WHERE {condition}").fetchone()
            rest = f"SELECT * FROM {scan([file])} WHERE NOT coalesce({condition}, false)"
            # Numbers never come back in a table, so that no file gets the name of one that somebody reads.
            new = self._write(db, app_id, name, f"kept-{number:010d}", [file], rest)
            self._check(new, [file], file.rows - row[0])
            if new.rows:
                kept.append(new)
            else:
                (self.tables.folder(app_id, name) / new.path).unlink()
        return kept

    def _write(
        self, db: DuckDBPyConnection, app_id: str, name: str, stem: str, old: list[StoredFile], rows: str
    ) -> NewFile:
        """Write the rows of files, or of one day's files, that a query gives into one."""
        table, day = TABLES[name], old[0].day
        relative = f"{stem}.parquet" if day is None else f"{DAY.name}={day}/{stem}.parquet"
        path = self.tables.folder(app_id, name) / relative
        wide: Any = db.execute(f"SELECT {width(table)} FROM {scan(old)}").fetchone()
        db.execute(f"COPY ({rows}) TO {quoted(path)} ({parquet(table, wide[0])})")
        sync(path)
        found: Any = db.execute(
            f"SELECT count(*), {bounds(table)} FROM read_parquet({quoted(path)}, hive_partitioning = false)"
        ).fetchone()
        count, low, high = found
        return NewFile(relative, path.stat().st_size, count, low or "", high or "", self._now(), day)

    def _check(self, new: NewFile, old: Iterable[StoredFile], rows: int) -> None:
        if new.rows != rows:
            [first, *_] = old
            raise Damaged(
                f"Writing {first.path} again gave {new.rows} rows where {rows} were expected; it is left as it was.",
                hint="Check the disk that holds the data folder.",
            )


def _holding(db: DuckDBPyConnection, *, files: list[StoredFile], condition: str) -> list[StoredFile]:
    """Those of the files that have rows that meet a condition."""
    found = db.execute(
        f"SELECT DISTINCT filename FROM {scan(files, filename=True)} WHERE {condition}"
    ).fetchall()
    paths = {row[0] for row in found}
    return [file for file in files if str(file.path) in paths]


def scan(files: list[StoredFile], *, filename: bool = False) -> str:
    """A table expression over files; with `filename`, a column that says which file a row is in."""
    names = ", ".join(quoted(file.path) for file in files)
    return f"read_parquet([{names}], hive_partitioning = false{', filename = true' if filename else ''})"
