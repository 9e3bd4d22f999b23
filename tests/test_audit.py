"""The audit log: who did what, on disk before they are told, and nothing in it that must stay secret."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import Any

import httpx2
import pytest

from api_site import Site, problem
from azme_site import API, CONTAINER, RESOURCE
from outhaul.api.audit import REPEAT_MS, Audit
from outhaul.ledger.ledger import Ledger
from running import Server

NOW = 1_800_000_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("audit") / "data", destinations="http://127.0.0.1:10000/")
    site = Site(server)
    site.other = site.ledger.create_app("Other", "ios", 1)
    with server:
        yield site


def entries(site: Site) -> list[tuple[str, str, str]]:
    """Everything in the log, oldest first, as actor, action and target."""
    return [(one.actor, one.action, one.target) for one in reversed(site.ledger.audit(10_000))]


def test_what_is_done_with_tokens_is_in_the_log_with_the_request_it_came_by(site):
    actor = site.http.get("/me").json()["actor"]
    made = site.http.post(
        "/tokens", json={"name": "a", "scopes": ["apps:read"], "app": "Shop"}, headers={"x-request-id": "r-1"}
    ).json()
    newest = site.ledger.audit(1)[0]
    assert (newest.actor, newest.action, newest.target) == (actor, "token.create", made["id"])
    assert (newest.app_id, newest.request_id) == (site.app.app_id, "r-1")
    assert abs(newest.at - time.time() * 1000) < 60_000
    site.http.get(f"/tokens/{made['id']}")
    site.http.get("/tokens")
    secret = site.http.post(f"/tokens/{made['id']}:rotate").json()["secret"]
    site.http.post(f"/tokens/{made['id']}:revoke")
    done = [(action, target) for _, action, target in entries(site)]
    at = done.index(("token.create", made["id"]))
    assert done[at:] == [
        ("token.create", made["id"]),
        ("token.read", made["id"]),
        ("token.list", ""),
        ("token.rotate", made["id"]),
        ("token.revoke", made["id"]),
    ]
    stored = b"".join(path.read_bytes() for path in site.server.data.glob("ledger.db*"))
    assert made["secret"].encode() not in stored
    assert secret.encode() not in stored


def test_what_is_done_with_exports_and_apps_is_in_the_log(site):
    app = site.app.app_id
    asked = {**site.spec(), "destination": {"url": CONTAINER}}
    with site.client(site.token(name="watched")) as client:
        task = client.post("/exports", json=asked).json()["id"]
        # Nothing answers where it is to go, so it cannot succeed; stopped, it can be taken up again.
        client.post(f"/exports/{task}:cancel")
        assert site.wait(task)["state"] in {"cancelled", "failed"}
        for method, path, sent in (
            ("POST", f"/exports/{task}:retry", None),
            ("PUT", f"/exports/{task}/destination", {"destination": {"url": CONTAINER}}),
            ("GET", f"/exports/{task}", None),
            ("GET", "/exports", None),
            ("GET", "/exports?app=Shop", None),
            ("POST", "/exports:check", site.spec()),
            ("GET", "/apps", None),
            ("GET", "/apps/Shop", None),
            ("GET", "/audit", None),
        ):
            answer = client.request(method, path, json=sent)
            assert answer.status_code in {200, 202}, answer.text
    done = [(action, target) for actor, action, target in entries(site) if actor == "token:watched"]
    assert done == [
        ("export.create", task),
        ("export.cancel", task),
        ("export.retry", task),
        ("export.move", task),
        ("export.read", task),
        ("export.list", ""),
        ("export.list", app),
        ("export.check", app),
        ("app.list", ""),
        ("app.read", app),
        ("audit.read", ""),
    ]


def test_what_was_refused_is_not_said_to_be_done(site):
    before = entries(site)
    problem(site.http.get("/tokens/none"), 404, "not_found")
    problem(site.http.post("/tokens", json={"name": "b", "scopes": []}), 400, "invalid")
    with site.client(site.token("exports:read")) as client:
        problem(client.get("/tokens"), 403, "scope_missing")
    assert entries(site) == before


def test_the_log_is_read_in_pages_newest_first_and_by_app(site):
    for number in range(5):
        site.http.post("/tokens", json={"name": f"p{number}", "scopes": ["apps:read"], "app": "Shop"})
    site.http.post("/tokens", json={"name": "o", "scopes": ["apps:read"], "app": "Other"})
    expected = [one for one in site.ledger.audit(10_000) if one.app_id == site.app.app_id]
    found: list[dict[str, Any]] = []
    options = {"app": "Shop", "pageSize": "2"}
    while True:
        page = site.http.get("/audit", params=options).json()
        assert len(page["entries"]) <= 2
        found += page["entries"]
        if page["nextPageToken"] is None:
            break
        options["pageToken"] = page["nextPageToken"]
    assert [(one["actor"], one["action"], one["target"]) for one in found] == [
        (one.actor, one.action, one.target) for one in expected
    ]
    assert {one["appId"] for one in found} == {site.app.app_id}
    for wrong in ({"pageToken": "x"}, {"pageSize": "0"}, {"before": "1"}):
        problem(site.http.get("/audit", params=wrong), 400, "invalid")
    problem(site.http.get("/audit", params={"app": "Nowhere"}), 404, "app_not_found")


def test_a_token_of_one_app_reads_of_that_app_only(site):
    with site.client(site.token("audit:read", app_id=site.other.app_id)) as client:
        site.http.post("/tokens", json={"name": "seen", "scopes": ["apps:read"], "app": "Other"})
        found = client.get("/audit").json()["entries"]
        assert found
        assert {one["appId"] for one in found} == {site.other.app_id}
        problem(client.get("/audit", params={"app": "Shop"}), 404, "app_not_found")


def test_what_the_old_api_is_asked_is_in_the_same_log(site):
    credential, secret = site.ledger.create_credential("old", "contributor", 1)
    installation = site.ledger.installation(1)
    form = {
        "grant_type": "client_credentials",
        "client_id": credential.client_id,
        "client_secret": secret,
        "resource": RESOURCE,
    }
    bearer = httpx2.post(f"{site.server.url}/{installation.tenant_id}/oauth2/token", data=form).json()[
        "access_token"
    ]
    group = f"/subscriptions/{installation.subscription_id}/resourceGroups/MobileEngagement"
    apps = f"{group}/providers/Microsoft.MobileEngagement/appcollections/Shop/apps"
    tasks = f"{apps}/Shop-ios/devices/exportTasks"
    with httpx2.Client(
        base_url=site.server.url, headers={"authorization": f"Bearer {bearer}"}, params=API
    ) as client:
        asked = client.post(f"{tasks}/tags", json={"containerUrl": CONTAINER, "exportFormat": "JsonBlob"})
        assert asked.status_code == 202, asked.text
        task = asked.json()["id"]
        for _ in range(2):
            assert client.get(f"{tasks}/{task}").status_code == 200
            assert client.get(tasks).status_code == 200
            assert client.get(apps).status_code == 200
    mine = [(action, target) for actor, action, target in entries(site) if actor == "credential:old"]
    assert mine == [
        ("export.create", task),
        ("export.read", task),
        ("export.list", site.app.app_id),
        ("app.list", "Shop"),
    ]
    assert site.get(task)["createdBy"] == "credential:old"
    assert all("sig=" not in part for entry in entries(site) for part in entry)


# The writer itself


def test_a_read_that_repeats_is_written_once_in_five_minutes(tmp_path):
    ledger = Ledger(tmp_path)
    now = [NOW]
    log = Audit(ledger, lambda: now[0])

    async def check():
        for _ in range(3):
            await log.write("token:a", "export.read", "t1")
        await log.write("token:a", "export.read", "t2")
        await log.write("token:b", "export.read", "t1")
        for _ in range(2):
            await log.write("token:a", "export.cancel", "t1")
        now[0] += REPEAT_MS - 1
        await log.write("token:a", "export.read", "t1")
        now[0] += 1
        await log.write("token:a", "export.read", "t1")

    asyncio.run(check())
    assert [(one.at, one.actor, one.action, one.target) for one in reversed(ledger.audit(99))] == [
        (NOW, "token:a", "export.read", "t1"),
        (NOW, "token:a", "export.read", "t2"),
        (NOW, "token:b", "export.read", "t1"),
        (NOW, "token:a", "export.cancel", "t1"),
        (NOW, "token:a", "export.cancel", "t1"),
        (NOW + REPEAT_MS, "token:a", "export.read", "t1"),
    ]


def test_an_entry_is_on_disk_when_its_writer_goes_on_and_many_go_together(tmp_path):
    ledger = Ledger(tmp_path)
    log = Audit(ledger, lambda: NOW)
    transactions = []

    async def one(number: int) -> None:
        await log.write("token:a", "export.cancel", f"t{number}")
        with sqlite3.connect(tmp_path / "ledger.db") as database:
            found = database.execute(
                "SELECT count(*) FROM audit WHERE target = ?", (f"t{number}",)
            ).fetchone()
        assert found == (1,)

    async def check():
        await asyncio.gather(*(one(number) for number in range(200)))

    record = ledger.record

    def counted(batch):
        transactions.append(batch)
        record(batch)

    ledger.record = counted
    asyncio.run(check())
    assert len(transactions) < 20
    assert len(ledger.audit(999)) == 200


def test_what_could_not_be_written_is_not_done_quietly(tmp_path):
    ledger = Ledger(tmp_path)
    log = Audit(ledger, lambda: NOW)

    async def check():
        with sqlite3.connect(tmp_path / "ledger.db") as database:
            database.execute("ALTER TABLE audit RENAME TO gone")
        with pytest.raises(Exception, match="audit"):
            await log.write("token:a", "export.read", "t1")
        with sqlite3.connect(tmp_path / "ledger.db") as database:
            database.execute("ALTER TABLE gone RENAME TO audit")
        await log.write("token:a", "export.read", "t1")

    asyncio.run(check())
    assert len(ledger.audit(9)) == 1


def test_one_that_hangs_up_does_not_take_others_along(tmp_path):
    ledger = Ledger(tmp_path)
    log = Audit(ledger, lambda: NOW)

    async def check():
        first = asyncio.create_task(log.write("token:a", "export.cancel", "t1"))
        second = asyncio.create_task(log.write("token:b", "export.cancel", "t2"))
        await asyncio.sleep(0)
        first.cancel()
        await second

    asyncio.run(check())
    assert len(ledger.audit(9)) == 2
