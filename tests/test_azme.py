"""The old API, checked over the wire: by number, as `docs/old-api.md` lists the checks.

`raw` checks speak plain HTTP, `npm` checks go through the unmodified npm client.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from azme_site import API, CONTAINER, RESOURCE, Site
from conformance import Checks
from outhaul.azme.exports import CREATIONS
from outhaul.keys import Claims, Keyring
from outhaul.ledger.ledger import Ledger
from outhaul.wire import Destination, ExportRequest, Task

check = Checks()
CREATES = ("activities", "crashes", "errors", "events", "jobs", "sessions", "tags", "tokens")
FEEDBACK = ("feedbackByDate", "feedbackByCampaign")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A certificate for this machine, and the one to trust it by."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    # The server reads keys as PKCS #8 only.
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with an app, another app with a longer name, and a credential of each role."""
    folder = tmp_path_factory.mktemp("data")
    ledger = Ledger(folder)
    ledger.create_app("Shop", "android", 1)
    ledger.create_app("Shop", "ios", 2)
    ledger.create_app("Quiz.2", "web", 3)
    secrets = {role: ledger.create_credential(role, role, 1) for role in ("reader", "contributor", "owner")}
    (folder / "secrets.json").write_bytes(
        msgspec.json.encode({role: (made.client_id, secret) for role, (made, secret) in secrets.items()})
    )
    ledger.close()
    return folder


def start(data, tls, port, **settings):
    environment = {
        **os.environ,
        "AZME_DATA": str(data),
        "OUTHAUL_DESTINATIONS": "http://127.0.0.1:10000/",
        **settings,
    }
    command = [
        *(sys.executable, "-m", "granian", "--interface", "asginl", "--no-ws", "--log-level", "warning"),
        *("--host", "127.0.0.1", "--port", str(port), "azme_app:app"),
        *("--ssl-certificate", str(tls / "cert.pem"), "--ssl-keyfile", str(tls / "key.pem")),
    ]
    process = subprocess.Popen(command, cwd=Path(__file__).parent, env=environment)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    process.kill()
    raise RuntimeError("The server did not start.")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def describe(url, data, tls, role="owner"):
    ledger = Ledger(data)
    installation, app = ledger.installation(), ledger.apps()[0]
    ledger.close()
    client_id, secret = json.loads((data / "secrets.json").read_text())[role]
    return Site(
        url=url,
        subscription=installation.subscription_id,
        tenant=installation.tenant_id,
        client_id=client_id,
        secret=secret,
        group=app.resource_group,
        collection=app.app_collection,
        app=app.app_name,
        ca=tls / "ca.pem",
        data=data,
    )


@pytest.fixture(scope="module")
def site(node, data, tls):
    port = free_port()
    process = start(data, tls, port)
    yield describe(f"https://127.0.0.1:{port}", data, tls)
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def token(site):
    return site.token()


@pytest.fixture
def raw(site, token):
    with site.raw(token) as client:
        yield client


@pytest.fixture
def ledger(data):
    ledger = Ledger(data)
    yield ledger
    ledger.close()


def fails(response, status, code=None):
    """An error is one shape, always JSON, and is never the server's fault."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    error = response.json()["error"]
    assert set(error) == {"code", "message"}
    assert error["code"]
    assert error["message"]
    if code:
        assert error["code"] == code
    return error["message"]


def fails_token(response, status, error):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.json()["error"] == error
    assert response.json()["error_description"]


def good_token(response, resource=RESOURCE):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    answer = response.json()
    assert answer["token_type"] == "Bearer"
    assert 3500 < int(answer["expires_in"]) <= 3600
    assert abs(int(answer["expires_on"]) - time.time() - 3600) < 60
    assert answer["resource"] == resource
    return answer["access_token"]


@check(1)
def a_secret_gives_a_token(site, raw, ledger):
    access = good_token(site.ask_token())
    with site.raw(access) as client:
        assert client.get("/subscriptions", params=API).status_code == 200
    for resource in (RESOURCE.rstrip("/"), "https://management.azure.com/", site.url + "/", site.url):
        good_token(site.ask_token(resource=resource), resource)
    # As the .NET samples send it: the resource unescaped, and no content type.
    body = f"client_secret={site.secret}&resource={RESOURCE}&client_id={site.client_id}"
    body = f"{body}&grant_type=client_credentials&unknown=1"
    good_token(raw.post(f"/{site.tenant.upper()}/OAuth2/Token", content=body.encode()))


@check(2)
def a_get_with_a_body_gives_a_token_too(site, raw, ledger):
    good_token(site.ask_token("GET"))


@check(3)
def a_wrong_secret_is_an_invalid_client(site, raw, ledger):
    fails_token(site.ask_token(client_secret="wrong"), 401, "invalid_client")
    fails_token(site.ask_token(client_secret=""), 401, "invalid_client")
    fails_token(site.ask_token(client_id=str(uuid.uuid4())), 400, "unauthorized_client")


@check(4)
def a_refresh_is_an_invalid_grant(site, raw, ledger):
    fails_token(
        site.ask_token(grant_type="refresh_token", refresh_token="", scope="openid"), 400, "invalid_grant"
    )
    fails_token(site.ask_token(grant_type="password"), 400, "unsupported_grant_type")


@check(5)
def an_unknown_tenant_is_an_invalid_request(site, raw, ledger):
    for tenant in (str(uuid.uuid4()), "common", "contoso.example"):
        fails_token(site.ask_token(tenant=tenant), 400, "invalid_request")
    fails_token(site.ask_token(resource="https://graph.windows.net/"), 400, "invalid_resource")


@check(6)
def the_npm_login_works(site, raw, ledger):
    before = len(site.requests())
    assert site.npm() == []
    asked = site.requests()[before:]
    assert [line.partition("?")[0] for line in asked] == [
        f"POST /{site.tenant}/oauth2/token",
        "GET /subscriptions",
    ]
    assert asked[1] == "GET /subscriptions?api-version=2016-06-01"


@check(7)
def one_token_serves_many_calls(site, raw, ledger):
    before = len(site.requests())
    results = site.npm(("appCollections.list",), ("supportedPlatforms.list",))
    assert all("value" in result for result in results)
    assert sum("/oauth2/token" in line for line in site.requests()[before:]) == 1


@check(8)
def without_a_token_it_is_401(site, raw, ledger):
    with site.raw() as client:
        response = client.get(site.tasks, params=API)
        fails(response, 401, "AuthenticationFailed")
        assert response.headers["www-authenticate"].startswith(
            f'Bearer authorization_uri="{site.url}/{site.tenant}"'
        )
        fails(
            client.get(site.tasks, params=API, headers={"authorization": "Basic eDp5"}),
            401,
            "AuthenticationFailed",
        )
        fails(client.post(f"{site.tasks}/tags", params=API, json=site.export()), 401, "AuthenticationFailed")
        fails(client.get(site.devices, params=API), 401, "AuthenticationFailed")
        fails(client.post(f"{site.users}/tag", params=API, json={"tags": {}}), 401, "AuthenticationFailed")


@check(9)
def each_bad_token_has_its_code(site, raw, ledger):
    def claims(**changes):
        now = int(time.time())
        values = {"client_id": site.client_id, "tenant_id": site.tenant, "role": "owner", "issued_at": now}
        return Claims(**{**values, "expires_at": now + 60, **changes})

    issue = Keyring.open(site.data, "").issue
    expected = {
        "garbage": "InvalidAuthenticationToken",
        issue(claims(expires_at=int(time.time()) - 1)): "ExpiredAuthenticationToken",
        issue(claims(tenant_id=str(uuid.uuid4()))): "InvalidAuthenticationTokenTenant",
        issue(claims(client_id=str(uuid.uuid4()))): "InvalidAuthenticationToken",
        Keyring(b"A" * 43 + b"=").issue(claims()): "InvalidAuthenticationToken",
    }
    for access, code in expected.items():
        with site.raw(access) as client:
            fails(client.get(site.tasks, params=API), 401, code)
    with site.raw(issue(claims())) as client:
        assert client.get(site.tasks, params=API).status_code == 200


@check(10)
def the_npm_client_sees_401_once(site, raw, ledger):
    before = len(site.requests())
    [result] = site.npm(("exportTasks.list", *site.here), token="bad", retry=True)
    error = result["error"]
    assert error["statusCode"] == 401
    assert error["code"] == "InvalidAuthenticationToken"
    assert error["body"]["error"]["message"]
    assert len(site.requests()) == before + 1


@check(11)
def the_api_version_is_required(site, raw, ledger):
    for path in (
        f"{site.provider}/appCollections",
        f"{site.provider}/supportedPlatforms",
        site.apps,
        site.tasks,
        site.devices,
        f"{site.users}/u",
    ):
        fails(raw.get(path), 400, "MissingApiVersionParameter")
        fails(raw.get(path, params={"api-version": "2013-01-01"}), 400, "InvalidApiVersionParameter")
    fails(raw.post(f"{site.tasks}/tags", json=site.export()), 400, "MissingApiVersionParameter")


@check(12)
def paths_match_in_any_case(site, raw, ledger):
    for path in (site.tasks, site.devices, site.apps, f"{site.provider}/appCollections"):
        expected = raw.get(path, params=API)
        assert expected.status_code == 200
        spellings = [
            path.replace("resourceGroups", "resourcegroups"),
            path.replace("resourceGroups", "RESOURCEGROUPS").replace("Microsoft.", "microsoft."),
            path.replace("appcollections", "appCollections").replace("exportTasks", "ExportTasks"),
            path.upper(),
            path.lower() + "/",
        ]
        for spelling in spellings:
            response = raw.get(spelling, params=API)
            assert (response.status_code, response.content) == (200, expected.content), spelling


@check(13)
def it_is_always_json(site, raw, ledger):
    for accept in ("text/html", "*/*", None):
        request = raw.build_request("GET", site.tasks, params=API, headers={"accept": accept or "x"})
        if accept is None:
            del request.headers["accept"]
        response = raw.send(request)
        assert response.headers["content-type"] == "application/json; charset=utf-8"
        assert "value" in response.json()


@check(14)
def what_is_not_there_is_404(site, raw, ledger):
    def replaced(old, new):
        return site.tasks.replace(old, new)

    fails(raw.get(replaced(site.subscription, str(uuid.uuid4())), params=API), 404, "SubscriptionNotFound")
    fails(
        raw.get(replaced("MobileEngagement/providers", "Other/providers"), params=API),
        404,
        "ResourceGroupNotFound",
    )
    fails(
        raw.get(replaced("/appcollections/Shop", "/appcollections/None"), params=API), 404, "ResourceNotFound"
    )
    fails(raw.get(replaced("Shop-android", "Shop"), params=API), 404, "ResourceNotFound")
    fails(
        raw.get(replaced("Shop-android/devices", "Quiz.2-web/devices"), params=API), 404, "ResourceNotFound"
    )
    fails(raw.get(replaced("devices/exportTasks", "gadgets"), params=API), 404, "InvalidResourceType")
    fails(raw.get(f"{site.devices}/d/e", params=API), 404, "InvalidResourceType")
    fails(raw.post(f"{site.tasks}/everything", params=API, json=site.export()), 404, "InvalidResourceType")
    fails(raw.get("/", params=API), 404)


@check(15)
def other_methods_are_405(site, raw, ledger):
    campaign = site.tasks.replace("devices/exportTasks", "campaigns/announcements/1")
    fails(raw.patch(campaign, params=API, json={}), 405, "MethodNotAllowed")
    for method, path, allowed in (
        ("DELETE", site.tasks, "GET"),
        ("POST", site.tasks, "GET"),
        ("PUT", f"{site.tasks}/tags", "GET, POST"),
        ("OPTIONS", site.tasks, "GET, POST, PUT, DELETE"),
        ("DELETE", f"{site.devices}/d", "GET"),
        ("PUT", site.devices, "GET"),
        ("GET", f"{site.devices}/tag", "POST"),
        ("GET", f"{site.users}/TAG", "POST"),
    ):
        response = raw.request(method, path, params=API)
        fails(response, 405, "MethodNotAllowed")
        assert response.headers["allow"] == allowed
    assert raw.put(f"/{site.tenant}/oauth2/token").status_code == 405


@check(16)
def the_npm_client_lists_app_collections(site, raw, ledger):
    [result] = site.npm(("appCollections.list",))
    assert result["isArray"]
    assert [(item["name"], item["location"], item["provisioningState"]) for item in result["value"]] == [
        ("Shop", "global", "Succeeded"),
        ("Quiz.2", "global", "Succeeded"),
    ]


@check(17)
def the_npm_client_asks_whether_a_name_is_free(site, raw, ledger):
    taken, free, wrong = site.npm(
        ("appCollections.checkNameAvailability", {"name": "shop"}),
        ("appCollections.checkNameAvailability", {"name": "Fresh"}),
        ("appCollections.checkNameAvailability", {"name": "a/b"}),
    )
    assert taken["value"]["available"] is False
    assert taken["value"]["unavailabilityReason"]
    assert free["value"] == {"name": "Fresh", "available": True}
    assert wrong["value"]["available"] is False
    path = f"{site.provider}/checkAppCollectionNameAvailability"
    fails(raw.post(path, params=API, json={}), 400)


@check(18)
def the_npm_client_lists_apps(site, raw, ledger):
    [result] = site.npm(("apps.list", "mobileengagement", "shop"))
    assert [
        (item["name"], item["backendId"], item["platform"], item["appState"]) for item in result["value"]
    ] == [
        ("Shop-android", "and000001", "android", "Enabled"),
        ("Shop-ios", "ios000001", "ios", "Enabled"),
    ]


@check(19)
def the_npm_client_lists_platforms(site, raw, ledger):
    [result] = site.npm(("supportedPlatforms.list",))
    assert result["value"]["platforms"] == ["android", "ios", "windows", "windowsPhone", "web"]


def npm_creates(site, **members):
    """All ten, as the npm client is asked for them."""
    plain = {"containerUrl": CONTAINER, "exportFormat": "JsonBlob", **members}
    dated = {
        **plain,
        "startDate": {"$date": "2016-05-01T13:00:00Z"},
        "endDate": {"$date": "2016-05-02T00:00:00Z"},
    }
    campaign = {**plain, "campaignType": "dataPush"}
    window = {
        "campaignWindowStart": {"$date": "2016-05-01T00:00:00Z"},
        "campaignWindowEnd": {"$date": "2016-05-02T00:00:00Z"},
    }
    names = ("Activities", "Crashes", "Errors", "Events", "Jobs", "Sessions")
    return [
        *((f"exportTasks.create{name}Task", *site.here, dated) for name in names),
        *((f"exportTasks.create{name}Task", *site.here, plain) for name in ("Tags", "Tokens")),
        ("exportTasks.createFeedbackTaskByDateRange", *site.here, {**campaign, **window}),
        ("exportTasks.createFeedbackTaskByCampaign", *site.here, {**campaign, "campaignIds": [7, 9, 7]}),
    ]


@check(60)
def the_npm_client_asks_for_all_ten(site, raw, ledger):
    results = site.npm(*npm_creates(site, description="nightly"))
    types = ["Activity", "Crash", "Error", "Event", "Job", "Session", "Tag", "Token", "Push", "Push"]
    assert [result["value"]["exportType"] for result in results] == types
    for result in results:
        assert re.fullmatch(r"[0-9a-f-]{36}", result["value"]["id"])
        assert result["value"]["state"] == "Queued"
        assert result["value"]["description"] == "nightly"
        assert datetime.fromisoformat(result["value"]["dateCreated"]["$date"]).timestamp() == pytest.approx(
            time.time(), abs=60
        )
        assert "dateCompleted" not in result["value"]
    asked = [ledger.task(result["value"]["id"]).request for result in results]
    day = 86_400_000
    start = int(datetime.fromisoformat("2016-05-01T00:00:00Z").timestamp() * 1000)
    assert all(
        (request.period.start, request.period.end) == (start, start + 2 * day) for request in asked[:6]
    )
    assert asked[6].period is None
    assert (asked[8].campaigns.type, asked[8].campaigns.window.start) == ("DataPush", start)
    assert asked[9].campaigns.ids == ["7", "9"]


@check(61)
def a_create_says_where_to_look(site, raw, ledger):
    for segment in (*CREATES, *FEEDBACK, "devices"):
        created = raw.post(f"{site.tasks}/{segment}", params=API, json=site.export())
        assert created.status_code == 202, created.text
        found = raw.get(created.headers["location"])
        assert found.status_code == 200
        assert found.json() == created.json()
        listed = raw.get(site.tasks, params={**API, "$top": "40", "includeDevice": "true"})
        assert created.json()["id"] in listed.text or listed.json()["nextLink"]
        for response in (created, found, listed):
            assert "containerUrl" not in response.text
            assert "sig=" not in response.text
            assert "127.0.0.1:10000" not in response.text
        stored = ledger.task(created.json()["id"])
        assert "sig=" not in stored.destination
        opened = Keyring.open(site.data, "").unseal(stored.destination, Destination)
        assert opened.url == CONTAINER


@check(62)
def a_wrong_export_is_400_and_says_which_member(site, raw, ledger):
    def refused(segment, name, **members):
        response = raw.post(f"{site.tasks}/{segment}", params=API, json=site.export(**members))
        message = fails(response, 400)
        assert name in message
        assert "c2VjcmV0" not in message

    for segment in (*CREATES, *FEEDBACK):
        for url in (None, "", 7):
            refused(segment, "containerUrl", containerUrl=url)
        for form in (None, "", "XmlBlob", "json", 1, ["JsonBlob"]):
            refused(segment, "exportFormat", exportFormat=form)
        refused(segment, "description", description="x" * 4097)
    for segment in CREATES[:6]:
        for text in ("2016-13-01", "2016-02-30", "1 May", "", None, 20160501, "2016-W01-1", "20160501"):
            refused(segment, "startDate", startDate=text)
            refused(segment, "endDate", endDate=text)
        refused(segment, "startDate", startDate="2016-05-03")
    refused("feedbackByCampaign", "campaignIds", campaignIds=[])
    for ids in (["a"], "1", [1.5], [-1], [10**30], [True], {}):
        refused("feedbackByCampaign", "campaignIds", campaignIds=ids)
    refused("feedbackByCampaign", "campaignIds", campaignIds=None)
    refused("feedbackByDate", "campaignWindowStart", campaignWindowStart="2016-05-01")
    refused("feedbackByDate", "campaignWindowEnd", campaignWindowEnd=None)
    refused("feedbackByDate", "campaignWindowStart", campaignWindowStart="2016-05-03T00:00:00Z")
    for segment in FEEDBACK:
        refused(segment, "campaignType", campaignType="Sms")
    refused("tags", "containerUrl", containerUrl="not a url?sig=c2VjcmV0")
    refused("tags", "containerUrl", containerUrl="http://10.0.0.1/account/container?sig=c2VjcmV0")
    for body in (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe{}", b"[" * 100_000):
        fails(raw.post(f"{site.tasks}/tags", params=API, content=body), 400, "BadRequest")


@check(63)
def other_spellings_of_an_export_are_taken(site, raw, ledger):
    def accepted(segment, **how):
        response = raw.post(f"{site.tasks}/{segment}", params=API, **how)
        assert response.status_code == 202, response.text
        return ledger.task(response.json()["id"]).request

    pascal = {name[0].upper() + name[1:]: value for name, value in site.export().items()}
    for segment in (*CREATES, *FEEDBACK):
        assert accepted(segment, json=pascal).format == "json"
        assert accepted(segment, json=site.export(exportFormat="csvblob")).format == "csv"
        form = {**site.export(description="a b"), "campaignIds": "3,4"}
        assert accepted(segment, data={**form, "ExportFormat": form.pop("exportFormat")}).format == "json"
    form = urlencode([*site.export(campaignIds=None).items(), ("campaignIds", "3"), ("campaignIds", "4")])
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    assert accepted("feedbackByCampaign", content=form.encode(), headers=headers).campaigns.ids == ["3", "4"]
    for segment in ("activity", "crash", "error", "event", "job", "session", "tag", "token", "TOKENS"):
        accepted(segment, json=site.export(description=None, exportOptions={"exportUserId": True}))
    assert accepted("events", json=site.export(startDate="2016-05-02T01:00:00+02:00")) == accepted(
        "events", json=site.export()
    )
    accepted("events", content=msgspec.json.encode(site.export()), headers=headers)
    bom = b"\xef\xbb\xbf" + msgspec.json.encode(site.export())
    accepted("events", content=bom, headers={"content-type": "text/plain"})


@pytest.fixture(scope="module")
def fifty(data):
    """Fifty tasks of the second app, in all states; the Device ones among them are extra."""
    ledger = Ledger(data)
    app = ledger.apps()[1]
    states = ("queued", "started", "succeeded", "failed")
    for number in range(55):
        kind = "device" if number % 11 == 10 else "tag"
        state = states[number % 4]
        task = Task(
            id=str(uuid.uuid4()),
            app_id=app.app_id,
            request=ExportRequest(kind=kind, format="csv"),
            destination=None,
            state=state,
            created_at=1_462_060_800_000 + number * 7,
            completed_at=1_462_060_900_000 + number if number % 4 > 1 else None,
            error=f"The container said no, {number}." if state == "failed" else None,
            mark=0,
        )
        ledger.create_task(task)
    ledger.close()
    return app.app_name


@check(66)
def the_npm_client_pages_and_sorts(site, raw, ledger):
    here = (site.group, site.collection, "Shop-ios")
    results = site.npm(
        ("exportTasks.list", *here),
        ("exportTasks.listNext", {"$next": 0}),
        ("exportTasks.list", *here, {"top": 40}),
        ("exportTasks.listNext", {"$next": 2}),
        ("exportTasks.list", *here, {"skip": 45, "top": 40}),
        ("exportTasks.list", *here, {"top": 40, "orderby": "taskStatus desc"}),
        ("exportTasks.list", *here, {"top": 40, "orderby": "dateCreated desc"}),
        ("exportTasks.list", *here, {"top": 40, "skip": 48, "orderby": "errorDetails"}),
    )
    first, second, forty, rest, last, by_state, by_date, by_error = [result["value"] for result in results]
    assert [len(page) for page in (first, second, forty, rest, last)] == [20, 20, 40, 10, 5]
    ids = [task["id"] for task in forty + rest]
    assert ids == sorted(set(ids))
    assert [task["id"] for task in first + second] == ids[:40]
    assert [task["id"] for task in last] == ids[45:]
    states = [task["state"] for task in by_state]
    assert states == sorted(states, reverse=True)
    dates = [task["dateCreated"]["$date"] for task in by_date]
    assert dates == sorted(dates, reverse=True)
    assert all("errorDetails" in task for task in by_error)
    assert all(task["exportType"] == "Tag" for task in forty + rest)
    link = urlsplit(results[0]["nextLink"])
    assert f"{link.scheme}://{link.netloc}" == site.url
    assert "$" not in link.query
    assert "'" not in link.query
    assert parse_qs(link.query)["api-version"] == ["2014-12-01"]
    assert [bool(result.get("nextLink")) for result in results[:5]] == [True, True, True, False, False]
    raw_task = raw.get(
        site.tasks.replace("Shop-android", "Shop-ios"), params={**API, "$orderby": "dateCreated"}
    )
    assert raw_task.json()["value"][3]["dateCreated"] == "2016-05-01T00:00:00.021Z"
    assert raw_task.json()["value"][3]["dateCompleted"] == "2016-05-01T00:01:40.003Z"


@check(67)
def a_list_has_limits(site, raw, ledger):
    for name, values in {
        "$top": ("41", "0", "-1", "x", "", "1.0", "+1", "\uff11", "9" * 5000),
        "$skip": ("-1", "x", "", "2147483648", "9" * 30),
        "$orderby": ("foo", "taskId up", "taskId asc, dateCreated", "", "state"),
        "includeDevice": ("maybe",),
    }.items():
        for value in values:
            message = fails(raw.get(site.tasks, params={**API, name: value}), 400, "BadRequest")
            assert name in message
    fails(raw.get(f"{site.tasks}?api-version=2014-12-01&$top=1&%24Top=2"), 400, "BadRequest")
    assert raw.get(f"{site.tasks}?api-version=2014-12-01&%24top=1&$skip=2147483647").json() == {"value": []}
    for key in ("taskId", "errorDetails", "dateCreated", "dateCompleted", "taskStatus", "TASKSTATUS  Desc"):
        assert raw.get(site.tasks, params={**API, "$orderby": key}).status_code == 200
    fails(raw.get(f"{site.tasks}/{uuid.uuid4()}", params=API), 404, "NotFound")
    fails(raw.get(f"{site.tasks}/tags", params=API), 404, "NotFound")


@check(75)
def every_list_is_under_value(site, raw, ledger):
    lists = (
        "/subscriptions",
        "/tenants",
        f"{site.provider}/appCollections",
        site.apps,
        site.tasks,
        site.imports,
        site.devices,
    )
    for path in lists:
        body = raw.get(path, params=API).json()
        assert isinstance(body["value"], list)
        assert set(body) <= {"value", "nextLink"}


@check(76)
def nothing_permanent_is_a_5xx(site, raw, ledger):
    for path in (
        "/%zz",
        "/%ff",
        f"{site.tasks}/%zz",
        f"{site.tasks}/%00",
        f"{site.tasks}/%ff",
        f"{site.tasks}?x=%zz",
    ):
        assert 400 <= raw.get(path, params=None if "?" in path else API).status_code < 500
    too_large = b'{"description": "' + b"x" * 2_100_000 + b'"}'
    fails(raw.post(f"{site.tasks}/tags", params=API, content=too_large), 413, "RequestEntityTooLarge")
    chunks = (b"x" * 300_000 for _ in range(8))
    fails(raw.post(f"{site.tasks}/tags", params=API, content=chunks), 413, "RequestEntityTooLarge")
    for content_type in (
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/json; charset=utf-16",
    ):
        for body in (b"%zz=%ff", b"\xff\xfe\x00", b"a=1&a=2", b'{"containerUrl": "\\ud800"}', b"{"):
            headers = {"content-type": content_type}
            fails(
                raw.post(f"{site.tasks}/tags", params=API, content=body, headers=headers), 400, "BadRequest"
            )
            answer = raw.post(f"/{site.tenant}/oauth2/token", content=body, headers=headers)
            fails_token(answer, 400, "invalid_request")
    both = {**site.export(), "ContainerUrl": "https://other.example/container"}
    fails(raw.post(f"{site.tasks}/tags", params=API, json=both), 400, "BadRequest")


@check(77)
def links_use_the_public_base(site, raw, ledger):
    listed = raw.get(
        site.tasks.replace("Shop-android", "Shop-ios"),
        params={**API, "includeDevice": "true", "$orderby": "dateCreated desc"},
        headers={"x-forwarded-proto": "https", "x-forwarded-host": "exports.example:8443, inner"},
    )
    link = urlsplit(listed.json()["nextLink"])
    assert (link.scheme, link.netloc) == ("https", "exports.example:8443")
    assert parse_qs(link.query)["$orderby"] == ["dateCreated desc"]
    assert parse_qs(link.query)["includeDevice"] == ["true"]
    odd = raw.post(
        f"{site.tasks}/tags", params=API, json=site.export(), headers={"x-forwarded-host": 'a"b/c'}
    )
    assert odd.headers["location"].startswith(site.url)


@pytest.mark.parametrize("number", sorted(check), ids=lambda number: f"check {number}")
def test_check(number, site, raw, ledger, fifty):
    check[number](site, raw, ledger)


def test_the_page_lists_what_can_be_exported():
    page = (Path(__file__).parent.parent / "docs" / "old-api.md").read_text()
    for segment in CREATIONS:
        assert f"`POST APP/devices/exportTasks/{segment}`" in page


def test_a_public_url_with_a_prefix(data, tls):
    """Check 77, through the npm client: reached under a prefix, the server links to its public name."""
    port = free_port()
    public = f"https://localhost:{port}/engage"
    process = start(data, tls, port, OUTHAUL_PUBLIC_URL=public + "/")
    try:
        site = describe(f"https://127.0.0.1:{port}/engage", data, tls)
        here = (site.group, site.collection, "Shop-ios")
        results = site.npm(
            ("exportTasks.createTagsTask", *here, {"containerUrl": CONTAINER, "exportFormat": "CsvBlob"}),
            ("exportTasks.list", *here, {"top": 1}),
            ("exportTasks.list", *here, {"top": 1, "skip": 1}),
            ("exportTasks.listNext", {"$next": 1}),
        )
        assert "login" not in results, results
        assert results[1]["nextLink"].startswith(f"{public}/subscriptions/")
        assert results[3]["value"] == results[2]["value"]
        with site.raw(site.token()) as client:
            created = client.post(f"{site.url}{site.tasks}/tags", params=API, json=site.export())
            assert created.headers["location"].startswith(f"{public}/subscriptions/")
            assert client.get(created.headers["location"]).status_code == 200
            # A proxy may also take the prefix off.
            assert client.get(site.url.removesuffix("/engage") + site.tasks, params=API).status_code == 200
    finally:
        process.terminate()
        process.wait(10)
