"""A Parquet file of an export: rows in their order, in row groups whose cut depends on nothing but the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from outhaul.export.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from outhaul.schema import Column
    from outhaul.wire import Compression

GROUP_BYTES = 32 * 1024 * 1024
"""Bytes of values after which a row group ends, at the latest."""
GROUP_ROWS = 131_072
_GROUPS_PER_FILE = 8
_FOOTER = 16 * 1024
_FOOTER_PER_COLUMN = 256
_VALUE = 12
"""The most that a value takes besides the bytes of its text: in a dictionary, its place there, whether it is null."""
_WORST = 128
"""Compressed, incompressible values grow by less than one part in so many."""
_TYPES = {
    "string": pa.string(),
    "json": pa.string(),
    "identifier": pa.string(),
    "time": pa.timestamp("ms", "UTC"),
    "duration": pa.int64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
}


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """The types of a file: text as UTF-8, times as UTC timestamps in ms, numbers as 64-bit integers."""
    return pa.schema([pa.field(c.name, _TYPES[c.type], nullable=not c.required) for c in columns])


class ParquetFile:
    """Grows by row groups, to `limit` bytes at most if there is one (a single larger row apart)."""

    pending = b""

    def __init__(self, path: Path, schema: pa.Schema, compression: Compression, limit: int | None) -> None:
        self._schema = schema
        self._limit = limit
        self._group_bytes = min(GROUP_BYTES, limit // _GROUPS_PER_FILE) if limit else GROUP_BYTES
        self._spool = Spool(path)
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._spool, mode="w"),
            schema,
            compression=compression,
            store_schema=False,
            # The least and greatest texts are kept at full length, in footer and pages: where there is a limit, for
            # nothing, since rows are in the order of other columns.
            write_statistics=True
            if limit is None
            else [f.name for f in schema if not pa.types.is_string(f.type)],
            # Row groups are cut here, by what is in them.
            write_batch_size=1024,
        )
        self._group: list[pa.RecordBatch] = []
        self._held = 0
        self._held_rows = 0
        self._groups = 0
        self.rows = 0

    @property
    def size(self) -> int:
        """Bytes in the file so far."""
        return self._spool.size

    def take(self, batch: pa.RecordBatch, start: int) -> int:
        """Take rows of a batch, from `start` on; how many found room, 0 when the file is full."""
        sizes = np.cumsum(_sizes(batch)[start:])
        while True:
            if not self._group and self.rows and not self._has_room(max(self._group_bytes, int(sizes[0]))):
                return 0
            fitting = int(np.searchsorted(sizes, self._group_bytes - self._held, side="right"))
            fitting = min(fitting, GROUP_ROWS - self._held_rows)
            if fitting == 0 and not self._group:
                fitting = 1
            if fitting:
                break
            self._end_group()
        self._group.append(batch.slice(start, fitting))
        self._held += int(sizes[fitting - 1])
        self._held_rows += fitting
        self.rows += fitting
        return fitting

    def end(self) -> str:
        """Complete the file, durably; its SHA-256."""
        self._end_group()
        self._writer.close()
        self.sync()
        self._spool.close()
        return self._spool.sha256()

    def sync(self) -> None:
        self._spool.sync()

    def close(self) -> None:
        """Leave it as it is: without its footer it is of no use, and is begun again."""
        self._spool.close()

    def _has_room(self, size: int) -> bool:
        if self._limit is None:
            return True
        footer = _FOOTER + (self._groups + 1) * len(self._schema) * _FOOTER_PER_COLUMN
        return self._spool.size + size + size // _WORST + footer <= self._limit

    def _end_group(self) -> None:
        if self._group:
            # In one piece: how the engine cut its batches must not show in the file.
            table = pa.Table.from_batches(self._group).combine_chunks().cast(self._schema)
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
            self._group, self._held, self._held_rows = [], 0, 0
            self._groups += 1


def _sizes(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """The most bytes that each row can take, before it is encoded and compressed."""
    sizes = np.full(batch.num_rows, _VALUE * batch.num_columns, dtype=np.int64)
    for column in batch.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            width = np.int64 if pa.types.is_large_string(column.type) else np.int32
            offsets = np.frombuffer(column.buffers()[1], dtype=width)
            sizes += np.diff(offsets[column.offset : column.offset + len(column) + 1])
    return sizes
