"""The old API's door in this process: roles, time, what goes wrong inside, requests nobody would write."""

from __future__ import annotations

import asyncio
import json
import operator
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from azme_site import CONTAINER
from outhaul.azme.door import Door
from outhaul.azme.filters import read_filter
from outhaul.config import Config
from outhaul.container import Destinations, Sources
from outhaul.devices import Register
from outhaul.errors import Busy
from outhaul.journal import Header, Journal
from outhaul.keys import Claims, Keyring
from outhaul.ledger.ledger import Ledger
from outhaul.tables import Devices, Tables
from outhaul.wire import LineProblem, Source

NOW = 1_800_000_000_000
V = "api-version=2014-12-01"
FILE = CONTAINER.replace("exports?", "exports/tags.csv?").replace("sp=wl", "sp=r")
EXPORT = {"containerUrl": CONTAINER, "exportFormat": "JsonBlob"}
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]


class Inside:
    """A door on a ledger of its own, at a time that stands still until it is moved."""

    def __init__(self, data, **overrides):
        self.now = NOW
        self.ledger = Ledger(data)
        self.keyring = Keyring.open(data, "")
        self.installation = self.ledger.installation(NOW)
        self.app = self.ledger.create_app("Shop", "android", 1)
        self.other = self.ledger.create_app("Shop", "ios", 2)
        self.credentials = {
            role: self.ledger.create_credential(role, role, 1) for role in ("reader", "contributor", "owner")
        }
        parts = {
            "destinations": Destinations("http://127.0.0.1:10000/"),
            "mark": self._mark,
            "settings": {},
            **overrides,
        }
        config = Config(parts["settings"])
        self.journal = Journal(
            data / "journal",
            first=0,
            segment_bytes=config.segment_bytes,
            max_pending_bytes=config.max_pending_bytes,
            max_journal_bytes=config.max_journal_bytes,
        )
        register = Register(Devices(Tables(data / "tables")), self.ledger, self.journal, lambda: self.now)
        self.door = Door(
            self.ledger,
            self.keyring,
            config,
            parts["destinations"],
            parts["mark"],
            register,
            lambda: self.now,
            sources=Sources("http://127.0.0.1:10000/"),
        )

    async def _mark(self):
        return 42

    def tasks(self, app=None):
        app = app or self.app
        return (
            f"/subscriptions/{self.installation.subscription_id}/resourceGroups/{app.resource_group}/providers/"
            f"Microsoft.MobileEngagement/appcollections/{app.app_collection}/apps/{app.app_name}/devices/exportTasks"
        )

    def token(self, role="owner", lifetime=3600):
        credential, _ = self.credentials[role]
        at = self.now // 1000
        return self.keyring.issue(
            Claims(credential.client_id, self.installation.tenant_id, role, at, at + lifetime)
        )

    def ask(self, method, path, query=V, *, token=None, body=b"", headers=()):
        access = self.token() if token is None else token
        sent = [(b"authorization", b"Bearer " + access.encode()), (b"host", b"here.example"), *headers]
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        return self.ask_raw(method, path.encode(), query.encode(), sent, content)

    def ask_raw(self, method, path, query, headers, body):
        scope = {
            "type": "http",
            "method": method,
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "headers": headers,
            "scheme": "http",
            "root_path": "",
            "server": ("127.0.0.1", 80),
        }
        sent = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        asyncio.run(self.door(scope, receive, send))
        start, rest = sent
        named = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], named, rest["body"])


@pytest.fixture
def inside(tmp_path):
    made = Inside(tmp_path)
    yield made
    made.ledger.close()


def test_a_reader_looks_and_a_contributor_asks(inside):
    created = inside.ask("POST", f"{inside.tasks()}/tags", token=inside.token("contributor"), body=EXPORT)
    assert created.status == 202
    task = created.json["id"]
    for role in ("reader", "contributor", "owner"):
        assert inside.ask("GET", f"{inside.tasks()}/{task}", token=inside.token(role)).status == 200
        assert inside.ask("GET", inside.tasks(), token=inside.token(role)).json["value"] == [created.json]
    refused = inside.ask("POST", f"{inside.tasks()}/tags", token=inside.token("reader"), body=EXPORT)
    assert (refused.status, refused.code) == (403, "AuthorizationFailed")
    assert len(inside.ledger.tasks()) == 1


def test_a_role_is_the_one_in_the_ledger_not_in_the_token(inside):
    credential, _ = inside.credentials["reader"]
    claims = Claims(
        credential.client_id, inside.installation.tenant_id, "owner", NOW // 1000, NOW // 1000 + 60
    )
    refused = inside.ask("POST", f"{inside.tasks()}/tags", token=inside.keyring.issue(claims), body=EXPORT)
    assert refused.status == 403


def test_a_token_ends_at_the_second_it_says(inside):
    token = inside.token(lifetime=60)
    inside.now += 59_999
    assert inside.ask("GET", inside.tasks(), token=token).status == 200
    inside.now += 1
    answer = inside.ask("GET", inside.tasks(), token=token)
    assert (answer.status, answer.code) == (401, "ExpiredAuthenticationToken")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_device_export_is_hidden_from_the_old_list(inside):
    """A strictly typed client cannot read a list that holds an export type it does not know."""
    tag = inside.ask("POST", f"{inside.tasks()}/tags", body=EXPORT).json
    created = inside.ask("POST", f"{inside.tasks()}/devices", body=EXPORT)
    assert (created.status, created.json["exportType"]) == (202, "Device")
    assert inside.ask("GET", inside.tasks()).json["value"] == [tag]
    assert inside.ask("GET", f"{inside.tasks()}/{created.json['id'].upper()}").json == created.json
    with_devices = inside.ask("GET", inside.tasks(), f"{V}&includeDevice=True&$orderby=dateCreated").json[
        "value"
    ]
    assert {task["id"] for task in with_devices} == {tag["id"], created.json["id"]}
    page = inside.ask("GET", inside.tasks(), f"{V}&$top=1").json
    assert "nextLink" not in page


def test_a_task_is_its_apps_own(inside):
    task = inside.ask("POST", f"{inside.tasks()}/tags", body=EXPORT).json["id"]
    answer = inside.ask("GET", f"{inside.tasks(inside.other)}/{task}")
    unknown = inside.ask("GET", f"{inside.tasks(inside.other)}/{uuid.uuid4()}")
    assert (answer.status, answer.code) == (unknown.status, unknown.code) == (404, "NotFound")
    assert inside.ask("GET", inside.tasks(inside.other)).json == {"value": []}


def test_what_is_stored_is_what_was_asked(inside):
    body = {
        **EXPORT,
        "startDate": "2016-05-01",
        "endDate": "2016-05-01",
        "description": "é",
        "exportFormat": "CSVBLOB",
    }
    task = inside.ledger.task(inside.ask("POST", f"{inside.tasks()}/events", body=body).json["id"])
    assert (task.state, task.created_at, task.mark, task.description) == ("queued", NOW, 42, "é")
    assert (task.request.kind, task.request.format) == ("event", "csv")
    assert (task.request.period.start, task.request.period.end) == (1_462_060_800_000, 1_462_147_200_000)


def test_the_state_of_a_task_shows(inside):
    task = inside.ask("POST", f"{inside.tasks()}/tags", body=EXPORT).json["id"]
    inside.ledger.update_task(task, state="started")
    assert inside.ask("GET", f"{inside.tasks()}/{task}").json["state"] == "Started"
    inside.ledger.update_task(task, state="failed", error="The container refused us.", completed_at=NOW + 5)
    ended = inside.ask("GET", f"{inside.tasks()}/{task}").json
    assert ended == {
        "id": task,
        "state": "Failed",
        "dateCreated": "2027-01-15T08:00:00.000Z",
        "exportType": "Tag",
        "dateCompleted": "2027-01-15T08:00:00.005Z",
        "errorDetails": "The container refused us.",
    }


def test_head_is_get_without_the_body(inside):
    expected = inside.ask("GET", inside.tasks())
    answer = inside.ask("HEAD", inside.tasks())
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == str(len(expected.body))
    assert inside.ask("HEAD", f"/{inside.installation.tenant_id}/oauth2/token").status == 405


def test_every_answer_has_a_request_id(inside):
    named = (b"x-ms-client-request-id", b"8f2c")
    first = inside.ask("GET", inside.tasks(), headers=[named])
    second = inside.ask("GET", "/nowhere", headers=[named])
    assert first.headers["x-ms-client-request-id"] == second.headers["x-ms-client-request-id"] == "8f2c"
    assert uuid.UUID(first.headers["x-ms-request-id"]) != uuid.UUID(second.headers["x-ms-request-id"])


def test_azures_own_routes_take_any_version(inside):
    provider = inside.tasks().partition("/resourceGroups")[0] + "/providers/Microsoft.MobileEngagement"
    for method, path in (
        ("GET", "/subscriptions"),
        ("GET", "/tenants"),
        ("GET", provider),
        ("POST", f"{provider}/register"),
    ):
        assert inside.ask(method, path, "api-version=2016-06-01").status == 200
        assert inside.ask(method, path, "").code == "MissingApiVersionParameter"
    assert inside.ask("GET", provider, "api-version=2016-02-01").json["registrationState"] == "Registered"


def test_an_escaped_slash_stays_inside_its_segment(inside):
    path = inside.tasks().replace("/apps/Shop-android", "/apps%2FShop-android")
    assert inside.ask("GET", path).code == "InvalidResourceType"


def test_a_path_prefix_stands_for_the_tenant(tmp_path):
    """ADAL asks `https://host/{first segment}/oauth2/token`, whatever that segment is."""
    inside = Inside(tmp_path, settings={"OUTHAUL_PUBLIC_URL": "https://exports.example/engage"})
    credential, secret = inside.credentials["owner"]
    form = (
        f"grant_type=client_credentials&client_id={credential.client_id}&client_secret={secret}"
        "&resource=https://exports.example/engage/"
    )
    for path in ("/engage/oauth2/token", f"/engage/{inside.installation.tenant_id}/oauth2/token"):
        assert inside.ask("POST", path, "", body=form.encode()).status == 200
    wrong = inside.ask("POST", f"/engage/{uuid.uuid4()}/oauth2/token", "", body=form.encode())
    assert (wrong.status, wrong.json["error"]) == (400, "invalid_request")
    inside.ledger.close()


def test_a_full_disk_is_a_reason_to_come_back(tmp_path):
    async def full():
        raise Busy("The journal is full.", hint="Try again later.")

    inside = Inside(tmp_path, mark=full)
    answer = inside.ask("POST", f"{inside.tasks()}/tags", body=EXPORT)
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "ServiceUnavailable", "5")
    assert inside.ledger.tasks() == []
    inside.ledger.close()


def test_devices_wait_for_what_came_before_but_not_for_ever(inside, monkeypatch):
    monkeypatch.setattr("outhaul.devices._PATIENCE_S", 0.1)
    devices = inside.tasks().removesuffix("/exportTasks")
    assert inside.ask("GET", devices).json == {"value": []}
    # Nothing lands here.
    asyncio.run(inside.journal.append(Header(inside.app.app_id, "native", NOW), b"[]"))
    for path in (devices, f"{devices}/d"):
        answer = inside.ask("GET", path)
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "ServiceUnavailable", "5")


def test_a_reader_may_not_tag(inside):
    tag = inside.tasks().replace("exportTasks", "tag")
    for what in (tag, tag.replace("devices/", "users/")):
        for role, status in (("reader", 403), ("contributor", 200)):
            assert inside.ask("POST", what, token=inside.token(role), body={"tags": {}}).status == status


def test_an_import_shows_how_it_ended(inside):
    """With what was wrong with its lines, but without the token that it is read with."""
    tasks = inside.tasks().replace("exportTasks", "importTasks")
    created = inside.ask("POST", tasks, token=inside.token("contributor"), body={"storageUrl": FILE})
    assert created.status == 202
    shown = FILE.partition("?")[0]
    expected = {"state": "Queued", "storageUrl": shown, "dateCreated": "2027-01-15T08:00:00.000Z"}
    task = created.json["id"]
    assert created.json == {"id": task, **expected}
    found = inside.ledger.find_import(task)
    assert inside.keyring.unseal(found.source, Source).url == FILE
    assert (found.mark, found.created_by, found.format) == (42, "credential:contributor", "auto")
    inside.ledger.start_import(task, 1, NOW)
    assert inside.ask("GET", f"{tasks}/{task}").json["state"] == "Started"
    problems = [LineProblem(7, "unknown_device", "There is no such device.")]
    rejected = {"malformed": 2, "unknown_device": 10}
    inside.ledger.update_import(task, 1, lines_applied=988, rejected=rejected, problems=problems)
    inside.ledger.succeed_import(task, NOW + 5)
    assert inside.ask("GET", f"{tasks}/{task.upper()}").json == {
        "id": task,
        **expected,
        "state": "Succeeded",
        "dateCompleted": "2027-01-15T08:00:00.005Z",
        "errorDetails": "12 of 1,000 lines were not applied: unknown_device 10, malformed 2. "
        "First: line 7, unknown_device: There is no such device.",
    }
    cancelled = inside.ask("POST", tasks, body={"storageUrl": FILE}).json["id"]
    inside.ledger.cancel_import(cancelled, NOW)
    ended = inside.ask("GET", f"{tasks}/{cancelled}").json
    assert (ended["state"], ended["errorDetails"][:25]) == ("Failed", "The import was cancelled.")
    by_reason = inside.ask("GET", tasks, f"{V}&$orderby=errorDetails%20desc").json["value"]
    assert {one["id"] for one in by_reason} == {task, cancelled}


def test_an_import_is_its_apps_own_and_takes_a_role(inside):
    tasks = inside.tasks().replace("exportTasks", "importTasks")
    others = inside.tasks(inside.other).replace("exportTasks", "importTasks")
    refused = inside.ask("POST", tasks, token=inside.token("reader"), body={"storageUrl": FILE})
    assert (refused.status, refused.code) == (403, "AuthorizationFailed")
    task = inside.ask("POST", tasks, body={"storageUrl": FILE}).json
    assert inside.ask("GET", tasks, token=inside.token("reader")).json == {"value": [task]}
    assert inside.ask("GET", others).json == {"value": []}
    assert inside.ask("GET", f"{others}/{task['id']}").code == "NotFound"
    actions = [entry.action for entry in inside.ledger.audit(top=9)]
    assert sorted(actions) == ["import.create", "import.list", "import.list"]


def test_a_source_that_is_not_allowed_is_refused_by_name(inside):
    tasks = inside.tasks().replace("exportTasks", "importTasks")
    for url, code in (
        ("http://10.1.2.3/account/container/file?sig=c2VjcmV0", "SourceNotAllowed"),
        ("file:///etc/passwd", "SourceNotAllowed"),
        ("download:", "BadRequest"),
        ("tags.csv", "BadRequest"),
        (CONTAINER, "BadRequest"),
    ):
        refused = inside.ask("POST", tasks, body={"storageUrl": url})
        assert (refused.status, refused.code) == (400, code), refused.body
        assert refused.json["error"]["message"].startswith("storageUrl: ")
        assert "c2VjcmV0" not in refused.body.decode()
    assert inside.ledger.imports(inside.app.app_id, top=1) == []


def test_a_failure_of_ours_is_answered_and_logged_without_secrets(tmp_path, caplog):
    @dataclass
    class Broken:
        seen: list[str] = field(default_factory=list)

        def check(self, destination):
            self.seen.append(destination.url)
            raise RuntimeError(f"cannot resolve {destination.url}")

    broken = Broken()
    inside = Inside(tmp_path, destinations=broken)
    answer = inside.ask("POST", f"{inside.tasks()}/tags", body=EXPORT)
    assert broken.seen == [CONTAINER]
    assert (answer.status, answer.code) == (500, "InternalServerError")
    assert answer.headers["x-ms-request-id"] in caplog.text
    assert "RuntimeError" in caplog.text
    for text in (caplog.text, answer.body.decode()):
        assert "sig=" not in text
    inside.ledger.close()


def test_a_client_that_goes_away_is_let_go(inside):
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/x",
        "raw_path": f"{inside.tasks()}/tags".encode(),
        "query_string": V.encode(),
        "headers": [(b"authorization", f"Bearer {inside.token()}".encode())],
    }
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(inside.door(scope, receive, send))
    assert sent == []
    assert inside.ledger.tasks() == []


SEGMENT = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [
            b"subscriptions",
            b"oauth2",
            b"token",
            b"%2F",
            b"%zz",
            b"%FF",
            b"..",
            b"",
            b"devices",
            b"exportTasks",
        ]
    ),
)
VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(
        [
            CONTAINER,
            "JsonBlob",
            "2016-05-01",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31",
            "9999-12-31T23:00:00-14:00",
        ]
    ),
    st.lists(st.integers(), max_size=3),
)
MEMBERS = st.sampled_from(
    [
        "containerUrl",
        "ContainerUrl",
        "exportFormat",
        "startDate",
        "endDate",
        "campaignType",
        "campaignIds",
        "description",
        "campaignWindowStart",
        "campaignWindowEnd",
        "exportOptions",
    ]
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    made = Inside(tmp_path_factory.mktemp("inside"))
    yield made
    made.ledger.close()


def never_ours(answer):
    """Whatever is asked: JSON, one shape of error, and no 5xx, which clients would repeat in vain."""
    assert answer.status < 500
    if answer.status >= 400:
        error = answer.json["error"]
        assert isinstance(error, str) or set(error) == {"code", "message"}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(METHODS),
    st.lists(SEGMENT, max_size=5),
    st.binary(max_size=40),
    st.booleans(),
    st.binary(max_size=60),
)
def test_any_request_is_answered(shared, method, segments, query, known, body):
    path = (shared.tasks().encode() if known else b"") + b"/" + b"/".join(segments)
    headers = [(b"authorization", f"Bearer {shared.token()}".encode()), (b"host", query[:20])]
    full = V.encode() + b"&" + query if known else query
    answer = shared.ask_raw(method, path, full, headers, body)
    if method != "HEAD":
        never_ours(answer)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["events", "tags", "feedbackByDate", "feedbackByCampaign"]),
    st.dictionaries(MEMBERS, VALUE),
    st.booleans(),
)
def test_any_export_is_taken_or_refused(shared, segment, members, form):
    body = {"containerUrl": CONTAINER, "exportFormat": "JsonBlob", "campaignType": "Poll", **members}
    headers = [(b"content-type", b"application/x-www-form-urlencoded" if form else b"application/json")]
    content = (
        "&".join(f"{name}={value}" for name, value in body.items()).encode(errors="replace")
        if form
        else json.dumps(body)
    )
    sent = content if isinstance(content, bytes) else content.encode()
    answer = shared.ask("POST", f"{shared.tasks()}/{segment}", body=sent, headers=headers)
    assert answer.status in {202, 400}
    never_ours(answer)


WORDS = st.sampled_from(
    [
        "deviceId",
        "lastModified",
        "gt",
        "le",
        "eq",
        "and",
        "or",
        "(",
        ")",
        "'x'",
        "''''",
        "'",
        "5",
        "1447284263690L",
        "9" * 30,
        "-",
        "\0",
        "🧡",
    ]
)
FILTER = st.lists(WORDS, max_size=8).map(" ".join) | st.text(max_size=30)
SELECT = st.lists(st.sampled_from(["appInfo", "meta", "/", ",", "firstSeen", "x", " ", "é"]), max_size=6)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILTER, SELECT.map("".join), st.text(max_size=5), st.booleans())
def test_any_list_of_devices_is_answered_or_refused(shared, text, select, top, only_filter):
    options = {"$filter": text} if only_filter else {"$filter": text, "$select": select, "$top": top}
    devices = shared.tasks().removesuffix("/exportTasks")
    answer = shared.ask("GET", devices, f"{V}&{urlencode(options, quote_via=quote)}")
    assert answer.status in {200, 400}
    never_ours(answer)


BOUND = st.integers(0, 3).map(str)
COMPARISON = st.tuples(
    st.sampled_from(["deviceId", "lastModified"]), st.sampled_from(["gt", "ge", "lt", "le"]), BOUND
)


@given(st.lists(COMPARISON, min_size=1, max_size=5), BOUND, BOUND, BOUND)
def test_a_filter_means_what_its_comparisons_say_also_on_the_next_page(checks, device, time, last):
    compare = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}
    text = " and ".join(
        f"{name} {op} '{bound}'" if name == "deviceId" else f"({name} {op} {bound}L)"
        for name, op, bound in checks
    )
    expected = all(compare[op](device if name == "deviceId" else time, bound) for name, op, bound in checks)

    def passes(within):
        low, out = within.low
        above = device > low if out else device >= low
        return above and (within.before is None or device < within.before) and within.holds(int(time))

    within = read_filter(text)
    assert passes(within) == expected
    assert not (within.never and expected)
    if not within.never:
        following = read_filter(within.after(last).text())
        assert passes(following) == (expected and device > last)
        assert following == within.after(last)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(max_size=3), st.dictionaries(st.text(max_size=3), VALUE, max_size=3) | VALUE, max_size=3
    ),
    VALUE,
    st.sampled_from(["devices", "users"]),
)
def test_any_tags_are_taken_or_refused(shared, tags, delete, what):
    path = shared.tasks().replace("devices/exportTasks", f"{what}/tag")
    answer = shared.ask("POST", path, body={"tags": tags, "deleteOnNull": delete})
    assert answer.status in {200, 400}
    never_ours(answer)
