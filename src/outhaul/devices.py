"""Devices at this moment: what was acknowledged before the question is in the answer.

A question hands the journal over, as an export does, and waits until that has landed: at once where nothing came since,
else as long as landing takes. Tags set here go into the journal like those that phones send.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from outhaul.errors import Busy, TooLarge
from outhaul.journal import Header
from outhaul.protocols.dialects import ADMIN
from outhaul.records import FUTURE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from outhaul.journal import Journal
    from outhaul.ledger.ledger import Ledger
    from outhaul.tables import Device, Devices

_LOOK_S = 0.02
_PATIENCE_S = 20.0
_FRAME_RECORDS = 10_000
_FRAME_BYTES = 512 * 1024
_TAGS_BYTES = 64 * 1024 * 1024
T = TypeVar("T")

_encode = msgspec.json.Encoder().encode

Tags = dict[str, dict[str, str | None]]
"""Values by key by device; None removes a tag."""


class Register:
    """Reads and tags devices. `now` is ms since 1970 UTC.

    Raises (each method):
        Busy: what came before has not landed within 20 s, or the journal takes nothing now.
    """

    def __init__(self, devices: Devices, ledger: Ledger, journal: Journal, now: Callable[[], int]) -> None:
        self._devices = devices
        self._ledger = ledger
        self._journal = journal
        self._now = now

    async def get(self, app_id: str, device_ids: Iterable[str]) -> dict[str, Device]:
        """Those of the devices that are known, by id."""
        wanted = list(device_ids)
        return await self._ask(app_id, lambda versions: self._devices.get(app_id, versions, wanted))

    async def page(self, app_id: str, after: str, top: int, before: str | None = None) -> list[Device]:
        """At most `top` devices with ids after one (and before another), in order of their ids."""
        return await self._ask(
            app_id, lambda versions: self._devices.page(app_id, versions, after, top, before)
        )

    async def pages(
        self, app_id: str, after: str, size: int, before: str | None = None, *, including: bool = False
    ) -> AsyncIterator[list[Device]]:
        """Devices with ids after one (or from it on) and before another, `size` at a time, all as of now."""
        versions = await self.versions(app_id)
        while True:
            look = partial(
                self._devices.page, app_id, after=after, top=size, before=before, including=including
            )
            try:
                page = await asyncio.to_thread(look, versions=versions)
            except FileNotFoundError:
                # Somebody was erased: what is left is in other files, and goes on from here.
                versions = await self.versions(app_id)
                page = await asyncio.to_thread(look, versions=versions)
            if page:
                yield page
            if len(page) < size:
                return
            after, including = page[-1].device_id, False

    async def of_user(self, app_id: str, user_id: str) -> list[Device]:
        """The devices whose `userid` tag this is now, the one seen last first.

        Raises:
            TooLarge: as for `of_users`.
        """
        return await self._ask(app_id, lambda versions: self._devices.of_user(app_id, versions, user_id))

    async def of_users(self, app_id: str, user_ids: Iterable[str]) -> dict[str, list[Device]]:
        """The devices of those of the users that have one now, the one seen last first.

        Raises:
            TooLarge: over 10,000 devices belong to them, or once did.
        """
        wanted = list(user_ids)
        return await self._ask(app_id, lambda versions: self._devices.of_users(app_id, versions, wanted))

    async def tag(self, app_id: str, tags: Tags, sender: str, known: dict[str, Device] | None = None) -> None:
        """Set and remove tags, durably; keys and values must be within their limits (`records`).

        `known` is what is known of the devices: a clock that is ahead dates its tags ahead, and these are to be later.

        Raises:
            TooLarge: that is over 64 MiB of records; nothing was set.
        """
        at = self._now()
        bodies = await asyncio.to_thread(lambda: list(_bodies(tags, known or {}, at, sender)))
        header = Header(app_id=app_id, protocol=ADMIN, received_at=at)
        await asyncio.gather(*(self._journal.append(header, body) for body in bodies))

    async def versions(self, app_id: str) -> dict[str, int]:
        """The versions of an app's tables, by name, that have everything acknowledged until now."""
        position = await self._journal.roll()
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            checkpoint = await asyncio.to_thread(self._ledger.checkpoint)
            if checkpoint.position >= position:
                return checkpoint.versions.get(app_id, {})
            if time.monotonic() > deadline:
                raise Busy("What was received before has not landed yet.", hint="Ask again later.")
            await asyncio.sleep(_LOOK_S)

    async def _ask(self, app_id: str, question: Callable[[dict[str, int]], T]) -> T:
        """What is so in the newest versions of the tables."""
        versions = await self.versions(app_id)
        try:
            return await asyncio.to_thread(question, versions)
        except FileNotFoundError:
            # Somebody was erased: the files of these versions are gone, and newer ones are there.
            return await asyncio.to_thread(question, await self.versions(app_id))


def _bodies(tags: Tags, known: dict[str, Device], at: int, sender: str) -> Iterator[bytes]:
    """The tags as native requests, each small enough to be read in one piece."""
    pieces: list[bytes] = []
    size = total = 0
    for record in _records(tags, known, at):
        piece = _encode(record)
        pieces.append(piece)
        size += len(piece)
        total += len(piece)
        if total > _TAGS_BYTES:
            raise TooLarge("That sets too many tags at once.", hint="Set those of fewer devices at a time.")
        if len(pieces) >= _FRAME_RECORDS or size >= _FRAME_BYTES:
            yield _body(pieces, sender)
            pieces, size = [], 0
    if pieces:
        yield _body(pieces, sender)


def _records(tags: Tags, known: dict[str, Device], at: int) -> Iterator[dict[str, str | int | None]]:
    # Ids of their own: the same value set once more, at the same time, is not what was sent before.
    batch, count = uuid.uuid4().hex, 0
    for device_id, values in tags.items():
        # No tag that a device has, or had, is later than it was seen.
        seen = known[device_id].last_seen if device_id in known else at
        latest = min(max(at, seen), at + FUTURE)
        for key, value in values.items():
            count += 1
            yield {
                "kind": "tag",
                "id": f"{batch}-{count}",
                "deviceId": device_id,
                "timestamp": latest,
                "key": key,
                "value": value,
            }


def _body(pieces: list[bytes], sender: str) -> bytes:
    return b'{"sdkName":%b,"records":[%b]}' % (_encode(sender), b",".join(pieces))
