"""Exports under attack: killed at any line, killed with the whole server, with damaged tables. The bytes stay the same."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from asking import App, folder_files, proven
from outhaul.container import describe
from outhaul.keys import Keyring
from outhaul.ledger.ledger import Ledger
from outhaul.wire import Destination, ExportRequest, Period, Task
from running import Server

NOON = 1_772_366_400_000
DAY = ("2026-03-01", "2026-03-01")
ROWS = 120_000
SETTINGS = {"slice_rows": "2000", "mark_bytes": "500000", "land_interval_ms": "200"}
FEW = Period(NOON, NOON + 2000)
"""A period with a few thousand rows."""


def rows():
    """Many events in one day; their times repeat, so that only the order's other columns make it total."""
    for number in range(ROWS):
        yield {
            "kind": "event",
            "id": f"e{number:06d}",
            "deviceId": f"d{number % 997}",
            "timestamp": NOON + number // 3,
            "name": f"name {number % 7}",
            "extras": {"number": number, "text": "é" * (number % 5)},
        }


class Stored:
    """A data folder with one app and its rows, and what an undisturbed export of them is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "out").mkdir()
        with Server(root / "data", destinations=f"file://{root}/", **SETTINGS) as server:
            self.app = App(server)
            self.app.send(rows())
            task = self.app.export("events", f"file://{root}/out/", days=DAY)
        self.json = proven(folder_files(root / "out"), task)
        self.sha256 = hashlib.sha256(self.json).hexdigest()


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return Stored(tmp_path_factory.mktemp("stored"))


@pytest.fixture
def copy(stored, tmp_path):
    """A server, not yet started, on a copy of the data, and its app."""
    shutil.copytree(stored.root / "data", tmp_path / "data")
    (tmp_path / "out").mkdir()
    server = Server(tmp_path / "data", destinations=f"file://{tmp_path}/", **SETTINGS)
    app = object.__new__(App)
    app.__dict__.update(stored.app.__dict__, server=server, site=stored.app.site.at(server.url), _http=None)
    yield app
    server.stop()


def test_the_stored_export_holds_every_row(stored):
    found = json.loads(stored.json)
    assert len(found) == ROWS
    assert [row["extras"]["number"] for row in found] == [row["extras"]["number"] for row in ordered()]


def ordered():
    return sorted(rows(), key=lambda row: (row["timestamp"], row["deviceId"], row["id"]))


def look(data: Path, task_id: str) -> Task:
    ledger = Ledger(data)
    try:
        return ledger.task(task_id)
    finally:
        ledger.close()


def wait_for_rows(data: Path, task_id: str) -> None:
    """Until the export is under way; at most some seconds, for it may have ended."""
    deadline = time.monotonic() + 5
    while not look(data, task_id).rows_done and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_cut_off_again_and_again_it_comes_to_the_same_bytes(copy, stored, tmp_path, end):
    """The whole server is killed, or stopped, while it exports; each next one goes on by itself."""
    server, out = copy.server, tmp_path / "out"
    server.start()
    task_id = copy.create("events", f"file://{out}/", days=DAY)
    chance = random.Random(end)
    cut_off = []
    for _ in range(3):
        wait_for_rows(server.data, task_id)
        time.sleep(chance.uniform(0, 0.2))
        if end == "kill":
            server.kill()
        else:
            assert server.stop() == 0
        left = look(server.data, task_id)
        cut_off.append(left.rows_done if left.files is None else None)
        server.start()
    assert any(cut_off), "each attempt had ended before it was cut off"
    task = copy.wait(task_id)
    assert task["state"] == "Succeeded", task
    files = folder_files(out)
    assert hashlib.sha256(proven(files, task)).hexdigest() == stored.sha256
    assert len(files) == 2
    deadline = time.monotonic() + 10
    while left := [path for path in (server.data / "exports").iterdir() if path.name != "spill"]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


class Steps:
    """Carries out tasks on a copy of the stored data in processes that kill themselves; see `stepping`."""

    def __init__(self, app: App, out: Path) -> None:
        self.data = app.server.data
        self.app = app
        self.out = out
        self.ledger = Ledger(self.data)
        self._keyring = Keyring.open(self.data, "")
        settings = {"OUTHAUL_DESTINATIONS": f"file://{out}/", "OUTHAUL_SLICE_ROWS": "300"}
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("stepping.py"), self.data],
            env={**os.environ, **settings, "OUTHAUL_MARK_BYTES": "15000"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def create(self, **how):
        destination = Destination(url=f"file://{self.out}/")
        task = Task(
            id=str(uuid.uuid4()),
            app_id=self.app.app_id,
            request=ExportRequest(kind="event", period=FEW, **how),
            destination=self._keyring.seal(destination),
            destination_shown=describe(destination),
            state="queued",
            created_at=NOON,
            mark=self.ledger.checkpoint().position,
        )
        self.ledger.create_task(task)
        return task.id

    def run(self, task_id, kill_at=0):
        self._process.stdin.write(json.dumps({"task": task_id, "kill_at": kill_at}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        # Some lines run only now and then, so a run may end before the one it was to be killed at.
        assert answer["status"] == 0 or (answer["status"] == -9 and kill_at), answer
        return answer["lines"]

    def files_of(self, task_id):
        """The delivered files by name, the task's id left out of it, after the manifest was checked against them."""
        folder = self.out / task_id
        [manifest_path] = self.out.glob(f"*_{task_id}.manifest.json")
        manifest = json.loads(manifest_path.read_bytes())
        files = {entry["name"]: (self.out / entry["name"]).read_bytes() for entry in manifest["files"]}
        assert not folder.exists()
        assert manifest["rows"] == sum(entry["rows"] for entry in manifest["files"]) == 6000
        for entry in manifest["files"]:
            assert entry["sha256"] == hashlib.sha256(files[entry["name"]]).hexdigest()
            assert entry["bytes"] == len(files[entry["name"]])
        found = {str(path.relative_to(self.out)) for path in self.out.rglob(f"*{task_id}*")}
        assert found == {*files, manifest_path.name}
        return {name.replace(task_id, "ID"): data for name, data in files.items()}

    def close(self):
        self._process.stdin.close()
        self._process.wait(10)
        self.ledger.close()


@pytest.fixture
def steps(copy, tmp_path):
    stepping = Steps(copy, tmp_path / "out")
    yield stepping
    stepping.close()


HOW = {
    "json": {"format": "json"},
    "csv": {"format": "csv"},
    "jsonl gzip": {"format": "jsonl", "compression": "gzip"},
    "json zstd": {"format": "json", "compression": "zstd"},
    "csv parts": {"format": "csv", "max_file_bytes": 100_000},
    "jsonl zstd parts": {"format": "jsonl", "compression": "zstd", "max_file_bytes": 138_000},
    "parquet parts by day": {
        "format": "parquet",
        "compression": "zstd",
        "max_file_bytes": 50_000,
        "day_path": True,
    },
    "parquet": {"format": "parquet", "compression": "snappy"},
}


@pytest.mark.parametrize("how", HOW)
def test_killed_at_any_line_it_comes_to_the_same_bytes(steps, how):
    """Every so many lines of the code that writes and delivers; the manifest is never there without its files."""
    reference = steps.create(**HOW[how])
    total = steps.run(reference)
    expected = steps.files_of(reference)
    assert (len(expected) > 2) == ("parts" in how)
    early = range(1, total, total // 8)
    late = range(max(1, total - 140), total, 20)
    for kill_at in sorted({*early, *late}):
        task_id = steps.create(**HOW[how])
        steps.run(task_id, kill_at)
        if (steps.out / f"Event_{task_id}.manifest.json").exists():
            assert steps.files_of(task_id) == expected
        steps.run(task_id)
        assert steps.files_of(task_id) == expected, kill_at
        assert steps.ledger.task(task_id).state == "succeeded"
        assert not (steps.data / "exports" / task_id).exists()


@pytest.mark.parametrize("how", ["json", "jsonl gzip", "json zstd", "parquet parts by day"])
def test_what_was_marked_is_not_made_again(steps, how):
    """A task cut off near its end has little left to do."""
    whole = steps.run(steps.create(**HOW[how]))
    task_id = steps.create(**HOW[how])
    steps.run(task_id, whole * 2 // 3)
    assert steps.run(task_id) < whole * 2 // 3
    assert steps.files_of(task_id)
