"""Where landed records rest: one Delta Lake table per app and kind, readable by anything that reads Delta.

`<root>/<app>/<table>/`; files are Parquet, sorted by the table's `order`, in a partition per UTC day where the
table has one. Only landing appends; every append carries the journal position it landed up to inside the same
commit, so that a crash between tables can be told apart from a batch not begun. The only deltalake import.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
from deltalake import (
    CommitProperties,
    DeltaTable,
    Field,
    PostCommitHookProperties,
    Schema,
    Transaction,
)
from deltalake.exceptions import DeltaError
from deltalake.schema import PrimitiveType
from deltalake.transaction import AddAction, RemoveAction
from msgspec import Struct

from outhaul.durable import sync
from outhaul.schema import DAY, TABLES, Table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

_LANDING = "outhaul-landing"
_ROWS_REMOVED = "outhaul-rows-removed"
_FILES_REMOVED = "outhaul-files-removed"
# Which entries of the log may go depends on who has pinned them: `trim` is told, the library is not.
_HOOK = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
_WHOLE = re.compile(r"[0-9]{20}\.checkpoint\.parquet")
_DELTA_TYPES = {
    "string": "string",
    "json": "string",
    "time": "timestamp",
    "duration": "long",
    "integer": "long",
    "boolean": "boolean",
}


_GROUP_ROWS = 61_440
_KEYED_GROUP_ROWS = 8_192
_LEAST_GROUP_ROWS = 2_048
_GROUP_BYTES = 16 * 1024 * 1024


def parquet(table: Table, row_bytes: float) -> str:
    """How the files of a table are written, as options of the engine's `COPY`; `row_bytes` is what `width` says.

    A slice of an export, and all the more somebody who looks for one device, should read few rows in vain. And the
    engine holds whole groups of rows in memory, whatever its limit is.
    """
    rows = _GROUP_ROWS if table.partitioned else _KEYED_GROUP_ROWS
    rows = max(_LEAST_GROUP_ROWS, min(rows, int(_GROUP_BYTES / max(1.0, row_bytes))))
    return f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {rows}"


def width(table: Table) -> str:
    """The mean bytes of text in a row of a table, as SQL."""
    texts = (column.name for column in table.columns if column.type in {"string", "json"})
    lengths = " + ".join(f'coalesce(strlen("{name}"), 0)' for name in texts)
    return f"coalesce(avg({lengths}), 0)"


class NewFile(Struct, frozen=True):
    """A Parquet file written for a table; `low` and `high` bound the first column of its order."""

    path: str
    size: int
    rows: int
    low: str
    high: str
    modified_at: int
    day: str | None = None


class StoredFile(Struct, frozen=True):
    """A file that is part of a table; `low` and `high` bound the first column of its order (times in ms)."""

    path: Path
    size: int
    rows: int
    low: int | str
    high: int | str
    day: str | None


class Removed(NamedTuple):
    """What was ever removed from a table: rows, and the files they were in."""

    rows: int
    files: int


class Tables:
    """All tables below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[tuple[str, str], DeltaTable] = {}

    def apps(self) -> list[str]:
        """Ids of the apps that have tables, sorted."""
        return (
            sorted(path.name for path in self._root.iterdir() if path.is_dir()) if self._root.is_dir() else []
        )

    def folder(self, app_id: str, table: str) -> Path:
        return self._root / app_id / table

    def landed(self, app_id: str, table: str) -> int:
        """The journal position up to which this table was landed; 0 before anything was."""
        delta = self._find(app_id, table)
        return (delta.transaction_version(_LANDING) or 0) if delta else 0

    def version(self, app_id: str, table: str) -> int | None:
        """The table's newest version, or None when nothing was ever landed in it."""
        delta = self._find(app_id, table)
        return delta.version() if delta else None

    def append(self, app_id: str, table: str, files: list[NewFile], position: int) -> int:
        """Make written files part of the table, in one commit that also records the journal position.

        Returns:
            The table's new version.
        """
        delta = self._find(app_id, table) or self._create(app_id, TABLES[table])
        # What maintenance removed since would be a conflict.
        delta.update_incremental()
        actions: list[AddAction | RemoveAction] = [_added(table, file, data_change=True) for file in files]
        delta.create_write_transaction(
            actions,
            mode="append",
            schema=delta.schema(),
            partition_by=[DAY.name] if TABLES[table].partitioned else None,
            commit_properties=CommitProperties(app_transactions=[Transaction(_LANDING, position)]),
            post_commithook_properties=_HOOK,
        )
        delta.update_incremental()
        return delta.version()

    def sync(self, app_id: str, table: str, files: list[NewFile]) -> None:
        """Put what `append` wrote on disk: delta-rs leaves its log, and the names of new files, to the kernel.

        The files themselves must be on disk already.
        """
        delta = self._find(app_id, table)
        if delta is None:
            return
        folder = self.folder(app_id, table)
        log = folder / "_delta_log"
        version = delta.version()
        # The first commit follows that of the table itself, in folders that may be new too.
        first = [*log.iterdir(), folder.parent, self._root, self._root.parent] if version <= 1 else []
        newest = [*log.glob(f"{version:020d}.*"), *log.glob("_last_checkpoint")]
        for path in (*newest, *first, log, *{(folder / file.path).parent for file in files}, folder):
            sync(path)

    def files(
        self, app_id: str, table: str, version: int | None = None, days: tuple[str, str] | None = None
    ) -> list[StoredFile]:
        """The files that make up a version (the newest, unless told), in an order that never changes.

        `days` keeps only partitions from the first to the last day, both included.

        Raises:
            FileNotFoundError: the version is gone: somebody was erased, and nobody had pinned it.
        """
        folder = self.folder(app_id, table)
        if not DeltaTable.is_deltatable(str(folder)):
            return []
        try:
            delta = DeltaTable(str(folder), version=version)
        except DeltaError as error:
            raise FileNotFoundError(f"{folder} has no version {version} any more") from error
        actions = pa.table(delta.get_add_actions(flatten=True))
        column = TABLES[table].order[0]
        names = ["path", "size_bytes", "num_records", f"min.{column}", f"max.{column}"]
        partition = f"partition.{DAY.name}"
        files = []
        for action in actions.select(
            [*names, partition] if partition in actions.column_names else names
        ).to_pylist():
            if days is None or days[0] <= action[partition] <= days[1]:
                path, size, rows, low, high = (action[name] for name in names)
                day = action.get(partition)
                files.append(StoredFile(folder / unquote(path), size, rows, _bound(low), _bound(high), day))
        return sorted(files, key=lambda file: file.path)

    def newest(self, app_id: str) -> dict[str, int]:
        """Each table's newest version, whoever made it."""
        found = {}
        for name in TABLES:
            folder = str(self.folder(app_id, name))
            if DeltaTable.is_deltatable(folder):
                delta = self._open[app_id, name] = DeltaTable(folder)
                found[name] = delta.version()
        return found

    def replace(self, app_id: str, table: str, old: list[StoredFile], new: NewFile) -> None:
        """Put one file with the same rows in the place of several; pinned versions still read the old ones.

        Conflicts with nothing: appending goes on meanwhile.
        """
        self._exchange(app_id, table, old, [new], at=new.modified_at, counted=None)
        self.sync(app_id, table, [new])

    def remove(self, app_id: str, table: str, old: list[StoredFile], new: list[NewFile], at: int) -> None:
        """Put files with fewer rows, or none, in the place of others; `removed` counts them from the same commit on.

        Pinned versions still read the old ones. `at` is ms since 1970 UTC.
        """
        before = self.removed(app_id, table)
        rows = sum(file.rows for file in old) - sum(file.rows for file in new)
        counted = Removed(before.rows + rows, before.files + len(old))
        self._exchange(app_id, table, old, new, at=at, counted=counted)
        self.sync(app_id, table, new)

    def removed(self, app_id: str, table: str) -> Removed:
        """What was ever removed from a table."""
        folder = str(self.folder(app_id, table))
        if not DeltaTable.is_deltatable(folder):
            return Removed(0, 0)
        delta = DeltaTable(folder)
        return Removed(
            delta.transaction_version(_ROWS_REMOVED) or 0, delta.transaction_version(_FILES_REMOVED) or 0
        )

    def _exchange(
        self,
        app_id: str,
        table: str,
        old: list[StoredFile],
        new: list[NewFile],
        *,
        at: int,
        counted: Removed | None,
    ) -> None:
        folder = self.folder(app_id, table)
        delta = DeltaTable(str(folder))
        changed = counted is not None
        actions: list[AddAction | RemoveAction] = [
            RemoveAction(
                str(file.path.relative_to(folder)),
                changed,
                at,
                file.size,
                {} if file.day is None else {DAY.name: file.day},
            )
            for file in old
        ]
        actions += [_added(table, file, data_change=changed) for file in new]
        transactions = (
            []
            if counted is None
            else [Transaction(_ROWS_REMOVED, counted.rows), Transaction(_FILES_REMOVED, counted.files)]
        )
        delta.create_write_transaction(
            actions,
            mode="append",
            schema=delta.schema(),
            partition_by=[DAY.name] if TABLES[table].partitioned else None,
            commit_properties=CommitProperties(app_transactions=transactions),
            post_commithook_properties=_HOOK,
        )
        self._open.pop((app_id, table), None)

    def checkpoint(self, app_id: str, table: str) -> int:
        """Write down the newest version as a whole, so that the log of those before it can go; which version it is."""
        delta = DeltaTable(str(self.folder(app_id, table)))
        delta.create_checkpoint()
        version = delta.version()
        _sync_log(self.folder(app_id, table), version, version)
        return version

    def trim(self, app_id: str, table: str, needed: int, before: float | None = None) -> None:
        """Delete the log of versions that come before the last whole one up to `needed`.

        `before` spares entries that were written since, in seconds since 1970.
        """
        log = self.folder(app_id, table) / "_delta_log"
        entries = [
            (int(number), path) for path in log.iterdir() if (number := path.name.split(".")[0]).isdecimal()
        ]
        # By its whole name: a crash may have left one of another name that is half written.
        whole = [
            number for number, path in entries if _WHOLE.fullmatch(path.name) is not None and number <= needed
        ]
        for version, path in entries:
            if whole and version < max(whole) and (before is None or path.stat().st_mtime < before):
                path.unlink()
        sync(log)

    def stale(self, app_id: str, table: str, versions: Iterable[int]) -> list[Path]:
        """The Parquet files in a table's folder that none of the versions reads, of whatever time."""
        read = {file.path for version in sorted(set(versions)) for file in self.files(app_id, table, version)}
        folder = self.folder(app_id, table)
        # What is in the folder of the log is the log's own.
        found = (path for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts)
        return sorted(path for path in found if path not in read)

    def vacuum(self, app_id: str, table: str, hours: int, keep: Iterable[int]) -> int:
        """Delete files that no version of the last `hours` hours reads, and none of those to keep; how many."""
        folder = str(self.folder(app_id, table))
        if not DeltaTable.is_deltatable(folder):
            return 0
        delta = DeltaTable(folder)
        before = delta.version()
        gone = delta.vacuum(
            retention_hours=hours,
            dry_run=False,
            enforce_retention_duration=False,
            full=True,
            keep_versions=sorted(set(keep)),
            post_commithook_properties=_HOOK,
        )
        delta.update_incremental()
        _sync_log(Path(folder), before + 1, delta.version())
        return len(gone)

    def _find(self, app_id: str, table: str) -> DeltaTable | None:
        delta = self._open.get((app_id, table))
        if delta is None:
            folder = str(self.folder(app_id, table))
            if not DeltaTable.is_deltatable(folder):
                return None
            delta = self._open[app_id, table] = DeltaTable(folder)
        return delta

    def _create(self, app_id: str, table: Table) -> DeltaTable:
        columns = [*table.columns, DAY] if table.partitioned else table.columns
        fields = [
            Field(c.name, PrimitiveType(_DELTA_TYPES[c.type]), nullable=not c.required) for c in columns
        ]
        folder = self.folder(app_id, table.name)
        folder.mkdir(parents=True, exist_ok=True)
        delta = DeltaTable.create(
            str(folder),
            Schema(fields),
            mode="ignore",
            partition_by=[DAY.name] if table.partitioned else None,
            name=table.name,
            description=table.help,
        )
        self._open[app_id, table.name] = delta
        return delta


def _sync_log(folder: Path, first: int, last: int) -> None:
    """Force to disk what the log says of the versions from one to another."""
    log = folder / "_delta_log"
    entries = [path for version in range(first, last + 1) for path in log.glob(f"{version:020d}.*")]
    for path in (*entries, *log.glob("_last_checkpoint"), log):
        sync(path)


def _bound(value: datetime | str) -> int | str:
    return value if isinstance(value, str) else round(value.timestamp() * 1000)


def bounds(table: Table) -> str:
    """The least and greatest value of a table's leading column as SQL, in the form that a `NewFile` takes."""
    column = table.order[0]
    text = next(c.type for c in table.columns if c.name == column) == "string"
    form = '{0}("{1}")' if text else "strftime({0}(\"{1}\"), '%Y-%m-%dT%H:%M:%S.%gZ')"
    return ", ".join(form.format(function, column) for function in ("min", "max"))


def _added(table: str, file: NewFile, *, data_change: bool) -> AddAction:
    column = TABLES[table].order[0]
    stats = {
        "numRecords": file.rows,
        "minValues": {column: file.low},
        "maxValues": {column: file.high},
        "nullCount": {},
    }
    return AddAction(
        path=file.path,
        size=file.size,
        partition_values={} if file.day is None else {DAY.name: file.day},
        modification_time=file.modified_at,
        data_change=data_change,
        stats=json.dumps(stats),
    )
