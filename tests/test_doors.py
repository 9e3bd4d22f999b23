"""Two doors, one house: the same export asked for at either is the same file, and either sees the other's tasks."""

from __future__ import annotations

import httpx2
import pytest

from asking import SEGMENTS, App, folder_files, proven, read
from landing import T, every_kind
from outhaul.schema import EXPORT_TYPES, EXPORTS
from running import Server

KINDS = {name: kind for kind, name in EXPORT_TYPES.items()}
SCOPES = ("--scope", "exports:read", "--scope", "exports:write")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    root = tmp_path_factory.mktemp("doors")
    with Server(root / "data", destinations=f"file://{root}/") as server:
        app = App(server)
        app.root = root
        pushed = {"kind": "feedback", "deviceId": "d1", "timestamp": T, "status": "pushed"}
        campaign = {"campaignType": "Announcement", "campaignId": "7"}
        app.send([*every_kind("d1"), *every_kind("d2"), {**pushed, **campaign}])
        secret = server.cli("tokens", "create", "both", *SCOPES)["secret"]
        headers = {"authorization": f"Bearer {secret}"}
        app.own = httpx2.Client(base_url=f"{server.url}/api/v1", headers=headers, trust_env=False)
        yield app


def asked(app, kind, form, folder):
    """The same as `App.ask` asks for, at the other door."""
    body = {"app": app.app_id, "kind": kind, "format": form, "destination": {"url": f"file://{folder}/"}}
    if EXPORTS[kind].dated:
        body["period"] = {"from": "2016-01-01", "to": "2100-01-02"}
    if kind == "feedback":
        body["campaigns"] = {"type": "Announcement", "from": "2016-01-01", "to": "2100-01-01T00:00:00.001Z"}
    answer = app.own.post("/exports", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


@pytest.mark.parametrize("segment", SEGMENTS)
def test_an_export_is_the_same_bytes_whichever_door_it_was_asked_at(app, segment):
    kind = KINDS[SEGMENTS[segment]]
    for form, blob in (("json", "JsonBlob"), ("csv", "CsvBlob")):
        old, new = app.root / f"old-{kind}-{form}", app.root / f"new-{kind}-{form}"
        export_id = asked(app, kind, form, new)
        task = app.export(segment, f"file://{old}/", blob)
        expected = proven(folder_files(old), task, blob)
        ended = app.wait(export_id)
        assert ended["state"] == "Succeeded", ended
        assert proven(folder_files(new), ended, blob) == expected
        assert read(expected, blob)[1]


def test_either_door_sees_the_others_tasks(app):
    old = app.export("events", f"file://{app.root}/seen/")["id"]
    new = asked(app, "event", "parquet", app.root / "seen")
    assert app.wait(new)["state"] == "Succeeded"
    found = app.own.get(f"/exports/{old}").json()
    assert (found["state"], found["kind"], found["request"]["format"]) == ("succeeded", "event", "json")
    listed = {task["id"] for task in app.own.get("/exports").json()["exports"]}
    assert {old, new} <= listed


def test_a_cancelled_export_has_failed_to_the_old_api(app):
    """It knows no other word for it."""
    *_, last = [asked(app, "event", "json", app.root / "cancelled") for _ in range(5)]
    assert app.own.post(f"/exports/{last}:cancel").status_code == 202
    ended = app.wait(last)
    assert (ended["state"], ended["errorDetails"]) == ("Failed", "The export was cancelled.")
