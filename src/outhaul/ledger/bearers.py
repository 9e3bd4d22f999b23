"""API tokens as they are shown: looked up by hash, believed for a few seconds, marked as used."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import sqlalchemy as sa

from outhaul import keys
from outhaul.errors import Busy, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

    from outhaul.ledger.access import ApiToken
    from outhaul.ledger.ledger import Ledger

RECHECK_MS = 5000
"""A token that was revoked, or given a new secret, is noticed after this time at most."""
TOUCH_MS = 60_000
"""How often at most it is written down that a token is used."""

_KEPT = 10_000
_log = logging.getLogger(__name__)


class Bearers:
    """What the ledger says about secrets, in memory. `now` gives ms since 1970 UTC; for use on an event loop."""

    def __init__(self, ledger: Ledger, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._now = now
        # Kept apart, so that guesses do not push out what exists.
        self._seen: dict[str, tuple[int, ApiToken | None]] = {}
        self._missed: dict[str, tuple[int, ApiToken | None]] = {}
        self._touched: dict[str, int] = {}
        self._touching: set[asyncio.Task[None]] = set()

    async def find(self, secret: str) -> ApiToken:
        """The token that has this secret, which is good now; it counts as used.

        Raises:
            Unauthenticated: there is none, or it is good no more: `token_revoked`, `token_expired`.
            Busy: the ledger could not be asked.
        """
        hashed = keys.hash_secret(secret)
        token = await self._token(hashed)
        now = self._now()
        if token is None:
            raise Unauthenticated("There is no such token.", hint="Check that all of it was copied.")
        if not token.usable(hashed, now):
            raise _no_more(token, now)
        self._touch(token, now)
        return token

    async def _token(self, hashed: str) -> ApiToken | None:
        now = self._now()
        known = self._seen.get(hashed) or self._missed.get(hashed)
        if known is not None and known[0] <= now < known[0] + RECHECK_MS:
            return known[1]
        try:
            token = await asyncio.to_thread(self._look, hashed)
        except sa.exc.SQLAlchemyError:
            raise Busy("Tokens cannot be checked now.", hint="Try again later.") from None
        self._seen.pop(hashed, None)
        self._missed.pop(hashed, None)
        kept = self._missed if token is None else self._seen
        if len(kept) >= _KEPT:
            del kept[next(iter(kept))]
        kept[hashed] = now, token
        return token

    def _look(self, hashed: str) -> ApiToken | None:
        token = self._ledger.token_of(hashed)
        if token is None or token.app_id is None:
            return token
        # A token for an app that is gone must not become one for whatever is called so next.
        exists = any(app.app_id == token.app_id for app in self._ledger.apps())
        return token if exists else None

    def _touch(self, token: ApiToken, now: int) -> None:
        used_at = max(token.last_used_at or 0, self._touched.get(token.token_id, 0))
        if now - used_at < TOUCH_MS:
            return
        self._touched[token.token_id] = now
        # Nobody waits for it: a request takes no longer because somebody may want to know of it one day.
        task = asyncio.create_task(asyncio.to_thread(self._ledger.touch_token, token.token_id, now))
        self._touching.add(task)
        task.add_done_callback(self._touching_done)

    def _touching_done(self, task: asyncio.Task[None]) -> None:
        self._touching.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.warning("It could not be written down that a token was used.")


def _no_more(token: ApiToken, now: int) -> Unauthenticated:
    match token.over(now):
        case "revoked":
            return Unauthenticated(
                "The token was revoked.", hint="Ask for another one.", code="token_revoked"
            )
        case "expired":
            return Unauthenticated(
                "The token has expired.", hint="Ask for another one.", code="token_expired"
            )
    return Unauthenticated(
        "The token was given a new secret, and the time in which this one was good as well is over.",
        hint="Use the new secret.",
        code="token_expired",
    )
