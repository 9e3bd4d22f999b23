"""The audit log: who did what to what, written down before they are told that it is done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outhaul.ledger.access import AuditEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from outhaul.ledger.ledger import Ledger

READS = frozenset({"read", "list", "download", "check"})
"""Last words of actions that change nothing; of those that repeat, one in `REPEAT_MS` is written down."""
REPEAT_MS = 5 * 60 * 1000

_KEPT = 10_000
_TARGET_LIMIT = 255


class Audit:
    """Writes entries; those that come while others are being written go together. For use on an event loop."""

    def __init__(self, ledger: Ledger, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._now = now
        self._seen: dict[tuple[str, str, str], int] = {}
        self._waiting: list[AuditEntry] = []
        self._next: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    async def write(
        self, actor: str, action: str, target: str, app_id: str | None = None, request_id: str | None = None
    ) -> None:
        """Add an entry; it is on disk when this returns. `target` is an id or a name, never a secret."""
        entry = AuditEntry(
            at=self._now(),
            actor=actor,
            action=action,
            target=target[:_TARGET_LIMIT],
            app_id=app_id,
            request_id=request_id,
        )
        key = (entry.actor, entry.action, entry.target)
        if action.rpartition(".")[2] in READS:
            if 0 <= entry.at - self._seen.get(key, entry.at - REPEAT_MS) < REPEAT_MS:
                return
            self._remember(key, entry.at)
        self._waiting.append(entry)
        if self._next is None:
            self._next = asyncio.create_task(self._write())
        try:
            # One that hangs up must not take along the others whose entries are in the same write.
            await asyncio.shield(self._next)
        except Exception:
            self._seen.pop(key, None)
            raise

    async def _write(self) -> None:
        async with self._writing:
            entries, self._waiting, self._next = self._waiting, [], None
            await asyncio.to_thread(self._ledger.record, entries)

    def _remember(self, key: tuple[str, str, str], at: int) -> None:
        self._seen.pop(key, None)
        if len(self._seen) >= _KEPT:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = at
