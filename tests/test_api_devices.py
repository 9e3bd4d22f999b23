"""Devices over HTTP, on a real server: what exports say, at once; tagged, searched, and only in their own app."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest

from api_site import Site, problem
from landing import FACTS
from outhaul.api.devices import EXAMINED
from running import Server

NOW = time.time_ns() // 1_000_000
ODD = ["a b", "a/b", "50%2F", "Ω🧡", "q?x=1&y#z", "two\nlines\n", "x" * 255, 'quote"\\']
CROWD = 2 * EXAMINED + 300
"""So many devices that searching them takes several requests."""


def told(device):
    """What one phone says of itself."""
    mine = {"deviceId": device, "timestamp": NOW - 60_000}
    yield {"kind": "device", **mine, **FACTS, "nativePushEnabled": True}
    yield {"kind": "location", **mine, "countrycode": "fr", "region": "Bretagne"}
    yield {"kind": "tag", **mine, "key": "userid", "value": f"user of {device}"}
    yield {"kind": "tag", **mine, "key": "gone", "value": None}
    yield {"kind": "token", **mine, "service": "gcm", "token": f"token of {device}"}


def sighting(device):
    return {"kind": "event", "deviceId": device, "timestamp": NOW - 50_000, "name": "seen"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("devices") / "data", rate_per_minute="0") as server:
        site = Site(server)
        site.other, site.crowd = Site(server, "Other"), Site(server, "Crowd")
        for key, of_type in (("age", "integer"), ("born", "date"), ("vip", "boolean"), ("note", "string")):
            assert site.http.put(path(site, key, "tags"), json={"type": of_type}).status_code == 200
        site.send([sighting("v1"), sighting("v2")])
        site.send(record for device in ODD for record in told(device))
        site.other.send(told("theirs"))
        site.crowd.send(sighting(f"c{number:05d}") for number in range(CROWD))
        yield site


def path(site, device="", of="devices"):
    return f"/apps/{site.app.app_id}/{of}" + (f"/{quote(device, safe='')}" if device else "")


def get(site, device):
    answer = site.http.get(path(site, device))
    assert answer.status_code == 200, answer.text
    return answer.json()


def tag(site, status=200, **body):
    answer = site.http.post(f"{path(site)}:tag", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def listed(site, **params):
    """All pages of a list."""
    pages = []
    while True:
        answer = site.http.get(path(site), params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        pages.append([device["deviceId"] for device in page["devices"]])
        if page["nextPageToken"] is None:
            return pages
        params["pageToken"] = page["nextPageToken"]


def searched(site, **params):
    """The devices on all pages of a list."""
    return [device for page in listed(site, **params) for device in page]


def exported(site, kind, **more):
    """The rows of an export asked for now."""
    export = site.export(kind=kind, period=None, format="jsonl", timeFormat="rfc3339", **more)
    [file] = export["files"]
    answer = site.http.get(f"/exports/{export['id']}/files/{file['name']}")
    return [json.loads(line) for line in answer.text.splitlines()]


def as_row(device):
    """A device as the export of devices has it."""
    tags = {key: tag["value"] for key, tag in device["tags"].items()}
    row = {name: value for name, value in device.items() if name not in {"info", "area", "tags", "tokens"}}
    row |= device["info"] | device["area"] | {"appInfo": tags or None}
    return {name: value for name, value in row.items() if value is not None}


def test_a_device_is_what_its_export_says(site):
    rows = exported(site, "device")
    assert {row["deviceId"] for row in rows} >= set(ODD)
    for row in rows:
        assert as_row(get(site, row["deviceId"])) == row
    tags = {(row["deviceId"], row["key"]): row for row in exported(site, "tag")}
    tokens = {row["deviceId"]: row for row in exported(site, "token")}
    for device in ODD:
        shown = get(site, device)
        for key, value in shown["tags"].items():
            row = tags.pop((device, key))
            assert value == {"value": row["value"], "lastModified": row["lastModified"]}
        [token] = shown["tokens"]
        assert token == {name: tokens[device][name] for name in ("service", "token", "registeredAt")}
    assert not [key for key in tags if key[0] in ODD]


def test_what_was_acknowledged_is_in_the_next_answer(site):
    for number in range(3):
        site.send([sighting(f"new {number}")])
        assert get(site, f"new {number}")["tags"] == {}
        assert tag(site, devices={f"new {number}": {"n": str(number)}}) == {"devices": 1, "unknown": []}
        shown = get(site, f"new {number}")["tags"]["n"]
        assert shown["value"] == str(number)
        assert tag(site, devices={f"new {number}": {"n": "again"}})["devices"] == 1
        assert get(site, f"new {number}")["tags"]["n"]["value"] == "again"


def test_tags_are_set_and_removed_and_exported(site):
    site.send([sighting("t1"), sighting("t2")])
    tag(site, devices={"t1": {"plan": "pro", "old": "x"}, "t2": {"plan": ""}})
    asked = {
        "devices": {"t1": {"old": None, "never": None}, "nobody": {"plan": "x"}, "theirs": {"plan": "x"}}
    }
    assert tag(site, **asked) == {"devices": 1, "unknown": ["nobody", "theirs"]}
    rows = exported(site, "tag", where={"column": "deviceId", "in": ["t1", "t2", "nobody", "theirs"]})
    assert [(row["deviceId"], row["key"], row.get("value")) for row in rows] == [
        ("t1", "plan", "pro"),
        ("t2", "plan", ""),
    ]
    problem(site.http.get(path(site, "nobody")), 404, "not_found")
    assert "plan" not in get(site.other, "theirs")["tags"]
    assert tag(site, devices={}) == {"devices": 0, "unknown": []}


def test_a_tag_of_a_phone_whose_clock_is_ahead_is_replaced(site):
    ahead = {"kind": "tag", "deviceId": "ahead", "timestamp": NOW + 3_600_000, "key": "k", "value": "phone"}
    site.send([ahead])
    tag(site, devices={"ahead": {"k": "mine"}})
    assert get(site, "ahead")["tags"]["k"]["value"] == "mine"


def test_a_user_is_all_of_their_devices(site):
    site.send(sighting(device) for device in ("u1", "u2", "u3"))
    user = "ada/lovelace"
    tag(site, devices={"u1": {"userid": user}, "u2": {"userid": user}, "u3": {"userid": "grace"}})
    assert tag(site, users={user: {"plan": "pro"}, "nobody": {"plan": "x"}}) == {
        "devices": 2,
        "unknown": ["nobody"],
    }
    site.send([{**sighting("u2"), "timestamp": NOW + 600_000}])
    shown = site.http.get(path(site, user, "users")).json()
    assert shown["userId"] == user
    assert [device["deviceId"] for device in shown["devices"]] == ["u2", "u1"]
    assert {device["tags"]["plan"]["value"] for device in shown["devices"]} == {"pro"}
    assert shown["devices"][1] == get(site, "u1")
    assert "plan" not in get(site, "u3")["tags"]
    assert listed(site, userId=user, pageSize=1) == [["u1"], ["u2"]]
    assert listed(site, userId=user, tag="plan:free") == [[]]
    tag(site, devices={"u2": {"userid": None}})
    assert listed(site, userId=user) == [["u1"]]
    problem(site.http.get(path(site, "nobody", "users")), 404, "not_found")


def test_pages_follow_one_another(site):
    expected = [f"c{number:05d}" for number in range(CROWD)]
    pages = listed(site.crowd, pageSize=100)
    assert [device for page in pages for device in page] == expected
    assert {len(page) for page in pages} == {100}
    assert [len(page) for page in listed(site, userId="nobody")] == [0]


def test_a_search_goes_on_by_page_token(site):
    crowd = site.crowd
    few = {f"c{number:05d}": {"found": "yes"} for number in (EXAMINED + 5, EXAMINED + 6, CROWD - 1)}
    tag(crowd, devices={**few, "c00000": {"found": "no:t"}})
    assert listed(crowd, tag="found:yes") == [[], ["c01005", "c01006"], ["c02299"]]
    assert searched(crowd, tag="found:yes", pageSize=1) == ["c01005", "c01006", "c02299"]
    assert searched(crowd, tag="found") == ["c00000", "c01005", "c01006", "c02299"]
    assert searched(crowd, tag="found:no:t") == ["c00000"]
    assert searched(crowd, tag="lost") == []


def test_a_page_token_is_good_for_the_longest_id(site):
    site.send([sighting("\x01" * 255)])
    pages = listed(site, pageSize=1)
    assert ["\x01" * 255] in pages
    problem(site.http.get(path(site), params={"pageToken": "x"}), 400, "invalid")


def test_ten_thousand_at_once_and_no_more(site):
    crowd = site.crowd
    ids = [f"c{number:05d}" for number in range(10_000)]
    tagged = tag(crowd, devices={one: {"crowd": one} for one in ids})
    assert tagged == {"devices": CROWD, "unknown": ids[CROWD:]}
    assert get(crowd, ids[CROWD - 1])["tags"]["crowd"]["value"] == ids[CROWD - 1]
    tag(crowd, 400, devices={one: {"crowd": one} for one in [*ids, "more"]})
    told = tag(crowd, 413, devices={f"{number}": {"k": "x" * 1000} for number in range(5000)})
    assert told["code"] == "too_large"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "devices: it goes without users"),
        ({"devices": {}, "users": {}}, "devices: it goes without users"),
        ({"devices": {"v1": {"k": 1}}}, "devices[...][...]: "),
        ({"devices": {"v1": None}}, "devices[...]: "),
        ({"devices": {"v1": {"1k": "x"}}}, "devices[...]: expected `str` matching"),
        ({"devices": {"v1": {"k": "x" * 1025}}}, "devices[...][...]: "),
        ({"devices": {"": {"k": "x"}}}, "devices: expected `str` of length >= 1"),
        (
            {"devices": {"v1": {"k": "x"}, "v2": {"age": "4.5"}}},
            "devices.v2.age: '4.5' is not of the type integer",
        ),
        ({"users": {"v": {"k": "x", "age": ""}}}, "users.v.age: '' is not"),
        ({"devices": {"v1": {"k": "x", "born": "2026-02-30"}}}, "devices.v1.born: "),
        ({"devices": {"v1": {"k": "x", "born": "20260228"}}}, "devices.v1.born: "),
        ({"devices": {"v1": {"k": "x", "vip": "True"}}}, "devices.v1.vip: "),
    ],
)
def test_nothing_is_set_when_anything_is_wrong(site, body, detail):
    told = problem(site.http.post(f"{path(site)}:tag", json=body), 400, "invalid")
    assert told["detail"].startswith(detail)
    assert get(site, "v1")["tags"] == {}


def test_declared_tags(site):
    tags = path(site, of="tags")
    made = site.http.put(f"{tags}/level", json={"type": "string"}).json()
    assert (made["key"], made["type"]) == ("level", "string")
    site.send(
        [sighting("l1"), {"kind": "tag", "deviceId": "l1", "timestamp": NOW, "key": "level", "value": "low"}]
    )
    again = site.http.put(f"{tags}/level", json={"type": "integer"}).json()
    assert site.http.get(f"{tags}/level").json() == again
    assert again in site.http.get(tags).json()["tags"]
    # What phones send is theirs to choose.
    mine = {"column": "deviceId", "eq": "l1"}
    assert [(row["value"], row["type"]) for row in exported(site, "tag", where=mine)] == [("low", "integer")]
    tag(site, devices={"l1": {"level": "-7"}})
    assert [(row["value"], row["type"]) for row in exported(site, "tag", where=mine)] == [("-7", "integer")]
    assert site.http.delete(f"{tags}/level").json() == again
    for method in ("GET", "DELETE"):
        problem(site.http.request(method, f"{tags}/level"), 404, "not_found")
    assert ["type" in row for row in exported(site, "tag", where=mine)] == [False]
    tag(site, devices={"l1": {"level": "high"}})
    assert site.other.http.get(path(site.other, of="tags")).json() == {"tags": []}
    for key in ("1st", "x" * 65, "a-b"):
        problem(site.http.put(f"{tags}/{key}", json={"type": "date"}), 400, "invalid")
    told = problem(site.http.put(f"{tags}/level", json={"type": "float"}), 400, "invalid")
    assert told["hint"] == "It takes string or integer or date or boolean."


def test_another_apps_devices_are_not_said_to_exist(site):
    get(site.other, "theirs")
    unknown = problem(site.http.get(path(site, "unknown")), 404, "not_found")
    theirs = problem(site.http.get(path(site, "theirs")), 404, "not_found")
    assert theirs["detail"] == unknown["detail"].replace("unknown", "theirs")
    problem(site.http.get(path(site, "user of theirs", "users")), 404, "not_found")
    assert "theirs" not in searched(site)
    with site.client(site.token(app_id=site.app.app_id)) as bound:
        assert bound.get(path(site, ODD[0])).status_code == 200
        for method, at in (
            ("GET", path(site.other)),
            ("GET", path(site.other, "theirs")),
            ("GET", path(site.other, "user of theirs", "users")),
            ("GET", path(site.other, of="tags")),
            ("DELETE", path(site.other, "k", "tags")),
        ):
            problem(bound.request(method, at), 404, "app_not_found")
        body = {"devices": {"theirs": {"k": "v"}}}
        problem(bound.post(f"{path(site.other)}:tag", json=body), 404, "app_not_found")
        problem(bound.put(path(site.other, "k", "tags"), json={"type": "date"}), 404, "app_not_found")


def test_the_log_of_who_did_what_names_no_device(site):
    get(site, ODD[0])
    site.http.get(path(site, f"user of {ODD[0]}", "users"))
    tag(site, devices={ODD[0]: {"seen": "yes"}})
    listed(site)
    site.http.put(path(site, "logged", "tags"), json={"type": "date"})
    entries = site.ledger.audit(10_000, app_id=site.app.app_id)
    done = {entry.action: entry.target for entry in entries}
    for action in ("device.read", "user.read", "device.tag", "device.list"):
        assert done[action] == site.app.app_id
    assert f"{site.app.app_id}/logged" in {one.target for one in entries if one.action == "tag.declare"}
    assert not [entry for entry in entries if ODD[0] in entry.target]
