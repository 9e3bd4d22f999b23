"""Exports that cannot succeed: they fail soon, say what to change, deliver nothing, and keep secrets to themselves."""

from __future__ import annotations

import os
import re
import socket
import time
from urllib.parse import unquote

import pytest

from asking import App, folder_files, proven
from outhaul.tables import Tables
from running import Server, free_port

NOON = 1_772_366_400_000
DAY = ("2026-03-01", "2026-03-01")
SIGNATURE = "c2VjcmV0LXNpZ25hdHVyZS1vZi1hLXRva2VuLXRvLWZpbmQ="
SETTINGS = {"delivery_attempts": "2", "delivery_timeout_s": "2"}
HOSTS = "http://127.0.0.1"


@pytest.fixture(scope="module")
def server(tmp_path_factory, azurite):
    root = tmp_path_factory.mktemp("failures")
    (root / "out").mkdir()
    places = [azurite.url.rsplit("/", 1)[0] + "/", f"file://{root}/out/"]
    silent = socket.create_server(("127.0.0.1", 0))
    closed = free_port()
    places += [f"{HOSTS}:{silent.getsockname()[1]}/", f"{HOSTS}:{closed}/"]
    with Server(root / "data", destinations=",".join(places), **SETTINGS) as running:
        running.out = root / "out"
        running.silent = address(silent.getsockname()[1])
        running.closed = address(closed)
        yield running
    silent.close()


def address(port):
    return (
        f"{HOSTS}:{port}/account/exports?sv=2021-08-06&sr=c&sp=wl&se=2099-01-01T00%3A00%3A00Z&sig={SIGNATURE}"
    )


@pytest.fixture(scope="module")
def app(server):
    shop = App(server)
    shop.send([{"kind": "event", "deviceId": "d", "timestamp": NOON, "name": "x"}])
    return shop


def assert_quiet(server, container, *told):
    """No part of the token is in the log, in what was answered, or anywhere in the data folder."""
    signature = re.search(r"sig=([^&]+)", container)[1]
    secrets = {signature, unquote(signature)}
    texts = [server.log.read_bytes(), *(text.encode() for text in told)]
    texts += [path.read_bytes() for path in server.data.rglob("*") if path.is_file()]
    assert len(texts) > 5
    for text in texts:
        assert not any(secret.encode() in text for secret in secrets)


def containers(azurite, server):
    return {
        "read only": (azurite.container("readonly", permissions="rl"), "Write"),
        "expired": (azurite.container("expired", expires_in_s=-3600), "expired"),
        "missing": (azurite.address("missing"), "Create the container"),
        "closed": (server.closed, ""),
        "silent": (server.silent, ""),
    }


@pytest.mark.parametrize("which", ["read only", "expired", "missing", "closed", "silent"])
def test_a_container_that_takes_nothing(server, app, azurite, which):
    """The task fails in bounded time and says what to change."""
    container, hint = containers(azurite, server)[which]
    begun = time.monotonic()
    answer = app.ask("events", container, days=DAY)
    assert answer.status_code == 202
    # Encrypted while it is needed.
    assert_quiet(server, container, answer.text)
    task = app.wait(answer.json()["id"])
    assert time.monotonic() - begun < 45
    assert task["state"] == "Failed"
    assert hint in task["errorDetails"]
    assert len(task["errorDetails"]) > 40
    assert_quiet(server, container, answer.text, str(task))
    if which in {"read only", "expired"}:
        assert azurite.blobs(container.split("?")[0].rsplit("/", 1)[1]) == {}


@pytest.mark.parametrize(
    "container",
    [
        address(1).replace(HOSTS, "http://10.1.2.3"),
        address(1).replace(HOSTS, "http://169.254.169.254"),
        address(443).replace(HOSTS, "https://localhost"),
        "file:///etc/",
        "ftp://example.org/x?sig=" + SIGNATURE,
    ],
)
def test_what_the_operator_does_not_allow_is_refused_at_once(server, app, container):
    answer = app.ask("events", container, days=DAY)
    assert answer.status_code == 400
    assert SIGNATURE not in answer.text
    assert SIGNATURE.encode() not in server.log.read_bytes()


def test_a_silent_container_holds_up_nobody_else(server, app):
    """Tasks of one app wait for each other; another app's go ahead."""
    other = App(server, "Other")
    other.send([{"kind": "event", "deviceId": "d", "timestamp": NOON, "name": "x"}])
    stuck = [app.create("events", server.silent, days=DAY) for _ in range(2)]
    deadline = time.monotonic() + 60
    while app.task(stuck[0])["state"] == "Queued":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    task = other.export("events", f"file://{server.out}/other/", days=DAY)
    assert app.task(stuck[-1])["state"] == "Queued"
    proven(folder_files(server.out / "other"), task)


def test_exports_of_an_app_run_in_the_order_they_were_asked_for(server):
    app = App(server, "Orderly")
    folder = server.out / "orderly"
    asked = [app.create("tags", f"file://{folder}/") for _ in range(8)]
    ended = [app.wait(task_id) for task_id in asked]
    assert {task["state"] for task in ended} == {"Succeeded"}
    assert sorted(ended, key=lambda task: task["dateCompleted"]) == ended


@pytest.mark.parametrize("harm", ["gone", "cut short", "overwritten"])
def test_damaged_tables_deliver_nothing(server, harm):
    """An export is whole or it is not there."""
    app = App(server, f"Damaged-{harm.replace(' ', '-')}")
    app.send(
        {"kind": "event", "deviceId": f"d{n}", "timestamp": NOON + n, "name": f"name {n}"}
        for n in range(2000)
    )
    out = server.out / harm.replace(" ", "-")
    app.export("events", f"file://{out}/", days=DAY)
    before = set(folder_files(out))
    [stored] = Tables(server.data / "tables").files(app.app_id, "event")
    if harm == "gone":
        stored.path.unlink()
    elif harm == "cut short":
        os.truncate(stored.path, stored.size // 2)
    else:
        stored.path.write_bytes(b"PAR1" + b"?" * (stored.size - 8) + b"PAR1")
    task = app.wait(app.create("events", f"file://{out}/", days=DAY))
    assert task["state"] == "Failed"
    assert "nothing was delivered" in task["errorDetails"]
    assert "/" not in task["errorDetails"]
    assert set(folder_files(out)) == before
    assert not (server.data / "exports" / task["id"]).exists()
