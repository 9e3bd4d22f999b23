"""The old API's imports from end to end: files in a container, asked for by the npm client, tags on the devices.

The numbers are those of `docs/old-api.md`, as in `test_azme.py`.
"""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from asking import ENDED, App
from azme_site import API
from conformance import Checks
from outhaul.ledger.ledger import Ledger
from outhaul.wire import Import
from running import Server

check = Checks()
NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
DEVICES = ("d0", "d1", "d2")
BASE = "https://exports.example:8443"
FORWARDED = {"x-forwarded-proto": "https", "x-forwarded-host": "exports.example:8443"}


def records():
    for device in DEVICES:
        yield {"kind": "event", "deviceId": device, "name": "e", "timestamp": NOON}
    for device in DEVICES[1:]:
        yield {"kind": "tag", "deviceId": device, "key": "userid", "value": "ada", "timestamp": NOON}
    yield {"kind": "tag", "deviceId": "d0", "key": "old", "value": "1", "timestamp": NOON}


@pytest.fixture(scope="module")
def server(tmp_path_factory, node, azurite):
    data = tmp_path_factory.mktemp("imports") / "data"
    running = Server(data, destinations=f"{azurite.url}/", land_interval_ms="100")
    with running:
        yield running


@pytest.fixture(scope="module")
def app(server):
    """An app whose devices have sent what is in `records`."""
    made = App(server)
    made.send(records())
    return made


@pytest.fixture(scope="module")
def ledger(server):
    opened = Ledger(server.data)
    yield opened
    opened.close()


def ask(app, url, **params):
    return app.http.post(app.site.imports, params={**API, **params}, json={"storageUrl": url})


def ended(app, import_id):
    """The task once it has ended."""
    deadline = time.monotonic() + 60
    while True:
        answer = app.http.get(f"{app.site.imports}/{import_id}", params=API)
        assert answer.status_code == 200, answer.text
        if answer.json()["state"] in ENDED:
            return answer.json()
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def refused(answer, code="BadRequest", status=400):
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json; charset=utf-8")
    error = answer.json()["error"]
    assert (set(error), error["code"]) == ({"code", "message"}, code), error
    return error["message"]


def tags_of(app, device):
    answer = app.http.get(f"{app.site.devices}/{device}", params=API)
    assert answer.status_code == 200, answer.text
    return answer.json()["appInfo"]


@check(71)
def an_import_is_queued_and_says_where_to_look(app, ledger, azurite):
    url = azurite.upload("check-71", "tags.csv", b"deviceId,key,value\nd0,check,71\n")
    here = app.site.here
    [created] = app.site.npm(("importTasks.create", *here, {"storageUrl": url}), token=app.site.token())
    task = created["value"]
    assert (uuid.UUID(task["id"]).version, task["state"]) == (4, "Queued")
    assert set(task["dateCreated"]) == {"$date"}
    raw = ask(app, url)
    assert (raw.status_code, raw.json()["state"]) == (202, "Queued")
    assert urlsplit(raw.headers["location"]).path == f"{app.site.imports}/{raw.json()['id']}"
    assert app.http.get(raw.headers["location"]).json()["id"] == raw.json()["id"]
    pascal = app.http.post(app.site.imports, params=API, json={"StorageUrl": url})
    form = app.http.post(app.site.imports, params=API, data={"storageUrl": url})
    assert [pascal.status_code, form.status_code] == [202, 202]


@check(72)
def an_import_of_nothing_is_refused(app, ledger, azurite):
    before = len(ledger.imports(app.app_id, top=100))
    for body in (
        *({}, {"storageUrl": None}, {"storageUrl": ""}, {"storageUrl": 7}, {"storageUrl": "tags.csv"}),
        *({"storageUrl": "ftp://example.org/f"}, {"storageUrl": azurite.container("check-72", "r")}),
    ):
        assert "storageUrl" in refused(app.http.post(app.site.imports, params=API, json=body)), body
    for content in (b"", b"[]", b"{", b"\xff"):
        refused(app.http.post(app.site.imports, params=API, content=content))
    private = "http://10.1.2.3/account/container/file?sig=c2VjcmV0"
    assert "storageUrl" in refused(ask(app, private), "SourceNotAllowed")
    assert len(ledger.imports(app.app_id, top=100)) == before


@check(73)
def imports_are_shown_and_listed(app, ledger, azurite):
    other = App(app.server, "Paged")
    shown = f"{azurite.url}/check-73/tags.csv"
    now = time.time_ns() // 1_000_000
    # Waiting for what will never land, they stay as they are while pages are compared.
    asked = [
        ledger.create_import(
            Import(
                id=str(uuid.uuid4()),
                app_id=other.app_id,
                format="auto",
                source=None,
                source_shown=shown,
                state="queued",
                created_at=now + number,
                mark=2**50,
            )
        )
        for number in range(45)
    ]
    here, ids = other.site.here, sorted(one.id for one in asked)
    results = other.site.npm(
        ("importTasks.get", ids[0], *here),
        ("importTasks.list", *here),
        ("importTasks.listNext", {"$next": 1}),
        ("importTasks.list", *here, {"top": 40, "skip": 2}),
        ("importTasks.list", *here, {"top": 3, "orderby": "dateCreated desc"}),
        ("importTasks.list", *here, {"skip": 44, "orderby": "jobStatus"}),
        ("importTasks.get", str(uuid.uuid4()), *here),
        token=other.site.token(),
    )
    assert (results[0]["value"]["id"], results[0]["value"]["storageUrl"]) == (ids[0], shown)
    assert [[task["id"] for task in page["value"]] for page in results[1:4]] == [
        ids[:20],
        ids[20:40],
        ids[2:42],
    ]
    assert all(page["nextLink"] for page in results[1:5])
    assert [task["id"] for task in results[4]["value"]] == [one.id for one in reversed(asked[-3:])]
    assert ([task["id"] for task in results[5]["value"]], results[5].get("nextLink")) == (ids[44:], None)
    error = results[6]["error"]
    assert (error["statusCode"], error["code"]) == (404, "NotFound")
    assert app.http.get(f"{app.site.imports}/{ids[0]}", params=API).status_code == 404
    for key in ("jobId", "errorDetails", "dateCreated", "dateCompleted", "jobStatus"):
        answer = other.http.get(other.site.imports, params={**API, "$orderby": f"{key} desc"})
        assert answer.status_code == 200, key
    for wrong in ({"$top": "41"}, {"$top": "0"}, {"$skip": "-1"}, {"$orderby": "taskId"}):
        refused(other.http.get(other.site.imports, params={**API, **wrong}))
    for one in asked:
        ledger.cancel_import(one.id, now)


@check(74)
def tags_of_a_file_are_on_the_devices(app, ledger, azurite):
    lines = [
        {"deviceId": "d0", "tags": {"plan": "pro", "old": None}},
        {"userId": "ada", "tags": {"city": "Łódź"}},
        {"deviceId": "nobody-at-all", "tags": {"plan": "pro"}},
        {"deviceId": "d1", "tags": {"1a": "x"}},
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    url = azurite.upload("check-74", "tags.jsonl", content)
    here = app.site.here
    token = app.site.token()
    [created] = app.site.npm(("importTasks.create", *here, {"storageUrl": url}), token=token)
    ended(app, created["value"]["id"])
    [found] = app.site.npm(("importTasks.get", created["value"]["id"], *here), token=token)
    task = found["value"]
    assert task["state"] == "Succeeded", task
    assert task["dateCompleted"]["$date"] >= task["dateCreated"]["$date"]
    assert task["storageUrl"] == url.partition("?")[0]
    assert task["errorDetails"].startswith("2 of 4 lines were not applied: ")
    assert all(reason in task["errorDetails"] for reason in ("unknown_device 1", "tag_invalid 1"))
    assert "nobody" not in task["errorDetails"]
    [d0, d1] = app.site.npm(
        ("devices.getByDeviceId", *here, "d0"), ("devices.getByDeviceId", *here, "d1"), token=token
    )
    assert (d0["value"]["appInfo"].get("plan"), "old" in d0["value"]["appInfo"]) == ("pro", False)
    assert d1["value"]["appInfo"] == {"city": "Łódź", "userid": "ada"}
    assert tags_of(app, "d2") == {"city": "Łódź", "userid": "ada"}


@check(75)
def imports_are_under_value(app, ledger, azurite):
    nobody = App(app.server, "Quiet")
    assert nobody.http.get(nobody.site.imports, params=API).json() == {"value": []}


@check(76)
def what_cannot_be_read_fails_the_task_not_the_request(app, ledger, azurite):
    missing = azurite.upload("check-76", "there.csv", b"").replace("there.csv", "elsewhere.csv")
    unreadable = azurite.upload("check-76", "tags.csv", b"deviceId,key,value\nd0,a,1\n", permissions="w")
    nonsense = azurite.upload("check-76", "nonsense", bytes(range(256)) * 40)
    for url in (missing, unreadable, nonsense):
        task = ended(app, ask(app, url).json()["id"])
        assert (task["state"], bool(task["errorDetails"])) == ("Failed", True), task
        assert "sig=" not in json.dumps(task)
    for path in (f"{app.site.imports}/%zz", f"{app.site.imports}/%00", f"{app.site.imports}/x/y"):
        assert 400 <= app.http.get(path, params=API).status_code < 500
    for method in ("PUT", "DELETE"):
        refused(app.http.request(method, app.site.imports, params=API), "MethodNotAllowed", 405)


@check(77)
def links_of_imports_start_with_the_public_base(app, ledger, azurite):
    url = azurite.upload("check-77", "tags.csv", b"deviceId,key,value\nd0,check,77\n")
    for _ in range(2):
        created = app.http.post(app.site.imports, params=API, json={"storageUrl": url}, headers=FORWARDED)
        assert created.headers["location"].startswith(f"{BASE}/subscriptions/")
    order = {"$top": "1", "$orderby": "dateCreated desc"}
    listed = app.http.get(app.site.imports, params={**API, **order}, headers=FORWARDED)
    link = listed.json()["nextLink"]
    assert link.startswith(f"{BASE}/subscriptions/")
    assert parse_qs(urlsplit(link).query)["$orderby"] == ["dateCreated desc"]


@pytest.mark.parametrize("number", sorted(check), ids=lambda number: f"check {number}")
def test_check(number, app, ledger, azurite):
    check[number](app, ledger, azurite)


def test_the_token_is_nowhere_to_be_seen(app, azurite, server):
    """Neither in an answer, nor in the log, nor as it is in the data folder."""
    url = azurite.upload("secrets", "tags.csv", b"deviceId,key,value\nd0,a,1\n")
    signature = parse_qs(urlsplit(url).query)["sig"][0]
    created = ask(app, url)
    ended(app, created.json()["id"])
    listed = app.http.get(app.site.imports, params={**API, "$top": "40"})
    for text in (created.text, listed.text, server.log.read_text()):
        assert signature not in text
        assert "sig=" not in text
    for path in server.data.rglob("*"):
        if path.is_file():
            assert signature.encode() not in path.read_bytes(), path
