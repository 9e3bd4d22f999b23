"""How much one caller may ask: requests a minute, exports and imports at once and in a day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul.errors import TooMany
from outhaul.ledger.tasks import Chosen

if TYPE_CHECKING:
    from collections.abc import Callable

    from outhaul.api.access import Caller
    from outhaul.config import Config
    from outhaul.ledger.ledger import Ledger

DAY_MS = 24 * 3600 * 1000
UNFINISHED_RETRY_S = 30
"""Nobody knows when an export or import will have ended; it is worth looking again after this many seconds."""

_KEPT = 10_000
_MINUTE_MS = 60_000


class Limiter:
    """A bucket for each key, of as many requests as a minute allows; full at first, it refills evenly.

    `per_minute` of 0 is no limit. `now` gives ms. Of keys not seen for long only the last ten thousand are kept.
    """

    def __init__(self, per_minute: int, now: Callable[[], int]) -> None:
        self._per_minute = per_minute
        self._now = now
        self._buckets: dict[str, tuple[float, int]] = {}

    def take(self, key: str) -> None:
        """Take a request out of a bucket.

        Raises:
            TooMany: it is empty.
        """
        self.check(key)
        self.spend(key)

    def check(self, key: str) -> None:
        """Let pass while there is a request left in a bucket.

        Raises:
            TooMany: it is empty; with how long it takes until there is one.
        """
        left = self._left(key)
        if self._per_minute and left < 1:
            raise TooMany(
                f"Over the limit of {self._per_minute} requests a minute.",
                hint="Wait as long as Retry-After says, then go on more slowly.",
                retry_after_s=(1 - left) * 60 / self._per_minute,
            )

    def spend(self, key: str) -> None:
        """Take a request out of a bucket if there is one."""
        if not self._per_minute:
            return
        left = max(self._left(key) - 1, 0)
        self._buckets.pop(key, None)
        if len(self._buckets) >= _KEPT:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = left, self._now()

    def _left(self, key: str) -> float:
        left, at = self._buckets.get(key, (float(self._per_minute), self._now()))
        # A clock that was put back gives nothing, and takes nothing away.
        passed = max(self._now() - at, 0)
        return min(left + passed * self._per_minute / _MINUTE_MS, self._per_minute)


def check_quota(ledger: Ledger, caller: Caller, config: Config, now: int) -> None:
    """Let a caller ask for one more export. Blocks; two that ask at the very same time may both pass.

    Raises:
        TooMany: they have as many unfinished ones, or have asked for as many within 24 hours, as is allowed.
    """
    if config.exports_unfinished:
        unfinished = sum(
            ledger.count_tasks(Chosen(created_by=caller.actor, state=state))
            for state in ("queued", "started")
        )
        _check_unfinished("exports", unfinished, config.exports_unfinished)
    if config.exports_per_day:
        today = Chosen(created_by=caller.actor, since=now - DAY_MS + 1)
        # When the newest but `limit` - 1 is a day old, there is room for one.
        asked_at = ledger.task_time(today, config.exports_per_day)
        _check_day("exports", "export longer periods at a time", asked_at, config.exports_per_day, now)


def check_import_quota(ledger: Ledger, caller: Caller, config: Config, now: int) -> None:
    """Let a caller ask for one more import, as `check_quota` does for exports.

    Raises:
        TooMany: as there.
    """
    if config.imports_unfinished:
        unfinished = ledger.count_unfinished_imports(caller.actor)
        _check_unfinished("imports", unfinished, config.imports_unfinished)
    if config.imports_per_day:
        asked_at = ledger.import_time(caller.actor, now - DAY_MS + 1, config.imports_per_day)
        _check_day("imports", "put more into one file", asked_at, config.imports_per_day, now)


def _check_unfinished(what: str, unfinished: int, limit: int) -> None:
    if unfinished >= limit:
        raise TooMany(
            f"{unfinished} {what} of this caller are unfinished; {limit} may be.",
            hint="Wait for one to end, or cancel one.",
            retry_after_s=UNFINISHED_RETRY_S,
        )


def _check_day(what: str, instead: str, asked_at: int | None, limit: int, now: int) -> None:
    if asked_at is not None:
        raise TooMany(
            f"This caller has asked for {limit} {what} within 24 hours, which is as many as allowed.",
            hint=f"Wait as long as Retry-After says, or {instead}.",
            retry_after_s=(asked_at + DAY_MS - now) / 1000,
        )
