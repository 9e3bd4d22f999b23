"""Erasures from Python and on the command line: against answers chosen here, so that each end of one can be seen."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys

import pytest

from answering import LOST, Answer, Site, problem
from commands import runner, shower
from outhaul import AsyncClient, Client, errors
from outhaul.client import Retries

ID = "6a1c1f66-0c3a-4f0e-9a53-0c5b7d0f8a11"
FAST = Retries(patience_s=10, first_delay_s=0.01, longest_delay_s=0.05)
AT = "2026-11-24T12:00:00.000Z"
RECEIPT = {
    "devices": 2,
    "rows": 12_345,
    "tables": [{"table": "event", "rows": 12_345, "files": 2, "fromVersion": 7, "toVersion": 8}],
    "remembered": 3,
    "journalFiles": 0,
    "downloads": 1,
    "exports": [
        {
            "id": "e1",
            "kind": "event",
            "createdAt": AT,
            "destination": {"url": "https://store.example/c"},
            "rows": 17,
        },
        {"id": "e2", "kind": "tag", "createdAt": AT, "destination": {"url": "download:"}, "rows": None},
    ],
    "waitingFor": [],
    "removedAt": AT,
    "filesDeleted": 2,
    "bytesDeleted": 5000,
    "deletedAt": AT,
    "aMemberOfLater": 1,
}


def erasure(state="queued", phase="waiting", waiting_for=(), **more):
    """An erasure as the server shows it."""
    return {
        "id": ID,
        "app": "Shop",
        "appId": "ios000001",
        "of": "user",
        "state": state,
        "phase": phase,
        "createdAt": AT,
        "createdBy": "token:dpo",
        "startedAt": None,
        "completedAt": None,
        "error": None,
        "receipt": {**RECEIPT, "waitingFor": list(waiting_for)},
        "aMemberOfLater": 1,
        **more,
    }


COURSE = [
    Answer(body=erasure()),
    Answer(body=erasure("started", "removing")),
    Answer(body=erasure("started", "removing")),
    problem(503, "busy", Retry_After="0"),
    Answer(body=erasure("started", "deleting", ["e9"])),
    Answer(body=erasure("succeeded", "done")),
]


@pytest.fixture
def site():
    made = Site()
    yield made
    made.close()


@pytest.fixture
def client(site):
    with Client(site.url, "outhaul_x", retries=FAST) as made:
        yield made


@pytest.fixture
def run(site, tmp_path, monkeypatch, capsys):
    """Run a command: exit code, stdout, stderr."""
    monkeypatch.setenv("OUTHAUL_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("OUTHAUL_URL", site.url)
    monkeypatch.setenv("OUTHAUL_TOKEN", "outhaul_x")
    return runner(capsys)


@pytest.fixture
def show(run):
    return shower(run)


def test_one_is_asked_for_by_what_it_is_of(site, client):
    site.answer = [Answer(202, erasure())]
    assert client.erasures.create(user_id="a/b", app="Shop").receipt.rows == 12_345
    assert client.erasures.create(device_id="5f0c").id == ID
    asked = [(request.path, request.json) for request in site.requests]
    assert asked == [
        ("/api/v1/users/a/b:erase", {"app": "Shop"}),
        ("/api/v1/devices/5f0c:erase", {}),
    ]
    for both in ({}, {"user_id": "a", "device_id": "b"}):
        with pytest.raises(errors.Invalid, match="of a user or of a device"):
            client.erasures.create(**both)
    assert len(site.requests) == 2


def test_when_the_answer_is_lost_it_is_asked_for_again(site, client):
    site.answer = [LOST, Answer(202, erasure())]
    assert client.erasures.create(user_id="ada", app="Shop").id == ID
    assert len(site.requests) == 2


def test_it_is_waited_for_and_every_change_told(site, client):
    site.answer = list(COURSE)
    seen = []
    done = client.erasures.wait(ID, on_progress=seen.append, poll_s=0.01)
    assert [(one.phase, one.receipt.waiting_for) for one in seen] == [
        ("waiting", []),
        ("removing", []),
        ("deleting", ["e9"]),
        ("done", []),
    ]
    assert (done, done.state) == (seen[-1], "succeeded")


def test_waiting_for_one_that_fails_says_why(site, client):
    site.answer = [Answer(body=erasure("failed", "finding", error="Too many devices."))]
    with pytest.raises(errors.ErasureFailed, match="Too many devices") as failed:
        client.erasures.wait(ID)
    assert failed.value.code == "erasure_failed"


def test_waiting_ends_after_a_while(site, client):
    site.answer = [Answer(body=erasure("started", "deleting", ["e9"]))]
    with pytest.raises(errors.TimedOut, match="it is deleting"):
        client.erasures.wait(ID, 0.05, poll_s=0.01)


def test_the_same_without_blocking(site):
    site.answer = [*COURSE[-2:], Answer(body={"erasures": [erasure()], "nextPageToken": None})]

    async def work():
        async with AsyncClient(site.url, "outhaul_x", retries=FAST) as client:
            done = await client.erasures.wait(ID, poll_s=0.01)
            return done, [one.id async for one in client.erasures.list(app="Shop", user_id="ada")]

    done, listed = asyncio.run(work())
    assert (done.state, listed) == ("succeeded", [ID])
    assert site.requests[-1].query == {"app": "Shop", "userId": "ada"}


def test_lists_fetch_pages_as_they_are_needed(site, client):
    site.answer = [
        Answer(body={"erasures": [erasure()], "nextPageToken": "next"}),
        Answer(body={"erasures": [erasure("succeeded")], "nextPageToken": None}),
    ]
    assert [one.state for one in client.erasures.list(device_id="d")] == ["queued", "succeeded"]
    assert [request.query for request in site.requests] == [
        {"deviceId": "d"},
        {"deviceId": "d", "pageToken": "next"},
    ]


def test_a_command_erases_only_who_is_meant(site, run, show):
    site.answer = [Answer(202, erasure())]
    for words in (
        ["shop", "--yes"],
        ["shop", "--user", "a", "--device", "b", "--yes"],
        ["shop", "--user", "a"],  # nobody can be asked here
        ["--user", "a", "--yes"],
    ):
        assert run("people", "erase", *words)[0] == 2, words
    assert site.requests == []
    code, out, err = run("people", "erase", "shop", "--user", "ada", "--yes")
    assert (code, out) == (0, f"{ID}\n")
    assert f"outhaul people erasure {ID} --wait" in err
    assert show("people", "erase", "shop", "--device", "5f0c", "--yes")["id"] == ID
    assert [request.path for request in site.requests] == [
        "/api/v1/users/ada:erase",
        "/api/v1/devices/5f0c:erase",
    ]


@pytest.mark.parametrize(("said", "code", "asked"), [(b"n\n", 130, 0), (b"y\n", 0, 1)])
def test_at_a_terminal_it_asks(site, run, said, code, asked):
    site.answer = [Answer(202, erasure())]
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "outhaul", "people", "erase", "shop", "--user", "ada"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.write(ours, said)
        out, err = process.communicate(timeout=30)
    for end in (ours, theirs):
        os.close(end)
    assert (process.returncode, len(site.requests)) == (code, asked)
    assert b"Remove everything of the user 'ada' from shop?" in err
    assert out == b"" if not asked else f"{ID}\n".encode()


def test_a_command_follows_one_and_shows_its_receipt(site, run, show):
    site.answer = [Answer(202, erasure()), COURSE[0], COURSE[4], COURSE[5]]
    code, out, err = run("people", "erase", "shop", "--user", "ada", "--yes", "--wait")
    assert code == 0
    assert [line.split("  ")[1] for line in err.splitlines()] == [
        "queued",
        "deleting, waiting for the export e9",
        "succeeded",
    ]
    words = [line.split() for line in out.splitlines()]
    assert ["rows", "removed", "12,345"] in words
    assert ["event", "12,345", "2", "7", "8"] in words
    assert ["e1", "event", AT, "17", "https://store.example/c"] in words
    assert ["e2", "tag", AT, "not", "known", "download:"] in words
    assert show("people", "erasure", ID)["receipt"]["rows"] == 12_345
    assert show("people", "erasure", ID, "--wait")["state"] == "succeeded"


def test_a_command_that_follows_one_that_fails_ends_with_its_exit_code(site, run):
    site.answer = [Answer(body=erasure("failed", "finding", error="Too many devices."))]
    code, _, err = run("people", "erasure", ID, "--wait")
    assert (code, "Too many devices" in err) == (5, True)
    code, out, _ = run("people", "erasure", ID, "--wait", "--json")
    assert (code, json.loads(out)["state"]) == (5, "failed")
    code, out, _ = run("people", "erasure", ID)
    assert (code, "Too many devices" in out) == (0, True)


def test_a_command_lists_them(site, run, show):
    site.answer = [Answer(body={"erasures": [erasure("started", "removing")] * 3, "nextPageToken": None})]
    assert len(show("people", "erasures", "--app", "shop", "--user", "ada", "--limit", "2")["erasures"]) == 2
    assert site.requests[0].query == {"app": "shop", "userId": "ada"}
    code, out, _ = run("people", "erasures")
    assert (code, out.splitlines()[1].split()) == (
        0,
        [ID, "Shop", "user", "removing", "12,345", AT, AT, AT],
    )
