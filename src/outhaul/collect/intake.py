"""What every dialect does with a request: look whether it can be read, find whose it is, store it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from outhaul.errors import TooLarge
from outhaul.inflate import Encoding, inflate
from outhaul.journal import Header

if TYPE_CHECKING:
    from collections.abc import Callable

    from outhaul.collect.apps import Apps
    from outhaul.collect.requests import Request
    from outhaul.config import Config
    from outhaul.journal import Journal
    from outhaul.ledger.ledger import App

Seen = TypeVar("Seen")

KEPT_BYTES = 64 * 1024
"""What is kept of a body that is too large or does not inflate, where its dialect has it kept."""

_AT_ONCE_BYTES = 1024 * 1024
"""A body inflated to more than this is looked at in a thread, so that other devices need not wait for it."""
_USER_AGENT_BYTES = 512


class Intake:
    """Where requests go. `apps` says whose they are; `now` gives ms since 1970 UTC."""

    def __init__(self, journal: Journal, apps: Apps, config: Config, now: Callable[[], int]) -> None:
        self._journal = journal
        self.apps = apps
        self.now = now
        self.max_body = config.max_body_bytes
        self.max_inflated = config.max_inflated_bytes

    async def look(self, request: Request, look: Callable[[bytes], Seen]) -> Seen:
        """What can be seen of the body once inflated.

        Raises:
            TooLarge: it is over a limit, as sent or inflated.
            Invalid: it does not inflate, or `look` says so.
        """
        if not request.whole:
            raise TooLarge(
                f"The body is larger than {self.max_body} bytes.", hint="Send fewer records at a time."
            )
        encoding = request.encoding
        try:
            body = inflate(request.body, encoding, min(_AT_ONCE_BYTES, self.max_inflated))
        except TooLarge:
            return await asyncio.to_thread(lambda: look(inflate(request.body, encoding, self.max_inflated)))
        return look(body)

    async def store(
        self,
        app: App,
        protocol: str,
        request: Request,
        device_id: str | None = None,
        *,
        body: bytes | None = None,
        encoding: Encoding | None = None,
    ) -> None:
        """Have the request's body, or another in its place, on disk under the name of its dialect.

        Raises:
            Busy: it is not, and will not be.
        """
        if body is None:
            body, encoding = request.body, encoding or request.encoding
        agent = request.headers.get(b"user-agent", b"")[:_USER_AGENT_BYTES].decode("latin-1")
        header = Header(app.app_id, protocol, self.now(), encoding or "identity", device_id, agent)
        await self._journal.append(header, body)
