"""The engine of maintenance: files of tables, merged or written again with fewer rows."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import duckdb

from outhaul.durable import sync
from outhaul.errors import Damaged
from outhaul.schema import DAY, TABLES
from outhaul.sql import named, quoted
from outhaul.tables import NewFile, StoredFile, Tables, bounds, parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from outhaul.config import Config

_SPILL = "spill-maintain"


class Engine:
    """Reads and writes the files of tables; what it spills is gone once it is `renew`ed."""

    def __init__(self, data: Path, config: Config, now: Callable[[], int]) -> None:
        self.tables = Tables(data / "tables")
        self._config = config
        self._folder = data / "land" / _SPILL
        self._now = now
        self.db = self._open()

    def _open(self) -> DuckDBPyConnection:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        db = duckdb.connect(config=self._config.engine(self._config.land_memory_limit, self._folder))
        db.execute("SET TimeZone = 'UTC'")
        return db

    def renew(self) -> None:
        """Let go of everything that was read, in memory and on disk."""
        self.db.close()
        self.db = self._open()

    def merge(self, app_id: str, name: str, files: list[StoredFile]) -> None:
        """Put one sorted file in the place of several of the same day."""
        order = ", ".join(named(column) for column in TABLES[name].order)
        stem = f"merged-{files[0].path.stem}-{files[-1].path.stem}-{self._now()}"
        new = self._write(app_id, name, stem, files[0].day, f"SELECT * FROM {scan(files)} ORDER BY {order}")
        self._check(new, files, sum(file.rows for file in files))
        self.tables.replace(app_id, name, files, new)

    def holding(self, files: list[StoredFile], condition: str) -> list[StoredFile]:
        """Those of the files that have rows that meet a condition."""
        if not files:
            return []
        found = self.db.execute(
            f"SELECT DISTINCT filename FROM {scan(files, filename=True)} WHERE {condition}"
        ).fetchall()
        paths = {row[0] for row in found}
        return [file for file in files if str(file.path) in paths]

    def without(self, app_id: str, name: str, files: list[StoredFile], condition: str) -> None:
        """Write files again without the rows that meet a condition, in the order they had, all in one commit."""
        count = self.tables.removed(app_id, name).files
        kept = []
        for number, file in enumerate(files, count + 1):
            row: Any = self.db.execute(f"SELECT count(*) FROM {scan([file])} WHERE {condition}").fetchone()
            rest = f"SELECT * FROM {scan([file])} WHERE NOT coalesce({condition}, false)"
            # Numbers never come back in a table, so that no file gets the name of one that somebody reads.
            new = self._write(app_id, name, f"kept-{number:010d}", file.day, rest)
            self._check(new, [file], file.rows - row[0])
            if new.rows:
                kept.append(new)
            else:
                (self.tables.folder(app_id, name) / new.path).unlink()
        self.tables.remove(app_id, name, files, kept, self._now())

    def _write(self, app_id: str, name: str, stem: str, day: str | None, rows: str) -> NewFile:
        table = TABLES[name]
        relative = f"{stem}.parquet" if day is None else f"{DAY.name}={day}/{stem}.parquet"
        path = self.tables.folder(app_id, name) / relative
        self.db.execute(f"COPY ({rows}) TO {quoted(path)} ({parquet(table)})")
        sync(path)
        found: Any = self.db.execute(
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


def scan(files: list[StoredFile], *, filename: bool = False) -> str:
    """A table expression over files; with `filename`, a column that says which file a row is in."""
    names = ", ".join(quoted(file.path) for file in files)
    return f"read_parquet([{names}], hive_partitioning = false{', filename = true' if filename else ''})"
