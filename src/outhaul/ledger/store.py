"""The database under the ledger: opened, upgraded, read and written."""

from __future__ import annotations

import contextlib
import fcntl
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.util import CommandError

from outhaul.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

S = TypeVar("S", bound=msgspec.Struct)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Store:
    """A data folder's database, as SQLite.

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
            with self._write() as connection:
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
            # Taken now, so that what is read in this transaction is still so when it is written.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def _read(self, statement: sa.Select[Any]) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(statement).mappings())


def _set_pragmas(connection: Any, _record: Any) -> None:
    # The driver would begin transactions on its own, and later than we want them.
    connection.isolation_level = None
    # FULL: a task acknowledged with 202 must survive power loss, like everything acknowledged (P1).
    # secure_delete: what is forgotten must not stay behind in pages that are free.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}")


def name_complaint(name: str) -> str | None:
    """What is wrong with the name of an app or credential, if anything."""
    if _NAME.fullmatch(name):
        return None
    return "Use 1 to 64 letters, digits, dots, dashes or underscores, starting with a letter or digit."


def check_name(name: str) -> None:
    """Let a name pass that can stand in a path.

    Raises:
        Invalid: it cannot.
    """
    if complaint := name_complaint(name):
        raise Invalid(f"The name {name[:80]!r} cannot be used.", hint=complaint)


def to_struct(row: Any, shape: type[S]) -> S:
    """A row as a struct with camelCase names; columns that it has no member for are left out."""
    named = {re.sub(r"_(\w)", lambda match: match[1].upper(), key): value for key, value in row.items()}
    return msgspec.convert(named, shape)


def to_row(struct: msgspec.Struct) -> dict[str, Any]:
    """A struct's members as values of columns."""
    return {name: msgspec.to_builtins(value) for name, value in msgspec.structs.asdict(struct).items()}
