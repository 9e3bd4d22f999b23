"""Maintenance: keeps the tables quick to read, without changing what any version of them says.

Landing leaves one file per table, day and batch; here the small ones are merged into sorted larger ones, and files
that no version of the last days reads are deleted.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING

import duckdb

from outhaul.durable import sync
from outhaul.schema import DAY, TABLES
from outhaul.sql import quoted
from outhaul.tables import NewFile, StoredFile, Tables, bounds, parquet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from outhaul.config import Config

log = logging.getLogger(__name__)

_SMALL = 32 * 1024 * 1024
_MERGED = 128 * 1024 * 1024
_HOUR = 3600 * 1000


class Maintainer:
    """Maintains the tables of a data folder; only where nothing lands at the same time, so that both stay quick."""

    def __init__(self, data: Path, config: Config, now: Callable[[], int]) -> None:
        self._tables = Tables(data / "tables")
        self._config = config
        self._now = now
        self._vacuumed = now()
        (data / "land").mkdir(parents=True, exist_ok=True)
        self._db = duckdb.connect(
            config=config.engine(config.land_memory_limit, data / "land" / "spill-maintain")
        )
        self._db.execute("SET TimeZone = 'UTC'")

    def compact(self) -> bool:
        """Merge small files of one table and day, if there are many; whether there were."""
        for app_id in self._tables.apps():
            for name in TABLES:
                days: dict[str | None, list[StoredFile]] = defaultdict(list)
                for file in self._tables.files(app_id, name):
                    if file.size < _SMALL:
                        days[file.day].append(file)
                for files in days.values():
                    if len(files) >= self._config.compact_files:
                        self._merge(app_id, name, _first(files))
                        return True
        return False

    def vacuum(self) -> None:
        """Once in an hour, delete files that were merged away long ago."""
        if self._now() - self._vacuumed < _HOUR:
            return
        self._vacuumed = self._now()
        for app_id in self._tables.apps():
            for name in TABLES:
                self._tables.vacuum(app_id, name, self._config.keep_versions_hours)

    def _merge(self, app_id: str, name: str, files: list[StoredFile]) -> None:
        table, day = TABLES[name], files[0].day
        relative = f"merged-{files[0].path.stem}-{files[-1].path.stem}-{self._now()}.parquet"
        relative = relative if day is None else f"{DAY.name}={day}/{relative}"
        path = self._tables.folder(app_id, name) / relative
        sources = ", ".join(quoted(file.path) for file in files)
        order = ", ".join(f'"{column}"' for column in table.order)
        rows = f"read_parquet([{sources}], hive_partitioning = false)"
        self._db.execute(f"COPY (SELECT * FROM {rows} ORDER BY {order}) TO {quoted(path)} ({parquet(table)})")
        sync(path)
        found = self._db.execute(
            f"SELECT count(*), {bounds(table)} FROM read_parquet({quoted(path)})"
        ).fetchone()
        count, low, high = found or (0, "", "")
        if count != sum(file.rows for file in files):
            path.unlink()
            log.error(
                "merging files of %s/%s gave other rows than they hold; left as they were", app_id, name
            )
            return
        self._tables.replace(
            app_id, name, files, NewFile(relative, path.stat().st_size, count, low, high, self._now(), day)
        )


def _first(files: list[StoredFile]) -> list[StoredFile]:
    """As many files, in order, as make one of a good size."""
    chosen: list[StoredFile] = []
    size = 0
    for file in files:
        size += file.size
        if len(chosen) > 1 and size > _MERGED:
            break
        chosen.append(file)
    return chosen
