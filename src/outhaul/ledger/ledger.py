"""The ledger: apps, credentials, tasks and the checkpoint of landing. The only SQLAlchemy and Alembic room.

Any process may open it at any time; every method is one transaction. Callers on an event loop use a thread.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from outhaul import keys
from outhaul.errors import Conflict, NotFound
from outhaul.ledger.access import Access
from outhaul.ledger.erasures import Erasures
from outhaul.ledger.forgetting import Forgetting
from outhaul.ledger.imports import Imports
from outhaul.ledger.store import check_name, to_row, to_struct
from outhaul.ledger.tables import app_collections, apps, installations, retention, tag_declarations
from outhaul.ledger.tasks import Tasks
from outhaul.wire import Platform, RetainedKind, TagType  # noqa: TC001  msgspec resolves them at run time

_PREFIXES: dict[Platform, str] = {
    "android": "and",
    "ios": "ios",
    "windows": "win",
    "windowsPhone": "wph",
    "web": "web",
}
PLATFORMS: tuple[Platform, ...] = tuple(_PREFIXES)
RESOURCE_GROUP = "MobileEngagement"
"""Where everything is, to clients of the old API."""
DECLARATIONS = 1000
"""Tags that an app may declare: an export of tags carries them all."""


class Installation(Struct, frozen=True, rename="camel"):
    """One server's identity towards clients of the old API."""

    subscription_id: str
    tenant_id: str


class App(Struct, frozen=True, rename="camel"):
    """An app whose devices send, unless it is disabled. The names are those of the old API's paths.

    `sdk_key` is in the app itself, and so is `countly_salt`, if its Countly SDK makes checksums.
    """

    app_id: str
    name: str
    platform: Platform
    resource_group: str
    app_collection: str
    app_name: str
    sdk_key: str
    created_at: int
    disabled_at: int | None = None
    countly_salt: str | None = None


class TagDeclaration(Struct, frozen=True, rename="camel"):
    """Of which type an app's tag is meant to be."""

    key: str
    type: TagType
    declared_at: int


class Collection(Struct, frozen=True, rename="camel"):
    """A collection of apps; while it is disabled all of its apps are."""

    name: str
    created_at: int
    disabled_at: int | None = None


class Ledger(Tasks, Imports, Erasures, Forgetting, Access):
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

    def create_app(self, name: str, platform: Platform, now: int, collection: str | None = None) -> App:
        """Register an app, in the collection of its own name unless another is given.

        Raises:
            Invalid: a name has characters that do not belong in a path.
            Conflict: there is one of that name and platform.
        """
        for given in (name, collection or name):
            check_name(given)
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
                resource_group=RESOURCE_GROUP,
                app_collection=collection or name,
                app_name=f"{name}-{platform}",
                sdk_key=keys.new_secret()[:32],
                created_at=now,
            )
            _ensure_collection(connection, app.app_collection, now)
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
        rows = self._read(_apps().order_by(apps.c.created_at, apps.c.app_id))
        return [to_struct(row, App) for row in rows]

    def app(self, name: str) -> App:
        """The app with this name or app id.

        Raises:
            NotFound: there is none.
            Conflict: the name is that of several apps, for different platforms.
        """
        rows = self._read(_apps().where((apps.c.app_id == name) | (apps.c.name == name)))
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

    def enable_app(self, app_id: str) -> App:
        """Take what an app's devices send again; one that is enabled stays as it is.

        Raises:
            NotFound: there is none of that id.
        """
        return self._set_disabled(app_id, None)

    def disable_app(self, app_id: str, now: int) -> App:
        """Take nothing from an app's devices; one that is disabled stays as it is.

        Raises:
            NotFound: there is none of that id.
        """
        return self._set_disabled(app_id, sa.func.coalesce(apps.c.disabled_at, now))

    def set_countly_salt(self, app_id: str, salt: str | None) -> App:
        """Have requests of an app's Countly SDK proven by checksums made with a salt; None: take them without.

        Raises:
            NotFound: there is none of that id.
        """
        with self._write() as connection:
            connection.execute(sa.update(apps).where(apps.c.app_id == app_id).values(countly_salt=salt))
        return self.app(app_id)

    def _set_disabled(self, app_id: str, at: Any) -> App:
        with self._write() as connection:
            connection.execute(sa.update(apps).where(apps.c.app_id == app_id).values(disabled_at=at))
        return self.app(app_id)

    # Collections

    def create_collection(self, name: str, now: int) -> Collection:
        """Make a collection that has no apps yet.

        Raises:
            Invalid: the name has characters that do not belong in a path.
            Conflict: there is one of that name.
        """
        check_name(name)
        with self._write() as connection:
            if not _ensure_collection(connection, name, now):
                raise Conflict(f"There is a collection {name!r} already.", hint="Choose another name.")
        return Collection(name=name, created_at=now)

    def collections(self) -> list[Collection]:
        """All collections, by their names."""
        rows = self._read(sa.select(app_collections).order_by(app_collections.c.name))
        return [to_struct(row, Collection) for row in rows]

    def collection(self, name: str) -> Collection:
        """One collection.

        Raises:
            NotFound: there is none of that name.
        """
        rows = self._read(sa.select(app_collections).where(app_collections.c.name == name))
        if not rows:
            raise NotFound(
                f"There is no collection {name[:80]!r}.",
                hint="`outhaul collections list` shows what exists.",
                code="collection_not_found",
            )
        return to_struct(rows[0], Collection)

    def disable_collection(self, name: str, now: int) -> Collection:
        """Take nothing from the devices of all apps in a collection; one that is disabled stays as it is.

        Raises:
            NotFound: there is none of that name.
        """
        return self._set_collection_disabled(name, sa.func.coalesce(app_collections.c.disabled_at, now))

    def enable_collection(self, name: str) -> Collection:
        """Take from its apps' devices again, but for apps that are disabled themselves.

        Raises:
            NotFound: there is none of that name.
        """
        return self._set_collection_disabled(name, None)

    def _set_collection_disabled(self, name: str, at: Any) -> Collection:
        with self._write() as connection:
            connection.execute(
                sa.update(app_collections).where(app_collections.c.name == name).values(disabled_at=at)
            )
        return self.collection(name)

    # Retention

    def retention(self, app_id: str | None = None) -> dict[str, dict[RetainedKind, int]]:
        """For how many days kinds of records are kept, by app id, of an app or of all; what is not in it is kept for ever."""
        statement = sa.select(retention).order_by(retention.c.app_id, retention.c.kind)
        if app_id is not None:
            statement = statement.where(retention.c.app_id == app_id)
        found: dict[str, dict[RetainedKind, int]] = {}
        for row in self._read(statement):
            found.setdefault(row["app_id"], {})[row["kind"]] = row["days"]
        return found

    def set_retention(self, app_id: str, days: dict[RetainedKind, int]) -> None:
        """Set for how many days an app's records are kept, in place of what was set before."""
        rows = [{"app_id": app_id, "kind": kind, "days": number} for kind, number in days.items()]
        with self._write() as connection:
            connection.execute(sa.delete(retention).where(retention.c.app_id == app_id))
            if rows:
                connection.execute(sa.insert(retention), rows)

    # Tags

    def declare_tag(self, app_id: str, key: str, of_type: TagType, now: int) -> TagDeclaration:
        """Say of which type a tag is, or that it is of another from now on.

        Raises:
            Conflict: the app has as many declared tags as it may have.
        """
        declared = TagDeclaration(key=key, type=of_type, declared_at=now)
        values = {"app_id": app_id, **to_row(declared)}
        others = sa.select(sa.func.count()).where(
            tag_declarations.c.app_id == app_id, tag_declarations.c.key != key
        )
        with self._write() as connection:
            if connection.execute(others).scalar_one() >= DECLARATIONS:
                raise Conflict(
                    f"The app has {DECLARATIONS} declared tags, which is as many as it may have.",
                    hint="Remove declarations that are not needed.",
                )
            connection.execute(
                sqlite_insert(tag_declarations)
                .values(values)
                .on_conflict_do_update(index_elements=["app_id", "key"], set_=values)
            )
        return declared

    def remove_tag(self, app_id: str, key: str) -> TagDeclaration | None:
        """Take a declaration back; what it was, or None if there was none. Values stay."""
        one = sa.and_(tag_declarations.c.app_id == app_id, tag_declarations.c.key == key)
        with self._write() as connection:
            row = connection.execute(sa.select(tag_declarations).where(one)).mappings().first()
            connection.execute(sa.delete(tag_declarations).where(one))
        return to_struct(row, TagDeclaration) if row else None

    def tags(self, app_id: str) -> list[TagDeclaration]:
        """An app's declared tags, in order of their keys."""
        mine = sa.select(tag_declarations).where(tag_declarations.c.app_id == app_id)
        return [to_struct(row, TagDeclaration) for row in self._read(mine.order_by(tag_declarations.c.key))]


def _apps() -> sa.Select[Any]:
    """Apps, disabled as well where their collection is."""
    columns = [column for column in apps.c if column.name != "disabled_at"]
    disabled = sa.func.coalesce(apps.c.disabled_at, app_collections.c.disabled_at).label("disabled_at")
    joined = apps.outerjoin(app_collections, app_collections.c.name == apps.c.app_collection)
    return sa.select(*columns, disabled).select_from(joined)


def _ensure_collection(connection: sa.Connection, name: str, now: int) -> bool:
    """Make a collection if there is none of that name; whether there was none."""
    made = sqlite_insert(app_collections).values(name=name, created_at=now).on_conflict_do_nothing()
    return connection.execute(made).rowcount == 1
