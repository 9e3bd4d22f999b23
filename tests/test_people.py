"""Somebody asks to be forgotten, from end to end: over HTTP, from Python and on the command line, on a real server."""

from __future__ import annotations

import socket
import time

import pytest

from api_site import Site, problem
from commands import runner, shower
from landing import FACTS
from outhaul import Client, errors
from running import Server

NOW = time.time_ns() // 1_000_000
DAY = 24 * 3600 * 1000
WHO = "ada-lovelace"
THEIRS = ("lovelace-phone", "lovelace-tablet")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    (folder / "out").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        deaf = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        settings = {
            "land_interval_ms": "100",
            "rate_per_minute": "0",
            "destinations": f"file://{folder}/out/,{deaf}",
            "delivery_timeout_s": "1",
            "delivery_attempts": "1000",
        }
        with Server(folder / "data", **settings) as server:
            site = Site(server)
            site.folder = folder / "out"
            site.deaf = f"{deaf}account/container?sv=2021-08-06&sr=c&sp=w&se=2099-01-01T00:00:00Z&sig=eA=="
            yield site


@pytest.fixture(scope="module")
def client(site):
    with Client(site.server.url, site.secret) as client:
        yield client


def phone(device, user, events=3, at=NOW):
    """What a device sends: facts, whose it is, events."""
    common = {"deviceId": device, "timestamp": at}
    return [
        {"kind": "device", **common, **FACTS},
        {"kind": "tag", **common, "key": "userid", "value": user},
        *(
            {"kind": "event", **common, "id": f"{device}-{at}-{number}", "userId": user, "name": "open"}
            for number in range(events)
        ),
    ]


def rows(client, kind, **more):
    period = None if kind in {"device", "tag"} else ("2016-01-01", "2100-01-01")
    task = client.exports.create("Shop", kind, **({"period": period} if period else {}), **more)
    return list(task.wait().iter_rows())


def wait_for(happened):
    deadline = time.monotonic() + 90
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def files(site):
    # A process that closes a file of SQLite's loses the locks that it has on it: none may be open here.
    site.ledger.close()
    return {path: path.read_bytes() for path in site.server.data.rglob("*") if path.is_file()}


def test_a_user_is_removed_with_their_devices_and_nobody_else(site, client):
    for device in THEIRS:
        site.send(phone(device, WHO))
    site.send(phone("shared", WHO, at=NOW - DAY))
    site.send(phone("shared", "bob"))
    site.send(phone("other", "eve"))
    before = client.exports.create("Shop", "event", period=("2016-01-01", "2100-01-01")).wait()
    assert before.rows == 15
    delivered = client.exports.create("Shop", "tag", destination=f"file://{site.folder}/").wait()
    innocent = client.exports.create(
        "Shop",
        "event",
        period=("2016-01-01", "2100-01-01"),
        where={"column": "deviceId", "eq": "other"},
    ).wait()
    assert client.devices.get("Shop", THEIRS[0]).user_id == WHO

    asked = client.erasures.create(user_id=WHO, app="Shop")
    done = client.erasures.wait(asked.id, 120, poll_s=0.1)

    receipt = done.receipt
    assert (done.state, done.phase, receipt.devices) == ("succeeded", "done", 2)
    removed = {table.table: table.rows for table in receipt.tables}
    # Of the device that is another's now: what carries their id.
    assert (removed["event"], removed["device"], removed["tag"]) == (9, 2, 3)
    assert receipt.rows == sum(removed.values())
    assert all(table.to_version > table.from_version for table in receipt.tables)
    assert {(told.id, told.destination.url) for told in receipt.exports} == {
        (before.id, "download:"),
        (delivered.id, f"file://{site.folder}"),
    }
    assert {told.id: told.rows for told in receipt.exports}[before.id] == 9
    assert receipt.downloads == 1
    assert receipt.waiting_for == []
    assert receipt.removed_at <= receipt.deleted_at
    assert receipt.files_deleted >= len(receipt.tables)

    for device in THEIRS:
        with pytest.raises(errors.NotFound):
            client.devices.get("Shop", device)
    with pytest.raises(errors.NotFound):
        client.devices.of_user("Shop", WHO)
    assert [one.device_id for one in client.devices.list("Shop")] == ["other", "shared"]
    assert client.devices.get("Shop", "shared").user_id == "bob"
    assert [(row["deviceId"], row["userId"]) for row in rows(client, "event")] == [
        *[("other", "eve")] * 3,
        *[("shared", "bob")] * 3,
    ]
    problem(site.http.get(f"/exports/{before.id}/files/{before.files[0].name}"), 410, "expired")
    assert len(list(client.exports.get(innocent.id).iter_rows())) == 3
    assert [one.id for one in client.erasures.list(app="Shop", user_id=WHO)] == [asked.id]
    held = [path.name for path, data in files(site).items() if WHO.encode() in data]
    assert held == []


def test_what_comes_after_is_new(site, client):
    site.send(phone("leaver", "mallory"))
    erased = client.erasures.create(device_id="leaver", app="Shop")
    assert client.erasures.wait(erased.id, 120, poll_s=0.1).receipt.devices == 1
    # What is sent again is known by its hash and stays gone; what is said anew of the device makes it another one.
    site.send(phone("leaver", "mallory"))
    assert client.devices.get("Shop", "leaver").user_id == "mallory"
    assert [row for row in rows(client, "event") if row["deviceId"] == "leaver"] == []
    again = client.erasures.create(device_id="leaver", app="Shop")
    assert again.id != erased.id
    assert client.erasures.wait(again.id, 120, poll_s=0.1).receipt.rows > 0
    assert len(list(client.erasures.list(app="Shop", device_id="leaver"))) == 2


def test_an_id_that_nothing_is_known_of_gives_a_receipt_of_zeros(client):
    done = client.erasures.wait(client.erasures.create(user_id="nobody", app="Shop").id, 120, poll_s=0.1)
    assert (done.state, done.receipt.rows, done.receipt.tables, done.receipt.exports) == (
        "succeeded",
        0,
        [],
        [],
    )
    assert done.receipt.deleted_at is not None


def test_the_command_line_does_the_same(site, client, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OUTHAUL_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("OUTHAUL_URL", site.server.url)
    monkeypatch.setenv("OUTHAUL_TOKEN", site.secret)
    run = runner(capsys)
    show = shower(run)
    site.send(phone("terminal", "grace"))
    done = show("people", "erase", "Shop", "--user", "grace", "--yes", "--wait")
    assert (done["state"], done["receipt"]["devices"]) == ("succeeded", 1)
    assert run("devices", "get", "Shop", "terminal")[0] == 4
    assert [
        one["id"] for one in show("people", "erasures", "--app", "Shop", "--user", "grace")["erasures"]
    ] == [done["id"]]
    code, out, _ = run("people", "erasure", done["id"])
    assert code == 0
    assert "grace" not in out


def test_an_export_under_way_holds_up_the_deletion_but_nothing_else(site, client):
    site.send(phone("late", "dana"))
    task = client.exports.create("Shop", "device", destination=site.deaf)
    wait_for(lambda: task.refresh().progress.phase == "delivering")
    erasure = client.erasures.create(user_id="dana", app="Shop")
    wait_for(lambda: client.erasures.get(erasure.id).receipt.waiting_for == [task.id])
    found = client.erasures.get(erasure.id)
    assert (found.state, found.phase, found.receipt.deleted_at) == ("started", "deleting", None)
    assert found.receipt.removed_at is not None
    assert task.id in {told.id for told in found.receipt.exports}
    with pytest.raises(errors.NotFound):
        client.devices.get("Shop", "late")
    task.cancel()
    done = client.erasures.wait(erasure.id, 120, poll_s=0.1)
    assert (done.receipt.waiting_for, done.receipt.deleted_at is None) == ([], False)


def test_what_is_older_than_its_days_goes_with_the_next_look(site, client):
    old = [{**record, "timestamp": NOW - 40 * DAY} for record in phone("aged", "zoe")]
    site.send(old)
    site.send(phone("aged-2", "zoe"))
    assert len([row for row in rows(client, "event") if row["userId"] == "zoe"]) == 6
    assert client.apps.set_retention("Shop", {"event": 30}) == {"event": 30}
    site.server.stop()
    site.server.start()
    wait_for(lambda: len([row for row in rows(client, "event") if row["userId"] == "zoe"]) == 3)
    assert client.devices.get("Shop", "aged").user_id == "zoe"
    wait_for(
        lambda: ("server", "retention.apply") in {(one.actor, one.action) for one in site.ledger.audit(99)}
    )
