"""The ledger on disk: one database for every process, upgraded on opening, never downgraded."""

from __future__ import annotations

import multiprocessing
import sqlite3
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from outhaul import keys
from outhaul.errors import Conflict, Invalid, NotFound
from outhaul.ledger import tables
from outhaul.ledger.access import AuditEntry
from outhaul.ledger.landing import Checkpoint
from outhaul.ledger.ledger import Ledger
from outhaul.ledger.tasks import Chosen, Cursor
from outhaul.wire import ExportRequest, Failure, FileEntry, Period, Pin, Task

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


def test_an_app_may_have_a_salt(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    app = ledger.create_app("shop", "ios", 1)
    assert app.countly_salt is None
    assert ledger.set_countly_salt(app.app_id, "pepper").countly_salt == "pepper"
    assert ledger.apps()[0].countly_salt == "pepper"
    assert ledger.set_countly_salt(app.app_id, None) == app
    with pytest.raises(NotFound):
        ledger.set_countly_salt("ios000009", "pepper")


def test_an_app_is_in_a_collection_and_disabled_and_enabled(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    app = ledger.create_app("shop", "ios", 1, "Shops")
    assert (app.app_collection, app.disabled_at) == ("Shops", None)
    with pytest.raises(Invalid):
        ledger.create_app("other", "ios", 1, "a/b")
    assert ledger.disable_app(app.app_id, 5).disabled_at == 5
    assert ledger.disable_app(app.app_id, 6).disabled_at == 5
    assert ledger.enable_app(app.app_id) == ledger.enable_app(app.app_id) == app
    with pytest.raises(NotFound):
        ledger.disable_app("ios000009", 1)


def test_tags_are_declared_for_one_app_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    monkeypatch.setattr("outhaul.ledger.ledger.DECLARATIONS", 2)
    for key in ("b", "a"):
        ledger.declare_tag("ios000001", key, "string", 1)
    again = ledger.declare_tag("ios000001", "a", "integer", 2)
    assert [(one.key, one.type, one.declared_at) for one in ledger.tags("ios000001")] == [
        ("a", "integer", 2),
        ("b", "string", 1),
    ]
    with pytest.raises(Conflict, match="2 declared tags"):
        ledger.declare_tag("ios000001", "c", "date", 3)
    ledger.declare_tag("ios000002", "c", "date", 3)
    assert ledger.remove_tag("ios000001", "a") == again
    assert ledger.remove_tag("ios000001", "a") is None
    assert [one.key for one in ledger.tags("ios000001")] == ["b"]


def test_a_secret_is_stored_hashed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    credential, secret = ledger.create_credential("reports", "reader", 1)
    assert ledger.credential(credential.client_id) == credential
    assert ledger.credential("nobody") is None
    ledger.close()
    assert all(secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def failure(attempt: int) -> Failure:
    return Failure(attempt=attempt, at=7, code="destination_denied", message="No.", hint="Ask again.")


def test_what_has_ended_stays_as_it_is(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.create_task(task(1))
    pin = Pin({"event": 3}, 5, 100, "ms")
    ledger.update_task("task-1", state="started", pin=pin)
    assert ledger.task("task-1").pin == pin
    ledger.end_task("task-1", "failed", failure(1))
    ledger.update_task("task-1", state="succeeded")
    ledger.end_task("task-1", "cancelled", failure(2))
    ended = ledger.task("task-1")
    assert (ended.state, ended.error, ended.failures) == ("failed", "No. Ask again.", [failure(1)])
    assert ledger.unfinished_tasks() == []
    with pytest.raises(NotFound):
        ledger.task("task-2")


def test_a_task_that_succeeded_forgets_its_destination(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.create_task(task(1))
    manifest = FileEntry("manifest.json", 0, 2, "abc", "application/json")
    ledger.succeed_task("task-1", "elsewhere", 9, None, manifest)
    assert ledger.task("task-1").state == "queued"
    ledger.succeed_task("task-1", "", 9, None, manifest)
    assert ledger.task("task-1").files == [manifest]
    assert (ledger.task("task-1").state, ledger.task("task-1").destination) == ("succeeded", None)
    for change in (ledger.retry_task, lambda known: ledger.cancel_task(known, 9)):
        with pytest.raises(Conflict):
            change("task-1")
    with pytest.raises(Conflict):
        ledger.move_task("task-1", "sealed", "https://there")


def test_a_task_that_failed_is_taken_up_again_while_its_destination_is_kept(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.create_task(task(1))
    with pytest.raises(Conflict):
        ledger.retry_task("task-1")
    ledger.end_task("task-1", "failed", failure(1))
    again = ledger.retry_task("task-1")
    assert (again.state, again.attempt, again.error, again.failures) == ("queued", 2, None, [failure(1)])
    ledger.end_task("task-1", "failed", failure(2))
    assert ledger.forget_destinations(7) == []
    assert ledger.forget_destinations(8) == ["task-1"]
    with pytest.raises(Conflict) as refused:
        ledger.retry_task("task-1")
    assert refused.value.code == "destination_forgotten"
    moved = ledger.move_task("task-1", "sealed", "https://there")
    assert (moved.state, moved.attempt, moved.destination) == ("queued", 3, "sealed")


def test_new_credentials_go_on_where_delivery_was_but_a_new_place_begins_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.create_task(task(1))
    ledger.update_task("task-1", state="started", destination_shown="https://here", parts_delivered=3)
    assert ledger.move_task("task-1", "new", "https://here").parts_delivered == 3
    assert ledger.move_task("task-1", "new", "https://there").parts_delivered == 0


def test_cancelling_is_at_once_while_queued_and_a_wish_once_started(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.create_task(task(1))
    ledger.create_task(task(2))
    assert ledger.cancel_task("task-1", 5).state == "cancelled"
    assert ledger.cancel_task("task-1", 6).completed_at == 5
    ledger.update_task("task-2", state="started")
    wished = ledger.cancel_task("task-2", 5)
    assert (wished.state, wished.cancelling) == ("started", True)
    ledger.end_task("task-2", "cancelled", failure(1))
    assert ledger.task("task-2").state == "cancelled"


def test_the_same_idempotency_key_is_the_same_task(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    asked = task(1)
    asked.created_by, asked.idempotency_key, asked.idempotency_hash = "token:a", "key", "hash"
    assert ledger.create_task(asked).id == "task-1"
    again = msgspec.structs.replace(asked, id="task-2")
    assert ledger.create_task(again).id == "task-1"
    with pytest.raises(Conflict):
        ledger.create_task(msgspec.structs.replace(again, idempotency_hash="other"))
    assert ledger.create_task(msgspec.structs.replace(again, created_by="token:b")).id == "task-2"


def test_the_newest_tasks_come_in_pages_and_can_be_chosen(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number in range(5):
        ledger.create_task(task(number))
    ledger.create_task(task(9, app_id="ios000001"))
    everything = [one.id for one in ledger.newest_tasks(Chosen(), 10)]
    paged, after = [], None
    while page := ledger.newest_tasks(Chosen(), 2, after):
        paged += [one.id for one in page]
        after = Cursor(page[-1].created_at, page[-1].id)
    assert paged == everything
    assert len(everything) == 6
    assert [one.id for one in ledger.newest_tasks(Chosen(app_id="ios000001"), 10)] == ["task-9"]
    assert ledger.count_tasks(Chosen(kind="event", state="queued")) == 6
    assert ledger.count_tasks(Chosen(kind="job")) == 0


def test_a_token_is_good_until_it_is_rotated_revoked_or_runs_out(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    token, first = ledger.issue_token("ci", ["exports:read", "exports:read"], None, 100, "operator", 1)
    assert token.scopes == ["exports:read"]
    old = keys.hash_secret(first)
    assert ledger.token_of(old) == token
    assert token.usable(old, 99)
    assert not token.usable(old, 100)
    rotated, second = ledger.rotate_token(token.token_id, 40, 10)
    new = keys.hash_secret(second)
    assert rotated.usable(new, 60)
    assert rotated.usable(old, 49)
    assert not rotated.usable(old, 50)
    assert ledger.token_of(old) == rotated
    with pytest.raises(Conflict, match="expired"):
        ledger.rotate_token(token.token_id, 40, 100)
    revoked = ledger.revoke_token(token.token_id, 20)
    assert not revoked.usable(new, 20)
    assert ledger.revoke_token(token.token_id, 30) == revoked
    with pytest.raises(Conflict, match="revoked"):
        ledger.rotate_token(token.token_id, 40, 20)
    assert ledger.token_of("h3") is None
    for change in (lambda: ledger.revoke_token("none", 1), lambda: ledger.rotate_token("none", 1, 1)):
        with pytest.raises(NotFound):
            change()
    ledger.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert first.encode() not in stored
    assert second.encode() not in stored


def test_two_tokens_that_can_be_used_never_have_one_name(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    token, _ = ledger.issue_token("ci", ["exports:read"], None, None, "operator", 1)
    with pytest.raises(Conflict):
        ledger.issue_token("ci", ["exports:read"], "web000001", None, "operator", 2)
    ledger.revoke_token(token.token_id, 3)
    ledger.issue_token("ci", ["exports:read"], None, None, "operator", 4)
    for name in ("", " ci", "a\nb", "x" * 129):
        with pytest.raises(Invalid):
            ledger.issue_token(name, ["exports:read"], None, None, "operator", 5)


def test_the_audit_log_is_read_from_its_end(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.record(
        [AuditEntry(at=n, actor="operator", action="export.create", target=f"t{n}") for n in range(5)]
    )
    newest = ledger.audit(2)
    assert [entry.target for entry in newest] == ["t4", "t3"]
    assert [entry.target for entry in ledger.audit(9, before=newest[-1].id)] == ["t2", "t1", "t0"]
    assert ledger.audit(9, app_id="web000001") == []


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
