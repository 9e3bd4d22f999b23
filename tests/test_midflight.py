"""Exports interfered with while they are under way: cancelled, taken up again, given new credentials, sent elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time

import httpx2
import pytest

from api_site import Site
from running import Server

NOON = 1_772_366_400_000
ROWS = 100_000
SETTINGS = {"slice_rows": "300", "mark_bytes": "100000", "land_interval_ms": "200"}
"""Slices so small that an export takes some seconds."""


def rows():
    for number in range(ROWS):
        yield {
            "kind": "event",
            "id": f"e{number:06d}",
            "deviceId": f"d{number % 997}",
            "timestamp": NOON + number,
            "name": f"name {number % 7}",
            "extras": {"number": number},
        }


@pytest.fixture(scope="module")
def site(tmp_path_factory, azurite):
    root = tmp_path_factory.mktemp("midflight")
    (root / "out").mkdir()
    allowed = f"file://{root}/,{azurite.url}/"
    with Server(root / "data", destinations=allowed, **SETTINGS) as server:
        site = Site(server)
        site.root = root
        site.send(rows())
        yield site


@pytest.fixture(scope="module")
def reference(site):
    """The SHA-256 of the export when nothing interferes."""
    task = site.export(format="jsonl", compression="zstd")
    assert (task["rows"], task["attempt"]) == (ROWS, 1)
    return task["files"][0]["sha256"]


def under_way(site, export_id, rows=ROWS // 10):
    """Until so many rows are written and it goes on."""
    deadline = time.monotonic() + 30
    while (found := site.get(export_id))["progress"]["rowsDone"] < rows:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    assert found["state"] == "started"
    assert 0 < found["progress"]["percent"] < 100
    assert found["progress"]["rowsPlanned"] == ROWS
    assert found["progress"]["etaSeconds"] > 0
    return found


def test_cancelled_while_it_writes_and_taken_up_where_it_was(site, reference):
    export_id = site.create(format="jsonl", compression="zstd")["id"]
    under_way(site, export_id, ROWS // 3)
    answer = site.http.post(f"/exports/{export_id}:cancel")
    assert answer.status_code == 202
    assert answer.json()["cancelling"]
    stopped = site.wait(export_id, 10)
    assert (stopped["state"], stopped["cancelling"], stopped["files"]) == ("cancelled", False, [])
    assert site.http.post(f"/exports/{export_id}:cancel").status_code == 202
    time.sleep(1)
    assert site.get(export_id)["progress"] == stopped["progress"], "it went on"
    assert site.http.post(f"/exports/{export_id}:retry").json()["attempt"] == 2
    seen = []
    while (found := site.get(export_id))["state"] not in {"succeeded", "failed"}:
        if found["progress"]["phase"] == "writing":
            seen.append(found["progress"]["rowsDone"])
        time.sleep(0.02)
    assert found["state"] == "succeeded", found
    assert min(seen) >= ROWS // 3, "it began from the start"
    assert found["files"][0]["sha256"] == reference
    assert [attempt["error"]["code"] for attempt in found["attempts"]] == ["cancelled"]


def test_a_cancelled_export_lets_the_next_one_of_its_app_go(site):
    first, second = (site.create(format="csv")["id"] for _ in range(2))
    under_way(site, first)
    assert site.get(second)["state"] == "queued"
    site.http.post(f"/exports/{first}:cancel")
    assert site.wait(second)["state"] == "succeeded"
    assert site.get(first)["state"] == "cancelled"


def test_a_token_that_runs_out_is_replaced_on_the_way(site, reference, azurite):
    """The first attempt succeeds: new credentials came while it wrote."""
    soon = azurite.container("swapped", expires_in_s=2)
    export_id = site.create(format="jsonl", compression="zstd", destination={"url": soon})["id"]
    under_way(site, export_id)
    fresh = {"destination": {"url": azurite.address("swapped")}}
    answer = site.http.put(f"/exports/{export_id}/destination", json=fresh)
    assert answer.status_code == 202, answer.text
    time.sleep(2)
    task = site.wait(export_id)
    assert (task["state"], task["attempt"], task["attempts"]) == ("succeeded", 1, [])
    blobs = azurite.blobs("swapped")
    assert hashlib.sha256(blobs[task["files"][0]["name"]]).hexdigest() == reference
    assert set(blobs) == {task["files"][0]["name"], task["manifest"]["name"]}


def test_a_token_that_ran_out_is_replaced_after_it_failed(site, reference, azurite):
    """Nothing is written a second time: only the delivery goes on."""
    soon = azurite.container("late", expires_in_s=1)
    export_id = site.create(format="jsonl", compression="zstd", destination={"url": soon})["id"]
    failed = site.wait(export_id)
    assert (failed["state"], failed["error"]["code"]) == ("failed", "destination_denied")
    assert azurite.blobs("late") == {}
    assert "sig=" not in json.dumps(failed)
    begun = time.monotonic()
    fresh = {"destination": {"url": azurite.address("late")}}
    again = site.http.put(f"/exports/{export_id}/destination", json=fresh).json()
    assert (again["state"], again["attempt"], again["progress"]["rowsDone"]) == ("queued", 2, ROWS)
    task = site.wait(export_id)
    assert task["state"] == "succeeded"
    assert time.monotonic() - begun < 3, "the rows were written again"
    assert hashlib.sha256(azurite.blobs("late")[task["files"][0]["name"]]).hexdigest() == reference


def test_sent_elsewhere_while_it_is_delivered_all_of_it_is_there(site, azurite):
    """Files that had arrived at the first place are not counted for the second."""
    here = azurite.container("here")
    export_id = site.create(
        format="jsonl", layout="parts", maxFileBytes=1024 * 1024, destination={"url": here}
    )["id"]
    while (found := site.get(export_id))["progress"]["bytesDelivered"] == 0:
        assert found["state"] in {"queued", "started"}, found
        time.sleep(0.005)
    there = site.root / "there"
    answer = site.http.put(
        f"/exports/{export_id}/destination", json={"destination": {"url": f"file://{there}/"}}
    )
    assert answer.status_code == 202, answer.text
    task = site.wait(export_id)
    assert task["state"] == "succeeded"
    assert len(task["files"]) > 10
    assert {path.name for path in there.iterdir()} == {f["name"] for f in [*task["files"], task["manifest"]]}
    for file in task["files"]:
        assert hashlib.sha256((there / file["name"]).read_bytes()).hexdigest() == file["sha256"]


def until_killed(site, path):
    """What arrives of a file when the server is killed after the first megabyte, and the file's ETag."""
    begun = b""
    with site.http.stream("GET", path) as answer, contextlib.suppress(httpx2.TransportError):
        for piece in answer.iter_raw(65536):
            begun += piece
            if len(begun) > 1_000_000 and site.server.running:
                site.server.kill()
    return begun, answer.headers["etag"]


def test_a_download_goes_on_after_the_server_was_killed(site, reference):
    task = site.export(format="jsonl", compression="none")
    [file] = task["files"]
    path = f"/exports/{task['id']}/files/{file['name']}"
    begun, etag = until_killed(site, path)
    assert len(begun) < file["bytes"]
    site.server.start()
    rest = site.http.get(path, headers={"range": f"bytes={len(begun)}-", "if-range": etag})
    assert rest.status_code == 206
    assert rest.headers["content-range"] == f"bytes {len(begun)}-{file['bytes'] - 1}/{file['bytes']}"
    assert hashlib.sha256(begun + rest.content).hexdigest() == file["sha256"]


def test_killed_while_it_writes_parts_it_makes_the_same_parts(site):
    asked = {"format": "parquet", "layout": "parts", "maxFileBytes": 1024 * 1024}
    expected = [(file["rows"], file["sha256"]) for file in site.export(**asked)["files"]]
    export_id = site.create(**asked)["id"]
    under_way(site, export_id, ROWS // 2)
    site.server.kill()
    site.server.start()
    task = site.wait(export_id)
    assert task["state"] == "succeeded"
    assert [(file["rows"], file["sha256"]) for file in task["files"]] == expected
    assert len(expected) > 1
