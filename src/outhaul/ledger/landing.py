"""How far landing got, which is what everything else that reads the tables goes by."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from outhaul.ledger.store import Store, to_struct
from outhaul.ledger.tables import checkpoints


class Checkpoint(Struct, frozen=True, rename="camel"):
    """How far landing got: the journal position to read next, and each table's version at that point.

    `versions` is keyed by app id, then table name.
    """

    position: int
    versions: dict[str, dict[str, int]]
    landed_at: int


class Landing(Store):
    def checkpoint(self) -> Checkpoint:
        """How far landing got; the very beginning, before anything landed."""
        with self._engine.connect() as connection:
            return read_checkpoint(connection)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        values = {"id": 1, **msgspec.structs.asdict(checkpoint)}
        with self._write() as connection:
            connection.execute(
                sqlite_insert(checkpoints)
                .values(values)
                .on_conflict_do_update(index_elements=["id"], set_=values)
            )


def read_checkpoint(connection: sa.Connection) -> Checkpoint:
    """The checkpoint as it stands in somebody's transaction."""
    row = connection.execute(sa.select(checkpoints)).mappings().first()
    return to_struct(row, Checkpoint) if row else Checkpoint(position=0, versions={}, landed_at=0)
