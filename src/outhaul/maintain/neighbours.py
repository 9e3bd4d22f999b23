"""What maintenance needs of rooms that are not its own: it is handed these, and imports none of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from duckdb import DuckDBPyConnection

    from outhaul.wire import ExportRequest, Pin


class Landing(Protocol):
    """Landing, between two batches of it."""

    @property
    def position(self) -> int:
        """The journal segment to land next."""

    def adopt(self, app_id: str) -> None:
        """Go on from the versions that maintenance made of an app's tables, and tell everybody."""

    def remembered(self, app_id: str, device_ids: Iterable[str], user_id: str | None) -> int:
        """How many things are known of these devices, and of others as this user's."""

    def forget(self, app_id: str, device_ids: Iterable[str], user_id: str | None) -> None:
        """Forget these devices, and that others are this user's, so that no byte of it is left in the folder."""


class Counting(Protocol):
    """Counts the rows of an export."""

    def __call__(
        self, db: DuckDBPyConnection, request: ExportRequest, pin: Pin, tables: dict[str, str]
    ) -> int:
        """How many rows an export of these tables (each an expression over it) has."""
