"""Devices and declared tags on the command line, with a real server."""

from __future__ import annotations

import time

import pytest

from api_site import Site
from commands import runner, shower
from landing import FACTS
from running import Server

NOW = time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("devices") / "data", land_interval_ms="100") as server:
        site = Site(server)
        for device in ("5f0c", "5f0d", "odd id"):
            at = {"deviceId": device, "timestamp": NOW}
            site.send(
                [{"kind": "device", **at, **FACTS}, {"kind": "tag", **at, "key": "userid", "value": "ada"}]
            )
        yield site


@pytest.fixture
def run(site, tmp_path, monkeypatch, capsys):
    """Run a command: exit code, stdout, stderr."""
    monkeypatch.setenv("OUTHAUL_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("OUTHAUL_URL", site.server.url)
    monkeypatch.setenv("OUTHAUL_TOKEN", site.secret)
    monkeypatch.delenv("OUTHAUL_PROFILE", raising=False)

    return runner(capsys)


@pytest.fixture
def show(run):
    """Run a command that must succeed; what it prints as JSON."""
    return shower(run)


def test_devices_are_listed_and_looked_at(run, show):
    listed = show("devices", "list", "Shop")["devices"]
    assert [one["deviceId"] for one in listed] == ["5f0c", "5f0d", "odd id"]
    assert [one["deviceId"] for one in show("devices", "list", "Shop", "--limit", "1")["devices"]] == ["5f0c"]
    assert len(show("devices", "list", "Shop", "--user", "ada")["devices"]) == 3
    assert show("devices", "get", "Shop", "5f0c") == listed[0]
    assert show("devices", "get", "Shop", "odd id") == listed[2]
    code, out, _ = run("devices", "get", "Shop", "5f0c")
    assert code == 0
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (shown["deviceId"], shown["phoneModel"], shown["userId"]) == ("5f0c", FACTS["phoneModel"], "ada")
    assert run("devices", "get", "Shop", "nobody")[0] == 4


def test_devices_are_tagged(run, show):
    assert show("devices", "tag", "Shop", "5f0c", "plan=pro=1", "empty=") == {"devices": 1, "unknown": []}
    code, out, _ = run("devices", "list", "Shop", "--tag", "plan:pro=1")
    assert code == 0
    assert out.splitlines()[1].endswith("empty= plan=pro=1")
    assert (
        run("devices", "tag", "Shop", "5f0c", "--remove", "plan", "--remove", "empty")[1]
        == "1 device tagged\n"
    )
    assert show("devices", "list", "Shop", "--tag", "plan")["devices"] == []
    assert run("devices", "tag", "Shop", "ada", "vip=true", "--user")[1] == "3 devices tagged\n"
    assert len(show("devices", "list", "Shop", "--tag", "vip:true")["devices"]) == 3
    for words, code in (
        (["nobody", "a=b"], 4),
        (["ada", "a=b"], 4),
        (["5f0c"], 2),
        (["5f0c", "a"], 2),
        (["5f0c", "a=1", "--remove", "a"], 2),
        (["5f0c", "1a=1"], 1),
    ):
        assert run("devices", "tag", "Shop", *words)[0] == code, words


def test_tags_are_declared(run, show):
    declared = show("tags", "declare", "Shop", "age", "integer")
    assert (declared["key"], declared["type"]) == ("age", "integer")
    assert show("tags", "list", "Shop") == {"tags": [declared]}
    assert run("tags", "list", "Shop")[1].splitlines()[1].split()[:2] == ["age", "integer"]
    code, _, err = run("devices", "tag", "Shop", "5f0c", "age=old")
    assert code == 1
    assert "devices.5f0c.age: 'old' is not of the type integer" in err
    assert run("tags", "remove", "Shop", "age")[1] == "age is no longer declared\n"
    assert run("tags", "remove", "Shop", "age")[0] == 4
    assert run("tags", "declare", "Shop", "age", "float")[0] == 2
