"""Apps over HTTP, on a real server: made, disabled, enabled; what their devices and the old API see of that."""

from __future__ import annotations

import httpx2
import pytest

from api_site import Site, problem
from outhaul.client import Collector
from running import Server

EVENT = {"kind": "event", "deviceId": "d", "timestamp": 1_700_000_000_000, "name": "x"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("apps") / "data") as server:
        yield Site(server)


def make(site, name, platform="android", **more):
    answer = site.http.post("/apps", json={"name": name, "platform": platform, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def statuses(site, app):
    """How devices of each dialect are answered."""
    key, url = app["sdkKey"], site.server.url
    azme = httpx2.BasicAuth(f"d.{app['appId']}", key)
    return (
        httpx2.post(
            f"{url}/api/v1/collect", json=[EVENT], headers={"authorization": f"Bearer {key}"}
        ).status_code,
        httpx2.post(f"{url}/v1/batch", json={"batch": []}, auth=(key, "")).status_code,
        httpx2.post(f"{url}/log", json={}, auth=azme).status_code,
    )


def test_an_app_that_was_made_is_there_at_once(site):
    made = make(site, "New", "ios", collection="All")
    assert (made["name"], made["platform"], made["appCollection"], made["appName"]) == (
        "New",
        "ios",
        "All",
        "New-ios",
    )
    assert made["disabledAt"] is None
    key = made.pop("sdkKey")
    assert site.http.get("/apps/New").json() == made
    with Collector(site.server.url, key) as collector:
        assert collector.send([EVENT]) == 1
    assert make(site, "Alone")["appCollection"] == "Alone"
    problem(site.http.post("/apps", json={"name": "New", "platform": "ios"}), 409, "conflict")
    make(site, "New", "web")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a/b", "platform": "ios"},
        {"name": "ok", "platform": "ios", "collection": "a b"},
        {"name": "ok", "platform": "dos"},
        {"name": "ok"},
    ],
)
def test_an_app_is_not_made_of_anything(site, body):
    problem(site.http.post("/apps", json=body), 400, "invalid")


def test_devices_of_a_disabled_app_are_answered_as_if_it_were_not_registered(site):
    app, unknown = make(site, "Paused"), {"appId": "and000999", "sdkKey": "nobody"}
    taken = statuses(site, app)
    assert taken == (202, 200, 200)
    refused = statuses(site, unknown)
    assert refused == (401, 503, 503)
    disabled = site.http.post("/apps/Paused:disable").json()
    assert disabled["disabledAt"] is not None
    assert site.http.post("/apps/Paused:disable").json() == disabled == site.http.get("/apps/Paused").json()
    assert statuses(site, app) == refused
    export = site.export(app="Paused", format="jsonl")
    assert export["rows"] >= 1
    assert site.http.get(f"/apps/{app['appId']}/devices/d").status_code == 200
    assert (
        site.http.post("/apps/Paused:enable").json() | {"disabledAt": None}
        == site.http.get("/apps/Paused").json()
    )
    assert statuses(site, app) == taken


def test_the_old_api_says_so_too(site):
    make(site, "Old", collection="Both")
    make(site, "Older", collection="Both")
    site.http.post("/apps/Old:disable")
    credential, secret = site.ledger.create_credential("old", "reader", 1)
    where = site.ledger.installation()
    form = {"grant_type": "client_credentials", "client_id": credential.client_id, "client_secret": secret}
    form["resource"] = "https://management.core.windows.net/"
    token = httpx2.post(f"{site.server.url}/{where.tenant_id}/oauth2/token", data=form).json()["access_token"]
    listed = httpx2.get(
        f"{site.server.url}/subscriptions/{where.subscription_id}/resourceGroups/MobileEngagement"
        "/providers/Microsoft.MobileEngagement/appcollections/Both/apps",
        params={"api-version": "2014-12-01"},
        headers={"authorization": f"Bearer {token}"},
    )
    states = {one["name"]: one["properties"]["appState"] for one in listed.json()["value"]}
    assert states == {"Old-android": "Disabled", "Older-android": "Enabled"}


def test_an_app_is_made_by_who_is_for_all_and_disabled_by_who_may_know_of_it(site):
    make(site, "Theirs")
    with site.client(site.token(app_id=site.app.app_id)) as bound:
        problem(bound.post("/apps", json={"name": "Mine", "platform": "ios"}), 403, "forbidden")
        for verb in ("disable", "enable"):
            problem(bound.post(f"/apps/Theirs:{verb}"), 404, "app_not_found")
            assert bound.post(f"/apps/{site.app.name}:{verb}").status_code == 200
    assert site.http.get("/apps/Theirs").json()["disabledAt"] is None


def test_it_is_written_down(site):
    made = make(site, "Logged")["appId"]
    site.http.post("/apps/Logged:disable")
    site.http.post("/apps/Logged:enable")
    done = [entry.action for entry in site.ledger.audit(100, app_id=made)]
    assert done == ["app.enable", "app.disable", "app.create"]
