"""Devices read one by one and page by page: always what the export of devices says."""

from __future__ import annotations

import json
import random

import pytest

from exporting import Bench
from landing import FACTS, Site, T
from outhaul.errors import TooLarge
from outhaul.schema import AREA, INFO
from outhaul.tables import Devices, Tables


def told(rng, device):
    """Something that a phone says of itself; times repeat and go back."""
    at = {"deviceId": device, "timestamp": T + rng.randrange(20) * 1000}
    return rng.choice(
        [
            {"kind": "device", **at, **dict(rng.sample(sorted(FACTS.items()), 4))},
            {"kind": "device", **at, "nativePushEnabled": rng.random() < 0.5},
            {"kind": "location", **at, "countrycode": rng.choice("abc"), "region": rng.choice("xyz")},
            {
                "kind": "tag",
                **at,
                "key": rng.choice(["a", "b", "userid"]),
                "value": rng.choice(["1", "2", None]),
            },
            {
                "kind": "token",
                **at,
                "service": rng.choice(["gcm", "adm"]),
                "token": rng.choice("tu"),
                "valid": rng.random() < 0.7,
            },
            {"kind": "event", **at, "name": "e", "id": str(rng.random())},
        ]
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("devices")
    site = Site(root / "data")
    site.out = root / "out"
    rng = random.Random(7)
    names = [f"d{n:04d}" for n in range(300)] + ["Ω", "z'quote", "🧡", "a b"]
    for _ in range(5):
        site.now += 1000
        site.batch(*(told(rng, rng.choice(names)) for _ in range(900)))
    yield site
    site.close()


@pytest.fixture(scope="module")
def exported(site):
    rows = Bench(site, site.out).rows(kind="device", format="jsonl")
    assert len(rows) > 290
    return rows


@pytest.fixture
def reader(site):
    return Devices(Tables(site.data / "tables"))


@pytest.fixture
def versions(site):
    return site.ledger.checkpoint().versions[site.app.app_id]


def as_exported(device):
    info = {c.name: device.info[c.name] for c in INFO if c.name in device.info}
    area = {c.name: device.area[c.name] for c in AREA if c.name in device.area}
    tags = {key: tag.value for key, tag in device.tags.items()}
    row = {
        "deviceId": device.device_id,
        "userId": tags.get("userid"),
        "firstSeen": device.first_seen,
        "lastSeen": device.last_seen,
        "lastInfo": device.last_info,
        "lastLocation": device.last_location,
        "nativePushEnabled": device.native_push_enabled,
        **info,
        **area,
        "appInfo": tags or None,
    }
    return {name: value for name, value in row.items() if value is not None}


def test_one_by_one_they_are_what_is_exported(site, exported, reader, versions):
    for row in exported:
        found = reader.get(site.app.app_id, versions, [row["deviceId"]])
        assert {key: as_exported(device) for key, device in found.items()} == {row["deviceId"]: row}


def test_many_at_once_and_those_unknown(site, exported, reader, versions):
    ids = [row["deviceId"] for row in exported]
    found = reader.get(site.app.app_id, versions, [*ids, "nobody", ""])
    assert {key: as_exported(device) for key, device in found.items()} == {
        row["deviceId"]: row for row in exported
    }


@pytest.mark.parametrize("top", [1, 7, 100, 1000])
def test_pages_follow_one_another(site, exported, reader, versions, top):
    found, after = [], ""
    while page := reader.page(site.app.app_id, versions, after, top):
        assert len(page) <= top
        found += page
        after = page[-1].device_id
    assert [as_exported(device) for device in found] == exported


def test_a_page_ends_before_what_it_is_to_end_before(site, exported, reader, versions):
    ids = [row["deviceId"] for row in exported]
    page = reader.page(site.app.app_id, versions, ids[10], 1000, before=ids[50])
    assert [device.device_id for device in page] == ids[11:50]


def test_a_page_may_include_where_it_starts(site, exported, reader, versions):
    ids = [row["deviceId"] for row in exported]
    for start, expected in ((ids[10], ids[10:14]), (ids[10] + "\0", ids[11:15]), ("", ids[:4])):
        page = reader.page(site.app.app_id, versions, start, 4, including=True)
        assert [device.device_id for device in page] == expected


def test_users_are_found_by_what_their_devices_say_now(site, exported, reader, versions):
    for user in ("1", "2", "3"):
        found = reader.of_user(site.app.app_id, versions, user)
        expected = [row for row in exported if row.get("userId") == user]
        assert sorted(device.device_id for device in found) == sorted(row["deviceId"] for row in expected)
        seen = [device.last_seen for device in found]
        assert seen == sorted(seen, reverse=True)
    assert reader.of_user(site.app.app_id, versions, "1")


def test_several_users_at_once(site, reader, versions):
    found = reader.of_users(site.app.app_id, versions, ["2", "1", "nobody", "2"])
    assert found == {user: reader.of_user(site.app.app_id, versions, user) for user in ("1", "2")}


def test_a_user_of_too_many_devices_is_refused(site, reader, versions, monkeypatch):
    monkeypatch.setattr("outhaul.tables.devices.USER_DEVICES", 3)
    with pytest.raises(TooLarge):
        reader.of_user(site.app.app_id, versions, "1")


def test_an_app_without_devices(site, reader):
    assert reader.get("ios000009", {}, ["d"]) == {}
    assert reader.page("ios000009", {}, "", 10) == []
    assert reader.of_user("ios000009", {}, "u") == []


def test_tokens(site, reader, versions, exported):
    rows = Bench(site, site.out).rows(kind="token", format="jsonl")
    ids = [row["deviceId"] for row in exported]
    found = reader.get(site.app.app_id, versions, ids)
    assert [
        {"deviceId": key, "service": token.service, "token": token.token, "registeredAt": token.registered_at}
        for key in ids
        for token in found[key].tokens
    ] == [{name: row[name] for name in ("deviceId", "service", "token", "registeredAt")} for row in rows]
    assert json.dumps(rows)


def test_when_many_devices_were_seen_last(site, reader, versions, exported):
    ids = [row["deviceId"] for row in exported]
    found = reader.last_seen(site.app.app_id, versions, [*reversed(ids), *ids, "nobody", "d0000!", "\u00ff"])
    assert found == {row["deviceId"]: row["lastSeen"] for row in exported}
    assert reader.last_seen(site.app.app_id, versions, []) == {}
    assert reader.last_seen("ios000009", {}, ids) == {}


def test_the_devices_of_many_users_by_their_ids(site, reader, versions, exported):
    found = reader.owned(site.app.app_id, versions, ["2", "1", "nobody", "3"], 10_000)
    assert found == {
        user: sorted(row["deviceId"] for row in exported if row.get("userId") == user) for user in ("1", "2")
    }
    with pytest.raises(TooLarge):
        reader.owned(site.app.app_id, versions, ["1"], len(found["1"]) - 1)
    assert reader.owned("ios000009", {}, ["1"], 1) == {}


def test_ids_too_long_for_the_statistics_of_files(tmp_path):
    site = Site(tmp_path)
    names = ["a", "設備" * 100, "設備" * 100 + "2", "龍"]
    site.batch(*({"kind": "device", "deviceId": name, "timestamp": T, "locale": "fr"} for name in names))
    site.batch(
        *({"kind": "tag", "deviceId": n, "timestamp": T, "key": "userid", "value": "u"} for n in names)
    )
    reader = Devices(Tables(site.data / "tables"))
    versions = site.ledger.checkpoint().versions[site.app.app_id]
    assert sorted(reader.get(site.app.app_id, versions, names)) == sorted(names)
    assert [one.device_id for one in reader.page(site.app.app_id, versions, "", 10)] == sorted(names)
    assert len(reader.of_user(site.app.app_id, versions, "u")) == 4
    site.close()
