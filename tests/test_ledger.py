"""The ledger on disk: one database for every process, upgraded on opening, never downgraded."""

from __future__ import annotations

import multiprocessing
import sqlite3
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from outhaul.errors import Conflict, Invalid, NotFound
from outhaul.ledger import tables
from outhaul.ledger.ledger import Checkpoint, Ledger
from outhaul.wire import ExportRequest, Period, Pin, Task

if TYPE_CHECKING:
    from pathlib import Path


def task(number: int, **fields: object) -> Task:
    values = {
        "id": f"task-{number}",
        "app_id": "web000001",
        "request": ExportRequest(kind="event", format="json", period=Period(1, 2)),
        "destination": "sealed",
        "state": "queued",
        "created_at": 1000 - number,
        "mark": 3,
    }
    return Task(**{**values, **fields})


def test_migrations_build_the_tables_that_the_code_sees(tmp_path: Path) -> None:
    Ledger(tmp_path)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_a_ledger_from_a_newer_version_is_refused_as_it_is(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Invalid, match="newer") as caught:
        Ledger(tmp_path)
    assert caught.value.hint


def test_ids_are_stable_and_names_are_taken_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    installation = ledger.installation(1)
    app = ledger.create_app("shop", "ios", 1)
    assert ledger.create_app("shop", "android", 1).app_id == "and000001"
    assert ledger.create_app("other", "ios", 2).app_id == "ios000002"
    with pytest.raises(Conflict):
        ledger.create_app("shop", "ios", 3)
    with pytest.raises(Invalid):
        ledger.create_app("a/b", "ios", 3)
    again = Ledger(tmp_path)
    assert again.installation(9) == installation
    assert app in again.apps()


def test_a_secret_is_stored_hashed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    credential, secret = ledger.create_credential("reports", "reader", 1)
    assert ledger.credential(credential.client_id) == credential
    assert ledger.credential("nobody") is None
    ledger.close()
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_what_has_ended_stays_as_it_is_and_forgets_its_destination(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.create_task(task(1))
    pin = Pin({"event": 3}, 5, 100, "ms")
    ledger.update_task("task-1", state="started", pin=pin)
    assert ledger.task("task-1").pin == pin
    ledger.update_task("task-1", state="failed", error="no")
    ledger.update_task("task-1", state="succeeded")
    ended = ledger.task("task-1")
    assert (ended.state, ended.error, ended.destination) == ("failed", "no", None)
    assert ledger.unfinished_tasks() == []
    with pytest.raises(NotFound):
        ledger.task("task-2")


def test_lists_are_sorted_and_paged(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number in range(5):
        ledger.create_task(task(number))
    ledger.create_task(task(9, app_id="ios000001"))
    listed = ledger.tasks("web000001", order="created_at", skip=1, top=2)
    assert [one.id for one in listed] == ["task-3", "task-2"]
    assert ledger.tasks("web000001", descending=True, top=1)[0].id == "task-4"
    assert len(ledger.tasks()) == 6


def test_the_checkpoint_is_one_and_the_last(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.checkpoint().position == 0
    for position in (3, 4):
        ledger.save_checkpoint(Checkpoint(position, {"web000001": {"event": position}}, 7))
    assert Ledger(tmp_path).checkpoint() == Checkpoint(4, {"web000001": {"event": 4}}, 7)


def _open(data: Path) -> str:
    return Ledger(data).installation(1).tenant_id


def test_processes_that_open_a_new_folder_at_once_agree(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert len(set(pool.map(_open, [tmp_path] * 8))) == 1
