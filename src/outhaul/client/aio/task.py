"""An export that was asked for: watched, steered, fetched and opened."""

from __future__ import annotations

import time
from contextlib import aclosing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import msgspec

from outhaul.client import opening
from outhaul.client.aio.downloads import download
from outhaul.client.aio.running import in_thread, one_by_one, sleep
from outhaul.client.requests import quoted
from outhaul.client.shown import Shown, check_success
from outhaul.errors import Busy, OuthaulError, TimedOut
from outhaul.rest import Export, NewDestination
from outhaul.wire import ENDED, Destination

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    import pandas as pd  # type: ignore[import-untyped]
    import polars as pl
    import pyarrow as pa

    from outhaul.client.aio.connection import Connection
    from outhaul.client.files import Downloaded

_EVENTS = ("progress", "end")
"""The events that say how the export is; there may come to be others."""
_SILENCE_S = 45.0
"""Seconds after which a stream of events is taken for lost; the server is never silent for more than 15."""
_NEAR_S = 20.0
"""With less than this left to wait, events are no longer waited for, since silence cannot be cut short."""
_OUTAGE_S = 900.0
"""Seconds without any answer after which waiting is given up, where it is not bounded otherwise."""


class AsyncExportTask(Shown):
    """An export that was asked for, with the members of `outhaul.rest.Export` as they were last seen."""

    def __init__(self, connection: Connection, export: Export) -> None:
        self.export = export
        self._connection = connection
        self._path = f"/exports/{quoted(export.id)}"

    async def refresh(self) -> Self:
        """See how it is now."""
        self.export = await self._connection.get(self._path, Export)
        return self

    async def wait(
        self,
        timeout_s: float | None = None,
        on_progress: Callable[[Self], object] | None = None,
        *,
        poll_s: float = 1.0,
    ) -> Self:
        """Wait until it has succeeded, through restarts of the server and lost connections.

        `on_progress` is called with this task at once and on every change. Changes are told by the server as they
        happen; where that does not get through, it is asked every `poll_s`.

        Raises:
            ExportFailed: it failed, with the code, the message and the hint of its failure.
            Cancelled: it was cancelled.
            TimedOut: it has not ended after `timeout_s`; it goes on.
            Unreachable: there was no answer for a quarter of an hour.
        """
        watch = _Watch(self, timeout_s, on_progress)
        watch.tell()
        while self.state not in ENDED:
            if watch.events and watch.left_s() > _NEAR_S:
                async with aclosing(self._events(watch)) as events:
                    async for export in events:
                        watch.see(export)
                if self.state in ENDED:
                    break
            await sleep(min(poll_s, watch.left_s()))
            try:
                export = await self._connection.get(
                    self._path, Export, once_within_s=min(self._connection.timeout_s, max(watch.left_s(), 1))
                )
            except Busy as error:
                if watch.silent_s() > _OUTAGE_S:
                    raise
                await sleep(min(error.retry_after_s or 0.0, watch.left_s()))
            else:
                watch.heard()
                watch.see(export)
            watch.check()
        check_success(self.export)
        return self

    async def cancel(self) -> Self:
        """Ask for it to be stopped; it is once its state says `cancelled`."""
        return await self._tell("POST", f"{self._path}:cancel", repeat=True)

    async def retry(self) -> Self:
        """Take it up again where it stopped, after it failed or was cancelled."""
        return await self._tell("POST", f"{self._path}:retry", repeat=False)

    async def set_destination(self, destination: str | Destination) -> Self:
        """Give it another destination, or new credentials for the same one; one that had failed goes on."""
        new = Destination(url=destination) if isinstance(destination, str) else destination
        return await self._tell("PUT", f"{self._path}/destination", repeat=True, body=NewDestination(new))

    async def download(self, folder: str | Path, *, at_once: int = 4) -> list[Path]:
        """Fetch its files into a folder, `at_once` of them at a time, with its manifest, and return their paths.

        What is there already is not fetched again, and a file that was begun is continued. Each is in its place only
        after its bytes and its SHA-256 were found to be those of the manifest.

        Raises:
            Invalid: its files are not kept by the server, or it is not done.
            NotFound: they are no longer kept (`expired`).
            Damaged: what arrived is not what was exported.
            Busy: the server could not be reached for too long; what has arrived stays.
        """
        return (await download(self._connection, self.export, Path(folder), at_once)).paths

    async def to_arrow(self, folder: str | Path | None = None) -> pa.Table:
        """All rows as a table; its files are downloaded into `folder`, or for the time being.

        Raises what `download` does, and `library_missing` where there is no pyarrow.
        """
        opening.library("pyarrow")
        with _folder(folder) as place:
            return await in_thread(opening.table, await self._downloaded(place))

    async def to_polars(self, folder: str | Path | None = None) -> pl.DataFrame:
        """The same for Polars; needs pyarrow as well."""
        polars = opening.library("polars", "pyarrow")
        frame: pl.DataFrame = polars.from_arrow(await self.to_arrow(folder))
        return frame

    async def to_pandas(self, folder: str | Path | None = None) -> pd.DataFrame:
        """The same for pandas; integers and booleans that may be missing have its nullable types."""
        opening.library("pandas", "pyarrow")
        return opening.to_pandas(await self.to_arrow(folder))

    async def iter_batches(self, folder: str | Path | None = None) -> AsyncIterator[pa.RecordBatch]:
        """The rows a few MiB at a time, for what is larger than memory; the files take disk space while it goes on."""
        opening.library("pyarrow")
        with _folder(folder) as place:
            async for batch in one_by_one(opening.batches(await self._downloaded(place))):
                yield batch

    async def iter_rows(self, folder: str | Path | None = None) -> AsyncIterator[dict[str, Any]]:
        """The rows one at a time, times as aware datetimes."""
        async for batch in self.iter_batches(folder):
            for row in batch.to_pylist():
                yield row

    async def _downloaded(self, folder: Path) -> Downloaded:
        return await download(self._connection, self.export, folder, 4)

    async def _tell(self, method: str, path: str, *, repeat: bool, body: object = None) -> Self:
        self.export = await self._connection.tell(method, path, Export, body=body, repeat=repeat)
        return self

    async def _events(self, watch: _Watch) -> AsyncGenerator[Export]:
        """How it is, on every change, until there are no more events or the time is nearly over."""
        headers = {"Accept": "text/event-stream"}
        event = ""
        try:
            silence_s = min(_SILENCE_S, watch.left_s())
            async with self._connection.stream(f"{self._path}/events", headers, silence_s) as response:
                async for line in response.aiter_lines():
                    watch.heard()
                    name, _, value = line.partition(":")
                    if name == "event":
                        event = value.strip()
                    elif name == "data" and event in _EVENTS:
                        yield msgspec.json.decode(value, type=Export)
                    if watch.left_s() < _NEAR_S:
                        return
        except Busy:
            return
        except (OuthaulError, msgspec.DecodeError):
            # A server or a proxy that has no events, or a refusal that asking without them says better.
            watch.events = False


class _Watch:
    """What is waited for, until when, and who wants to hear of it."""

    def __init__(
        self,
        task: AsyncExportTask,
        timeout_s: float | None,
        on_progress: Callable[[Any], object] | None,
    ) -> None:
        self._task = task
        self._timeout_s = timeout_s
        self._until = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        self._on_progress = on_progress
        self._heard_at = time.monotonic()
        self.events = True

    def left_s(self) -> float:
        return max(self._until - time.monotonic(), 0.0)

    def heard(self) -> None:
        self._heard_at = time.monotonic()

    def silent_s(self) -> float:
        return time.monotonic() - self._heard_at

    def tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._task)

    def see(self, export: Export) -> None:
        if export != self._task.export:
            self._task.export = export
            self.tell()

    def check(self) -> None:
        if self._task.state not in ENDED and not self.left_s():
            raise TimedOut(
                f"The export {self._task.id} is {self._task.state} after {self._timeout_s:g} s.",
                hint="It goes on; wait again, or cancel it.",
            )


@contextmanager
def _folder(given: str | Path | None) -> Iterator[Path]:
    if given is not None:
        yield Path(given)
        return
    with TemporaryDirectory(prefix="outhaul-") as made:
        yield Path(made)
