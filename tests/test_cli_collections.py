"""Collections and retention on the command line, on a data folder, and from Python, with a server on the same."""

from __future__ import annotations

import pytest

from api_site import Site
from commands import runner, shower
from outhaul import Client, errors
from running import Server


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command on a data folder with an app: exit code, stdout, stderr."""
    monkeypatch.setenv("OUTHAUL_DATA", str(tmp_path / "data"))
    run = runner(capsys)
    assert run("apps", "create", "Shop")[0] == 0
    return run


@pytest.fixture
def show(run):
    return shower(run)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("collections") / "data") as server:
        yield Site(server)


def actions(show):
    return [entry["action"] for entry in show("audit")["entries"]]


def test_a_collection_is_made_and_disabled_with_its_apps(run, show):
    made = show("collections", "create", "Games")
    assert (made["name"], made["apps"], made["disabledAt"]) == ("Games", [], None)
    assert run("collections", "create", "Games")[0] == 6
    assert run("collections", "create", "a/b")[0] == 1
    app = show("apps", "create", "Chess", "--collection", "Games")["appId"]
    assert [one["name"] for one in show("collections", "list")["collections"]] == ["Games", "Shop"]
    disabled = show("collections", "disable", "Games")
    assert (disabled["apps"], disabled["disabledAt"] is None) == ([app], False)
    states = {one["name"]: one["disabledAt"] for one in show("apps", "list")["apps"]}
    assert states == {"Shop": None, "Chess": disabled["disabledAt"]}
    code, out, _ = run("collections", "list")
    assert (code, out.splitlines()[1].split()) == (0, ["Games", app, disabled["disabledAt"]])
    assert show("collections", "enable", "Games")["disabledAt"] is None
    for verb in ("disable", "enable"):
        assert run("collections", verb, "None")[0] == 4
    assert actions(show)[:2] == ["collection.enable", "collection.disable"]


def test_retention_is_changed_kind_by_kind(run, show):
    assert show("apps", "retention", "Shop") == {"days": {}}
    assert show("apps", "retention", "Shop", "event=90", "crash=365")["days"] == {"event": 90, "crash": 365}
    assert show("apps", "retention", "Shop", "event=30")["days"] == {"event": 30, "crash": 365}
    assert show("apps", "retention", "Shop", "crash=forever")["days"] == {"event": 30}
    assert show("apps", "retention", "Shop")["days"] == {"event": 30}
    code, out, _ = run("apps", "retention", "Shop")
    lines = [line.split() for line in out.splitlines()[1:]]
    assert (code, ["event", "30"] in lines, ["crash", "forever"] in lines) == (0, True, True)
    for words in (["event"], ["event="], ["event=0"], ["event=36501"], ["tag=1"], ["event=x"], ["=1"]):
        assert run("apps", "retention", "Shop", *words)[0] == 2, words
    assert run("apps", "retention", "None", "event=1")[0] == 4
    assert show("apps", "retention", "Shop")["days"] == {"event": 30}
    assert actions(show).count("retention.set") == 3


def test_the_same_from_python(site):
    with Client(site.server.url, site.secret) as client:
        made = client.collections.create("Games")
        assert client.collections.get("Games") == made
        with pytest.raises(errors.Conflict):
            client.collections.create("Games")
        app = client.apps.create("Chess", "web", collection="Games")
        assert client.collections.disable("Games").apps == [app.app_id]
        assert client.apps.get("Chess").disabled_at is not None
        assert client.collections.enable("Games").disabled_at is None
        assert client.apps.get("Chess").disabled_at is None
        assert [one.name for one in client.collections.list()] == ["Games", "Shop"]
        with pytest.raises(errors.NotFound) as missing:
            client.collections.get("None")
        assert missing.value.code == "collection_not_found"
        assert client.apps.set_retention("Chess", {"event": 90}) == {"event": 90}
        assert client.apps.retention("Chess") == {"event": 90}
        with pytest.raises(errors.Invalid):
            client.apps.set_retention("Chess", {"event": 0})
        assert client.apps.set_retention("Chess", {}) == client.apps.retention("Shop") == {}
