"""The data folder, as the operator's commands work on it: with the server running or not."""

from __future__ import annotations

import contextlib
import importlib
import time
from typing import TYPE_CHECKING, Any

from outhaul.errors import Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

ACTOR = "operator"
"""Who the audit log says it was: whoever has the data folder."""


def server_room(name: str) -> ModuleType:
    """A module of the server, imported when a command needs it: the base install lacks its packages.

    Raises:
        Invalid: the packages are not installed, with the command that installs them.
    """
    try:
        return importlib.import_module(f"outhaul.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "outhaul":
            raise
        raise Invalid(
            f"This command needs `pip install 'outhaul[server]'`: {error.name!r} is not installed.",
            hint="pip install 'outhaul[server]'",
            code="server_missing",
        ) from None


@contextlib.contextmanager
def opened(data: Path, *, create: bool = False) -> Iterator[Any]:
    """The ledger of a data folder.

    Raises:
        NotFound: it is no data folder, and is not to become one.
    """
    if not create:
        check_exists(data)
    ledger = server_room("ledger.ledger").Ledger(data)
    try:
        yield ledger
    finally:
        ledger.close()


def check_exists(data: Path) -> None:
    """Let a data folder pass: opening a ledger makes one, which a mistyped folder must not do.

    Raises:
        NotFound: it is none.
    """
    if not (data / "ledger.db").is_file():
        raise NotFound(
            f"{data} is not a data folder of Outhaul.",
            hint=f"outhaul apps create <name> --data {data} makes one.",
        )


def record(ledger: Any, action: str, target: str, app_id: str | None = None) -> None:
    """Add to the audit log what the operator did."""
    entry = server_room("ledger.access").AuditEntry(
        at=now(), actor=ACTOR, action=action, target=target, app_id=app_id
    )
    ledger.record([entry])


def now() -> int:
    """The time, in ms since 1970 UTC."""
    return time.time_ns() // 1_000_000
