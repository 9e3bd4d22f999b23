"""Devices at this moment: what was acknowledged before the question is in the answer.

A question hands the journal over, as an export does, and waits until that has landed: at once where nothing came since,
else as long as landing takes. Tags set here go into the journal like those that phones send.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from outhaul.errors import Busy
from outhaul.journal import Header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from outhaul.devices.reader import Device, Devices
    from outhaul.journal import Journal
    from outhaul.ledger.ledger import Ledger

_LOOK_S = 0.02
_PATIENCE_S = 20.0
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
        versions = await self._versions(app_id)
        return await asyncio.to_thread(self._devices.get, app_id, versions, device_ids)

    async def page(self, app_id: str, after: str, top: int, before: str | None = None) -> list[Device]:
        """At most `top` devices with ids after one (and before another), in order of their ids."""
        versions = await self._versions(app_id)
        return await asyncio.to_thread(self._devices.page, app_id, versions, after, top, before)

    async def of_user(self, app_id: str, user_id: str) -> list[Device]:
        """The devices whose `userid` tag this is now, the one seen last first."""
        versions = await self._versions(app_id)
        return await asyncio.to_thread(self._devices.of_user, app_id, versions, user_id)

    async def tag(self, app_id: str, tags: Tags, sender: str) -> None:
        """Set and remove tags, durably; keys and values must be within their limits (`records`)."""
        at = self._now()
        records = [
            {"kind": "tag", "deviceId": device_id, "timestamp": at, "key": key, "value": value}
            for device_id, values in tags.items()
            for key, value in values.items()
        ]
        if records:
            body = _encode({"sdkName": sender, "records": records})
            await self._journal.append(Header(app_id=app_id, protocol="native", received_at=at), body)

    async def _versions(self, app_id: str) -> dict[str, int]:
        position = await self._journal.roll()
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            checkpoint = await asyncio.to_thread(self._ledger.checkpoint)
            if checkpoint.position >= position:
                return checkpoint.versions.get(app_id, {})
            if time.monotonic() > deadline:
                raise Busy("What was received before has not landed yet.", hint="Ask again later.")
            await asyncio.sleep(_LOOK_S)
