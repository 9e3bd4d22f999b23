"""The old API's exports from end to end: devices send, the npm client asks, the files are in the container.

The numbers are those of `docs/old-api.md`, as in `test_azme.py`.
"""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import UTC, datetime

import pytest

from asking import as_cell
from azme_site import API, Site
from conformance import Checks
from outhaul.client import Collector
from running import Server

check = Checks()
DAY = "2026-03-01"
NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
HALF = 12 * 3600 * 1000
ENDED = ("Succeeded", "Failed")


def records():
    """Events on three days, the outermost milliseconds of the middle one among them; and two tags."""
    times = [NOON - HALF - 1, NOON - HALF, NOON, NOON + HALF - 1, NOON + HALF]
    names = ["eve", "midnight", 'noon, "quoted"', "last\nline é", "morrow"]
    for number, (at, name) in enumerate(zip(times, names, strict=True)):
        extras = {"price": number, "text": 'a "b", c'} if number % 2 else None
        yield {"kind": "event", "deviceId": f"d{number % 2}", "name": name, "timestamp": at, "extras": extras}
    for key, value in (("city", "Łódź"), ("age", "7")):
        yield {"kind": "tag", "deviceId": "d0", "key": key, "value": value, "timestamp": NOON}


@pytest.fixture(scope="module")
def server(tmp_path_factory, azurite):
    """`outhaul serve`, with an app whose devices have sent everything in `records`."""
    data = tmp_path_factory.mktemp("azme") / "data"
    running = Server(data, destinations=azurite.url.rsplit("/", 1)[0] + "/")
    app = running.cli("apps", "create", "Shop")
    with running:
        with Collector(running.url, app["sdkKey"]) as collector:
            collector.send(
                [{key: value for key, value in record.items() if value is not None} for record in records()]
            )
        yield running


@pytest.fixture(scope="module")
def site(server):
    app = server.cli("apps", "list")["apps"][0]
    credential = server.cli("credentials", "create", "reports", "--role", "contributor")
    return Site(
        url=server.url,
        subscription=app["subscriptionId"],
        tenant=app["tenantId"],
        client_id=credential["clientId"],
        secret=credential["clientSecret"],
        group=app["resourceGroup"],
        collection=app["appCollection"],
        app=app["appName"],
    )


def npm_export(site, name, container, form="JsonBlob", day=None):
    """Ask for an export through the npm client, then poll until it has ended."""
    days = (
        {"startDate": {"$date": f"{day}T00:00:00Z"}, "endDate": {"$date": f"{day}T00:00:00Z"}} if day else {}
    )
    body = {"containerUrl": container, "exportFormat": form, **days}
    token = site.token()
    [created] = site.npm((f"exportTasks.create{name}Task", *site.here, body), token=token)
    assert "value" in created, created
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        [found] = site.npm(("exportTasks.get", *site.here, created["value"]["id"]), token=token)
        if found["value"]["state"] in ENDED:
            return found["value"]
        assert found["value"]["state"] in {"Queued", "Started"}
        time.sleep(0.2)
    raise AssertionError(f"The export has not ended: {found}")


def raw_export(site, segment, container, form="JsonBlob", day=DAY):
    """The same over plain HTTP; only what was asked differs, so it saves a process for each poll."""
    body = site.export(containerUrl=container, exportFormat=form, startDate=day, endDate=day)
    with site.raw(site.token()) as raw:
        created = raw.post(f"{site.tasks}/{segment}", params=API, json=body)
        assert created.status_code == 202, created.text
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = raw.get(created.headers["location"])
            assert found.status_code == 200
            if found.json()["state"] in ENDED:
                return found.json()
            time.sleep(0.1)
    raise AssertionError(f"The export has not ended: {found.text}")


def read_file(azurite, name, task, extension):
    return azurite.blobs(name)[f"{task['exportType']}_{task['id']}.{extension}"]


@check(64)
def an_export_reaches_succeeded_and_its_file_is_there(site, azurite):
    task = npm_export(site, "Tags", azurite.container("check-64"))
    assert task["state"] == "Succeeded", task
    assert task["dateCompleted"]["$date"] >= task["dateCreated"]["$date"]
    rows = json.loads(read_file(azurite, "check-64", task, "json"))
    assert {(row["deviceId"], row["key"], row["value"]) for row in rows} == {
        ("d0", "city", "Łódź"),
        ("d0", "age", "7"),
    }
    assert f"Tag_{task['id']}.manifest.json" in azurite.blobs("check-64")


@check(65)
def an_unwritable_container_fails_the_task_not_the_request(site, azurite):
    task = npm_export(site, "Tokens", azurite.container("check-65", permissions="l"))
    assert task["state"] == "Failed"
    assert task["errorDetails"]
    assert "sig=" not in task["errorDetails"]
    assert task["dateCompleted"]["$date"] >= task["dateCreated"]["$date"]
    assert azurite.blobs("check-65") == {}


@check(68)
def write_and_list_are_enough(site, azurite):
    task = npm_export(site, "Events", azurite.container("check-68", permissions="wl"), day=DAY)
    assert task["state"] == "Succeeded", task


@check(69)
def json_and_csv_say_the_same(site, azurite):
    container = azurite.container("check-69")
    for segment in ("events", "tags", "sessions", "devices"):
        texts = []
        for form, extension in (("JsonBlob", "json"), ("CsvBlob", "csv")):
            task = raw_export(site, segment, container, form)
            assert task["state"] == "Succeeded", task
            content = read_file(azurite, "check-69", task, extension)
            assert not content.startswith(b"\xef\xbb\xbf")
            texts.append(content.decode())
        rows = json.loads(texts[0])
        lines = list(csv.reader(io.StringIO(texts[1], newline="")))
        header, cells = lines[0], lines[1:]
        assert len(header) == len(set(header))
        assert len(cells) == len(rows)
        for row, line in zip(rows, cells, strict=True):
            assert set(row) <= set(header)
            assert dict(zip(header, line, strict=True)) == {name: as_cell(row.get(name)) for name in header}
        assert rows or segment == "sessions"


@check(70)
def a_day_is_the_whole_day_and_no_more(site, azurite):
    task = npm_export(site, "Events", azurite.container("check-70"), day=DAY)
    rows = json.loads(read_file(azurite, "check-70", task, "json"))
    assert [row["timestamp"] for row in rows] == [NOON - HALF, NOON, NOON + HALF - 1]
    assert [row["name"] for row in rows] == ["midnight", 'noon, "quoted"', "last\nline é"]


@pytest.mark.parametrize("number", sorted(check), ids=lambda number: f"check {number}")
def test_check(number, site, azurite):
    check[number](site, azurite)


def test_every_kind_of_export_ends_well(site, azurite):
    """All that the old API can ask for, and the devices, also where there is nothing to export."""
    container = azurite.container("every-kind")
    segments = [
        "activities",
        "crashes",
        "errors",
        "jobs",
        "sessions",
        "tokens",
        "feedbackByDate",
        "feedbackByCampaign",
    ]
    tasks = [raw_export(site, segment, container) for segment in [*segments, "devices"]]
    assert [(task["state"], task.get("errorDetails")) for task in tasks] == [("Succeeded", None)] * len(tasks)
    for task in tasks[:-1]:
        assert json.loads(read_file(azurite, "every-kind", task, "json")) == []
    devices = json.loads(read_file(azurite, "every-kind", tasks[-1], "json"))
    assert {row["deviceId"] for row in devices} == {"d0", "d1"}
