"""The Python client against real HTTP: a server whose answers are chosen here."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import count

import msgspec
import pytest

import outhaul
from answering import LOST, Answer, Site, problem
from outhaul import AsyncClient, Client, col, errors, rest
from outhaul.client import Retries, generate
from outhaul.client.requests import Access
from outhaul.client.shown import Shown
from outhaul.client.sync import task as task_module
from outhaul.wire import Destination, Truncate
from running import free_port
from test_house import BARE, base_packages

TOKEN = "outhaul_s3cret!"
FAST = Retries(patience_s=10, first_delay_s=0.01, longest_delay_s=0.05)
ID = "6a1c1f66-0c3a-4f0e-9a53-0c5b7d0f8a11"


def export(state="succeeded", **more):
    """An export as the server shows it."""
    shown = {
        "id": ID,
        "app": "shop",
        "appId": "app-1",
        "kind": "event",
        "state": state,
        "cancelling": False,
        "description": None,
        "request": {"app": "app-1", "kind": "event"},
        "destination": {"url": "download:"},
        "createdAt": "2026-11-23T12:00:00.000Z",
        "createdBy": "token:t",
        "startedAt": None,
        "completedAt": None,
        "expiresAt": None,
        "attempt": 1,
        "progress": {
            "phase": "writing",
            "percent": 50.0,
            "rowsDone": 0,
            "rowsPlanned": None,
            "bytesWritten": 0,
            "bytesDelivered": 0,
            "bytesPlanned": None,
            "partsDone": 0,
            "etaSeconds": None,
        },
        "error": None,
        "attempts": [],
        "files": [],
        "manifest": None,
        "rows": None,
        "bytes": None,
        "aMemberOfLater": 1,
    }
    return {**shown, **more}


def writing(rows):
    return export("started", progress={**export()["progress"], "rowsDone": rows})


@pytest.fixture
def site():
    made = Site()
    yield made
    made.close()


@pytest.fixture
def client(site):
    with Client(site.url, TOKEN, retries=FAST) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch, tmp_path):
    for name in ("OUTHAUL_URL", "OUTHAUL_TOKEN", "OUTHAUL_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OUTHAUL_CONFIG", str(tmp_path / "config.toml"))


# What it is made of


@pytest.mark.parametrize("module", generate.MODULES)
def test_the_blocking_client_is_made_from_the_other(module):
    assert (generate.TO / f"{module}.py").read_text() == generate.generated(module), (
        "run python -m outhaul.client.generate"
    )


def test_every_module_is_made_but_running():
    written = {path.stem for path in generate.FROM.glob("*.py")} - {"__init__", "running"}
    assert written == set(generate.MODULES)


def test_a_task_has_every_member_of_an_export():
    members = set(rest.Export.__struct_fields__)
    assert set(Shown.__annotations__) == members | {"export"}


def test_a_newer_server_may_say_more(client, site):
    said = export()
    said["request"]["colour"] = said["progress"]["mood"] = said["weather"] = "new"
    site.answer = [Answer(body=said)]
    assert client.exports.get("x").id == said["id"]


def test_the_base_install_is_enough(site):
    site.answer = [Answer(body=export())]
    code = BARE + (
        "from outhaul import Client, col, errors\n"
        "with Client(sys.argv[2], 'outhaul_x') as client:\n"
        "    task = client.exports.get('x')\n"
        "    print(task.state)\n"
        "    for open in (task.to_arrow, task.to_polars, task.to_pandas, lambda: next(task.iter_rows())):\n"
        "        try: open()\n"
        "        except errors.OuthaulError as error: print(error.code, error.hint.split('`')[1])\n"
    )
    command = [sys.executable, "-c", code, base_packages().strip(), site.url]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "succeeded",
        "library_missing pip install pyarrow",
        "library_missing pip install polars pyarrow",
        "library_missing pip install pandas pyarrow",
        "library_missing pip install pyarrow",
    ], done.stderr


def test_importing_outhaul_is_quick():
    code = "import sys, outhaul; print('httpx2' in sys.modules, 'outhaul.client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
    assert {"Client", "AsyncClient", "col"} <= set(outhaul.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = outhaul.Clint


# Who is asking whom


def test_url_and_token_are_found_in_the_environment_and_the_profile(site, monkeypatch, tmp_path):
    site.answer = [Answer(body={"apps": []})]
    (tmp_path / "config.toml").write_text(
        f'[profiles.default]\nurl = "{site.url}"\ntoken = "outhaul_kept"\n'
        '[profiles.other]\nurl = "https://other.example"\ntoken = "outhaul_other"\n'
    )
    with Client() as client:
        client.apps.list()
    monkeypatch.setenv("OUTHAUL_TOKEN", "outhaul_outside\n")  # as it is read from a file
    with Client() as client:
        client.apps.list()
    with Client(token="outhaul_given") as client:
        client.apps.list()
    assert [request.headers["Authorization"] for request in site.requests] == [
        "Bearer outhaul_kept",
        "Bearer outhaul_outside",
        "Bearer outhaul_given",
    ]
    assert Client(profile="other").url == "https://other.example"
    with pytest.raises(errors.NotFound):
        Client(profile="nobody")


def test_what_is_missing_is_said():
    with pytest.raises(errors.Invalid, match="OUTHAUL_URL"):
        Client(token=TOKEN)
    with pytest.raises(errors.Unauthenticated, match="OUTHAUL_TOKEN"):
        Client("https://outhaul.example")
    with pytest.raises(errors.Invalid, match="belong together"):
        Client("https://outhaul.example", client_id="x")
    with pytest.raises(errors.Invalid, match="URL"):
        Client("outhaul.example", TOKEN)
    with pytest.raises(errors.Invalid, match="The token") as refused:
        Client("https://outhaul.example", "s3cret\nline")
    assert "s3cret" not in str(refused.value)


def test_no_secret_is_shown(client):
    assert TOKEN not in repr(client)
    assert TOKEN not in repr(Access("https://x", token=TOKEN, client_secret=TOKEN))


def test_an_access_token_is_fetched_once_and_again_when_it_is_no_longer_believed(site):
    issued = count(1)
    believed = {"Bearer 1"}

    def answer(request):
        if request.path == "/oauth2/token":
            return Answer(
                body={"access_token": str(next(issued)), "expires_in": "3599", "token_type": "Bearer"}
            )
        if request.headers["Authorization"] not in believed:
            return problem(401, "token_expired")
        return Answer(body={"apps": []})

    site.answer = answer
    with Client(site.url, client_id="me", client_secret="p+ss &") as client:
        client.apps.list()
        client.apps.list()
        believed.clear()
        believed.add("Bearer 2")
        client.apps.list()
        believed.clear()
        with pytest.raises(errors.Unauthenticated):
            client.apps.list()
    form = site.requests[0].body.decode()
    assert "client_secret=p%2Bss+%26" in form
    assert f"resource={site.url.replace(':', '%3A').replace('/', '%2F')}" in form
    assert [request.path for request in site.requests].count("/oauth2/token") == 3


def test_a_wrong_client_secret_is_said_to_be_one(site):
    site.answer = [Answer(401, {"error": "invalid_client", "error_description": "Not this client_id's."})]
    with (
        Client(site.url, client_id="me", client_secret="wrong") as client,
        pytest.raises(errors.Unauthenticated, match=r"me: Not this client_id's\.") as caught,
    ):
        client.me()
    assert "wrong" not in str(caught.value)
    assert len(site.requests) == 1


# What is asked for

ANY_DAY = datetime(2026, 11, 1, 1, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("asked", "body"),
    [
        ({}, {}),
        (
            {"period": ("2026-11-01", date(2026, 12, 1))},
            {"period": {"from": "2026-11-01", "to": "2026-12-01"}},
        ),
        (
            {"period": (ANY_DAY, ANY_DAY + timedelta(milliseconds=1)), "by": "receivedAt"},
            {
                "period": {
                    "from": "2026-11-01T00:00:00.000Z",
                    "to": "2026-11-01T00:00:00.001Z",
                    "by": "receivedAt",
                }
            },
        ),
        ({"period": rest.Between(from_="a", to="b")}, {"period": {"from": "a", "to": "b"}}),
        (
            {"format": "parquet", "compression": "zstd", "columns": ("name", "userId"), "description": "d"},
            {"format": "parquet", "compression": "zstd", "columns": ["name", "userId"], "description": "d"},
        ),
        (
            {"layout": "parts", "max_file_bytes": 2**20, "day_path": True, "time_format": "rfc3339"},
            {"layout": "parts", "maxFileBytes": 2**20, "dayPath": True, "timeFormat": "rfc3339"},
        ),
        ({"destination": "file:///x/"}, {"destination": {"url": "file:///x/"}}),
        (
            {"destination": Destination(url="s3://b/", region="r")},
            {"destination": {"url": "s3://b/", "region": "r"}},
        ),
        (
            {"mask": {"a": "hash", "b": Truncate(3), "c": {"truncate": "day"}}},
            {"mask": {"a": "hash", "b": {"truncate": 3}, "c": {"truncate": "day"}}},
        ),
        (
            {"campaigns": {"type": "Poll", "from": "2026-11-01", "to": "2026-11-02"}},
            {"campaigns": {"type": "Poll", "from": "2026-11-01", "to": "2026-11-02"}},
        ),
        ({"where": {"column": "name", "eq": "x"}}, {"where": {"column": "name", "eq": "x"}}),
        ({"where": col("name") == "x"}, {"where": {"column": "name", "eq": "x"}}),
    ],
)
def test_what_is_asked_for_goes_over_the_wire(client, site, asked, body):
    site.answer = [Answer(202, export("queued"))]
    task = client.exports.create("shop", "event", **asked)
    assert (task.id, task.state, task.app_id) == (ID, "queued", "app-1")
    request = site.requests[0]
    assert (request.method, request.path) == ("POST", "/api/v1/exports")
    assert request.json == {"app": "shop", "kind": "event", **body}
    assert request.headers["User-Agent"] == f"outhaul-python/{outhaul.__version__}"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"period": (datetime(2026, 11, 1), "2026-12-01")}, "the period's start is 2026-11-01T00:00:00"),  # noqa: DTZ001
        ({"period": "2026-11-01"}, "period is '2026-11-01'"),
        ({"by": "receivedAt"}, "there is none"),
        ({"period": rest.Between(from_="a", to="b"), "by": "timestamp"}, "given twice"),
        ({"columns": "name"}, "columns is one text"),
        ({"where": {"colum": "name"}}, "where: "),
        ({"mask": {"name": "hide"}}, "mask: "),
        ({"campaigns": {"type": "Pole"}}, "campaigns: "),
    ],
)
def test_what_cannot_be_asked_for_is_said_before_anything_is_sent(client, site, asked, said):
    with pytest.raises(errors.Invalid) as caught:
        client.exports.create("shop", "event", **asked)
    assert said in caught.value.message
    assert caught.value.hint
    assert site.requests == []


def test_a_misspelt_argument_is_an_error(client):
    with pytest.raises(TypeError, match="colums"):
        client.exports.check("shop", "event", colums=["name"])


event_name, user_id, at = col("name"), col("userId"), col("timestamp")


@pytest.mark.parametrize(
    ("condition", "wire"),
    [
        (event_name != "x", {"column": "name", "ne": "x"}),
        (event_name < 1, {"column": "name", "lt": 1}),
        (event_name <= 1.5, {"column": "name", "le": 1.5}),
        (at > date(2026, 11, 1), {"column": "timestamp", "gt": "2026-11-01"}),
        (
            at >= datetime(2026, 11, 1, tzinfo=UTC),
            {"column": "timestamp", "ge": "2026-11-01T00:00:00.000Z"},
        ),
        (event_name == False, {"column": "name", "eq": False}),  # noqa: E712
        (event_name.is_in({"x"}), {"column": "name", "in": ["x"]}),
        (event_name.startswith("x"), {"column": "name", "prefix": "x"}),
        (~user_id.is_null(), {"not": {"column": "userId", "null": True}}),
        (
            (event_name == "x") & (event_name == "y") & (event_name == "z"),
            {"and": [{"column": "name", "eq": value} for value in "xyz"]},
        ),
        (
            (event_name == "x") & ((event_name == "y") | (event_name == "z")),
            {"and": [{"column": "name", "eq": "x"}, {"or": [{"column": "name", "eq": v} for v in "yz"]}]},
        ),
    ],
)
def test_conditions(condition, wire):
    assert json.loads(msgspec.json.encode(condition)) == wire


def test_conditions_that_python_would_take_apart():
    with pytest.raises(errors.Invalid, match="by & and"):
        _ = (event_name == "x") and (user_id == "y")
    with pytest.raises(errors.Invalid, match="chain"):
        _ = event_name > 1 > event_name
    with pytest.raises(errors.Invalid, match=r"is_null\(\)"):
        _ = event_name == None  # noqa: E711
    with pytest.raises(errors.Invalid, match="time zone"):
        _ = at > datetime(2026, 11, 1)  # noqa: DTZ001


def test_pages_are_fetched_as_they_are_needed(client, site):
    def answer(request):
        number = int(request.query.get("pageToken", "0"))
        page = [export(id=f"{number}-{index}") for index in range(2)]
        return Answer(body={"exports": page, "nextPageToken": str(number + 1) if number < 2 else None})

    site.answer = answer
    found = client.exports.list(
        app="shop", state="failed", kind="event", created_after=date(2026, 11, 1), created_before="b"
    )
    assert next(found).id == "0-0"
    assert len(site.requests) == 1
    assert [task.id for task in found] == ["0-1", "1-0", "1-1", "2-0", "2-1"]
    wanted = {
        "app": "shop",
        "state": "failed",
        "kind": "event",
        "createdAfter": "2026-11-01",
        "createdBefore": "b",
    }
    assert [request.query for request in site.requests] == [
        wanted,
        {**wanted, "pageToken": "1"},
        {**wanted, "pageToken": "2"},
    ]


def test_names_are_quoted(client, site):
    with pytest.raises(errors.NotFound):
        client.apps.get("a/b?c#d")
    assert site.requests[0].path == "/api/v1/apps/a/b?c#d"
    assert site.requests[0].query == {}


def test_steering_a_task(client, site):
    site.answer = [Answer(202, export("started"))]
    task = client.exports.get(ID)
    task.cancel()
    task.retry()
    task.set_destination("file:///x/")
    assert [(request.method, request.path) for request in site.requests[1:]] == [
        ("POST", f"/api/v1/exports/{ID}:cancel"),
        ("POST", f"/api/v1/exports/{ID}:retry"),
        ("PUT", f"/api/v1/exports/{ID}/destination"),
    ]
    assert site.requests[-1].json == {"destination": {"url": "file:///x/"}}


# What goes wrong


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "invalid", errors.Invalid),
        (400, "destination_refused", errors.DestinationRefused),
        (401, "token_revoked", errors.Unauthenticated),
        (403, "scope_missing", errors.Forbidden),
        (404, "app_not_found", errors.NotFound),
        (409, "idempotency_key_used", errors.Conflict),
        (410, "expired", errors.NotFound),
        (413, "too_large", errors.TooLarge),
        (500, "internal", errors.OuthaulError),
    ],
)
def test_a_refusal_is_an_error_and_not_repeated(client, site, status, code, error):
    site.answer = [problem(status, code)]
    with pytest.raises(error) as caught:
        client.exports.create("shop", "event")
    assert type(caught.value) is error
    assert (caught.value.code, caught.value.hint) == (code, "Do something.")
    assert caught.value.request_id == "request-7"
    assert str(caught.value) == f"It is {code}. Do something."
    assert len(site.requests) == 1


@pytest.mark.parametrize("answer", [Answer(404, b"<html>nginx"), Answer(302), Answer(200, b"<html>hello")])
def test_what_is_no_outhaul_server_is_said_to_be_none(client, site, answer):
    site.answer = [answer]
    with pytest.raises(errors.OuthaulError, match="base URL of an Outhaul server"):
        client.me()


@pytest.mark.parametrize(
    "fault", [LOST, problem(503, "busy"), problem(429, "too_many"), Answer(502), Answer(504)]
)
def test_what_is_safe_to_repeat_is_repeated(client, site, fault):
    site.answer = [fault, fault, Answer(202, export("queued"))]
    if fault is not None and fault.status == 429:
        site.answer[:2] = [problem(429, "too_many", Retry_After="0")] * 2
    client.exports.create("shop", "event")
    assert len(site.requests) == 3
    keys = {request.headers["Idempotency-Key"] for request in site.requests}
    assert len(keys) == 1
    client.exports.create("shop", "event")
    assert site.requests[-1].headers["Idempotency-Key"] not in keys
    client.exports.create("shop", "event", idempotency_key="mine")
    assert site.requests[-1].headers["Idempotency-Key"] == "mine"


@pytest.mark.parametrize("fault", [LOST, problem(503, "busy")])
def test_what_is_not_safe_to_repeat_is_not(client, site, fault):
    site.answer = [Answer(body=export("failed"))]
    task = client.exports.get(ID)
    for act in (
        lambda: client.tokens.create("t", ["exports:read"]),
        lambda: client.tokens.rotate("t"),
        task.retry,
    ):
        site.requests.clear()
        site.answer = [fault, Answer(200, {})]
        with pytest.raises(errors.Busy):
            act()
        assert len(site.requests) == 1


def test_retry_after_is_waited_for(client, site):
    site.answer = [problem(503, "busy", Retry_After="1"), Answer(body={"apps": []})]
    before = time.monotonic()
    client.apps.list()
    assert 1 <= time.monotonic() - before < 3


def test_patience_ends(site):
    site.answer = [problem(429, "too_many", Retry_After="3600")]
    with Client(site.url, TOKEN, retries=FAST) as client, pytest.raises(errors.TooMany) as caught:
        client.me()
    assert (caught.value.retry_after_s, caught.value.request_id) == (3600, "request-7")
    assert len(site.requests) == 1


def test_nobody_there():
    few = Retries(patience_s=0.3, first_delay_s=0.01, longest_delay_s=0.05)
    with (
        Client(f"http://127.0.0.1:{free_port()}", TOKEN, retries=few) as client,
        pytest.raises(errors.Unreachable, match="ConnectError") as caught,
    ):
        client.tokens.create("t", ["exports:read"])
    assert TOKEN not in str(caught.value)


def test_a_server_that_starts_late_is_waited_for():
    port = free_port()
    sites = []

    def start():
        sites.append(Site(port))
        sites[0].answer = [Answer(200, {"apps": []})]

    timer = threading.Timer(0.3, start)
    timer.start()
    with Client(f"http://127.0.0.1:{port}", TOKEN, retries=FAST) as client:
        assert client.apps.list() == []
    timer.join()
    sites[0].close()


# Waiting


def events(*exports, end=True):
    for number, shown in enumerate(exports):
        name = "end" if end and number == len(exports) - 1 else "progress"
        yield b": still there\n\n"
        yield f"id: {number}\nevent: {name}\ndata: {json.dumps(shown)}\n\n".encode()


def served(states, stream):
    """Answers each GET of the export by the next of `states`, and a stream of events by `stream()`."""
    left = list(states)

    def answer(request):
        if request.path.endswith("/events"):
            return stream()
        return Answer(body=left.pop(0) if len(left) > 1 else left[0])

    return answer


def stream_of(*exports, end=True):
    return lambda: Answer(200, events(*exports, end=end), {"Content-Type": "text/event-stream"})


def test_waiting_by_events(client, site):
    site.answer = served([export("queued")], stream_of(writing(1), writing(2), export(rows=2)))
    seen = []
    task = client.exports.get(ID)
    assert task.wait(on_progress=lambda now: seen.append((now.state, now.progress.rows_done))) is task
    assert seen == [("queued", 0), ("started", 1), ("started", 2), ("succeeded", 0)]
    assert task.rows == 2
    assert [request.path.rpartition("/")[2] for request in site.requests] == [ID, "events"]


@pytest.mark.parametrize(
    "stream", [lambda: problem(404, "not_found"), lambda: Answer(200, b"event: progress\ndata: {\n\n")]
)
def test_waiting_by_asking_where_there_are_no_events(client, site, stream):
    site.answer = served([export("queued"), writing(1), writing(1), export()], stream)
    seen = []
    client.exports.get(ID).wait(on_progress=lambda now: seen.append(now.state), poll_s=0.01)
    assert seen == ["queued", "started", "succeeded"]
    assert sum(request.path.endswith("/events") for request in site.requests) == 1


def test_waiting_through_a_lost_stream(client, site):
    streams = [
        stream_of(writing(1), end=False),
        lambda: LOST,
        lambda: problem(503, "busy"),
        stream_of(export()),
    ]

    def following():
        return streams.pop(0)()

    site.answer = served([writing(0)], following)
    client.exports.get(ID).wait(poll_s=0.01)
    assert streams == []


def test_waiting_through_a_restart(tmp_path):
    site = Site()
    site.answer = served([writing(0)], stream_of(writing(1), end=False))
    few = Retries(patience_s=0.05, first_delay_s=0.01)
    with Client(site.url, TOKEN, retries=few) as client:
        task = client.exports.get(ID)
        after = []

        def restart():
            site.close()
            time.sleep(0.5)
            after.append(Site(site.port))
            after[0].answer = served([export()], lambda: problem(404, "not_found"))

        thread = threading.Thread(target=restart)
        thread.start()
        task.wait(timeout_s=15, poll_s=0.05)
        thread.join()
    assert task.state == "succeeded"
    after[0].close()


def test_waiting_ends_when_there_was_no_answer_for_too_long(client, site, monkeypatch):
    monkeypatch.setattr(task_module, "_OUTAGE_S", 0.5)

    def quiet():
        yield from events(writing(1), end=False)
        for _ in range(8):
            time.sleep(0.1)
            yield b": still there\n\n"

    answers = [Answer(200, quiet()), LOST, LOST, Answer(body=writing(2)), LOST]
    site.answer = [Answer(body=writing(0)), *answers]
    seen = []
    before = time.monotonic()
    with pytest.raises(errors.Unreachable):
        client.exports.get(ID).wait(poll_s=0.02, on_progress=lambda now: seen.append(now.progress.rows_done))
    # A quiet stream is an answer as well.
    assert seen == [0, 1, 2]
    assert time.monotonic() - before > 1.2


def test_an_error_of_the_callers_own_is_theirs(client, site):
    site.answer = served([writing(0)], stream_of(writing(1), writing(2)))

    def fail(task):
        if task.progress.rows_done:
            raise errors.Conflict("Mine.")

    with pytest.raises(errors.Conflict, match="Mine"):
        client.exports.get(ID).wait(on_progress=fail)


def test_waiting_no_longer_than_wanted(client, site):
    site.answer = served([export("queued")], stream_of(writing(1)))
    before = time.monotonic()
    with pytest.raises(errors.TimedOut, match=r"is queued after 0\.3 s"):
        client.exports.get(ID).wait(0.3)
    assert 0.3 <= time.monotonic() - before < 2


def test_an_export_that_failed(client, site):
    trouble = {"code": "destination_denied", "message": "No.", "hint": "Ask."}
    site.answer = [Answer(body=export("failed", error=trouble))]
    with pytest.raises(errors.ExportFailed) as caught:
        client.exports.get(ID).wait()
    assert (caught.value.code, caught.value.hint) == ("destination_denied", "Ask.")
    assert ID in str(caught.value)
    site.answer = [Answer(body=export("cancelled"))]
    with pytest.raises(errors.Cancelled):
        client.exports.get(ID).wait()


# The same, asynchronously


def test_asynchronously(site):
    pages = {None: "1", "1": None}

    def answer(request):
        if request.path.endswith("/events"):
            return stream_of(writing(1), export())()
        if request.path == "/oauth2/token":
            return Answer(body={"access_token": "a", "expires_in": 3600})
        if request.method == "GET" and request.path == "/api/v1/exports":
            token = request.query.get("pageToken")
            return Answer(body={"exports": [export()], "nextPageToken": pages[token]})
        if request.method == "POST" and len(site.requests) < 3:
            return LOST
        return Answer(202, export("queued"))

    site.answer = answer

    async def main():
        seen = []
        async with AsyncClient(site.url, client_id="i", client_secret="s", retries=FAST) as client:
            task = await client.exports.create("shop", "event", where=col("name") == "x")
            await task.wait(on_progress=lambda now: seen.append(now.state))
            listed = [one.id async for one in client.exports.list()]
            several = await asyncio.gather(*(client.exports.get(ID) for _ in range(10)))
        return seen, listed, len(several)

    assert asyncio.run(main()) == (["queued", "started", "succeeded"], [ID, ID], 10)
    assert [request.path for request in site.requests].count("/oauth2/token") == 1


def test_waiting_asynchronously_can_be_cancelled(site):
    def slow():
        yield from events(writing(1), end=False)
        time.sleep(5)

    site.answer = served([writing(0)], lambda: Answer(200, slow(), {"Content-Type": "text/event-stream"}))

    async def main():
        async with AsyncClient(site.url, TOKEN) as client:
            task = await client.exports.get(ID)
            async with asyncio.timeout(0.5):
                await task.wait()

    before = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert time.monotonic() - before < 3
