"""People: what is removed of them, and the receipt."""

from __future__ import annotations

from typing import Literal

from outhaul.rest.base import Answered, Asked, Name
from outhaul.rest.exports import DestinationShown  # noqa: TC001  msgspec resolves it at run time
from outhaul.schema import Kind  # noqa: TC001  msgspec resolves it at run time
from outhaul.wire import ErasurePhase, TableErased, TaskState  # noqa: TC001  msgspec resolves them at run time


class InApp(Asked, frozen=True):
    """In which app, by its name or its `appId`; a token that is for one app need not say it."""

    app: Name | None = None


class EarlierExport(Answered, frozen=True):
    """An export from before that holds records of whoever was erased: `rows` of them, null where nobody can say."""

    id: str
    kind: Kind
    created_at: str
    destination: DestinationShown
    rows: int | None


class Receipt(Answered, frozen=True):
    """What an erasure has done so far; it names nobody.

    `rows` were removed, from `tables` between two versions of each, of the user's `devices`, or of the one. From
    `removedAt` on nobody can read them; at `deletedAt` the last file that held them was deleted. Until then `waitingFor` are
    the exports that still read those files. `remembered` counts what landing knew of the devices, `journalFiles`
    damaged pieces of the journal that could not be looked into and were deleted whole, `downloads` exports whose files
    the server kept and deleted. `exports` hold records of theirs, and are for you to follow up.
    """

    devices: int
    rows: int
    tables: list[TableErased]
    remembered: int
    journal_files: int
    downloads: int
    exports: list[EarlierExport]
    waiting_for: list[str]
    removed_at: str | None
    files_deleted: int
    bytes_deleted: int
    deleted_at: str | None


class ErasureShown(Answered, frozen=True):
    """An erasure as it is now. It does not say whose: whoever knows the id finds it by that.

    `error` is why it failed or, of one under way, that it is being tried again.
    """

    id: str
    app: str
    app_id: str
    of: Literal["user", "device"]
    state: TaskState
    phase: ErasurePhase
    created_at: str
    created_by: str
    started_at: str | None
    completed_at: str | None
    error: str | None
    receipt: Receipt


class ErasureList(Answered, frozen=True):
    """A page of erasures, newest first; `nextPageToken` is null on the last page."""

    erasures: list[ErasureShown]
    next_page_token: str | None
