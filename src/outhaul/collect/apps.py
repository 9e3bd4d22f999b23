"""Whose key is whose, for every request of every device."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from outhaul.errors import Busy, Forbidden, Unauthenticated
from outhaul.ledger.access import TOKEN_PREFIX
from outhaul.ledger.bearers import Bearers

if TYPE_CHECKING:
    from collections.abc import Callable

    from outhaul.ledger.ledger import App, Ledger

_RELOAD_S = 1.0
_BELIEVED_S = 5.0


class Apps:
    """Whose key is whose, in memory.

    A key that is not known makes it look into the ledger, at most once per second, so that an app just made
    on the command line is known at once. One that is known is believed for five seconds: by then it is noticed that
    its app was disabled. `clock` gives seconds that never go back, `now` ms since 1970 UTC.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._bearers = Bearers(ledger, now)
        self._known: dict[str, App] = {}
        self._by_id: dict[str, App] = {}
        self._loaded_at = -math.inf
        self._loading: asyncio.Task[None] | None = None
        self._trouble = False

    async def find(self, sdk_key: str) -> App:
        """The app that has this key, and is not disabled.

        Raises:
            Unauthenticated: none has.
            Busy: the ledger could not be asked.
        """
        if sdk_key not in self._known or self._is_old():
            await self._reload()
        app = self._known.get(sdk_key)
        if app is not None and app.disabled_at is None:
            return app
        if app is None and self._trouble:
            raise Busy("Keys cannot be checked now.", hint="Send again later.")
        raise Unauthenticated(
            "No app that is enabled has this SDK key.",
            hint="Check the key, or register the app with `outhaul apps create`.",
        )

    async def admit(self, bearer: str) -> App:
        """The app that has this SDK key, or that an API token is for which may send data.

        Raises:
            Unauthenticated: none has, or it is disabled, or the token is good no more.
            Forbidden: the token lacks the scope, or is for no one app.
            Busy: the ledger could not be asked.
        """
        if not bearer.startswith(TOKEN_PREFIX):
            return await self.find(bearer)
        token = await self._bearers.find(bearer)
        if "data:write" not in token.scopes:
            raise Forbidden("The token lacks the scope data:write.", hint="Use one that has it.")
        if token.app_id is None:
            raise Forbidden("The token is for all apps: whose data is it?", hint="Use one for the app.")
        if token.app_id not in self._by_id or self._is_old():
            await self._reload()
        app = self._by_id.get(token.app_id)
        if app is None:
            raise Busy("The token's app cannot be looked up now.", hint="Send again later.")
        if app.disabled_at is not None:
            raise Unauthenticated(
                "The token's app is disabled.", hint="Enable it with `outhaul apps enable`."
            )
        return app

    def look_again(self) -> None:
        """Believe nothing any more: apps have just changed."""
        self._loaded_at = -math.inf

    def _is_old(self) -> bool:
        return self._clock() - self._loaded_at >= _BELIEVED_S

    async def _reload(self) -> None:
        if self._loading is None:
            now = self._clock()
            if now - self._loaded_at < _RELOAD_S:
                return
            self._loaded_at = now
            self._loading = asyncio.create_task(self._load())
        # A device that hangs up must not take along the others that wait for the same look.
        await asyncio.shield(self._loading)

    async def _load(self) -> None:
        try:
            apps = await asyncio.to_thread(self._ledger.apps)
            self._known = {app.sdk_key: app for app in apps}
            self._by_id = {app.app_id: app for app in apps}
            self._trouble = False
        except Exception:  # noqa: BLE001  whatever ails the ledger, the answer to devices is to come back
            self._trouble = True
        finally:
            self._loading = None
