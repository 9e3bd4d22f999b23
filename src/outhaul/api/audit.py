"""The audit log: who did what to what, written down before they are told that it is done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from outhaul import instants, rest
from outhaul.api.exports import find_app
from outhaul.api.operations import Operation, reply
from outhaul.api.paging import DEFAULT_SIZE, PageSize, PageToken, page_token, read_page_token
from outhaul.ledger.access import AuditEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from outhaul.api.operations import Call
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


class AuditQuery(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Which entries a list holds."""

    app: Annotated[rest.Name, Meta(description="About this app: its name or its `appId`.")] | None = None
    page_size: PageSize = DEFAULT_SIZE
    page_token: PageToken | None = None


class _End(Struct, frozen=True, tag="audit"):
    """Where a page ended: its last entry."""

    id: int


async def list_entries(call: Call) -> Response:
    """A page of the audit log, newest first; for a caller of one app, of that app only."""
    query: AuditQuery = call.query
    door = call.door
    app_id = (await find_app(call, query.app)).app_id if query.app is not None else call.caller.app_id
    end = read_page_token(door.keyring, query.page_token, _End)
    entries = await asyncio.to_thread(door.ledger.audit, query.page_size + 1, end.id if end else None, app_id)
    await door.access.audit(call.caller, "audit.read", app_id or "", app_id, call.request_id)
    page = entries[: query.page_size]
    more = len(entries) > len(page)
    return reply(
        rest.AuditList(
            entries=[_show(entry) for entry in page],
            next_page_token=page_token(door.keyring, _End(page[-1].id)) if more else None,
        )
    )


def _show(entry: AuditEntry) -> rest.AuditEntry:
    return rest.AuditEntry(
        at=instants.show(entry.at),
        actor=entry.actor,
        action=entry.action,
        target=entry.target,
        app_id=entry.app_id,
        request_id=entry.request_id,
    )


OPERATIONS = (
    Operation(
        "GET",
        "/audit",
        "listAudit",
        "Read the audit log, newest first",
        list_entries,
        "audit:read",
        query=AuditQuery,
        answer=rest.AuditList,
        help="Of reads that a caller repeats within five minutes one is written down.",
        problems=("app_not_found", "conflict"),
    ),
)
