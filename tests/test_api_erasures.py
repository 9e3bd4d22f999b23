"""Erasures over HTTP, on a real server: asked for, looked at, found again by whoever knows the id."""

from __future__ import annotations

import time
import uuid
from urllib.parse import quote

import pytest

from api_site import Site, problem
from outhaul.keys import Keyring
from outhaul.wire import ROLE_SCOPES, Erasure, ExportTold, Failure, Receipt, Subject, TableErased
from running import Server

NOW = 1_764_000_000_000
NEVER = 2**50
"""A position of the journal that nothing is ever received at, so that what waits for it stays as it is."""
IDS = ("ada", "a/b", "5f:erase", "é\n ü", "{id}", "x" * 255)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("erasures") / "data", rate_per_minute="0") as server:
        yield Site(server)


@pytest.fixture(scope="module")
def other(site):
    """An app beside the one of the site, in which nothing happens."""
    return site.ledger.create_app("Other", "web", NOW)


def erase(site, one, of="users", **more):
    answer = site.http.post(f"/{of}/{quote(one, safe='')}:erase", json={"app": "Shop", **more})
    assert answer.status_code == 202, answer.text
    return answer


def waiting(site, app_id, **more):
    """An erasure that waits for what is never received."""
    made = Erasure(
        id=str(uuid.uuid4()),
        app_id=app_id,
        of="user",
        subject="sealed",
        state="queued",
        created_at=NOW,
        mark=NEVER,
        **{"subject_digest": uuid.uuid4().hex, **more},
    )
    return site.ledger.create_erasure(made)


def test_it_is_recorded_and_can_be_looked_at(site):
    answer = erase(site, "eve")
    asked = answer.json()
    assert answer.headers["location"] == f"{site.server.url}/api/v1/erasures/{asked['id']}"
    assert (asked["app"], asked["appId"], asked["of"]) == ("Shop", site.app.app_id, "user")
    assert (asked["state"], asked["phase"]) == ("queued", "waiting")
    assert asked["createdBy"].startswith("token:")
    assert asked["receipt"] == {
        **dict.fromkeys(("devices", "rows", "remembered", "journalFiles", "downloads"), 0),
        **dict.fromkeys(("filesDeleted", "bytesDeleted"), 0),
        **dict.fromkeys(("removedAt", "deletedAt")),
        **{name: [] for name in ("tables", "exports", "waitingFor")},
    }
    found = site.http.get(f"/erasures/{asked['id'].upper()}").json()
    assert found["id"] == asked["id"]
    assert erase(site, "eve", "devices").json()["of"] == "device"
    problem(site.http.get(f"/erasures/{uuid.uuid4()}"), 404, "not_found")


@pytest.mark.parametrize("one", IDS)
@pytest.mark.parametrize("of", ["user", "device"])
def test_of_whom_is_kept_sealed_and_found_by_who_knows_it(site, one, of):
    asked = erase(site, one, f"{of}s").json()
    listed = site.http.get("/erasures", params={"app": "Shop", f"{of}Id": one}).json()
    assert [found["id"] for found in listed["erasures"]] == [asked["id"]]
    assert one not in str(asked).replace(asked["createdBy"], "")
    kept = site.ledger.erasure(asked["id"])
    if kept.subject is not None:
        subject = Keyring.open(site.server.data, "").unseal(kept.subject, Subject)
        assert subject == Subject(**{f"{of}_id": one})
    other_of = "device" if of == "user" else "user"
    listed = site.http.get("/erasures", params={"app": "Shop", f"{other_of}Id": one}).json()
    assert asked["id"] not in [found["id"] for found in listed["erasures"]]


def test_one_that_waits_is_not_asked_for_twice(site):
    digest = Keyring.open(site.server.data, "").digest(f"{site.app.app_id}/user/twin")
    first = waiting(site, site.app.app_id, subject_digest=digest)
    assert erase(site, "twin").json()["id"] == first.id
    assert site.ledger.erasure(first.id).mark == NEVER
    assert erase(site, "twin", "devices").json()["id"] != first.id
    site.ledger.end_erasure(first.id, NOW)
    assert erase(site, "twin").json()["id"] != first.id


def test_it_waits_for_what_was_received_before(site):
    first = erase(site, "first").json()
    site.send([{"kind": "event", "deviceId": "d", "timestamp": NOW, "name": "x"}])
    second = erase(site, "second").json()
    assert site.ledger.erasure(first["id"]).mark < site.ledger.erasure(second["id"]).mark


def test_the_receipt_says_what_was_done_and_names_nobody(site, other):
    made = waiting(site, other.app_id)
    tables = [TableErased("event", 5, 2, 7, 8), TableErased("tag", 1, 1, 3, 4)]
    told = ExportTold(
        id="e1", kind="event", created_at=NOW, destination_shown="https://store.example/c", rows=None
    )
    done = Receipt(
        devices=2,
        tables=tables,
        remembered=3,
        journal_files=1,
        downloads=1,
        exports=[told],
        waiting_for=["e2"],
        removed_at=NOW,
        files_deleted=4,
        bytes_deleted=5000,
    )
    site.ledger.update_erasure(made.id, receipt=done, phase="deleting")
    found = site.http.get(f"/erasures/{made.id}").json()
    assert found["phase"] == "deleting"
    at = "2025-11-24T16:00:00.000Z"
    assert found["receipt"] == {
        "devices": 2,
        "rows": 6,
        "tables": [
            {"table": "event", "rows": 5, "files": 2, "fromVersion": 7, "toVersion": 8},
            {"table": "tag", "rows": 1, "files": 1, "fromVersion": 3, "toVersion": 4},
        ],
        "remembered": 3,
        "journalFiles": 1,
        "downloads": 1,
        "exports": [
            {
                "id": "e1",
                "kind": "event",
                "createdAt": at,
                "destination": {"url": "https://store.example/c"},
                "rows": None,
            }
        ],
        "waitingFor": ["e2"],
        "removedAt": at,
        "filesDeleted": 4,
        "bytesDeleted": 5000,
        "deletedAt": None,
    }
    why = Failure(attempt=1, at=NOW, code="too_large", message="Too many devices.", hint="Erase devices.")
    site.ledger.end_erasure(made.id, NOW, why)
    found = site.http.get(f"/erasures/{made.id}").json()
    assert (found["state"], found["error"]) == ("failed", "Too many devices. Erase devices.")
    assert found["completedAt"] == at


def test_a_list_has_pages_and_is_of_one_app_or_all(site, other):
    made = [waiting(site, other.app_id, created_by=f"token:{number}") for number in range(3)]
    for one in made:
        site.ledger.end_erasure(one.id, NOW)
    ids, token = [], {}
    while True:
        page = site.http.get("/erasures", params={"app": "Other", "pageSize": 2, **token}).json()
        ids += [found["id"] for found in page["erasures"]]
        assert len(page["erasures"]) <= 2
        if page["nextPageToken"] is None:
            break
        token = {"pageToken": page["nextPageToken"]}
    mine = site.http.get("/erasures", params={"app": "Other", "pageSize": 200}).json()["erasures"]
    assert ids == [found["id"] for found in mine]
    assert {one.id for one in made} <= set(ids)
    assert {found["appId"] for found in mine} == {other.app_id}
    everything = site.http.get("/erasures", params={"pageSize": 200}).json()["erasures"]
    assert {found["appId"] for found in everything} == {site.app.app_id, other.app_id}


def test_a_token_for_one_app_need_not_name_it_and_sees_no_other(site, other):
    theirs = waiting(site, other.app_id)
    with site.client(site.token("data:erase", app_id=site.app.app_id)) as bound:
        for content in (b"", b"{}", b'{"app": "Shop"}'):
            answer = bound.post("/users/bound:erase", content=content)
            assert (answer.status_code, answer.json()["appId"]) == (202, site.app.app_id)
        problem(bound.post("/users/bound:erase", json={"app": "Other"}), 404, "app_not_found")
        problem(bound.get(f"/erasures/{theirs.id}"), 404, "not_found")
        problem(bound.get("/erasures", params={"app": "Other"}), 404, "app_not_found")
        listed = bound.get("/erasures", params={"userId": "bound"}).json()["erasures"]
        assert answer.json()["id"] in [found["id"] for found in listed]
        assert {found["appId"] for found in listed} == {site.app.app_id}


def test_it_takes_a_scope_of_its_own(site):
    others = [scope for scope in ROLE_SCOPES["owner"] if scope != "data:erase"]
    assert "data:erase" not in ROLE_SCOPES["contributor"]
    with site.client(site.token(*others)) as client:
        for method, path in (
            ("POST", "/users/ada:erase"),
            ("POST", "/devices/ada:erase"),
            ("GET", "/erasures"),
            ("GET", f"/erasures/{uuid.uuid4()}"),
        ):
            problem(client.request(method, path), 403, "scope_missing")
    problem(site.client().post("/users/ada:erase"), 401, "unauthenticated")


def test_what_is_wrong_is_said(site):
    assert problem(site.http.post("/users/ada:erase"), 400, "invalid")["detail"] == "app: it is missing."
    problem(site.http.post("/users/ada:erase", json={"app": "None"}), 404, "app_not_found")
    problem(site.http.post("/users/ada:erase", json={"app": "Shop", "of": 1}), 400, "invalid")
    problem(site.http.post("/users/:erase", json={"app": "Shop"}), 400, "invalid")
    problem(site.http.post(f"/devices/{'x' * 256}:erase", json={"app": "Shop"}), 400, "invalid")
    both = {"app": "Shop", "userId": "a", "deviceId": "b"}
    problem(site.http.get("/erasures", params=both), 400, "invalid")
    problem(site.http.get("/erasures", params={"userId": "a"}), 400, "invalid")
    problem(site.http.get("/erasures", params={"pageToken": "x"}), 400, "invalid")
    problem(site.http.get("/users/ada:erase"), 405, "method_not_allowed")


def test_neither_the_audit_log_nor_the_servers_log_says_who(site):
    who = "Zacharias-Quux"
    asked = erase(site, who).json()
    erase(site, who, "devices")
    site.http.get(f"/erasures/{asked['id']}", headers={"x-request-id": "last-look"})
    site.http.get("/erasures", params={"app": "Shop", "userId": who})
    site.http.get(f"/apps/Shop/devices/{who}")
    site.http.get(f"/apps/Shop/users/{who}", headers={"x-request-id": "last-of-all"})
    entries = site.ledger.audit(20, app_id=site.app.app_id)
    done = {(entry.action, entry.target) for entry in entries}
    assert {
        ("erasure.create", site.app.app_id),
        ("erasure.read", asked["id"]),
        ("erasure.list", site.app.app_id),
    } <= done
    assert who not in str(entries)
    deadline = time.monotonic() + 5
    while "request last-of-all" not in (log := site.server.log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert who not in log
    assert "POST /api/v1/users/{id}:erase 202" in log
    assert "GET /api/v1/apps/Shop/users/{id} 404" in log
    assert f"GET /api/v1/erasures/{asked['id']} 200" in log
