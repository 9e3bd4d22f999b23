"""Slices → lines of text, in order, computed ahead on a few threads with a bounded number of bytes in flight."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from duckdb import DuckDBPyConnection

_ROWS_PER_BATCH = 4096
_BATCHES_AHEAD = 24
_SLICES_AHEAD = 2

Lines = tuple[memoryview, int]
"""Rendered lines as the engine holds them, and how many there are."""


class _Stopped(Exception):  # noqa: N818  not an error: the reader has gone
    pass


def rendered(db: DuckDBPyConnection, queries: list[str]) -> Iterator[Iterator[Lines]]:
    """Run queries of one text column; for each, in order, its rows as bytes.

    While one query's bytes are taken the next is computed. A query's iterator must be exhausted before the next
    is asked for. Errors of the engine surface where the bytes are taken.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(_SLICES_AHEAD, thread_name_prefix="render") as pool:
        pending: queue.SimpleQueue[queue.Queue[Lines | BaseException | None]] = queue.SimpleQueue()

        def start(query: str) -> None:
            lines: queue.Queue[Lines | BaseException | None] = queue.Queue(_BATCHES_AHEAD)
            pending.put(lines)
            pool.submit(_produce, db.cursor(), query, lines, stop)

        try:
            ahead = iter(queries)
            for query in (query for _, query in zip(range(_SLICES_AHEAD), ahead, strict=False)):
                start(query)
            for _ in queries:
                yield _drain(pending.get())
                for query in (query for _, query in zip(range(1), ahead, strict=False)):
                    start(query)
        finally:
            stop.set()


def _drain(lines: queue.Queue[Lines | BaseException | None]) -> Iterator[Lines]:
    while (item := lines.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


def _produce(
    cursor: DuckDBPyConnection,
    query: str,
    lines: queue.Queue[Lines | BaseException | None],
    stop: threading.Event,
) -> None:
    put = _putter(lines, stop)
    try:
        for batch in cursor.sql(query).to_arrow_reader(_ROWS_PER_BATCH):
            if batch.num_rows:
                put((_text_of(batch.column(0)), batch.num_rows))
        put(None)
    except _Stopped:
        pass
    except BaseException as error:  # noqa: BLE001  raised again by the thread that reads
        with_error: Lines | BaseException | None = error
        put(with_error)
    finally:
        cursor.close()


def _putter(
    lines: queue.Queue[Lines | BaseException | None], stop: threading.Event
) -> Callable[[Lines | BaseException | None], None]:
    def put(item: Lines | BaseException | None) -> None:
        while not stop.is_set():
            try:
                lines.put(item, timeout=0.5)
            except queue.Full:
                continue
            return
        raise _Stopped

    return put


def _text_of(column: pa.Array) -> memoryview:
    """The bytes of a text column, all rows one after the other, without a copy.

    Arrow keeps the strings of a column back to back in one buffer, with an offset for each row.
    """
    _, offsets_buffer, data = column.buffers()
    width = np.int64 if pa.types.is_large_string(column.type) else np.int32
    offsets = np.frombuffer(offsets_buffer, dtype=width)
    return memoryview(data)[int(offsets[column.offset]) : int(offsets[column.offset + len(column)])]
