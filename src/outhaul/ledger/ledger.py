"""The ledger: apps, credentials, tasks and the checkpoint of landing. The only SQLAlchemy and Alembic room.

Any process may open it at any time; every method is one transaction. Callers on an event loop use a thread.
"""

from __future__ import annotations

import uuid

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from outhaul import keys
from outhaul.errors import Conflict, NotFound
from outhaul.ledger.access import Access
from outhaul.ledger.store import check_name, to_struct
from outhaul.ledger.tables import apps, checkpoints, installations
from outhaul.ledger.tasks import Tasks
from outhaul.wire import Platform  # noqa: TC001  msgspec resolves it at run time

_PREFIXES: dict[Platform, str] = {
    "android": "and",
    "ios": "ios",
    "windows": "win",
    "windowsPhone": "wph",
    "web": "web",
}
PLATFORMS: tuple[Platform, ...] = tuple(_PREFIXES)


class Installation(Struct, frozen=True, rename="camel"):
    """One server's identity towards clients of the old API."""

    subscription_id: str
    tenant_id: str


class App(Struct, frozen=True, rename="camel"):
    """An app whose devices send. The names are those of the old API's paths; `sdk_key` is in the app itself."""

    app_id: str
    name: str
    platform: Platform
    resource_group: str
    app_collection: str
    app_name: str
    sdk_key: str
    created_at: int


class Checkpoint(Struct, frozen=True, rename="camel"):
    """How far landing got: the journal position to read next, and each table's version at that point.

    `versions` is keyed by app id, then table name.
    """

    position: int
    versions: dict[str, dict[str, int]]
    landed_at: int


class Ledger(Tasks, Access):
    """The ledger in a data folder, as SQLite.

    Raises:
        Invalid: the folder's ledger was written by a newer Outhaul.
    """

    def installation(self, now: int = 0) -> Installation:
        """The ids that clients of the old API address this server by; made on first use, stable after."""
        rows = self._read(sa.select(installations))
        if not rows:
            with self._write() as connection:
                values = {
                    "id": 1,
                    "subscription_id": str(uuid.uuid4()),
                    "tenant_id": str(uuid.uuid4()),
                    "created_at": now,
                }
                connection.execute(sqlite_insert(installations).values(values).on_conflict_do_nothing())
            rows = self._read(sa.select(installations))
        return to_struct(rows[0], Installation)

    # Apps

    def create_app(self, name: str, platform: Platform, now: int) -> App:
        """Register an app.

        Raises:
            Invalid: the name has characters that do not belong in a path.
            Conflict: there is one of that name and platform.
        """
        check_name(name)
        with self._write() as connection:
            prefix = _PREFIXES[platform]
            count = connection.execute(
                sa.select(sa.func.max(apps.c.app_id)).where(apps.c.app_id.startswith(prefix))
            ).scalar()
            number = int(count[len(prefix) :]) + 1 if count else 1
            app = App(
                app_id=f"{prefix}{number:06d}",
                name=name,
                platform=platform,
                resource_group="MobileEngagement",
                app_collection=name,
                app_name=f"{name}-{platform}",
                sdk_key=keys.new_secret()[:32],
                created_at=now,
            )
            try:
                connection.execute(sa.insert(apps).values(msgspec.structs.asdict(app)))
            except sa.exc.IntegrityError:
                raise Conflict(
                    f"There is an app {name!r} for {platform} already.",
                    hint="Choose another name or platform; `outhaul apps list` shows what exists.",
                ) from None
        return app

    def apps(self) -> list[App]:
        """All apps, in order of creation."""
        rows = self._read(sa.select(apps).order_by(apps.c.created_at, apps.c.app_id))
        return [to_struct(row, App) for row in rows]

    def app(self, name: str) -> App:
        """The app with this name or app id.

        Raises:
            NotFound: there is none.
            Conflict: the name is that of several apps, for different platforms.
        """
        rows = self._read(sa.select(apps).where((apps.c.app_id == name) | (apps.c.name == name)))
        found = [to_struct(row, App) for row in rows]
        if not found:
            raise NotFound(
                f"There is no app {name[:80]!r}.",
                hint="`outhaul apps list` shows what exists.",
                code="app_not_found",
            )
        if len(found) > 1:
            ids = " or ".join(sorted(app.app_id for app in found))
            raise Conflict(f"There are several apps {name[:80]!r}.", hint=f"Use the appId: {ids}.")
        return found[0]

    # Landing

    def checkpoint(self) -> Checkpoint:
        """How far landing got; the very beginning, before anything landed."""
        rows = self._read(sa.select(checkpoints))
        return to_struct(rows[0], Checkpoint) if rows else Checkpoint(position=0, versions={}, landed_at=0)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        values = {"id": 1, **msgspec.structs.asdict(checkpoint)}
        with self._write() as connection:
            connection.execute(
                sqlite_insert(checkpoints)
                .values(values)
                .on_conflict_do_update(index_elements=["id"], set_=values)
            )
