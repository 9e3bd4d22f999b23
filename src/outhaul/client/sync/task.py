# Made from the module of the same name in `aio` by `python -m outhaul.client.generate`; edit that one.
"""An export that was asked for: watched, steered, fetched and opened."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import msgspec

from outhaul.client import opening
from outhaul.client.requests import quoted
from outhaul.client.shown import Shown, check_success
from outhaul.client.sync.downloads import download
from outhaul.client.sync.running import in_thread, one_by_one, sleep
from outhaul.errors import Busy, OuthaulError, TimedOut
from outhaul.rest import Export, NewDestination
from outhaul.wire import ENDED, Destination

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import pandas as pd  # type: ignore[import-untyped]
    import polars as pl
    import pyarrow as pa

    from outhaul.client.files import Downloaded
    from outhaul.client.sync.connection import Connection

_EVENTS = ("progress", "end")
"""The events that say how the export is; there may come to be others."""
_SILENCE_S = 45.0
"""Seconds after which a stream of events is taken for lost; the server is never silent for more than 15."""
_NEAR_S = 20.0
"""With less than this left to wait, events are no longer waited for, since silence cannot be cut short."""
_OUTAGE_S = 900.0
"""Seconds without any answer after which waiting is given up, where it is not bounded otherwise."""


class ExportTask(Shown):
    """An export that was asked for, with the members of `outhaul.rest.Export` as they were last seen."""

    def __init__(self, connection: Connection, export: Export) -> None:
        self.export = export
        self._connection = connection
        self._path = f"/exports/{quoted(export.id)}"

    def refresh(self) -> Self:
        """See how it is now."""
        self.export = self._connection.get(self._path, Export)
        return self

    def wait(
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
                with closing(self._events(watch)) as events:
                    for export in events:
                        watch.see(export)
                if self.state in ENDED:
                    break
            sleep(min(poll_s, watch.left_s()))
            try:
                export = self._connection.get(
                    self._path, Export, once_within_s=min(self._connection.timeout_s, max(watch.left_s(), 1))
                )
            except Busy as error:
                if watch.silent_s() > _OUTAGE_S:
                    raise
                sleep(min(error.retry_after_s or 0.0, watch.left_s()))
            else:
                watch.heard()
                watch.see(export)
            watch.check()
        check_success(self.export)
        return self

    def cancel(self) -> Self:
        """Ask for it to be stopped; it is once its state says `cancelled`."""
        return self._tell("POST", f"{self._path}:cancel", repeat=True)

    def retry(self) -> Self:
        """Take it up again where it stopped, after it failed or was cancelled."""
        return self._tell("POST", f"{self._path}:retry", repeat=False)

    def set_destination(self, destination: str | Destination) -> Self:
        """Give it another destination, or new credentials for the same one; one that had failed goes on."""
        new = Destination(url=destination) if isinstance(destination, str) else destination
        return self._tell("PUT", f"{self._path}/destination", repeat=True, body=NewDestination(new))

    def download(self, folder: str | Path, *, at_once: int = 4) -> list[Path]:
        """Fetch its files into a folder, `at_once` of them at a time, with its manifest, and return their paths.

        What is there already is not fetched again, and a file that was begun is continued. Each is in its place only
        after its bytes and its SHA-256 were found to be those of the manifest.

        Raises:
            Invalid: its files are not kept by the server, or it is not done.
            NotFound: they are no longer kept (`expired`).
            Damaged: what arrived is not what was exported.
            Busy: the server could not be reached for too long; what has arrived stays.
        """
        return (download(self._connection, self.export, Path(folder), at_once)).paths

    def to_arrow(self, folder: str | Path | None = None) -> pa.Table:
        """All rows as a table; its files are downloaded into `folder`, or for the time being.

        Raises what `download` does, and `library_missing` where there is no pyarrow.
        """
        opening.library("pyarrow")
        with _folder(folder) as place:
            return in_thread(opening.table, self._downloaded(place))

    def to_polars(self, folder: str | Path | None = None) -> pl.DataFrame:
        """The same for Polars; needs pyarrow as well."""
        polars = opening.library("polars", "pyarrow")
        frame: pl.DataFrame = polars.from_arrow(self.to_arrow(folder))
        return frame

    def to_pandas(self, folder: str | Path | None = None) -> pd.DataFrame:
        """The same for pandas; integers and booleans that may be missing have its nullable types."""
        opening.library("pandas", "pyarrow")
        return opening.to_pandas(self.to_arrow(folder))

    def iter_batches(self, folder: str | Path | None = None) -> Iterator[pa.RecordBatch]:
        """The rows a few MiB at a time, for what is larger than memory; the files take disk space while it goes on."""
        opening.library("pyarrow")
        with _folder(folder) as place:
            yield from one_by_one(opening.batches(self._downloaded(place)))

    def iter_rows(self, folder: str | Path | None = None) -> Iterator[dict[str, Any]]:
        """The rows one at a time, times as aware datetimes."""
        for batch in self.iter_batches(folder):
            yield from batch.to_pylist()

    def _downloaded(self, folder: Path) -> Downloaded:
        return download(self._connection, self.export, folder, 4)

    def _tell(self, method: str, path: str, *, repeat: bool, body: object = None) -> Self:
        self.export = self._connection.tell(method, path, Export, body=body, repeat=repeat)
        return self

    def _events(self, watch: _Watch) -> Generator[Export]:
        """How it is, on every change, until there are no more events or the time is nearly over."""
        headers = {"Accept": "text/event-stream"}
        event = ""
        try:
            silence_s = min(_SILENCE_S, watch.left_s())
            with self._connection.stream(f"{self._path}/events", headers, silence_s) as response:
                for line in response.iter_lines():
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
        task: ExportTask,
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
