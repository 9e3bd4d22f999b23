"""The steps of an import. Each may be repeated after a crash and comes to the same result.

`begin` waits for what the import goes by, `apply` reads the file and offers the journal a segment after the other, `finish`
waits until that has landed. How far `apply` came is in the ledger: the lines behind it are offered again, under the same
names and with the same ids, by which landing tells what it has.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from outhaul import journal
from outhaul.errors import Busy, Cancelled, Invalid, OuthaulError, SourceChanged
from outhaul.intake.lines import Bad
from outhaul.intake.reading import TagFile
from outhaul.intake.segments import Meant, Resolver, frames
from outhaul.tables import Devices, Tables
from outhaul.wire import ENDED, PROBLEMS, Failure, LineProblem, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from outhaul.config import Config
    from outhaul.container import Reading, Sources
    from outhaul.intake.lines import Line
    from outhaul.intake.segments import Resolved
    from outhaul.keys import Keyring
    from outhaul.ledger.ledger import Ledger
    from outhaul.wire import Import

log = logging.getLogger(__name__)

_POLL_S = 0.05
_HEED_S = 1.0
_CHUNK_LINES = 50_000
_CHUNK_BYTES = 16 * 1024 * 1024
_TAG_BYTES = 160
"""About what a tag takes in memory besides its key and value."""
_OFFERS = 4
"""Segments of one import that may wait to be adopted."""
_BATCHES = 2
"""Landings' worth of journal that an import lets wait; devices are to be refused later than it."""
_LAST_WORDS_S = 60.0
_HOUR_MS = 3_600_000


class Importer:
    """Carries out imports of one data folder, several at a time on as many threads.

    A step does nothing for an attempt that is over: the import has ended meanwhile, or was taken up again.

    Raises (each step):
        Cancelled: somebody asked for the import to be stopped.
    """

    steps: tuple[str, ...] = ("begin", "apply", "finish")
    """The steps of an import, in order; each is a method that takes the import's id and the number of the attempt."""

    def __init__(
        self,
        data: Path,
        ledger: Ledger,
        config: Config,
        keyring: Keyring,
        sources: Sources,
        now: Callable[[], int],
    ) -> None:
        self._journal = data / "journal"
        self._devices = Devices(Tables(data / "tables"))
        self._ledger = ledger
        self._config = config
        self._keyring = keyring
        self._sources = sources
        self._now = now
        self._backlog = min(_BATCHES * config.land_batch_bytes, config.max_journal_bytes // 4)

    def begin(self, import_id: str, attempt: int) -> None:
        """Wait until the devices received before it was asked for are known, and nobody is being erased."""
        found = self._wanted(import_id, attempt)
        if found is None:
            return
        while self._ledger.checkpoint().position < found.mark:
            self._wait(import_id, attempt)
        while not self._ledger.start_import(import_id, attempt, self._now()):
            self._wait(import_id, attempt)
        reading = self._open(found)
        self._update(found, bytes_total=reading.size)

    def apply(self, import_id: str, attempt: int) -> None:
        """Have the lines applied that have not been.

        Raises:
            SourceError: the file cannot be read, or not any more; only `SourceUnreachable` is worth repeating.
            Busy: the disk takes nothing more.
        """
        found = self._wanted(import_id, attempt)
        if found is None:
            return
        reading, begun = self._open(found), found.version is not None
        file = TagFile(reading, found.format, found.lines_done, found.bytes_done, self._heed(found))
        resolver = Resolver(
            self._devices,
            found.app_id,
            lambda: self._ledger.checkpoint().versions.get(found.app_id, {}),
            _moment(found),
        )
        tally = _Tally(found)
        received_at = 0
        for chunk in _chunks(file):
            if not begun:
                # Before anything is offered: landing would take a line of another file for one that it has.
                self._update(found, version=reading.version, bytes_total=reading.size)
                begun = True
            for piece in resolver.resolve(chunk):
                self._make_way(found)
                # In order of arrival later lines win, also where two landings have them.
                received_at = max(self._now(), received_at + 1)
                tally.count(piece)
                self._offer(found, piece, received_at)
                last = piece.lines[-1]
                end = last.line if isinstance(last, Meant) else last
                self._update(found, lines_done=end.last, bytes_done=file.bytes_read(end), **tally.changes())

    def _offer(self, found: Import, piece: Resolved, received_at: int) -> None:
        first = next((one.line.number for one in piece.lines if isinstance(one, Meant)), None)
        if first is None:
            return
        records = frames(found.app_id, found.id, _moment(found), received_at, piece)
        try:
            journal.offer(self._journal, f"{found.id}-{first:012d}", records)
        except OSError as error:
            raise Busy(
                f"Nothing can be stored now: {error.strerror or 'I/O error'}.",
                hint="Make room on the server's disk, then retry the import: it goes on where it stopped.",
            ) from error

    def _make_way(self, found: Import) -> None:
        """Wait while the journal has enough to land: devices' requests go into it, too."""
        while (
            len(self._offered(found.id)) >= _OFFERS
            or journal.backlog(self._journal, self._ledger.checkpoint().position) > self._backlog
        ):
            self._wait(found.id, found.attempt)

    def finish(self, import_id: str, attempt: int) -> None:
        """Wait until what was applied has landed, and say that the import succeeded.

        Raises:
            Invalid: not one line could be applied.
        """
        found = self._wanted(import_id, attempt)
        if found is None:
            return
        self._land(found, None)
        if not found.lines_applied:
            raise _nothing_applied(found)
        self._update(found, bytes_done=found.bytes_total or 0)
        self._ledger.succeed_import(import_id, self._now())

    def fail(self, import_id: str, attempt: int, error: Exception) -> None:
        """Say that the import ended without success, and why, in words for the one who asked."""
        told = (
            error
            if isinstance(error, OuthaulError)
            else OuthaulError("An internal error.", hint="The server's log says more.", code="internal")
        )
        found = self._ledger.find_import(import_id)
        begun = found.lines_done or self._offered(import_id)
        if begun and found.attempt == attempt and found.state not in ENDED:
            # While it is under way nobody is erased, and what it made must not land after somebody was.
            self._land(found, time.monotonic() + _LAST_WORDS_S)
        failure = Failure(
            attempt=attempt, at=self._now(), code=told.code, message=told.message, hint=told.hint
        )
        self._ledger.end_import(import_id, "cancelled" if isinstance(error, Cancelled) else "failed", failure)

    def sweep(self) -> None:
        """Forget where imports came from that ended without success too long ago to be taken up again."""
        self._ledger.forget_sources(self._now() - self._config.keep_failed_hours * _HOUR_MS)

    def _land(self, found: Import, deadline: float | None) -> None:
        """Wait until all that was offered has landed, or until a deadline."""

        def wait() -> bool:
            if deadline is None:
                self._wait(found.id, found.attempt)
                return True
            time.sleep(_POLL_S)
            return time.monotonic() < deadline

        while self._offered(found.id):
            if not wait():
                return
        reached = max((one.number + 1 for one in journal.segments(self._journal, 0)), default=0)
        while self._ledger.checkpoint().position < reached:
            if not wait():
                return

    def _offered(self, import_id: str) -> list[str]:
        return [name for name in journal.offered(self._journal) if name.startswith(import_id)]

    def _open(self, found: Import) -> Reading:
        if found.source is None:
            raise Invalid("Where the import comes from is no longer kept.", hint="Ask for a new one.")
        source = self._keyring.unseal(found.source, Source)
        reading = self._sources.open(source, timeout_s=self._config.delivery_timeout_s)
        if found.version is not None and reading.version != found.version:
            raise SourceChanged(
                "The file is not the one that was begun.",
                hint="Ask for an import of the file as it is now; what was applied stays applied.",
            )
        return reading

    def _wanted(self, import_id: str, attempt: int) -> Import | None:
        """The import, if this attempt at it is still to be worked on."""
        found = self._ledger.find_import(import_id)
        if found.attempt != attempt or found.state in ENDED:
            return None
        if found.cancelling:
            raise _cancelled()
        return found

    def _update(self, found: Import, **changes: object) -> None:
        if not self._ledger.update_import(found.id, found.attempt, **changes):
            raise _cancelled()

    def _heed(self, found: Import) -> Callable[[], None]:
        """What stops reading soon after the import is not wanted any more, also where no line comes of it for hours."""
        looked = time.monotonic()

        def heed() -> None:
            nonlocal looked
            if time.monotonic() - looked >= _HEED_S:
                self._update(found)
                looked = time.monotonic()

        return heed

    def _wait(self, import_id: str, attempt: int) -> None:
        if self._wanted(import_id, attempt) is None:
            raise _cancelled()
        time.sleep(_POLL_S)


class _Tally:
    """What became of the lines so far."""

    def __init__(self, found: Import) -> None:
        self._applied = found.lines_applied
        self._tags = found.tags_set
        self._rejected = dict(found.rejected)
        self._problems = list(found.problems)

    def count(self, piece: Resolved) -> None:
        for one in piece.lines:
            if isinstance(one, Meant):
                self._applied += 1
                self._tags += len(one.devices) * len(one.line.tags)
            else:
                self._rejected[one.reason] = self._rejected.get(one.reason, 0) + 1
                if len(self._problems) < PROBLEMS:
                    self._problems.append(LineProblem(one.number, one.reason, one.detail))

    def changes(self) -> dict[str, object]:
        return {
            "lines_applied": self._applied,
            "tags_set": self._tags,
            "rejected": self._rejected,
            "problems": self._problems,
        }


def _chunks(file: TagFile) -> Iterator[list[Line | Bad]]:
    """The lines, so many at a time that looking them up is worth it and they fit in memory."""
    chunk: list[Line | Bad] = []
    size = 0
    for line in file:
        chunk.append(line)
        if not isinstance(line, Bad):
            size += sum(_TAG_BYTES + len(key) + len(value or "") for key, value in line.tags.items())
        if len(chunk) >= _CHUNK_LINES or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _moment(found: Import) -> int:
    """The time of all tags of an import, however often it is taken up again."""
    return found.started_at or found.created_at


def _cancelled() -> Cancelled:
    return Cancelled("The import was cancelled.", hint="What was applied stays applied.")


def _nothing_applied(found: Import) -> Invalid:
    total = sum(found.rejected.values())
    if not total:
        return Invalid(
            "The file holds no tags.", hint="Check that it is the right one.", code="nothing_applied"
        )
    counts = ", ".join(f"{reason} {count:,}" for reason, count in sorted(found.rejected.items()))
    message = f"None of the {total:,} lines could be applied: {counts}."
    hint = "The problems that the import lists say why: GET it, or `outhaul imports show` it."
    return Invalid(message, hint=hint, code="nothing_applied")
