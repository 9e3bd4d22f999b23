"""`outhaul imports` against a real server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from api_site import Site
from commands import runner, shower
from outhaul.wire import Failure, LineProblem
from running import Server

OUTHAUL = (sys.executable, "-m", "outhaul")
AT = 1_700_000_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("allowed")


@pytest.fixture(scope="module")
def site(tmp_path_factory, folder):
    settings = {"rate_per_minute": "0", "land_interval_ms": "100", "destinations": f"{folder.as_uri()}/"}
    with Server(tmp_path_factory.mktemp("imports") / "data", **settings) as server:
        made = Site(server, "shop")
        made.send([{"kind": "event", "deviceId": "d0", "name": "e", "timestamp": AT}])
        yield made


@pytest.fixture(autouse=True)
def _afterwards(site):
    yield
    site.end_imports()


@pytest.fixture
def environment(site, tmp_path, monkeypatch):
    given = {
        "OUTHAUL_CONFIG": str(tmp_path / "config.toml"),
        "OUTHAUL_URL": site.server.url,
        "OUTHAUL_TOKEN": site.secret,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OUTHAUL_PROFILE", raising=False)
    return {**os.environ, **given}


@pytest.fixture
def run(environment, capsys):
    return runner(capsys)


@pytest.fixture
def show(run):
    return shower(run)


def ended(site, **changes):
    """An import that has ended, as far as the ledger knows."""
    completed = {"state": "succeeded", "completed_at": AT + 1000, "source": None}
    return site.stuck_import(**{**completed, **changes})


def test_a_file_is_imported_and_its_faults_explained(site, run, folder):
    rows = ["deviceId,key,value", "d0,plan,pro", *(f"x{n},plan,pro" for n in range(12)), "d0,1a,x"]
    (folder / "tags.csv").write_text("\n".join(rows))
    url = (folder / "tags.csv").as_uri()
    code, out, err = run("imports", "create", "shop", "--source", url, "--format", "csv", "--wait")
    assert code == 0, err
    import_id, *lines = out.splitlines()
    assert lines[:2] == ["unknown_device  12 lines not applied", "tag_invalid     1 line not applied"]
    assert [line.split(":")[:2] for line in lines[2:]] == [
        [f"line {n}", " unknown_device"] for n in range(3, 13)
    ]
    said = err.splitlines()
    assert said[-2:] == [
        "succeeded  100%  14 lines, 13 not applied",
        f"More: outhaul imports show {import_id}",
    ]
    code, out, _ = run("imports", "show", import_id)
    assert code == 0
    assert re.search(r"^source +file:///.*/tags.csv$", out, re.MULTILINE)
    assert re.search(r"^tags set +1$", out, re.MULTILINE)
    assert "line 15: tag_invalid: " in out
    assert "x11" not in out


def test_one_that_fails_ends_with_a_code_and_goes_on_when_retried(site, run, show, folder):
    url = (folder / "later.jsonl").as_uri()
    code, out, err = run("imports", "create", "shop", "--source", url, "--wait")
    assert code == 5
    assert "Try: " in err
    import_id = out.strip()
    code, out, _ = run("imports", "watch", import_id, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (5, "source_missing")
    (folder / "later.jsonl").write_text('{"deviceId": "d0", "tags": {"later": "yes"}}\n')
    assert run("imports", "retry", import_id, "--wait")[:2] == (0, "")
    assert show("devices", "get", "shop", "d0")["tags"]["later"]["value"] == "yes"


def test_imports_are_listed(site, run, show):
    failure = Failure(attempt=1, at=AT, code="source_denied", message="No.", hint="Ask.")
    one = ended(site, state="failed", error="No. Ask.", failures=[failure], bytes_total=200, bytes_done=50)
    two = ended(site, rejected={"malformed": 3}, lines_applied=1231, created_at=AT * 2)
    code, out, _ = run("imports", "list", "--app", "shop", "--limit", "500")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert code == 0
    assert rows["id"] == ["app", "state", "done", "lines", "rejected", "created", "error"]
    assert (rows[two][:5], rows[one][:3], rows[one][-1]) == (
        ["shop", "succeeded", "100%", "1,234", "3"],
        ["shop", "failed", "25%"],
        "source_denied",
    )
    found = show("imports", "list", "--state", "failed")["imports"]
    assert (found[-1]["id"], {one["state"] for one in found}) == (one, {"failed"})
    assert len(show("imports", "list", "--limit", "1")["imports"]) == 1
    code, out, _ = run("imports", "show", one)
    assert "attempt 1 failed at 2023-11-14T22:13:20.000Z (source_denied)\n  No.\n  Try: Ask.\n" in out


def test_one_is_cancelled_and_retried(site, run, show):
    one = site.stuck_import()
    code, out, _ = run("imports", "cancel", one)
    assert (code, out.split()[0]) == (0, one)
    code, _, err = run("imports", "watch", one)
    assert (code, f"Try: outhaul imports retry {one}" in err) == (5, True)
    assert show("imports", "retry", one)["attempt"] == 2
    code, _, err = run("imports", "retry", one)
    assert (code, "Error: Only an import" in err) == (6, True)
    code, _, err = run("imports", "show", "nope")
    assert (code, "outhaul imports list" in err) == (4, True)


def test_a_source_is_read_where_nobody_sees_it(site, run, show, folder, tmp_path, monkeypatch):
    url = (folder / "secret.csv").as_uri()
    monkeypatch.setenv("TAGS_URL", f" {url}\n")
    created = show("imports", "create", "shop", "--source-env", "TAGS_URL", "--description", "hidden")
    assert (created["source"]["url"], created["description"]) == (url, "hidden")
    given = tmp_path / "source.json"
    given.write_text(json.dumps({"url": url}))
    assert show("imports", "create", "shop", "--source-file", str(given))["source"]["url"] == url
    key = ("imports", "create", "shop", "--source", url, "--idempotency-key", "k-1")
    assert show(*key)["id"] == show(*key)["id"]
    secret = "https://account.blob.core.windows.net/c/f?sig=s3cret"
    for words, code, said in (
        ((), 2, "There is no source: give --source"),
        (("--source", secret), 2, "--source has a query"),
        (("--source", url, "--source-env", "X"), 2, "Only one of --source,"),
        (("--source-env", "UNSET_VARIABLE"), 1, "holds no source"),
        (("--source", "tags.csv"), 1, "outhaul devices tag"),
        (("--source", "file:///etc/passwd"), 1, "may not read"),
    ):
        found, out, err = run("imports", "create", "shop", *words)
        assert (found, out, said in err) == (code, "", True), (words, err)
        assert "s3cret" not in err


def test_ctrl_c_leaves_it_running(site, environment):
    one = site.stuck_import()
    watching = subprocess.Popen(
        [*OUTHAUL, "imports", "watch", one], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert "0%" in watching.stderr.readline()
    time.sleep(0.2)
    watching.send_signal(signal.SIGINT)
    said = watching.communicate(timeout=20)[1]
    assert watching.returncode == 130
    assert f"Follow it: outhaul imports watch {one}" in said
    assert site.ledger.find_import(one).state in {"queued", "started"}


def test_what_a_file_says_does_not_reach_the_terminal(site, run):
    """Details come from the server, but a terminal obeys whoever writes to it."""
    problems = [LineProblem(1, "malformed", "\x1b[2J gone")]
    one = ended(site, rejected={"malformed": 1}, problems=problems, lines_done=1)
    code, out, _ = run("imports", "show", one)
    assert (code, "\x1b" in out, "\\x1b[2J gone" in out) == (0, False, True)
