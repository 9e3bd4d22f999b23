"""The ledger: apps, credentials, tasks and the checkpoint of landing. The only SQLAlchemy and Alembic import.

Any process may open it at any time; every method is one transaction. Callers on an event loop use a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.util import CommandError
from msgspec import Struct
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from outhaul import keys
from outhaul.errors import Conflict, Invalid, NotFound
from outhaul.ledger import tables
from outhaul.wire import Platform, Role, Task, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outhaul.schema import Kind

_PREFIXES: dict[Platform, str] = {
    "android": "and",
    "ios": "ios",
    "windows": "win",
    "windowsPhone": "wph",
    "web": "web",
}
PLATFORMS: tuple[Platform, ...] = tuple(_PREFIXES)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ENDED: tuple[TaskState, ...] = ("succeeded", "failed")


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


class Credential(Struct, frozen=True, rename="camel"):
    """Who may ask. The secret was shown once; here is only its hash."""

    client_id: str
    name: str
    secret_hash: str
    role: Role
    created_at: int


class Checkpoint(Struct, frozen=True, rename="camel"):
    """How far landing got: the journal position to read next, and each table's version at that point.

    `versions` is keyed by app id, then table name.
    """

    position: int
    versions: dict[str, dict[str, int]]
    landed_at: int


class Ledger:
    """The ledger in a data folder, as SQLite.

    Raises:
        Invalid: the folder's ledger was written by a newer Outhaul.
    """

    def __init__(self, data: Path) -> None:
        # What devices sent and what clients are allowed is nobody else's to read.
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = data / "ledger.db"
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(self._path)), connect_args={"timeout": 30}
        )
        sa.event.listen(self._engine, "connect", _set_pragmas)
        self._migrate(data)

    def _migrate(self, data: Path) -> None:
        config = AlembicConfig()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        # Two processes that open a new folder at once would both create the tables.
        with (data / "ledger.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with self._engine.begin() as connection:
                config.attributes["connection"] = connection
                try:
                    command.upgrade(config, "head")
                except CommandError as error:
                    raise Invalid(
                        f"The ledger {self._path} was written by a newer Outhaul ({error}).",
                        hint="Install that version or a later one; going back is not possible.",
                    ) from error

    def close(self) -> None:
        self._engine.dispose()

    @contextlib.contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._engine.begin() as connection:
            yield connection

    def _read(self, statement: sa.Select[Any]) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(statement).mappings())

    def installation(self, now: int = 0) -> Installation:
        """The ids that clients of the old API address this server by; made on first use, stable after."""
        rows = self._read(sa.select(tables.installations))
        if not rows:
            with self._write() as connection:
                values = {
                    "id": 1,
                    "subscription_id": str(uuid.uuid4()),
                    "tenant_id": str(uuid.uuid4()),
                    "created_at": now,
                }
                connection.execute(
                    sqlite_insert(tables.installations).values(values).on_conflict_do_nothing()
                )
            rows = self._read(sa.select(tables.installations))
        return msgspec.convert(_named(rows[0]), Installation)

    # Apps

    def create_app(self, name: str, platform: Platform, now: int) -> App:
        """Register an app.

        Raises:
            Invalid: the name has characters that do not belong in a path.
            Conflict: there is one of that name and platform.
        """
        _check_name(name)
        with self._write() as connection:
            prefix = _PREFIXES[platform]
            count = connection.execute(
                sa.select(sa.func.max(tables.apps.c.app_id)).where(tables.apps.c.app_id.startswith(prefix))
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
                connection.execute(sa.insert(tables.apps).values(msgspec.structs.asdict(app)))
            except sa.exc.IntegrityError:
                raise Conflict(
                    f"There is an app {name!r} for {platform} already.",
                    hint="Choose another name or platform; `outhaul apps list` shows what exists.",
                ) from None
        return app

    def apps(self) -> list[App]:
        """All apps, in order of creation."""
        rows = self._read(sa.select(tables.apps).order_by(tables.apps.c.created_at, tables.apps.c.app_id))
        return [msgspec.convert(_named(row), App) for row in rows]

    # Credentials

    def create_credential(self, name: str, role: Role, now: int) -> tuple[Credential, str]:
        """Make a credential; the second value is its secret, which nobody can show again.

        Raises:
            Invalid: the name has characters that do not belong in it.
            Conflict: there is one of that name.
        """
        _check_name(name)
        secret = keys.new_secret()
        credential = Credential(
            client_id=str(uuid.uuid4()),
            name=name,
            secret_hash=keys.hash_secret(secret),
            role=role,
            created_at=now,
        )
        try:
            with self._write() as connection:
                connection.execute(sa.insert(tables.credentials).values(msgspec.structs.asdict(credential)))
        except sa.exc.IntegrityError:
            raise Conflict(f"There is a credential {name!r} already.", hint="Choose another name.") from None
        return credential, secret

    def credentials(self) -> list[Credential]:
        """All credentials, in order of creation."""
        rows = self._read(sa.select(tables.credentials).order_by(tables.credentials.c.created_at))
        return [msgspec.convert(_named(row), Credential) for row in rows]

    def credential(self, client_id: str) -> Credential | None:
        rows = self._read(sa.select(tables.credentials).where(tables.credentials.c.client_id == client_id))
        return msgspec.convert(_named(rows[0]), Credential) if rows else None

    # Tasks

    def create_task(self, task: Task) -> None:
        with self._write() as connection:
            connection.execute(sa.insert(tables.tasks).values(_builtin(task)))

    def task(self, task_id: str) -> Task:
        """One task.

        Raises:
            NotFound: there is none of that id.
        """
        rows = self._read(sa.select(tables.tasks).where(tables.tasks.c.id == task_id))
        if not rows:
            raise NotFound(f"There is no export task {task_id!r}.")
        return _task(rows[0])

    def tasks(
        self,
        app_id: str | None = None,
        *,
        order: str = "id",
        descending: bool = False,
        skip: int = 0,
        top: int | None = None,
        exclude_kind: Kind | None = None,
    ) -> list[Task]:
        """Tasks, sorted by one of a task's fields and then its id; all kinds of export but one, if given."""
        column = tables.tasks.c[order]
        statement = sa.select(tables.tasks).order_by(
            column.desc() if descending else column.asc(), tables.tasks.c.id
        )
        if app_id is not None:
            statement = statement.where(tables.tasks.c.app_id == app_id)
        if exclude_kind is not None:
            statement = statement.where(tables.tasks.c.request["kind"].as_string() != exclude_kind)
        return [_task(row) for row in self._read(statement.offset(skip).limit(top))]

    def unfinished_tasks(self) -> list[Task]:
        """Tasks that have not ended, oldest first."""
        statement = sa.select(tables.tasks).where(tables.tasks.c.state.not_in(_ENDED))
        return [_task(row) for row in self._read(statement.order_by(tables.tasks.c.created_at))]

    def update_task(self, task_id: str, **changes: Any) -> None:
        """Change fields of a task that has not ended; what has ended stays as it is.

        Ending a task also forgets its destination, which holds a secret.
        """
        values = {name: _builtin_value(value) for name, value in changes.items()}
        if values.get("state") in _ENDED:
            values["destination"] = None
        with self._write() as connection:
            connection.execute(
                sa.update(tables.tasks)
                .where(tables.tasks.c.id == task_id, tables.tasks.c.state.not_in(_ENDED))
                .values(values)
            )

    # Landing

    def checkpoint(self) -> Checkpoint:
        """How far landing got; the very beginning, before anything landed."""
        rows = self._read(sa.select(tables.checkpoints))
        if not rows:
            return Checkpoint(position=0, versions={}, landed_at=0)
        return msgspec.convert(_named(rows[0]), Checkpoint)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        values = {"id": 1, **msgspec.structs.asdict(checkpoint)}
        with self._write() as connection:
            connection.execute(
                sqlite_insert(tables.checkpoints)
                .values(values)
                .on_conflict_do_update(index_elements=["id"], set_=values)
            )


def _set_pragmas(connection: Any, _record: Any) -> None:
    # FULL: a task acknowledged with 202 must survive power loss, like everything acknowledged (P1).
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def name_complaint(name: str) -> str | None:
    """What is wrong with the name of an app or credential, if anything."""
    if _NAME.fullmatch(name):
        return None
    return "Use 1 to 64 letters, digits, dots, dashes or underscores, starting with a letter or digit."


def _check_name(name: str) -> None:
    if complaint := name_complaint(name):
        raise Invalid(f"The name {name[:80]!r} cannot be used.", hint=complaint)


def _named(row: Any) -> dict[str, Any]:
    """A row under the camelCase names its struct converts from."""
    return {
        re.sub(r"_(\w)", lambda match: match[1].upper(), key): value
        for key, value in row.items()
        if key != "id"
    }


def _task(row: Any) -> Task:
    return msgspec.convert({**_named(row), "id": row["id"]}, Task)


def _builtin(task: Task) -> dict[str, Any]:
    return {name: _builtin_value(value) for name, value in msgspec.structs.asdict(task).items()}


def _builtin_value(value: Any) -> Any:
    return msgspec.to_builtins(value)
