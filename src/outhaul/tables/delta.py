"""Where landed records rest: one Delta Lake table per app and kind, readable by anything that reads Delta.

`<root>/<app>/<table>/`; files are Parquet, sorted by the table's `order`, in a partition per UTC day where the
table has one. Only landing appends; every append carries the journal position it landed up to inside the same
commit, so that a crash between tables can be told apart from a batch not begun. The only deltalake import.
"""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003  msgspec resolves it at run time
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Field, Schema, Transaction
from deltalake.schema import PrimitiveType
from deltalake.transaction import AddAction, RemoveAction
from msgspec import Struct

from outhaul.durable import sync
from outhaul.schema import DAY, TABLES, Table

if TYPE_CHECKING:
    from datetime import datetime

_LANDING = "outhaul-landing"
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


def parquet(table: Table) -> str:
    """How the files of a table are written, as options of the engine's `COPY`.

    A slice of an export, and all the more somebody who looks for one device, should read few rows in vain.
    """
    rows = _GROUP_ROWS if table.partitioned else _KEYED_GROUP_ROWS
    return f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {rows}"


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
        actions: list[AddAction | RemoveAction] = [_added(table, file, data_change=True) for file in files]
        delta.create_write_transaction(
            actions,
            mode="append",
            schema=delta.schema(),
            partition_by=[DAY.name] if TABLES[table].partitioned else None,
            commit_properties=CommitProperties(app_transactions=[Transaction(_LANDING, position)]),
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
        """
        folder = self.folder(app_id, table)
        if not DeltaTable.is_deltatable(str(folder)):
            return []
        actions = pa.table(DeltaTable(str(folder), version=version).get_add_actions(flatten=True))
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

    def replace(self, app_id: str, table: str, old: list[StoredFile], new: NewFile) -> None:
        """Put one file with the same rows in the place of several; pinned versions still read the old ones.

        Conflicts with nothing: appending goes on meanwhile.
        """
        delta = DeltaTable(str(self.folder(app_id, table)))
        partition: dict[str, str | None] = {} if new.day is None else {DAY.name: new.day}
        folder = self.folder(app_id, table)
        removals = [
            RemoveAction(str(file.path.relative_to(folder)), False, new.modified_at, file.size, partition)
            for file in old
        ]
        delta.create_write_transaction(
            [*removals, _added(table, new, data_change=False)],
            mode="append",
            schema=delta.schema(),
            partition_by=[DAY.name] if TABLES[table].partitioned else None,
        )

    def vacuum(self, app_id: str, table: str, hours: int) -> int:
        """Delete files that no version of the last `hours` hours reads; how many."""
        folder = str(self.folder(app_id, table))
        if not DeltaTable.is_deltatable(folder):
            return 0
        return len(
            DeltaTable(folder).vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False)
        )

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
