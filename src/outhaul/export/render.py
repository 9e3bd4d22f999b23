"""Slices → batches of rows, in order, computed ahead on a few threads with a bounded number of bytes in flight."""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from duckdb import DuckDBPyConnection

_ROWS_PER_BATCH = 4096
_BYTES_AHEAD = 24 * 1024 * 1024
"""Of one slice; a batch that is larger goes by itself."""
_SLICES_AHEAD = 2
_LOOK_S = 0.5

_Item: TypeAlias = "pa.RecordBatch | BaseException | None"
"""What is handed over: rows, then how it ended."""


class _Stopped(Exception):  # noqa: N818  not an error: the reader has gone
    pass


class _Lane:
    """Hands the batches of a slice from the thread that computes them to the one that takes them."""

    def __init__(self, stop: threading.Event) -> None:
        self._items: deque[tuple[_Item, int]] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._stop = stop

    def put(self, item: _Item) -> None:
        """Wait for room, then hand over.

        Raises:
            _Stopped: nobody takes any more.
        """
        size = item.nbytes if isinstance(item, pa.RecordBatch) else 0
        with self._changed:
            while self._held and self._held + size > _BYTES_AHEAD and not self._stop.is_set():
                self._changed.wait(_LOOK_S)
            if self._stop.is_set():
                raise _Stopped
            self._items.append((item, size))
            self._held += size
            self._changed.notify_all()

    def take_all(self) -> Iterator[pa.RecordBatch]:
        """All batches, as they come; then whatever error ended them."""
        while True:
            with self._changed:
                while not self._items:
                    self._changed.wait()
                item, size = self._items.popleft()
                self._held -= size
                self._changed.notify_all()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item


def rendered(
    db: DuckDBPyConnection, queries: list[str], ahead: int = _SLICES_AHEAD
) -> Generator[Iterator[pa.RecordBatch]]:
    """Run queries, `ahead` of them at the same time; for each, in order, its rows.

    With 2, while one query's rows are taken the next is computed. A query's iterator must be exhausted before the next
    is asked for. Errors of the engine surface where the rows are taken.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(ahead, thread_name_prefix="render") as pool:
        pending: queue.SimpleQueue[_Lane] = queue.SimpleQueue()

        def start(query: str) -> None:
            lane = _Lane(stop)
            pending.put(lane)
            pool.submit(_produce, db.cursor(), query, lane)

        try:
            rest = iter(queries)
            for query in (query for _, query in zip(range(ahead), rest, strict=False)):
                start(query)
            for _ in queries:
                yield pending.get().take_all()
                for query in (query for _, query in zip(range(1), rest, strict=False)):
                    start(query)
        finally:
            stop.set()


def _produce(cursor: DuckDBPyConnection, query: str, lane: _Lane) -> None:
    try:
        for batch in cursor.sql(query).to_arrow_reader(_ROWS_PER_BATCH):
            if batch.num_rows:
                lane.put(batch)
        lane.put(None)
    except _Stopped:
        pass
    except BaseException as error:  # noqa: BLE001  raised again by the thread that reads
        lane.put(error)
    finally:
        cursor.close()
