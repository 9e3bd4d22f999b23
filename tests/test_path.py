"""The whole way: devices send natively, exports arrive in a container that only allows writing and listing."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest

from asking import FORMS, SEGMENTS, App, as_cell, folder_files, proven, read
from outhaul.schema import EXPORTS
from running import Server

T = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
DAY = ("2026-03-01", "2026-03-01")
MIDNIGHT = T - 12 * 3600 * 1000
NEXT_MIDNIGHT = T + 12 * 3600 * 1000
HARSH = [
    "quotes \" and '",
    "comma, semicolon; tab\t",
    "line\nfeed\r\nand return\r",
    "=1+1",
    "@SUM(A1)",
    "-2+3",
    "żółć 東京 🧡 \u202eabc",
    "\\back\\slash",
    "null",
    " spaces ",
    "\x01 control \x7f",
    "🧡" * 32,
]
"""Names that break careless writers of files."""
INFO = {
    "phoneModel": "Pixel 8",
    "phoneManufacturer": "Google",
    "firmwareVersion": "15",
    "firmwareName": "Android",
    "androidAPILevel": 35,
    "carrierCountry": "fr",
    "locale": "fr-FR",
    "carrierName": "Orange F",
    "networkType": "wifi",
    "networkSubtype": "LTE",
    "applicationVersionName": "3.1.0",
    "applicationVersionCode": 310,
    "timeZoneOffset": 60,
    "serviceVersion": "2.0.1",
}
AREA = {"countrycode": "fr", "region": "Bretagne", "locality": "Rennes"}
CONTEXT = {"networkType": "wifi", "locale": "fr-FR", "countrycode": "fr"}
CRASHED = {
    "phoneModel": "Pixel 8",
    "firmwareName": "Android",
    "firmwareVersion": "15",
    "serviceVersion": "2.0.1",
}
COUNTS = dict.fromkeys((c.name for c in EXPORTS["feedback"].columns if c.type == "integer"), 0)


def records():
    """Every kind of record, from one device that tells its session and one that tells a whole session at once."""
    mine = {"deviceId": "d1"}
    there = {**mine, "sessionId": "s1"}
    yield {"kind": "tag", **mine, "timestamp": T, "key": "userid", "value": "ada"}
    yield {"kind": "tag", **mine, "timestamp": T + 1, "key": "plan", "value": "free"}
    yield {"kind": "tag", **mine, "timestamp": T + 2, "key": "plan", "value": 'pro "é"'}
    yield {"kind": "tag", **mine, "timestamp": T, "key": "gone", "value": "soon"}
    yield {"kind": "tag", **mine, "timestamp": T + 3, "key": "gone", "value": None}
    yield {"kind": "device", **mine, "timestamp": T, "infoId": "i1", **INFO}
    yield {"kind": "location", **mine, "timestamp": T + 4, "locationId": "l1", **AREA}
    yield {"kind": "token", **mine, "timestamp": T, "token": "old", "service": "gcm"}
    yield {"kind": "token", **mine, "timestamp": T + 5, "token": "abc", "service": "gcm"}
    yield {"kind": "token", **mine, "timestamp": T, "token": "withdrawn", "service": "adm"}
    yield {"kind": "token", **mine, "timestamp": T + 5, "token": "x", "service": "adm", "valid": False}
    yield {"kind": "sessionStart", **there, "timestamp": T, **CONTEXT}
    yield {"kind": "activity", **there, "id": "a1", "startTime": T + 1000, "name": "Home"}
    yield {
        "kind": "event",
        **there,
        "id": "e1",
        "timestamp": T + 2000,
        "name": "tap",
        "extras": {"sku": "A,1"},
    }
    yield {"kind": "activity", **there, "id": "a2", "startTime": T + 5000, "name": "Cart", "extras": {"n": 2}}
    yield {
        "kind": "error",
        **there,
        "id": "r1",
        "timestamp": T + 6000,
        "name": "net",
        "extras": {"code": 500},
    }
    yield {"kind": "activityEnd", **there, "timestamp": T + 9000}
    yield {"kind": "heartbeat", **there, "timestamp": T + 9500}
    yield {"kind": "job", **mine, "id": "j1", "startTime": T, "name": "sync", "extras": {"size": 10}}
    yield {
        "kind": "event",
        **mine,
        "id": "e2",
        "timestamp": T + 3000,
        "name": "chunk",
        "jobId": "j1",
    }
    yield {"kind": "jobEnd", **mine, "jobId": "j1", "timestamp": T + 20_000}
    yield {"kind": "event", **mine, "id": "e3", "timestamp": T + 30_000, "name": "bg", "standalone": True}
    yield {
        "kind": "crash",
        **there,
        "id": "c1",
        "timestamp": T + 9800,
        "type": "NullPointer",
        "stackTrace": "at a\n\tat b",
        "infoId": "i1",
    }
    yield {"kind": "sessionEnd", **there, "timestamp": T + 9900, "endReason": "crash"}
    for status in ("pushed", "system-notification-displayed", "system-notification-actioned"):
        yield {
            "kind": "feedback",
            **mine,
            "timestamp": T + 40_000 + len(status),
            "campaignType": "Announcement",
            "campaignId": "42",
            "campaignName": "Spring, sale",
            "status": status,
        }
    yield {
        "kind": "feedback",
        **mine,
        "timestamp": T + 41_000,
        "campaignType": "Announcement",
        "campaignId": "c42",
        "status": "dropped",
    }
    yield {
        "kind": "session",
        "deviceId": "d2",
        "sessionId": "s2",
        "startTime": T,
        "endTime": T + 60_000,
        "activityCount": 3,
        "eventCount": 5,
        "errorCount": 1,
        "endReason": "ended",
    }


ADA = {"deviceId": "d1", "userId": "ada"}
SEEN = {**ADA, "applicationVersionName": "3.1.0"}
EXPECTED = {
    "activities": [
        {
            **SEEN,
            "sessionId": "s1",
            "activityId": "a1",
            "name": "Home",
            "startTime": T + 1000,
            "endTime": T + 5000,
            "duration": 4000,
        },
        {
            **SEEN,
            "sessionId": "s1",
            "activityId": "a2",
            "name": "Cart",
            "startTime": T + 5000,
            "endTime": T + 9000,
            "duration": 4000,
            "previousName": "Home",
            "extras": {"n": 2},
        },
    ],
    "events": [
        {
            **SEEN,
            "sessionId": "s1",
            "eventId": "e1",
            "timestamp": T + 2000,
            "name": "tap",
            "kind": "session",
            "activityName": "Home",
            "extras": {"sku": "A,1"},
        },
        {
            **SEEN,
            "eventId": "e2",
            "timestamp": T + 3000,
            "name": "chunk",
            "kind": "job",
            "jobId": "j1",
            "jobName": "sync",
        },
        {**SEEN, "eventId": "e3", "timestamp": T + 30_000, "name": "bg", "kind": "standalone"},
    ],
    "jobs": [
        {
            **SEEN,
            "jobId": "j1",
            "name": "sync",
            "startTime": T,
            "endTime": T + 20_000,
            "duration": 20_000,
            "extras": {"size": 10},
        }
    ],
    "errors": [
        {
            **SEEN,
            "sessionId": "s1",
            "errorId": "r1",
            "timestamp": T + 6000,
            "name": "net",
            "kind": "session",
            "activityName": "Cart",
            "extras": {"code": 500},
        }
    ],
    "crashes": [
        {
            **SEEN,
            "sessionId": "s1",
            "crashId": "c1",
            "timestamp": T + 9800,
            "type": "NullPointer",
            "stackTrace": "at a\n\tat b",
            **CRASHED,
        }
    ],
    "sessions": [
        {
            **SEEN,
            "sessionId": "s1",
            "startTime": T,
            "endTime": T + 9900,
            "duration": 9900,
            "activityCount": 2,
            "eventCount": 1,
            "errorCount": 1,
            "endReason": "crash",
            **CONTEXT,
        },
        {
            "deviceId": "d2",
            "sessionId": "s2",
            "startTime": T,
            "endTime": T + 60_000,
            "duration": 60_000,
            "activityCount": 3,
            "eventCount": 5,
            "errorCount": 1,
            "endReason": "ended",
        },
    ],
    "tags": [
        {**ADA, "key": "plan", "value": 'pro "é"', "lastModified": T + 2},
        {**ADA, "key": "userid", "value": "ada", "lastModified": T},
    ],
    "devices": [
        {
            **ADA,
            "firstSeen": T,
            "lastSeen": T + 41_000,
            "lastInfo": T,
            "lastLocation": T + 4,
            "nativePushEnabled": True,
            **INFO,
            **AREA,
            "appInfo": {"plan": 'pro "é"', "userid": "ada"},
        },
        {"deviceId": "d2", "firstSeen": T, "lastSeen": T + 60_000, "nativePushEnabled": False},
    ],
    "tokens": [{**ADA, "token": "abc", "service": "gcm", "registeredAt": T + 5, "lastSeen": T + 41_000}],
    "feedbackByDate": [
        {
            "campaignType": "Announcement",
            "campaignId": 42,
            "campaignName": "Spring, sale",
            **ADA,
            "feedback": "actioned",
            **COUNTS,
            "pushed": 1,
            "system-notification-displayed": 1,
            "system-notification-actioned": 1,
            "firstPushed": T + 40_006,
            "lastFeedback": T + 40_029,
        },
        {
            "campaignType": "Announcement",
            "campaignId": "c42",
            **ADA,
            **COUNTS,
            "dropped": 1,
            "lastFeedback": T + 41_000,
        },
    ],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory, azurite):
    data = tmp_path_factory.mktemp("path") / "data"
    with Server(data, destinations=azurite.url.rsplit("/", 1)[0] + "/") as running:
        yield running


@pytest.fixture(scope="module")
def shop(server):
    """An app with a device of each sort."""
    app = App(server, "Shop")
    assert app.send(records()) == len(list(records()))
    return app


@pytest.fixture(scope="module")
def empty(server):
    return App(server, "Empty")


def columns(segment):
    kind = next(kind for kind, name in KINDS.items() if name == SEGMENTS[segment])
    return EXPORTS[kind].columns


KINDS = {kind: {"feedback": "Push"}.get(kind, kind.capitalize()) for kind in EXPORTS}


@pytest.mark.parametrize("segment", SEGMENTS)
def test_what_was_sent_arrives(shop, azurite, segment):
    """All ten exports in both formats: values, columns and their order, names of files, manifests."""
    container = azurite.container("arrives")
    task = shop.export(segment, container)
    _, rows = read(proven(azurite.blobs("arrives"), task))
    assert rows == EXPECTED[segment]
    names = [column.name for column in columns(segment)]
    for row in rows:
        assert list(row) == [name for name in names if name in row]

    in_csv = shop.export(segment, container, "CsvBlob")
    header, lines = read(proven(azurite.blobs("arrives"), in_csv, "CsvBlob"), "CsvBlob")
    assert header == names
    assert lines == [{name: as_cell(row.get(name)) for name in names} for row in rows]


@pytest.mark.parametrize("segment", SEGMENTS)
def test_nothing_to_export_is_a_success(empty, azurite, segment):
    """An empty file and a manifest that says so: the asker can tell nothing from a failure."""
    container = azurite.container("nothing")
    for form in FORMS:
        task = empty.export(segment, container, form)
        data = proven(azurite.blobs("nothing"), task, form)
        names = [column.name for column in columns(segment)]
        assert data == (b"[\n]\n" if form == "JsonBlob" else ",".join(names).encode() + b"\r\n")


def test_the_manifest_says_what_was_read(shop, azurite):
    container = azurite.container("manifest")
    task = shop.export("activities", container, days=DAY)
    manifest = json.loads(azurite.blobs("manifest")[f"Activity_{task['id']}.manifest.json"])
    assert manifest["manifestVersion"] == 1
    assert manifest["appId"] == shop.app_id
    assert manifest["exportType"] == "Activity"
    assert (manifest["format"], manifest["timeFormat"]) == ("json", "ms")
    assert manifest["period"] == {
        "start": "2026-03-01T00:00:00.000Z",
        "end": "2026-03-02T00:00:00.000Z",
        "by": "timestamp",
    }
    assert manifest["tableVersions"]["activity"] >= 1
    assert [entry["name"] for entry in manifest["schema"]] == [
        column.name for column in columns("activities")
    ]
    assert task["dateCreated"] <= manifest["pinnedAt"] <= task["dateCompleted"]
    assert azurite.properties("manifest", f"Activity_{task['id']}.json")["content-type"] == "application/json"
    in_csv = shop.export("activities", container, "CsvBlob", days=DAY)
    assert azurite.properties("manifest", f"Activity_{in_csv['id']}.csv")["content-type"].startswith(
        "text/csv"
    )


def test_a_day_is_its_own_and_sorted(server, azurite):
    """Sorted by time, then device, whatever the order of arrival; the first and the last ms of the day are in."""
    app = App(server, "Edges")
    times = [NEXT_MIDNIGHT, NEXT_MIDNIGHT - 1, T, T, T, MIDNIGHT, MIDNIGHT - 1]
    devices = ["d3", "d2", "d9", "d10", "é", "d0", "d1"]
    app.send(
        {"kind": "event", "deviceId": device, "timestamp": at, "name": "x"}
        for at, device in zip(times, devices, strict=True)
    )
    container = azurite.container("edges")
    for form in FORMS:
        task = app.export("events", container, form, days=DAY)
        _, rows = read(proven(azurite.blobs("edges"), task, form), form)
        told = [(int(row["timestamp"]), row["deviceId"]) for row in rows]
        assert told == [(MIDNIGHT, "d0"), (T, "d10"), (T, "d9"), (T, "é"), (NEXT_MIDNIGHT - 1, "d2")]
    task = app.export("events", container, days=("2026-02-28", "2026-03-02"))
    assert len(read(proven(azurite.blobs("edges"), task))[1]) == len(times)


def test_harsh_text_is_unharmed(server, azurite):
    """Quotes, line ends, other scripts, control characters, and what a spreadsheet would take for a formula."""
    app = App(server, "Harsh")
    app.send(
        {
            "kind": "event",
            "deviceId": f"d{number}{text}",
            "timestamp": T + number,
            "name": text,
            "extras": {"text": text, "more": [text, None, 1.5, True, {"a": text}]},
        }
        for number, text in enumerate(HARSH)
    )
    app.send(
        {"kind": "tag", "deviceId": "d", "timestamp": T, "key": "t", "value": "".join(HARSH)} for _ in "x"
    )
    container = azurite.container("harsh")
    task = app.export("events", container, days=DAY)
    _, rows = read(proven(azurite.blobs("harsh"), task))
    assert [row["name"] for row in rows] == HARSH
    assert [row["deviceId"] for row in rows] == [f"d{number}{text}" for number, text in enumerate(HARSH)]
    assert [row["extras"] for row in rows] == [
        {"text": text, "more": [text, None, 1.5, True, {"a": text}]} for text in HARSH
    ]
    task = app.export("events", container, "CsvBlob", days=DAY)
    _, lines = read(proven(azurite.blobs("harsh"), task, "CsvBlob"), "CsvBlob")
    assert [line["name"] for line in lines] == HARSH
    assert [json.loads(line["extras"]) for line in lines] == [row["extras"] for row in rows]
    task = app.export("tags", container, "CsvBlob")
    [line] = read(proven(azurite.blobs("harsh"), task, "CsvBlob"), "CsvBlob")[1]
    assert line["value"] == "".join(HARSH)


def test_times_can_be_readable(tmp_path):
    """With OUTHAUL_TIME_FORMAT=rfc3339 the files say so instead of counting milliseconds."""
    settings = {"destinations": f"file://{tmp_path}/out/", "time_format": "rfc3339"}
    (tmp_path / "out").mkdir()
    with Server(tmp_path / "data", **settings) as server:
        app = App(server)
        app.send([{"kind": "event", "deviceId": "d", "timestamp": T + 7, "name": "x"}])
        for form in FORMS:
            task = app.export("events", f"file://{tmp_path}/out/", form)
            [row] = read(proven(folder_files(tmp_path / "out"), task, form), form)[1]
            assert row["timestamp"] == "2026-03-01T12:00:00.007Z"


def test_what_was_acknowledged_is_in_the_export_created_next(server, tmp_path, azurite):
    """Send, and ask at once: landing is waited for, each time."""
    app = App(server, "Prompt")
    container = azurite.container("prompt")
    tasks = []
    for number in range(12):
        app.send(
            {"kind": "event", "deviceId": "d", "id": f"{number}-{n}", "timestamp": T, "name": "x"}
            for n in range(50)
        )
        tasks.append(app.create("events", container, days=DAY))
        time.sleep(0.02 * (number % 4))
    for number, task_id in enumerate(tasks):
        task = app.wait(task_id)
        assert task["state"] == "Succeeded", task
        ids = {row["eventId"] for row in read(proven(azurite.blobs("prompt"), task))[1]}
        assert {f"{sent}-{n}" for sent in range(number + 1) for n in range(50)} <= ids
