"""Erasures carried out in the test's own process, and a data folder searched for ids wherever they might be."""

from __future__ import annotations

import contextlib
import gzip
import sqlite3
import uuid
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.parquet as pq

from outhaul.export import counting
from outhaul.keys import Keyring
from outhaul.maintain import Maintainer
from outhaul.wire import Erasure, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from landing import Site

PATIENCE = 2000


def maintainer(site: Site) -> Maintainer:
    """Maintenance of a site, as its worker begins it."""
    keyring = Keyring.open(site.data, "")
    return Maintainer(site.data, site.ledger, site.config, keyring, counting.count, lambda: site.now)


def ask(site: Site, *, mark: int | None = None, **subject: str) -> str:
    """An erasure asked for at this moment; its id."""
    keyring = Keyring.open(site.data, "")
    of = Subject(**subject)
    asked = Erasure(
        id=str(uuid.uuid4()),
        app_id=site.app.app_id,
        of="user" if of.user_id is not None else "device",
        subject=keyring.seal(of),
        subject_digest=keyring.digest(repr(of)),
        state="queued",
        created_at=site.now,
        mark=site.roll() if mark is None else mark,
    )
    return site.ledger.create_erasure(asked).id


def work(site: Site, keeper: Maintainer, *, turns: int = PATIENCE) -> bool:
    """Land and maintain until there is nothing to do, or for so many turns; whether all was done."""
    for _ in range(turns):
        landed = site.lander.land()
        if not keeper.turn(site.lander, landed=landed) and not landed:
            return True
    return False


def erase(site: Site, **subject: str) -> Erasure:
    """Erase somebody; the receipt."""
    erasure_id = ask(site, **subject)
    work(site, maintainer(site))
    return site.ledger.erasure(erasure_id)


def traces(folder: Path, *ids: str) -> list[str]:
    """Everything below a folder that has one of the ids in it: its bytes, or what they say to whoever can read them."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found += [f"{path.relative_to(folder)}: {way}" for way, data in _ways(path) if _has(data, ids)]
        found += [f"{path.relative_to(folder)}: name" for one in ids if one in path.name]
    return found


def _has(data: bytes, ids: tuple[str, ...]) -> bool:
    return any(one.encode() in data for one in ids)


def _ways(path: Path) -> Iterator[tuple[str, bytes]]:
    data = path.read_bytes()
    yield "bytes", data
    if data[:2] == b"\x1f\x8b":
        with contextlib.suppress(OSError, EOFError):
            yield "gzip", gzip.decompress(data)
    elif data[:4] == b"PAR1":
        yield "parquet", _rows(pq.ParquetFile(path).read().to_pylist())
    elif data[:15] == b"SQLite format 3":
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for name in names:
                yield f"table {name}", _rows(db.execute(f'SELECT * FROM "{name}"').fetchall())
    elif data[8:12] == b"DUCK":
        with duckdb.connect() as db:
            # The one that is open belongs to landing: a copy is read.
            copy = path.with_name(f"{path.name}.copy")
            copy.write_bytes(data)
            db.execute(f"ATTACH '{copy}' AS other (READ_ONLY)")
            names = [
                row[0]
                for row in db.execute(
                    "SELECT table_name FROM duckdb_tables() WHERE database_name = 'other'"
                ).fetchall()
            ]
            for name in names:
                yield f"table {name}", _rows(db.execute(f"SELECT * FROM other.{name}").fetchall())
        copy.unlink()


def _rows(rows: list[Any]) -> bytes:
    return repr(rows).encode()
