"""`outhaul export` against a real server, as a person at a terminal or a script meets it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest

from commands import runner, shower
from outhaul import rest
from outhaul.client import Collector
from outhaul.ledger.ledger import Ledger
from outhaul.wire import Destination, ExportRequest, FileEntry, Task
from running import Server, free_port

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = 40
PERIOD = ("--from", "2026-11-01", "--to", "2026-12-01")
SCOPES = ("exports:read", "exports:write", "data:read")
FILE = FileEntry("Event_x.jsonl", 10, 1234, "ab" * 32, "application/json")
NEVER = 10**12
"""A journal position that is never reached: an export that waits for it only changes where a test changes it."""
OUTHAUL = (sys.executable, "-m", "outhaul")


class Site(NamedTuple):
    server: Server
    ledger: Ledger
    app_id: str
    token: str
    folder: Path
    """Where exports may write to."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    out = folder / "out"
    out.mkdir()
    settings = {"land_interval_ms": "100", "destinations": f"{out.as_uri()}/", "rate_per_minute": "0"}
    # So many at the same time that those which are held up here hold up nothing else.
    settings |= {"export_concurrency": "32", "export_concurrency_per_app": "32"}
    with Server(folder / "data", **settings) as server:
        app = server.cli("apps", "create", "shop")
        scopes = [word for scope in SCOPES for word in ("--scope", scope)]
        token = server.cli("tokens", "create", "tests", *scopes)["secret"]
        with Collector(server.url, app["sdkKey"]) as collector:
            day = "2026-11-20T12:00:00Z"
            records = ({"kind": "event", "deviceId": f"d{n}", "name": f"n{n % 4}"} for n in range(EVENTS))
            collector.send([{**record, "timestamp": day} for record in records])
        ledger = Ledger(server.data)
        yield Site(server, ledger, app["appId"], token, out)
        ledger.close()


@pytest.fixture
def environment(site, tmp_path, monkeypatch):
    """What says which server, and as whom."""
    given = {
        "OUTHAUL_CONFIG": str(tmp_path / "config.toml"),
        "OUTHAUL_URL": site.server.url,
        "OUTHAUL_TOKEN": site.token,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OUTHAUL_PROFILE", raising=False)
    return {**os.environ, **given}


@pytest.fixture
def run(environment, capsys):
    """Run a command: exit code, stdout, stderr."""
    return runner(capsys)


@pytest.fixture
def show(run):
    """Run a command that must succeed; what it prints as JSON."""
    return shower(run)


def held(site: Site, **changes) -> str:
    """The id of an export that changes only where a test changes it."""
    task = Task(
        id=str(uuid.uuid4()),
        app_id=site.app_id,
        request=ExportRequest(kind="event", format="jsonl"),
        destination=None,
        destination_shown="file:///srv",
        created_by="token:tests",
        state="queued",
        created_at=time.time_ns() // 1_000_000,
        mark=NEVER,
    )
    site.ledger.create_task(task)
    if changes:
        site.ledger.update_task(task.id, **changes)
    return task.id


# Asking


def test_an_export_is_asked_for_and_followed(run):
    code, out, err = run("export", "create", "shop", "event", *PERIOD, "--wait")
    assert code == 0, err
    task, file = out.splitlines()
    assert re.fullmatch(rf"Event_{task}\.jsonl  {EVENTS} rows  \S+ kB  sha256 [0-9a-f]{{64}}", file)
    assert f"event jsonl  succeeded  100%  {EVENTS}/{EVENTS} rows" in err
    assert err.endswith(f"Fetch them: outhaul export download {task}\n")


def test_the_id_is_all_that_a_script_gets(run, show):
    code, out, err = run("export", "create", "shop", "event", *PERIOD)
    assert code == 0
    uuid.UUID(out.strip())
    assert f"outhaul export watch {out.strip()}" in err
    made = show("export", "create", "shop", "event", *PERIOD, "--description", "a\x1b[2Jnote", "--wait")
    shown = msgspec.convert(made, rest.Export)
    assert (shown.state, shown.rows, shown.description) == ("succeeded", EVENTS, "a\x1b[2Jnote")
    # What somebody else wrote is not for this terminal to obey.
    assert re.search(r"^description +a\\x1b\[2Jnote$", run("export", "show", shown.id)[1], re.MULTILINE)


def test_the_same_key_is_the_same_export(show, run):
    key = ("--idempotency-key", str(uuid.uuid4()))
    made = show("export", "create", "shop", "event", *PERIOD, *key)
    assert show("export", "create", "shop", "event", *PERIOD, *key)["id"] == made["id"]
    code, _, err = run("export", "create", "shop", "event", *PERIOD, *key, "--format", "csv", "--json")
    error = json.loads(err)["error"]
    assert (code, error["code"]) == (6, "idempotency_key_used")
    assert error["requestId"]


def test_every_option_is_in_the_request(site, show, tmp_path):
    where = {"or": [{"column": "name", "in": ["n1", "n2"]}, {"not": {"column": "userId", "null": True}}]}
    (tmp_path / "where.json").write_text(json.dumps(where))
    options = {
        "--by": "receivedAt",
        "--format": "csv",
        "--compression": "gzip",
        "--columns": "name, deviceId,timestamp",
        "--where": f"@{tmp_path}/where.json",
        "--max-file-bytes": "2MB",
        "--time-format": "rfc3339",
    }
    words = [word for pair in options.items() for word in pair]
    masks = ("--mask", "deviceId=hash", "--mask", "name=1", "--mask", "timestamp=day")
    request = show("export", "create", "shop", "event", *PERIOD, *words, *masks, "--day-path")["request"]
    assert request == {
        "app": site.app_id,
        "kind": "event",
        "period": {"from": "2026-11-01T00:00:00.000Z", "to": "2026-12-01T00:00:00.000Z", "by": "receivedAt"},
        "format": "csv",
        "compression": "gzip",
        "columns": ["name", "deviceId", "timestamp"],
        "where": where,
        "mask": {"deviceId": "hash", "name": {"truncate": 1}, "timestamp": {"truncate": "day"}},
        "layout": "parts",
        "maxFileBytes": 2_000_000,
        "dayPath": True,
        "timeFormat": "rfc3339",
    }
    campaigns = {"type": "Poll", "ids": ["1", "2"]}
    words = ("--campaigns", json.dumps(campaigns))
    assert show("export", "create", "shop", "feedback", *words)["request"]["campaigns"] == campaigns


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "2026-11-01"], "--from and --to go together"),
        (["--columns", "a,,b"], "one of the names is empty"),
        (["--where", "name = 'x'"], "it is not a JSON object"),
        (["--where", "[1]"], "it is not a JSON object"),
        (["--mask", "name"], "is not column=rule"),
        (["--mask", "name=week"], "is not column=rule"),
        (["--mask", "=drop"], "is not column=rule"),
        (["--mask", "name=drop", "--mask", "name=1"], "names a column twice"),
        (["--max-file-bytes", "1.5MB"], "is not a size"),
        (["--format", "xml"], "'xml' is not one of"),
        (["--destination", "https://a.example/c?sig=s3cret"], "others can see it"),
        (["--destination", "https://me:s3cret@a.example/c"], "others can see it"),
        (["--destination", "file:///a", "--destination-env", "X"], "Only one of"),
    ],
)
def test_wrong_calls(run, words, message):
    code, _, err = run("export", "create", "shop", "event", *words)
    assert code == 2
    assert message in err
    assert "s3cret" not in err


def test_what_would_come_of_it(run, show):
    found = msgspec.convert(show("export", "check", "shop", "event", *PERIOD), rest.Check)
    assert found.ok
    code, out, _ = run("export", "check", "shop", "event", *PERIOD)
    assert code == 0
    assert re.search(r"^ok    parse ", out)
    assert re.search(r"^(about|at most) [\d,]+ rows, ", out, re.MULTILINE)
    code, out, _ = run("export", "check", "shop", "event", *PERIOD, "--columns", "nonsense")
    assert code == 1
    assert re.search(r"^fail  parse .*nonsense.*\n +Try: ", out)
    code, out, _ = run("export", "check", "shop", "event", *PERIOD, "--columns", "nonsense", "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)


# Destinations


def test_a_destination_is_read_where_nobody_sees_it(site, run, monkeypatch, tmp_path):
    def created(name: str, *words: str) -> None:
        code, out, err = run("export", "create", "shop", "event", *PERIOD, *words, "--wait")
        assert code == 0, err
        assert (site.folder / name / f"Event_{out.split()[0]}.jsonl").is_file()

    def url(name: str) -> str:
        return f"{site.folder.as_uri()}/{name}/"

    created("plain", "--destination", url("plain"))
    monkeypatch.setenv("MY_CONTAINER", f" {url('env')}\n")
    created("env", "--destination-env", "MY_CONTAINER")
    file = tmp_path / "destination.json"
    file.write_bytes(msgspec.json.encode(Destination(url=url("file"))))
    created("file", "--destination-file", str(file))


def test_a_destination_by_standard_input(site, environment):
    command = [*OUTHAUL, "export", "create", "shop", "event", *PERIOD, "--destination-file", "-", "--json"]
    url = f"{site.folder.as_uri()}/piped/"
    done = subprocess.run(command, env=environment, input=url, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["destination"]["url"] == url.rstrip("/")


@pytest.mark.parametrize(
    "text", ["", '{"url": "s3://b", "secretAccesKey": "s3cret"}', '{"url": "s3cret', "{}"]
)
def test_a_destination_that_is_none(run, monkeypatch, text):
    monkeypatch.setenv("MY_CONTAINER", text)
    code, _, err = run("export", "create", "shop", "event", *PERIOD, "--destination-env", "MY_CONTAINER")
    assert code == 1
    assert "The environment variable MY_CONTAINER" in err
    assert "s3cret" not in err


def test_a_failed_export_goes_on_elsewhere(site, run, show):
    (site.folder / "blocked").write_text("a file, where a folder would have to be")
    words = ("--destination", f"{site.folder.as_uri()}/blocked/deep/")
    code, out, err = run("export", "create", "shop", "event", *PERIOD, *words, "--wait")
    task = out.strip()
    assert code == 5
    assert f"Error: The export {task} failed: " in err
    assert "\nTry: " in err
    failed = show("export", "show", task)
    assert (failed["state"], len(failed["attempts"])) == ("failed", 1)
    text = run("export", "show", task)[1]
    assert '"kind":"event"' in text
    assert "attempt 1 failed" in text
    assert failed["error"]["message"] in text
    listed = run("export", "list", "--state", "failed")[1]
    assert re.search(rf"^{task} .* {failed['error']['code']}$", listed, re.MULTILINE)
    assert run("export", "retry", task, "--wait")[0] == 5
    assert run("export", "move", task)[0] == 2
    assert run("export", "move", task, "--destination", f"{site.folder.as_uri()}/free/")[0] == 0
    assert run("export", "watch", task)[0] == 0
    assert (site.folder / "free" / f"Event_{task}.jsonl").is_file()
    code, _, err = run("export", "download", task)
    assert (code, "not kept by the server" in err) == (1, True)


# Looking


def test_exports_are_listed(site, show, run):
    done = show("export", "create", "shop", "event", *PERIOD, "--wait")["id"]
    waiting = held(site)
    listed = show("export", "list")["exports"]
    assert [one["id"] for one in listed[:2]] == [waiting, done]
    assert len(show("export", "list", "--limit", "1")["exports"]) == 1
    only = show("export", "list", "--state", "succeeded", "--app", "shop", "--kind", "event")["exports"]
    assert only[0]["id"] == done
    assert waiting not in {one["id"] for one in only}
    assert show("export", "list", "--kind", "crash") == {"exports": []}
    text = run("export", "list")[1]
    assert re.search(rf"^{waiting}  shop  event +jsonl +queued +0% ", text, re.MULTILINE)
    assert re.search(rf"^{done}  shop  event +jsonl +succeeded +100% +{EVENTS} ", text, re.MULTILINE)


def test_files_are_fetched_and_proven(show, run, tmp_path):
    made = show("export", "create", "shop", "event", *PERIOD, "--wait")
    files = show("export", "download", made["id"], "--to", str(tmp_path / "new" / "folder"))["files"]
    file = next(tmp_path.glob(f"new/folder/Event_{made['id']}.jsonl"))
    assert str(file) in files
    assert hashlib.sha256(file.read_bytes()).hexdigest() == made["files"][0]["sha256"]
    assert len(file.read_text().splitlines()) == EVENTS
    code, out, _ = run("export", "download", made["id"], "--to", str(tmp_path / "new" / "folder"))
    assert (code, out.splitlines()) == (0, files)


def test_what_is_not_done_cannot_be_fetched(site, run):
    code, _, err = run("export", "download", held(site))
    assert (code, "Try: outhaul export watch" in err) == (6, True)


# Following


def steps(site: Site, task: str) -> None:
    """An export that gets on, a quarter at a time."""
    for done in (100, 200, 300):
        time.sleep(0.7)
        counts = {"rows_done": done, "bytes_done": done, "bytes_delivered": done}
        site.ledger.update_task(task, state="started", phase="writing", rows_planned=400, **counts)
    time.sleep(0.7)
    site.ledger.update_task(task, state="succeeded", rows_done=400, files=[FILE], completed_at=1)


def read_terminal(ours: int, until: bytes = b"") -> bytes:
    seen = b""
    with contextlib.suppress(OSError):  # Linux: the other end was closed
        while not until or until not in seen:
            part = os.read(ours, 4096)
            if not part:
                break
            seen += part
    return seen


@pytest.fixture
def terminal(environment):
    """Run a command with its stderr on a terminal: the process, and our end."""
    opened = []

    def start(*words: str) -> tuple[subprocess.Popen[bytes], int]:
        ours, theirs = pty.openpty()
        settings = {**environment, "TERM": "xterm", "COLUMNS": "100"}
        process = subprocess.Popen([*OUTHAUL, *words], stdout=subprocess.PIPE, stderr=theirs, env=settings)
        os.close(theirs)
        opened.append((process, ours))
        return process, ours

    yield start
    for process, ours in opened:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(ours)


def test_a_terminal_shows_one_line_that_moves(site, terminal):
    task = held(site)
    watching, ours = terminal("export", "watch", task)
    seen = read_terminal(ours, until=b"queued")
    threading.Thread(target=steps, args=(site, task)).start()
    seen += read_terminal(ours)
    assert watching.wait(10) == 0
    lines = re.sub(r"\x1b\[\d+m", "", seen.decode()).split("\r\x1b[K")
    order = [
        next(i for i, line in enumerate(lines) if text in line)
        for text in ("  0%", "25%", "50%", "75%", "100%")
    ]
    assert order == sorted(order)
    assert "█" in lines[order[2]]
    assert "░" in lines[order[2]]
    assert max(map(len, lines)) < 100 + len("\r\n")
    assert seen.endswith(b"\n")
    assert seen.count(b"\n") == 1
    assert watching.stdout.read().decode() == f"Event_x.jsonl  10 rows  1.23 kB  sha256 {'ab' * 32}\n"


def test_ctrl_c_leaves_the_export_running(site, terminal, show):
    task = held(site)
    watching, ours = terminal("export", "watch", task)
    seen = read_terminal(ours, until=b"queued")
    watching.send_signal(signal.SIGINT)
    seen += read_terminal(ours)
    assert watching.wait(10) == 130
    assert b"the export goes on" in seen
    assert f"outhaul export cancel {task}".encode() in seen
    assert b"Traceback" not in seen
    assert show("export", "show", task)["state"] == "queued"


def test_elsewhere_each_step_is_a_line(site, run):
    task = held(site)
    threading.Thread(target=steps, args=(site, task)).start()
    code, _, err = run("export", "watch", task)
    assert code == 0
    assert [line.split("  ")[1] for line in err.splitlines()] == ["queued", *["writing"] * 3, "succeeded"]
    assert "\x1b" not in err


def test_what_ended_otherwise(site, run):
    cancelled = held(site, state="cancelled", completed_at=1)
    code, out, err = run("export", "watch", cancelled)
    assert (code, out) == (5, "")
    assert err.endswith(f"was cancelled.\nTry: outhaul export retry {cancelled}\n")
    code, out, err = run("export", "watch", cancelled, "--json")
    assert (code, json.loads(out)["state"], err) == (5, "cancelled", "")


def test_an_export_is_cancelled(site, run, show):
    task = held(site)
    assert run("export", "cancel", task)[0] == 0
    code, _, _ = run("export", "watch", task)
    assert (code, show("export", "show", task)["state"]) == (5, "cancelled")
    code, _, err = run("export", "cancel", task)
    assert code in {0, 6}, err


def test_watching_outlives_a_server(site, environment):
    task = held(site)
    watching = subprocess.Popen([*OUTHAUL, "export", "watch", task], env=environment, stderr=subprocess.PIPE)
    assert b"queued" in watching.stderr.readline()
    site.server.kill()
    time.sleep(1)
    assert watching.poll() is None
    site.server.start()
    site.ledger.update_task(
        task, state="succeeded", rows_planned=400, rows_done=400, files=[FILE], completed_at=1
    )
    _, err = watching.communicate(timeout=60)
    assert watching.returncode == 0, err
    assert b"succeeded" in err


# Being let in


def test_exit_codes_of_being_refused(site, run, monkeypatch):
    for missing in ("show", "watch", "cancel", "retry", "download"):
        assert run("export", missing, str(uuid.uuid4()))[0] == 4
    assert run("export", "create", "nonsense", "event", *PERIOD)[0] == 4
    for words in (["--from", "yesterday", "--to", "today"], [*PERIOD, "--max-file-bytes", "0"]):
        assert run("export", "create", "shop", "event", *words)[0] == 1, words
    reader = site.server.cli("tokens", "create", f"r{uuid.uuid4()}", "--scope", "exports:read")["secret"]
    monkeypatch.setenv("OUTHAUL_TOKEN", reader)
    code, _, err = run("export", "create", "shop", "event", *PERIOD)
    assert (code, "exports:write" in err) == (3, True)
    monkeypatch.setenv("OUTHAUL_TOKEN", "outhaul_nonsense")
    code, _, err = run("export", "list", "--json")
    assert (code, json.loads(err)["error"]["code"]) == (3, "unauthenticated")
    monkeypatch.setenv("OUTHAUL_URL", f"http://127.0.0.1:{free_port()}")
    code, _, err = run("export", "list", "--json")
    assert (code, json.loads(err)["error"]["code"]) == (7, "unreachable")


def test_a_profile_is_checked_before_it_is_kept(site, environment, tmp_path):
    settings = {
        name: value for name, value in environment.items() if name not in {"OUTHAUL_URL", "OUTHAUL_TOKEN"}
    }

    def call(*words: str, token: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*OUTHAUL, *words], env=settings, input=token, capture_output=True, text=True, check=False
        )

    done = call("config", "set", site.server.url, "--profile", "test", token="outhaul_wrong\n")
    assert done.returncode == 3
    assert not (tmp_path / "config.toml").exists()
    settings["OUTHAUL_PROFILE"] = "test"
    done = call("config", "set", site.server.url, token=site.token)
    assert done.returncode == 0, done.stderr
    assert "token:tests" in done.stdout
    assert site.token not in done.stdout
    assert call("export", "list").returncode == 0
    # Another server is not shown this one's token.
    other = call("export", "list", "--url", f"{site.server.url}/other")
    assert (other.returncode, "OUTHAUL_TOKEN" in other.stderr) == (3, True)
