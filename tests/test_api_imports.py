"""Imports over `/api/v1` of a real server, and through the SDK: asked for, listed, stopped, taken up again, followed."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
import uuid
from pathlib import Path

import pytest

from api_site import ENDED, Site, problem
from outhaul import errors
from outhaul.client import AsyncClient, Client, Collector
from outhaul.wire import Source
from running import Server

PAGE = Path(__file__).parent.parent / "docs" / "imports.md"
PER_DAY = 12
UNFINISHED = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the operator lets imports read."""
    return tmp_path_factory.mktemp("allowed")


@pytest.fixture(scope="module")
def site(tmp_path_factory, folder, azurite):
    """With three devices, two of which are ada's."""
    settings = {
        "rate_per_minute": "0",
        "land_interval_ms": "100",
        "imports_per_day": str(PER_DAY),
        "imports_unfinished": str(UNFINISHED),
        "destinations": f"{folder.as_uri()}/,{azurite.url}/",
    }
    with Server(tmp_path_factory.mktemp("imports") / "data", **settings) as server:
        made = Site(server)
        at = {"timestamp": 1_700_000_000_000}
        made.send([{"kind": "event", "deviceId": f"d{n}", "name": "e", **at} for n in range(3)])
        owned = {"kind": "tag", "key": "userid", "value": "ada", **at}
        made.send([{"deviceId": device, **owned} for device in ("d1", "d2")])
        yield made


@pytest.fixture(autouse=True)
def _afterwards(site):
    yield
    site.end_imports()


@pytest.fixture(scope="module")
def nowhere(folder):
    """A source that is allowed, and not there."""
    return {"url": (folder / "nowhere.csv").as_uri()}


@pytest.fixture
def http(site):
    """A caller that has asked for nothing yet."""
    with site.client(site.token()) as client:
        yield client


def ask(http, source, **members):
    answer = http.post("/imports", json={"app": "Shop", "source": source, **members})
    assert answer.status_code == 202, answer.text
    return answer.json()


def waited(http, import_id):
    deadline = time.monotonic() + 60
    while (found := http.get(f"/imports/{import_id}").json())["state"] not in ENDED:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def tags(site, device):
    shown = site.http.get(f"/apps/Shop/devices/{device}").json()["tags"]
    return {key: tag["value"] for key, tag in shown.items()}


def test_tags_of_a_file_are_applied_and_its_faults_explained(site, http, folder):
    lines = [
        {"deviceId": "d0", "tags": {"plan": "pro", "seat": "7"}},
        {"userId": "ada", "tags": {"plan": "free"}},
        {"deviceId": "stranger-9", "tags": {"plan": "pro"}},
        {"userId": "nobody-9", "tags": {"plan": "pro"}},
        {"deviceId": "d0", "tags": {"1a": "secret-value"}},
        "no json",
        {"deviceId": "d0", "tags": {"seat": None}},
    ]
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "tags.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    asked = {
        "app": site.app.app_id,
        "source": {"url": (folder / "tags.jsonl.gz").as_uri()},
        "description": "From the CRM",
    }
    created = http.post("/imports", json=asked)
    shown = created.json()
    assert (created.status_code, shown["state"], shown["error"]) == (202, "queued", None)
    assert created.headers["location"] == f"{site.server.url}/api/v1/imports/{shown['id']}"
    assert (shown["app"], shown["format"], shown["attempt"]) == ("Shop", "auto", 1)
    done = waited(http, shown["id"])
    assert done["state"] == "succeeded", done
    assert done["progress"] == {
        "percent": 100.0,
        "bytesDone": done["progress"]["bytesTotal"],
        "bytesTotal": (folder / "tags.jsonl.gz").stat().st_size,
        "linesDone": 7,
        "linesApplied": 3,
        "linesRejected": 4,
        "tagsSet": 5,
    }
    assert done["rejected"] == {"unknown_device": 1, "unknown_user": 1, "tag_invalid": 1, "malformed": 1}
    assert [(one["line"], one["reason"]) for one in done["problems"]] == [
        (3, "unknown_device"),
        (4, "unknown_user"),
        (5, "tag_invalid"),
        (6, "malformed"),
    ]
    assert all(one["detail"] for one in done["problems"])
    assert not any(word in json.dumps(done) for word in ("stranger", "nobody-9", "secret-value"))
    assert done["description"] == "From the CRM"
    assert done["startedAt"] >= done["createdAt"] <= done["completedAt"]
    assert tags(site, "d0") == {"plan": "pro"}
    assert [tags(site, device) for device in ("d1", "d2")] == [{"plan": "free", "userid": "ada"}] * 2
    assert site.ledger.find_import(shown["id"]).source is None


def test_the_files_shown_in_the_docs_are_files_of_tags(site, http, folder):
    app = site.ledger.create_app("Documented", "web", 1)
    at = {"timestamp": 1_700_000_000_000}
    with Collector(site.server.url, app.sdk_key) as collector:
        collector.send([{"kind": "event", "deviceId": one, "name": "e", **at} for one in ("5f0c", "77ab")])
        collector.send([{"kind": "tag", "deviceId": "77ab", "key": "userid", "value": "ada", **at}])
    formats = PAGE.read_text().split("\n## Formats\n")[1].split("\n## ")[0]
    shown = re.findall(r"^```\w+\n(.*?)^```", formats, re.MULTILINE | re.DOTALL)
    asked = []
    for number, text in enumerate(shown):
        (folder / f"shown-{number}").write_text(text)
        source = {"url": (folder / f"shown-{number}").as_uri()}
        asked.append(ask(http, source, app="Documented")["id"])
    done = [waited(http, one) for one in asked]
    assert [(one["state"], one["rejected"], one["progress"]["linesApplied"]) for one in done] == [
        ("succeeded", {}, 2)
    ] * 3
    found = http.get("/apps/Documented/devices/77ab").json()["tags"]
    assert {key: tag["value"] for key, tag in found.items()} == {
        "userid": "ada",
        "city": "Łódź",
        "plan": "free",
    }


def test_one_with_no_right_to_read_goes_on_with_new_credentials(site, http, azurite):
    url = azurite.upload("no-right", "tags.csv", b"deviceId,key,value\nd0,via,retry\n", permissions="w")
    failed = waited(http, ask(http, {"url": url})["id"])
    assert (failed["state"], failed["error"]["code"]) == ("failed", "source_denied")
    assert [one["error"] for one in failed["attempts"]] == [failed["error"]]
    assert failed["source"] == {"url": url.partition("?")[0]}
    assert "sig=" not in json.dumps(failed)
    again = f"/imports/{failed['id']}:retry"
    other = azurite.upload("no-right", "other.csv", b"deviceId,key,value\nd0,via,other\n")
    assert (
        "another file" in problem(http.post(again, json={"source": {"url": other}}), 400, "invalid")["detail"]
    )
    allowed = azurite.upload("no-right", "tags.csv", b"deviceId,key,value\nd0,via,retry\n")
    answer = http.post(again, json={"source": {"url": allowed}})
    assert (answer.status_code, answer.json()["attempt"], answer.json()["error"]) == (202, 2, None)
    done = waited(http, failed["id"])
    assert (done["state"], len(done["attempts"])) == ("succeeded", 1)
    assert tags(site, "d0")["via"] == "retry"
    problem(http.post(again), 409, "import_not_ended")
    problem(http.post(f"/imports/{failed['id']}:cancel"), 409, "import_ended")


def test_the_same_key_gives_the_same_import(site, http, nowhere):
    key = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"app": "Shop", "source": nowhere}
    first = http.post("/imports", json=body, headers=key)
    again = http.post("/imports", json=body, headers=key)
    assert (first.status_code, again.status_code, again.headers["idempotency-replayed"]) == (202, 202, "true")
    assert "idempotency-replayed" not in first.headers
    assert again.json()["id"] == first.json()["id"]
    other = http.post("/imports", json={**body, "format": "csv"}, headers=key)
    problem(other, 409, "idempotency_key_used")
    problem(http.post("/imports", json=body, headers={"Idempotency-Key": "é".encode()}), 400, "invalid")
    mine = site.client(site.token())
    assert mine.post("/imports", json=body, headers=key).json()["id"] != first.json()["id"]


def test_what_is_wrong_is_refused_by_name(http, folder, tmp_path, azurite, nowhere):
    (tmp_path / "tags.csv").write_text("deviceId,key,value\n")
    for source, code in (
        ({"url": (tmp_path / "tags.csv").as_uri()}, "source_refused"),
        ({"url": "http://10.0.0.1/account/c/f?sig=c2VjcmV0"}, "source_refused"),
        ({"url": "download:"}, "invalid"),
        ({"url": "tags.csv"}, "invalid"),
        ({"url": azurite.container("whole", "r")}, "invalid"),
        ({"url": f"{folder.as_uri()}/../tags.csv"}, "source_refused"),
        ({"url": "s3://bucket/key"}, "invalid"),
        ({**nowhere, "file": "x"}, "invalid"),
    ):
        answer = http.post("/imports", json={"app": "Shop", "source": source})
        found = problem(answer, 400, code)
        assert found["detail"].startswith("source"), found
        assert "c2VjcmV0" not in answer.text
    problem(http.post("/imports", json={"app": "Nope", "source": nowhere}), 404, "app_not_found")
    for body in ({"app": "Shop"}, {"source": nowhere}, {"app": "Shop", "source": nowhere, "format": "xml"}):
        problem(http.post("/imports", json=body), 400, "invalid")
    assert http.get("/imports", params={"pageToken": "x"}).status_code == 400


def test_imports_are_listed_by_app_and_state(site, nowhere):
    other = site.ledger.create_app("Listed", "web", 1)
    now = time.time_ns() // 1_000_000
    ids = [site.stuck_import(app_id=other.app_id, created_at=now + n) for n in range(5)]
    site.ledger.cancel_import(ids[0], now)
    assert waited(site.http, ids[0])["state"] == "cancelled"
    params = {"app": "Listed", "pageSize": "2"}
    found, pages = [], 0
    while True:
        page = site.http.get("/imports", params=params).json()
        found += [one["id"] for one in page["imports"]]
        pages += 1
        if page["nextPageToken"] is None:
            break
        params["pageToken"] = page["nextPageToken"]
    assert (found, pages) == (ids[::-1], 3)
    cancelled = site.http.get("/imports", params={"app": "Listed", "state": "cancelled"}).json()["imports"]
    assert [one["id"] for one in cancelled] == ids[:1]
    bound = site.client(site.token("data:read", "data:write", app_id=other.app_id))
    assert {one["id"] for one in bound.get("/imports").json()["imports"]} == set(ids)
    elsewhere = site.stuck_import()
    assert elsewhere in {one["id"] for one in site.http.get("/imports").json()["imports"]}
    for method, path in (("GET", ""), ("POST", ":cancel"), ("POST", ":retry")):
        problem(bound.request(method, f"/imports/{elsewhere}{path}"), 404, "not_found")
    problem(bound.post("/imports", json={"app": "Shop", "source": nowhere}), 404, "app_not_found")


def test_one_that_waits_is_stopped_and_taken_up_again(site, http):
    one = site.stuck_import()
    problem(http.post(f"/imports/{one}:retry"), 409, "import_not_ended")
    stopping = http.post(f"/imports/{one}:cancel")
    assert (stopping.status_code, stopping.json()["cancelling"]) == (
        202,
        stopping.json()["state"] == "started",
    )
    assert waited(http, one)["state"] == "cancelled"
    again = http.post(f"/imports/{one}:cancel")
    assert (again.status_code, again.json()["state"]) == (202, "cancelled")
    retried = http.post(f"/imports/{one}:retry")
    assert (retried.status_code, retried.json()["state"], retried.json()["attempt"]) == (202, "queued", 2)
    http.post(f"/imports/{one}:cancel")
    assert waited(http, one)["state"] == "cancelled"
    refused = {"source": {"url": "http://10.0.0.1/account/c/f?sig=x"}}
    problem(http.post(f"/imports/{one}:retry", json=refused), 400, "source_refused")
    problem(http.get(f"/imports/{uuid.uuid4()}"), 404, "not_found")
    forgotten = site.stuck_import(state="failed", source=None)
    problem(http.post(f"/imports/{forgotten}:retry"), 409, "source_forgotten")


def test_who_may_is_said_by_scopes(site, nowhere):
    one = site.stuck_import()
    reader = site.client(site.token("data:read"))
    writer = site.client(site.token("data:write"))
    assert reader.get(f"/imports/{one}").status_code == reader.get("/imports").status_code == 200
    for path, body in (
        ("", {"app": "Shop", "source": nowhere}),
        (f"/{one}:cancel", None),
        (f"/{one}:retry", None),
    ):
        problem(reader.post(f"/imports{path}", json=body), 403, "scope_missing")
    problem(writer.get(f"/imports/{one}"), 403, "scope_missing")


def test_a_caller_may_ask_for_so_many(site, nowhere):
    secret = site.token(name="eager")
    eager = site.client(secret)
    for _ in range(UNFINISHED):
        site.stuck_import(created_by="token:eager")
    body = {"app": "Shop", "source": nowhere}
    found = problem(eager.post("/imports", json=body), 429, "too_many")
    assert found["detail"] == f"{UNFINISHED} imports of this caller are unfinished; {UNFINISHED} may be."
    site.end_imports()
    for _ in range(PER_DAY - UNFINISHED):
        site.stuck_import(created_by="token:eager", state="cancelled")
    answer = eager.post("/imports", json=body)
    assert "within 24 hours" in problem(answer, 429, "too_many")["detail"]
    assert int(answer.headers["retry-after"]) > 23 * 3600


def test_the_audit_log_says_who_imported_what(site, nowhere):
    secret = site.token(name="auditee")
    client = site.client(secret)
    one = ask(client, nowhere)["id"]
    client.get(f"/imports/{one}")
    client.get("/imports", params={"app": "Shop"})
    client.post(f"/imports/{one}:cancel")
    wrote = [entry for entry in site.ledger.audit(top=20) if entry.actor == "token:auditee"]
    assert [(entry.action, entry.target) for entry in reversed(wrote)] == [
        ("import.create", one),
        ("import.read", one),
        ("import.list", site.app.app_id),
        ("import.cancel", one),
    ]
    assert {entry.app_id for entry in wrote} == {site.app.app_id}


def test_from_python(site, folder):
    (folder / "python.csv").write_text("deviceId,key,value\nd0,from,python\nx,from,python\n")
    source = (folder / "python.csv").as_uri()
    seen = []
    with Client(site.server.url, site.token()) as client:
        shown = client.imports.create("Shop", source, format="csv", description="by hand")
        done = client.imports.wait(shown.id, timeout_s=60, on_progress=seen.append, poll_s=0.05)
        assert (done.state, done.rejected, seen[-1]) == ("succeeded", {"unknown_device": 1}, done)
        assert client.imports.get(shown.id) == done
        assert done in list(client.imports.list(app="Shop", state="succeeded"))
        with pytest.raises(errors.Conflict) as caught:
            client.imports.retry(shown.id)
        assert caught.value.code == "import_not_ended"
        gone = client.imports.create("Shop", (folder / "gone.csv").as_uri())
        with pytest.raises(errors.ImportFailed) as failed:
            client.imports.wait(gone.id, timeout_s=60, poll_s=0.05)
        assert failed.value.code == "source_missing"
        assert failed.value.hint
        (folder / "gone.csv").write_text("deviceId,key,value\nd0,from,retry\n")
        client.imports.retry(gone.id, Source(url=(folder / "gone.csv").as_uri()))
        assert client.imports.wait(gone.id, timeout_s=60, poll_s=0.05).attempt == 2
    assert tags(site, "d0")["from"] == "retry"


def test_what_does_not_end_and_what_is_cancelled_from_python(site, nowhere):
    async def follow():
        async with AsyncClient(site.server.url, site.token()) as client:
            one = site.stuck_import()
            with pytest.raises(errors.TimedOut):
                await client.imports.wait(one, timeout_s=0.1, poll_s=0.05)
            await client.imports.cancel(one)
            with pytest.raises(errors.Cancelled):
                await client.imports.wait(one)
            key = str(uuid.uuid4())
            asked = [await client.imports.create("Shop", nowhere["url"], idempotency_key=key) for _ in "ab"]
            assert asked[0].id == asked[1].id
            assert asked[0].id in [found.id async for found in client.imports.list(app="Shop")]

    asyncio.run(follow())


def test_a_file_of_this_machine_is_no_source(site):
    with Client(site.server.url, site.token()) as client:
        for local in ("tags.csv", "/home/me/tags.csv?sig=c2VjcmV0"):
            with pytest.raises(errors.Invalid, match="not a URL") as refused:
                client.imports.create("Shop", local)
            assert "c2VjcmV0" not in str(refused.value)
            assert "outhaul devices tag" in refused.value.hint
        with pytest.raises(errors.SourceRefused):
            client.imports.create("Shop", "file:///home/me/tags.csv")
