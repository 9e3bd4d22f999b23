"""`/api/v1` as such: who is let in, one shape of errors, bodies, queries, ids of requests, the document and its page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time

import httpx2
import pytest

from api_site import Site, problem
from outhaul.api import problems
from outhaul.api.app import OPERATIONS
from outhaul.api.openapi import codes, document
from outhaul.schema import EXPORTS
from outhaul.wire import ROLE_SCOPES
from running import Server


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    data = tmp_path_factory.mktemp("api") / "data"
    with Server(data, public_url="https://outhaul.example/base/", rate_per_minute="0") as server:
        yield Site(server)


def path_of(operation):
    return re.sub(r"\{.*?\}", "x", operation.path)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_nobody_is_let_in_without_a_token_and_its_scope(site, operation):
    def ask(secret):
        with site.client(secret) as client:
            return client.request(operation.method, path_of(operation))

    if operation.needs == "nothing":
        assert ask(None).status_code == 200
        return
    for secret in (None, "outhaul_wrong", "e30.e30.e30"):
        answer = ask(secret)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if operation.needs == "caller":
        assert ask(site.token("data:read")).status_code == 200
        return
    others = [scope for scope in ROLE_SCOPES["owner"] if scope != operation.needs]
    refused = ask(site.token(*others))
    assert refused.status_code == 403
    if operation.method != "HEAD":
        assert operation.needs in problem(refused, 403, "scope_missing")["detail"]


def test_a_path_or_method_that_is_none_is_a_problem(site):
    problem(site.http.get("/nothing"), 404, "not_found")
    answer = site.http.delete("/exports")
    problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "POST"}
    problem(httpx2.get(f"{site.server.url}/api/v1"), 404, "not_found")


def test_the_old_api_and_devices_are_still_there(site):
    assert httpx2.get(f"{site.server.url}/subscriptions").json()["error"]["code"] == "AuthenticationFailed"
    assert site.send([{"kind": "event", "deviceId": "d", "timestamp": 1_700_000_000_000, "name": "x"}]) == 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1._Z", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ('"><', False), (None, False)],
)
def test_request_ids(site, given, kept):
    answer = site.http.get("/me", headers={"x-request-id": given} if given else {})
    told = answer.headers["x-request-id"]
    assert (told == given) is kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", told)
    deadline = time.monotonic() + 5
    while f"request {told} of token:" not in site.server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_line_of_the_log_is_one_line_without_query(site):
    site.http.get("/a%0AINFO%20forged?link=secret", headers={"x-request-id": "forge"})
    [line] = [line for line in site.server.log.read_text().splitlines() if "request forge" in line]
    assert "GET /api/v1/a%0AINFO%20forged 404" in line
    assert "secret" not in line


def test_nothing_is_cached_and_no_other_origin_let_in(site):
    answer = site.http.get("/kinds", headers={"origin": "https://elsewhere.example"})
    assert answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_head_is_a_get_without_its_body_where_there_is_one(site):
    problem(site.http.post("/kinds"), 405, "method_not_allowed")
    assert site.http.head("/exports/x/files/y").status_code == 404


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "not JSON"),
        (b"\xff{}", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"app": "Shop"}', "kind: it is missing."),
        (b'{"app": "Shop", "kind": "events"}', "kind: invalid enum value 'events'."),
        (b'{"app": "Shop", "kind": "event", "perod": 1}', "perod: there is no such member."),
        (b'{"app": "Shop", "kind": "event", "period": {"form": 1}}', "period.form: there is no such member."),
        (
            b'{"app": "Shop", "kind": "event", "where": {"and": [{"colum": 1}]}}',
            "where.and[0].colum: there is no such member.",
        ),
        (b'{"app": "Shop", "kind": "event", "period": {"from": "2026-01-01"}}', "period.to: it is missing."),
        (b'{"app": 1, "kind": "event"}', "app: expected `str`, got `int`."),
        (
            b'{"app": "S", "kind": "event", "destination": {"url": "https://a", "key": 1}}',
            "destination.key: ",
        ),
        (b'{"app": "Shop", "kind": "event", "description": "\\ud800"}', "not JSON"),
    ],
)
def test_a_wrong_body_is_told_by_its_member(site, body, detail):
    told = problem(site.http.post("/exports", content=body), 400, "invalid")
    assert detail in told["detail"]
    assert told["hint"]


def test_the_values_possible_are_told(site):
    told = problem(site.http.post("/exports", json={"app": "S", "kind": "x"}), 400, "invalid")
    assert told["hint"].startswith("It takes activity or event or job")
    told = problem(site.http.post("/exports", json=site.spec(mask={"userId": "hide"})), 400, "invalid")
    assert told["hint"] == "It takes drop or hash."
    told = problem(
        site.http.post(
            "/exports", json={"app": "S", "kind": "event", "period": {"from": "1", "to": "2", "by": "x"}}
        ),
        400,
        "invalid",
    )
    assert told["hint"] == "It takes timestamp or receivedAt."


@pytest.mark.parametrize("levels", [11, 400, 880, 5_000, 100_000])
@pytest.mark.parametrize("path", ["/exports", "/exports:check"])
def test_a_deep_filter_is_refused(site, levels, path):
    condition = '{"not":' * levels + '{"column":"name","eq":"x"}' + "}" * levels
    body = json.dumps(site.spec()).rstrip("}") + '}, "where": ' + condition + "}"
    answer = site.http.post(path, content=body)
    if path == "/exports" or levels > 1000:
        assert problem(answer, 400, "invalid")
    else:
        assert answer.status_code == 400 or answer.json()["steps"][0]["ok"] is False


def test_a_body_is_json_whatever_it_is_called(site):
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert site.http.post("/exports", content=json.dumps(site.spec()), headers=form).status_code == 202


def test_a_large_body_is_refused(site):
    body = json.dumps(site.spec(description="x" * 1_048_576)).encode()
    problem(site.http.post("/exports", content=body), 413, "too_large")
    just = site.spec(description="x" * 1025)
    assert "description: " in problem(site.http.post("/exports", json=just), 400, "invalid")["detail"]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("pageSize=0", "pageSize: expected `int` >= 1"),
        ("pageSize=x", "pageSize: "),
        ("state=null", "state: invalid enum value 'null'."),
        ("pageSize=null", "pageSize: "),
        ("state=done", "state: invalid enum value 'done'."),
        ("sate=failed", "sate: there is no such member."),
        ("kind=event&kind=job", "kind: it is given twice."),
        ("createdAfter=yesterday", "createdAfter is not an instant."),
        ("pageToken=x", "pageToken: "),
        ("pageToken=%C3%A9", "pageToken: "),
    ],
)
def test_a_wrong_query_is_told_by_its_option(site, query, detail):
    assert detail in problem(site.http.get(f"/exports?{query}"), 400, "invalid")["detail"]


def test_an_app_can_be_called_null(site):
    problem(site.http.get("/exports?app=null"), 404, "app_not_found")


def test_an_access_token_of_the_token_endpoint_is_taken(site):
    credential, secret = site.ledger.create_credential("reports", "reader", 1)
    fields = {"grant_type": "client_credentials", "client_id": credential.client_id, "client_secret": secret}
    fields["resource"] = "https://management.core.windows.net/"
    tenant = site.ledger.installation().tenant_id
    token = httpx2.post(f"{site.server.url}/{tenant}/oauth2/token", data=fields).json()["access_token"]
    with site.client(token) as client:
        assert client.get("/me").json()["actor"] == "credential:reports"
        assert client.get("/exports").status_code == 200
        problem(client.post("/exports", json=site.spec()), 403, "scope_missing")


def test_under_a_prefix_links_lead_where_clients_are(site):
    with site.client(site.secret) as client:
        client.base_url = f"{site.server.url}/base/api/v1"
        answer = client.post("/exports", json=site.spec())
    assert answer.status_code == 202
    assert answer.headers["location"] == f"https://outhaul.example/base/api/v1/exports/{answer.json()['id']}"
    assert site.http.get("/openapi.json").json()["servers"] == [
        {"url": "https://outhaul.example/base/api/v1"}
    ]


# The catalogue


def test_kinds_have_their_columns(site):
    kinds = {kind["kind"]: kind for kind in site.http.get("/kinds").json()["kinds"]}
    assert set(kinds) == set(EXPORTS)
    columns = {column["name"]: column for column in kinds["event"]["columns"]}
    assert columns["timestamp"] | {"help": ""} == {
        "name": "timestamp",
        "type": "time",
        "required": True,
        "default": True,
        "help": "",
    }
    assert columns["receivedAt"]["default"] is False
    assert kinds["event"]["dated"]
    assert not kinds["device"]["dated"]


def test_apps_are_shown_by_id_or_name_and_only_to_those_who_may_know(site):
    other = site.ledger.create_app("Other", "web", 5)
    listed = [app["appId"] for app in site.http.get("/apps").json()["apps"]]
    assert listed == [other.app_id, site.app.app_id]
    shown = site.http.get(f"/apps/{other.app_id}").json()
    assert shown == site.http.get("/apps/Other").json()
    assert shown["createdAt"] == "1970-01-01T00:00:00.005Z"
    assert "sdk" not in json.dumps(shown).lower()
    with site.client(site.token(app_id=site.app.app_id)) as bound:
        assert [app["appId"] for app in bound.get("/apps").json()["apps"]] == [site.app.app_id]
        assert bound.get("/apps/Shop").status_code == 200
        missing = problem(bound.get("/apps/Other"), 404, "app_not_found")
        unknown = problem(bound.get("/apps/Nowhere"), 404, "app_not_found")
        assert missing["detail"].replace("Other", "Nowhere") == unknown["detail"]


def test_a_name_of_two_apps_is_told_apart(site):
    twins = [site.ledger.create_app("Twin", platform, 9) for platform in ("ios", "android")]
    told = problem(site.http.get("/apps/Twin"), 409, "conflict")
    assert all(twin.app_id in told["hint"] for twin in twins)
    with site.client(site.token(app_id=twins[0].app_id)) as bound:
        assert bound.get("/apps/Twin").json()["appId"] == twins[0].app_id


# The document


def test_every_operation_is_in_the_document():
    paths = document(OPERATIONS)["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == {(one.method, one.path.replace(":path}", "}")) for one in OPERATIONS}
    assert len({one.name for one in OPERATIONS}) == len(OPERATIONS)


def test_every_code_is_somebodys():
    given = {code for operation in OPERATIONS for code in codes(operation)}
    assert given | {"method_not_allowed"} == set(problems.PROBLEMS)


def test_the_page_needs_nothing_from_elsewhere(site):
    answer = site.http.get("/docs")
    policy = answer.headers["content-security-policy"]
    for tag in ("script", "style"):
        [inside] = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        hashed = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{hashed}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"(src|href)=.?(https?:)?//", answer.text)
