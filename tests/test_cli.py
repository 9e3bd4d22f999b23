"""The command line, as a person or a script meets it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from outhaul import cli
from outhaul.ledger.ledger import Ledger
from outhaul.wire import ExportRequest, FileEntry, Task
from running import Server

DAY = "2026-11-20"
NOON = 1_795_176_000_000
"""Noon of that day, in ms."""


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def run(data, capsys, monkeypatch):
    """Run a command on the data folder: exit code, stdout, stderr."""
    monkeypatch.setenv("OUTHAUL_DATA", str(data))

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return call


@pytest.fixture
def show(run):
    """Run a command that must succeed; what it prints as JSON."""

    def call(*words: str) -> dict:
        code, out, err = run(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return call


def test_an_app_and_its_names(show, run):
    app = show("apps", "create", "shop", "--platform", "ios")
    assert set(app) == {
        *("subscriptionId", "tenantId", "resourceGroup", "appCollection", "appName"),
        *("appId", "sdkKey", "name", "platform"),
    }
    assert (app["name"], app["platform"], app["appName"]) == ("shop", "ios", "shop-ios")
    assert show("apps", "create", "shop")["platform"] == "android"
    listed = show("apps", "list")["apps"]
    assert [entry["platform"] for entry in listed] == ["ios", "android"]
    assert listed[0] == app
    code, text, _ = run("apps", "list")
    assert code == 0
    assert all(entry[name] in text for entry in listed for name in ("appId", "appName", "sdkKey"))


def test_a_credential_shows_its_secret_once(show, run):
    made = show("credentials", "create", "reports", "--role", "reader")
    assert set(made) == {"subscriptionId", "tenantId", "clientId", "clientSecret", "name", "role"}
    assert made["role"] == "reader"
    assert show("credentials", "create", "all")["role"] == "owner"
    listed = show("credentials", "list")["credentials"]
    assert listed[0]["clientId"] == made["clientId"]
    assert made["clientSecret"] not in json.dumps(listed)
    assert made["clientSecret"] not in run("credentials", "list")[1]


def test_errors_say_what_to_try(run):
    run("apps", "create", "shop")
    code, out, err = run("apps", "create", "shop")
    assert (code, out) == (1, "")
    assert err.startswith("Error: There is an app 'shop' for android already.\nTry: ")


def test_errors_as_json(run):
    run("apps", "create", "shop")
    code, out, err = run("apps", "create", "shop", "--json")
    assert (code, out) == (1, "")
    error = json.loads(err)["error"]
    assert error["code"] == "conflict"
    assert set(error) == {"code", "message", "hint"}
    code, _, err = run("apps", "create", "--json")
    assert code == 2
    assert json.loads(err)["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["apps", "create"], "Missing argument 'NAME'"),
        (["apps", "create", "x", "--platform", "dos"], "'dos' is not one of"),
        (["nonsense"], "No such command 'nonsense'"),
        (["rejects", "--reason", "dull"], "'dull' is not one of"),
        (["serve", "--port", "0"], "0 is not in the range"),
        (["serve", "--tls-cert", __file__], "--tls-cert and --tls-key go together"),
    ],
)
def test_wrong_calls_exit_with_2(run, words, message):
    code, _, err = run(*words)
    assert code == 2
    assert message in err
    assert "Try: outhaul " in err


def test_help_has_examples(run):
    for words in ([], ["apps"], ["apps", "create"], ["collect"], ["export", "watch"]):
        code, out, _ = run(*words, "--help")
        assert code == 0
        assert "Example:\n    " in out


def test_a_mistyped_folder_is_not_made(run, data):
    for words in (
        ["apps", "list"],
        ["credentials", "list"],
        ["export", "list"],
        ["export", "watch", "x"],
        ["rejects"],
    ):
        code, _, err = run(*words)
        assert code == 1
        assert f"{data} is not a data folder" in err
    assert not data.exists()


def test_settings_that_cannot_be_used_stop_the_server(run, monkeypatch):
    monkeypatch.setenv("OUTHAUL_THREADS", "many")
    code, _, err = run("serve")
    assert code == 1
    assert err.startswith("Error: OUTHAUL_THREADS is 'many'.\nTry: ")


# Exports


@pytest.fixture
def ledger(data):
    opened = Ledger(data)
    yield opened
    opened.close()


def add_task(ledger: Ledger, **fields) -> str:
    task = Task(
        id=str(uuid.uuid4()),
        app_id="and000001",
        request=ExportRequest(kind="event", format="json"),
        destination="sealed-destination",
        state="queued",
        created_at=NOON,
        mark=0,
    )
    ledger.create_task(task)
    if fields:
        ledger.update_task(task.id, **fields)
    return task.id


FILE = FileEntry("Event_x.json", 10, 1234, "ab" * 32, "application/json")


def test_exports_are_listed_with_progress(ledger, show, run):
    add_task(ledger)
    add_task(ledger, state="started", rows_planned=400, rows_done=100, bytes_done=5000)
    add_task(
        ledger,
        state="succeeded",
        rows_planned=10,
        rows_done=10,
        bytes_done=1234,
        files=[FILE],
        completed_at=NOON,
    )
    add_task(ledger, state="failed", error="The container refused.", completed_at=NOON)
    text = run("export", "list")[1]
    tasks = {task["state"]: task for task in show("export", "list")["exports"]}
    assert [tasks[state]["percent"] for state in ("queued", "started", "succeeded", "failed")] == [
        0,
        25,
        100,
        0,
    ]
    assert tasks["queued"]["rowsPlanned"] is None
    assert tasks["started"]["bytesDone"] == 5000
    assert tasks["succeeded"]["files"][0]["sha256"] == "ab" * 32
    assert tasks["succeeded"]["completedAt"] == f"{DAY}T12:00:00Z"
    assert tasks["failed"]["error"] == "The container refused."
    assert "event json  started  25%  100/400 rows  5 kB" in text
    assert "The container refused." in text
    assert "sealed-destination" not in text + json.dumps(tasks)


def test_watching_what_has_ended(ledger, run):
    done = add_task(ledger, state="succeeded", rows_planned=10, rows_done=10, bytes_done=1234, files=[FILE])
    code, out, err = run("export", "watch", done)
    assert code == 0
    assert "succeeded  100%" in err
    assert out == f"Event_x.json  10 rows  1.23 kB  sha256 {'ab' * 32}\n"
    failed = add_task(ledger, state="failed", error="It broke.")
    code, out, err = run("export", "watch", failed)
    assert (code, out) == (1, "")
    assert "It broke." in err
    code, out, _ = run("export", "watch", failed, "--json")
    assert code == 1
    assert json.loads(out)["error"] == "It broke."
    code, _, err = run("export", "watch", "nothing")
    assert code == 1
    assert "no export task 'nothing'" in err


def test_watching_follows_on_a_terminal(ledger, data):
    task = add_task(ledger)

    def work():
        for done in (100, 200):
            time.sleep(0.8)
            ledger.update_task(task, state="started", rows_planned=400, rows_done=done)
        time.sleep(0.8)
        ledger.update_task(task, state="succeeded", rows_done=400, files=[FILE])

    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "outhaul", "export", "watch", task, "--data", str(data)]
    watching = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    seen = b""
    while b"queued" not in seen:
        seen += os.read(ours, 4096)
    threading.Thread(target=work).start()
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux: the other end was closed
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert watching.wait(10) == 0
    lines = seen.decode().split("\r\033[K")
    order = [
        next(i for i, line in enumerate(lines) if state in line) for state in (" 0%", " 25%", " 50%", " 100%")
    ]
    assert order == sorted(order)
    assert seen.endswith(b"\n")
    assert seen.count(b"\n") == 1


# Sending, and what was set aside: with a real server


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    with Server(folder / "data", land_interval_ms="100") as server:
        server.app = server.cli("apps", "create", "shop")
        yield server


def collect(
    served: Server, *words: str, text: bytes = b"", key: str | None = None
) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OUTHAUL_SDK_KEY": served.app["sdkKey"] if key is None else key}
    command = [sys.executable, "-m", "outhaul", "collect", *words, "--url", served.url]
    return subprocess.run(command, env=environment, input=text, capture_output=True, check=False)


def rejects(served: Server, *words: str, total: int) -> dict:
    """What was set aside, once there are so many of them."""
    deadline = time.monotonic() + 20
    while True:
        found = served.cli("rejects", *words)
        if sum(count["count"] for count in found["counts"]) >= total or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def line(**fields) -> bytes:
    record = {"kind": "event", "deviceId": "d1", "timestamp": f"{DAY}T12:00:00Z", **fields}
    return json.dumps(record).encode() + b"\n"


def test_a_file_is_sent_and_what_is_wrong_is_shown(served, tmp_path):
    file = tmp_path / "records.ndjson"
    good = line(name="opened") + line(name="opened") + b"\n" + line(name="closed", id="mine")
    file.write_bytes(good + line(name="x" * 65) + line(name="y", extras={"k": "v" * 2000}))
    for _ in range(2):
        done = collect(served, str(file), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"sent": 5}
    found = rejects(served, total=2)
    counts = {count["reason"]: count["count"] for count in found["counts"]}
    assert set(counts) == {"name_invalid", "extras_too_long"}
    assert {row["appId"] for row in found["newest"]} == {served.app["appId"]}
    long_name = next(row for row in found["newest"] if row["reason"] == "name_invalid")
    assert json.loads(long_name["raw"])["name"] == "x" * 65
    assert long_name["protocol"] == "native"
    only = rejects(served, "--reason", "extras_too_long", "--limit", "1", total=1)
    assert [count["reason"] for count in only["counts"]] == ["extras_too_long"]
    assert len(only["newest"]) == 1
    assert rejects(served, "--app", "and999999", total=0) == {"counts": [], "newest": []}
    text = subprocess.run(
        [sys.executable, "-m", "outhaul", "rejects", "--data", str(served.data)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "name_invalid" in text
    assert "x" * 65 in text


def test_the_same_file_again_doubles_nothing(served, tmp_path):
    file = tmp_path / "records.ndjson"
    file.write_bytes(b"".join(line(name="again", deviceId=f"again-{n % 7}") for n in range(700)))
    for _ in range(3):
        assert collect(served, str(file)).returncode == 0
    assert wait_for_events(served, "again", 700) == 700


def wait_for_events(served: Server, name: str, count: int) -> int:
    """How many events of that name are in the table, once there are enough and everything sent before has landed."""
    polars = pytest.importorskip("polars")
    table = Path(served.data) / "tables" / served.app["appId"] / "event"
    collect(served, "-", text=line(name="last-of-" + name))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (table / "_delta_log").is_dir():
            names = polars.scan_delta(str(table)).group_by("name").len().collect()
            found = dict(names.iter_rows())
            if f"last-of-{name}" in found and found.get(name, 0) >= count:
                return found[name]
        time.sleep(0.1)
    raise AssertionError("the events did not land")


def test_standard_input(served):
    done = collect(served, "-", text=line(name="piped"))
    assert done.returncode == 0
    assert done.stdout.split() == [b"sent", b"1"]


def test_sending_goes_wrong(served):
    done = collect(served, "-", text=line(name="a") + b"{nonsense\n")
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: Line 2 is not a JSON object")
    done = collect(served, "-", text=b"[1]\n")
    assert b"Line 1 is not a JSON object" in done.stderr
    done = collect(served, "-", text=line(name="a"), key="")
    assert b"OUTHAUL_SDK_KEY is not set" in done.stderr
    done = collect(served, "-", text=line(name="a"), key="wrong-key")
    assert done.returncode == 1
    assert b"does not know this SDK key" in done.stderr
    assert b"wrong-key" not in done.stderr
    done = collect(served, "/does/not/exist")
    assert done.returncode == 2
    assert b"Error: " in done.stderr
