"""Tags as the journal takes them: who is meant by each line, and the records that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from outhaul.errors import TooLarge
from outhaul.intake.lines import Bad, Line
from outhaul.journal import Header
from outhaul.protocols.dialects import ADMIN
from outhaul.records import FUTURE, Tag
from outhaul.tables.devices import USER_DEVICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outhaul.tables import Devices
    from outhaul.wire import LineReason

_PAIRS = 500_000
"""Devices of all users of a piece that are looked at together."""
_SEGMENT_BYTES = 32 * 1024 * 1024
_LINE_BYTES = 64 * 1024 * 1024
"""What one line may come to, over all devices of its user."""
_RECORD_BYTES = 160
"""About what a record takes besides its key and value."""
_FRAME_RECORDS = 10_000
_FRAME_BYTES = 512 * 1024
_encode = msgspec.json.Encoder().encode


class Meant(NamedTuple):
    """A line, and the devices that are meant by it."""

    line: Line
    devices: list[str]


class Resolved(NamedTuple):
    """Some lines with what is to become of each; `seen` is when devices that are known were last seen, in ms."""

    lines: list[Meant | Bad]
    seen: dict[str, int]


class Resolver:
    """Finds the devices that lines mean, of one app, as the tables are at some version of theirs.

    `at` is the import's time, in ms: when devices were seen is told by what was received up to then.
    """

    def __init__(
        self, devices: Devices, app_id: str, versions: Callable[[], dict[str, int]], at: int
    ) -> None:
        self._at = at
        self._devices = devices
        self._app_id = app_id
        self._newest = versions
        self._versions = versions()

    def resolve(self, lines: list[Line | Bad]) -> Iterator[Resolved]:
        """All the lines in order, in as many pieces as it takes for each to be small enough for a segment."""
        try:
            found = self._resolve(lines)
        except FileNotFoundError:
            # Maintenance deleted what these versions read.
            self._versions = self._newest()
            found = self._resolve(lines)
        if found is None:
            middle = len(lines) // 2
            yield from self.resolve(lines[:middle])
            yield from self.resolve(lines[middle:])
        else:
            yield found

    def _resolve(self, lines: list[Line | Bad]) -> Resolved | None:
        """What becomes of the lines, or None if they come to too much at once."""
        good = [line for line in lines if isinstance(line, Line)]
        users = {line.subject for line in good if line.is_user}
        try:
            owned = self._devices.owned(self._app_id, self._versions, users, _PAIRS) if users else {}
        except TooLarge:
            return None if len(lines) > 1 else Resolved([_too_many(line) for line in good], {})
        named = {line.subject for line in good if not line.is_user}
        ids = named.union(*owned.values())
        seen = self._devices.last_seen(self._app_id, self._versions, ids, self._at) if ids else {}
        meant = [line if isinstance(line, Bad) else _meant(line, owned, seen) for line in lines]
        size = sum(_size(one) for one in meant if isinstance(one, Meant))
        return Resolved(meant, seen) if size <= _SEGMENT_BYTES or len(lines) == 1 else None


def frames(
    app_id: str, import_id: str, at: int, received_at: int, found: Resolved
) -> Iterator[tuple[Header, bytes]]:
    """The records of resolved lines as requests; `at` is the time of all of them, but for clocks that are ahead.

    Their ids are made of the line's number, so that landing recognises those of a line that is applied again.
    """
    header = Header(app_id=app_id, protocol=ADMIN, received_at=received_at)
    pieces: list[bytes] = []
    size = 0
    for one in found.lines:
        if isinstance(one, Bad):
            continue
        for record in _records(import_id, at, one, found.seen):
            piece = _encode(record)
            pieces.append(piece)
            size += len(piece)
            if len(pieces) >= _FRAME_RECORDS or size >= _FRAME_BYTES:
                yield header, _body(pieces)
                pieces, size = [], 0
    if pieces:
        yield header, _body(pieces)


def _records(import_id: str, at: int, one: Meant, seen: dict[str, int]) -> Iterator[Tag]:
    for device_id in one.devices:
        # No tag that a device had then is later than it was seen; one that was set since may be, and wins.
        moment = min(max(at, seen[device_id]), at + FUTURE)
        for number, (key, value) in enumerate(one.line.tags.items(), start=1):
            identity = f"{import_id}-{one.line.number}-{number}"
            yield Tag(device_id=device_id, id=identity, timestamp=moment, key=key, value=value)


def _body(pieces: list[bytes]) -> bytes:
    return b'{"sdkName":"import","records":[%b]}' % b",".join(pieces)


def _meant(line: Line, owned: dict[str, list[str]], seen: dict[str, int]) -> Meant | Bad:
    known = [one for one in (owned.get(line.subject, []) if line.is_user else [line.subject]) if one in seen]
    if not known and line.is_user:
        return _bad(line, "unknown_user", "No device of the app has this user now.")
    if not known:
        return _bad(line, "unknown_device", "The app has no such device.")
    found = Meant(line, known)
    return _too_many(line) if len(known) > USER_DEVICES or _size(found) > _LINE_BYTES else found


def _too_many(line: Line) -> Bad:
    detail = f"The user has over {USER_DEVICES:,} devices, or they and the tags are too many together."
    return _bad(line, "too_many", detail)


def _bad(line: Line, reason: LineReason, detail: str) -> Bad:
    return Bad(line.number, line.last, line.end, reason, detail)


def _size(one: Meant) -> int:
    tags = one.line.tags
    return len(one.devices) * sum(_RECORD_BYTES + len(key) + len(value or "") for key, value in tags.items())
