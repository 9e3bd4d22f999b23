"""`outhaul serve` as an operator meets it: starting, stopping, being killed, and what it says when it cannot start."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time

import httpx2
import pytest
import trustme

from asking import App, folder_files, proven, read
from running import Server, free_port

DAY = ("2026-03-01", "2026-03-01")
NOON = 1_772_366_400_000


def serve(data, port, **settings):
    """Run `outhaul serve` where it should not start: exit code, what it said, and how long that took."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "outhaul", "serve", "--data", str(data), "--port", str(port)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - begun


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    root = tmp_path_factory.mktemp("server")
    (root / "out").mkdir()
    with Server(root / "data", destinations=f"file://{root}/out/") as server:
        yield server


def test_a_second_server_on_the_same_folder_refuses(running):
    code, said, _ = serve(running.data, free_port())
    assert code == 1
    assert "Run one server per data folder; stop the other one first." in said
    assert "Traceback" not in said
    assert httpx2.get(f"{running.url}/healthz").status_code == 200


def test_a_port_in_use_is_said_at_once(running, tmp_path):
    code, said, took = serve(tmp_path / "data", running.port)
    assert code == 1
    assert f"Cannot listen on 127.0.0.1:{running.port}: Address already in use." in said
    assert "Traceback" not in said
    assert took < 20


def test_so_is_a_port_that_a_stranger_has(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said, _ = serve(tmp_path / "data", taken.getsockname()[1])
    assert (code, "Traceback" in said) == (1, False)
    assert "Address already in use" in said


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"OUTHAUL_SLICE_ROWS": "many"}, "OUTHAUL_SLICE_ROWS"),
        ({"OUTHAUL_DESTINATIONS": "nonsense"}, "OUTHAUL_DESTINATIONS"),
        ({"OUTHAUL_SECRET_KEY": "short"}, "OUTHAUL_SECRET_KEY"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, settings, told):
    code, said, _ = serve(tmp_path / "data", free_port(), **settings)
    assert code not in {0, None}
    assert told in said
    assert "Traceback" not in said


def test_it_stops_when_asked_and_is_whole_again_after(tmp_path):
    """SIGTERM ends with 0 and nothing is lost; SIGKILL to all, or to the parent alone, loses nothing either."""
    (tmp_path / "out").mkdir()
    server = Server(tmp_path / "data", destinations=f"file://{tmp_path}/out/")
    app = App(server)

    def send(name):
        app.send([{"kind": "event", "deviceId": "d", "timestamp": NOON, "name": name}])

    server.start()
    send("terminated")
    assert server.stop() == 0
    server.start()
    send("killed")
    server.kill()
    server.start()
    send("orphaned")
    # Its children are just ending while the next server starts.
    server.orphan()
    server.start()
    task = app.export("events", f"file://{tmp_path}/out/", days=DAY)
    _, rows = read(proven(folder_files(tmp_path / "out"), task))
    assert sorted(row["name"] for row in rows) == ["killed", "orphaned", "terminated"]
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def test_a_part_that_dies_is_started_again(running):
    """Front and worker are children of the server; whichever ends is replaced."""
    app = App(running, "Phoenix")
    app.send([{"kind": "event", "deviceId": "d", "timestamp": NOON, "name": "before"}])
    assert len(running.children()) == 2
    for child in running.children():
        os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while True:
        try:
            app.send([{"kind": "event", "deviceId": "d", "timestamp": NOON, "name": "after"}])
            break
        except httpx2.TransportError:
            assert time.monotonic() < deadline
    folder = running.data.parent / "out" / "phoenix"
    task = app.export("events", f"file://{folder}/", days=DAY)
    _, rows = read(proven(folder_files(folder), task))
    assert sorted(row["name"] for row in rows) == ["after", "before"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_old_and_new_tls_are_spoken(tmp_path, version):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(chain, append=True)
    certificate.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.minimum_version = context.maximum_version = version
    with Server(tmp_path / "data", tls=(chain, key)) as server:
        sock = socket.create_connection(("localhost", server.port))
        with context.wrap_socket(sock, server_hostname="localhost") as wrapped:
            assert wrapped.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
