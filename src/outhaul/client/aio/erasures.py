"""Erasures of people: asked for, found again, waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul.client.aio.running import until_ended
from outhaul.client.erasing import check_success, path_of
from outhaul.client.requests import quoted
from outhaul.errors import TimedOut
from outhaul.rest import ErasureList, ErasureShown, InApp
from outhaul.wire import ENDED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from outhaul.client.aio.connection import Connection


class Erasures:
    """Erasures of users and devices, and their receipts."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self, *, user_id: str | None = None, device_id: str | None = None, app: str | None = None
    ) -> ErasureShown:
        """Have everything removed that is stored of a user, with their devices, or of one device.

        It cannot be taken back. `app`, its name or its id, can be left out with a token that is for one app. It is
        recorded, not done, when this returns; one of the same that has not begun yet is returned as it is. When an answer
        is lost it is asked for again, and the second may find nothing left to remove: `list` shows both.

        Raises:
            Invalid: not exactly one of `user_id` and `device_id` is given.
        """
        path = f"{path_of(user_id, device_id)}:erase"
        return await self._connection.tell("POST", path, ErasureShown, body=InApp(app=app), repeat=True)

    async def get(self, erasure_id: str) -> ErasureShown:
        """One erasure, with its receipt as far as it got."""
        return await self._connection.get(f"/erasures/{quoted(erasure_id)}", ErasureShown)

    async def list(
        self, *, app: str | None = None, user_id: str | None = None, device_id: str | None = None
    ) -> AsyncIterator[ErasureShown]:
        """Erasures, newest first: all, or those of an app, or of who had an id in it; pages are fetched as needed."""
        given = {"app": app, "userId": user_id, "deviceId": device_id}
        params: dict[str, str] = {name: value for name, value in given.items() if value is not None}
        while True:
            page = await self._connection.get("/erasures", ErasureList, params)
            for erasure in page.erasures:
                yield erasure
            if page.next_page_token is None:
                return
            params["pageToken"] = page.next_page_token

    async def wait(
        self,
        erasure_id: str,
        timeout_s: float | None = None,
        on_progress: Callable[[ErasureShown], object] | None = None,
        *,
        poll_s: float = 1.0,
    ) -> ErasureShown:
        """Look every `poll_s` until it is done, which is when the last file that held the records is deleted.

        An export that still reads such files holds that up, but nobody else can read them after `receipt.removed_at`.
        `on_progress` is called at once and on every change.

        Raises:
            ErasureFailed: it failed, and why; asked for again, it goes on with what is left.
            TimedOut: it is not done after `timeout_s`; it goes on.
        """
        found = await until_ended(lambda: self.get(erasure_id), timeout_s, on_progress, poll_s)
        if found.state not in ENDED:
            raise TimedOut(
                f"The erasure {found.id} is not done after {timeout_s} s: it is {found.phase}.",
                hint="It goes on; wait for it again.",
            )
        check_success(found)
        return found
