"""What an export would come to, without reading a row: from the statistics of the stored files, and from exports before.

Rows are counted per stored file, in proportion to how much of its time lies in the period. Bytes and seconds per row
are those of the newest exports like it; of an app without any, those that were measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul.ledger.tasks import Chosen
from outhaul.rest import Estimate
from outhaul.schema import EXPORTS

if TYPE_CHECKING:
    from outhaul.ledger.ledger import Ledger
    from outhaul.tables import StoredFile, Tables
    from outhaul.wire import Compression, ExportRequest, Format, Task

_LOOKED_AT = 50
_LIKE_IT = 5
_TASK_S = 0.5
"""Seconds that any export takes, however small."""
_COLUMN_BYTES: dict[Format, dict[Compression, float]] = {
    "json": {"none": 25, "gzip": 5.6, "zstd": 4.3},
    "jsonl": {"none": 25, "gzip": 5.6, "zstd": 4.3},
    "csv": {"none": 17, "gzip": 5.3, "zstd": 4.3},
    "parquet": {"none": 7.8, "snappy": 6.4, "gzip": 4.0, "zstd": 3.5, "lz4": 6.8},
}
"""Bytes that a row takes per column, as measured on events with extras."""
_ROWS_PER_S = 900_000
_SLOW_ROWS_PER_S: dict[tuple[Format, Compression], int] = {("parquet", "gzip"): 70_000}
"""Rows written and delivered in a second, as measured on two cores; what is much slower by itself."""


def estimate(ledger: Ledger, tables: Tables, app_id: str, request: ExportRequest) -> Estimate:
    """Rows, bytes and seconds of an export asked for now. Blocks, for as long as it takes to read a table's log."""
    rows = _rows(tables.files(app_id, request.kind), request)
    bytes_per_row, seconds_per_row = _rates(ledger, app_id, request)
    # Some kinds fold several stored rows into one, and these cannot be told apart from here.
    at_most = (
        not EXPORTS[request.kind].dated
        or request.kind == "session"
        or request.where is not None
        or (request.period is not None and request.period.by == "receivedAt")
    )
    return Estimate(
        rows=rows,
        bytes=round(rows * bytes_per_row),
        seconds=round(_TASK_S + rows * seconds_per_row, 1),
        at_most=at_most,
    )


def _rows(files: list[StoredFile], request: ExportRequest) -> int:
    period = request.period
    if period is None or period.by == "receivedAt":
        return sum(file.rows for file in files)
    return round(sum(file.rows * _share(file, period.start, period.end) for file in files))


def _share(file: StoredFile, start: int, end: int) -> float:
    """Which part of a file's time lies in an interval, as if its rows were spread evenly over it."""
    low, high = int(file.low), int(file.high) + 1
    return max(0, min(high, end) - max(low, start)) / (high - low)


def _rates(ledger: Ledger, app_id: str, request: ExportRequest) -> tuple[float, float]:
    """Bytes and seconds per row."""
    chosen = Chosen(app_id=app_id, state="succeeded", kind=request.kind)
    like_it = [task for task in ledger.newest_tasks(chosen, _LOOKED_AT) if _alike(task, request)][:_LIKE_IT]
    rows = sum(task.rows_done for task in like_it)
    if rows:
        seconds = sum((task.completed_at or 0) - (task.started_at or 0) for task in like_it) / 1000
        return sum(task.bytes_done for task in like_it) / rows, max(
            0, seconds - _TASK_S * len(like_it)
        ) / rows
    columns = len(request.columns or EXPORTS[request.kind].columns)
    rows_per_s = _SLOW_ROWS_PER_S.get((request.format, request.compression), _ROWS_PER_S)
    return columns * _COLUMN_BYTES[request.format][request.compression], 1 / rows_per_s


def _alike(task: Task, request: ExportRequest) -> bool:
    was = task.request
    same = (was.format, was.compression, was.columns) == (
        request.format,
        request.compression,
        request.columns,
    )
    return same and task.started_at is not None and task.completed_at is not None
