"""Collections of apps over HTTP, on a real server: with and without apps, disabled, enabled; and to the old API."""

from __future__ import annotations

import httpx2
import pytest

from api_site import Site, problem
from running import Server

EVENT = {"kind": "event", "deviceId": "d", "timestamp": 1_700_000_000_000, "name": "x"}
OLD = {"api-version": "2014-12-01"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("collections") / "data") as server:
        yield Site(server)


@pytest.fixture(scope="module")
def old(site):
    """Requests to the old API, with paths from its provider on."""
    credential, secret = site.ledger.create_credential("old", "contributor", 1)
    where = site.ledger.installation()
    form = {"grant_type": "client_credentials", "client_id": credential.client_id, "client_secret": secret}
    form["resource"] = "https://management.core.windows.net/"
    token = httpx2.post(f"{site.server.url}/{where.tenant_id}/oauth2/token", data=form).json()["access_token"]
    with httpx2.Client(
        base_url=f"{site.server.url}/subscriptions/{where.subscription_id}",
        headers={"authorization": f"Bearer {token}"},
        params=OLD,
    ) as client:
        yield client


def make(site, name):
    answer = site.http.post("/collections", json={"name": name})
    assert answer.status_code == 201, answer.text
    return answer.json()


def app_in(site, name, collection):
    answer = site.http.post("/apps", json={"name": name, "platform": "web", "collection": collection})
    assert answer.status_code == 201, answer.text
    return answer.json()


def status(site, app):
    headers = {"authorization": f"Bearer {app['sdkKey']}"}
    return httpx2.post(f"{site.server.url}/api/v1/collect", json=[EVENT], headers=headers).status_code


def test_one_can_be_made_before_its_apps(site):
    made = make(site, "Early")
    assert (made["name"], made["apps"], made["disabledAt"]) == ("Early", [], None)
    assert site.http.get("/collections/Early").json() == made
    app = app_in(site, "Bird", "Early")
    assert site.http.get("/collections/Early").json() == made | {"apps": [app["appId"]]}
    problem(site.http.post("/collections", json={"name": "Early"}), 409, "conflict")
    problem(site.http.post("/collections", json={"name": "a/b"}), 400, "invalid")
    problem(site.http.get("/collections/Late"), 404, "collection_not_found")
    names = [one["name"] for one in site.http.get("/collections").json()["collections"]]
    assert names == sorted(names)
    assert {"Early", "Shop"} <= set(names)


def test_while_one_is_disabled_all_of_its_apps_are(site):
    make(site, "Games")
    chess, draughts = (app_in(site, name, "Games") for name in ("Chess", "Draughts"))
    beside = app_in(site, "Beside", "Elsewhere")
    site.http.post("/apps/Draughts:disable")
    assert (status(site, chess), status(site, draughts), status(site, beside)) == (202, 401, 202)
    disabled = site.http.post("/collections/Games:disable").json()
    assert disabled["disabledAt"] is not None
    # At once, not when what was looked up before is believed no more.
    assert (status(site, chess), status(site, beside)) == (401, 202)
    assert site.http.post("/collections/Games:disable").json() == disabled
    late = app_in(site, "Late", "Games")
    assert [status(site, app) for app in (chess, draughts, late, beside)] == [401, 401, 401, 202]
    assert site.http.get("/apps/Chess").json()["disabledAt"] == disabled["disabledAt"]
    # Enabling the app alone does not help.
    assert site.http.post("/apps/Chess:enable").json()["disabledAt"] == disabled["disabledAt"]
    assert status(site, chess) == 401
    assert site.http.post("/collections/Games:enable").json()["disabledAt"] is None
    assert [status(site, app) for app in (chess, draughts, late, beside)] == [202, 401, 202, 202]
    for verb in ("disable", "enable"):
        problem(site.http.post(f"/collections/None:{verb}"), 404, "collection_not_found")


def test_the_old_api_lists_one_without_apps(site, old):
    make(site, "Empty")
    listed = old.get("/providers/Microsoft.MobileEngagement/appCollections").json()["value"]
    [empty] = [one for one in listed if one["name"] == "Empty"]
    [shop] = [one for one in listed if one["name"] == "Shop"]
    assert empty == shop | {"id": shop["id"].replace("/Shop", "/Empty"), "name": "Empty"}
    apps = f"{site.server.url}{empty['id']}/apps"
    assert old.get(apps).json() == {"value": []}
    assert old.get(apps.replace("/Empty/", "/EMPTY/")).json() == {"value": []}
    missing = old.get(apps.replace("/Empty/", "/None/"))
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "ResourceNotFound")
    missing = old.get(apps.replace("/MobileEngagement/", "/Nothing/"))
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "ResourceGroupNotFound")
    asked = "/providers/Microsoft.MobileEngagement/checkAppCollectionNameAvailability"
    for name, free in (("empty", False), ("Fresh", True)):
        assert old.post(asked, json={"name": name}).json()["available"] is free


def test_a_token_for_one_app_sees_its_collection_and_disables_none(site):
    with site.client(site.token(app_id=site.app.app_id)) as bound:
        [mine] = bound.get("/collections").json()["collections"]
        assert (mine["name"], mine["apps"]) == ("Shop", [site.app.app_id])
        assert bound.get("/collections/Shop").json() == mine
        problem(bound.get("/collections/Games"), 404, "collection_not_found")
        problem(bound.post("/collections", json={"name": "Mine"}), 403, "forbidden")
        for verb in ("disable", "enable"):
            problem(bound.post(f"/collections/Shop:{verb}"), 403, "forbidden")
            problem(bound.post(f"/collections/Games:{verb}"), 404, "collection_not_found")
    assert site.http.get("/collections/Shop").json()["disabledAt"] is None


def test_who_may_look_may_not_change(site):
    with site.client(site.token("apps:read")) as reader:
        assert reader.get("/collections").status_code == 200
        for path in ("/collections", "/collections/Shop:disable", "/collections/Shop:enable"):
            problem(reader.post(path, json={"name": "Mine"}), 403, "scope_missing")


def test_it_is_written_down(site):
    make(site, "Logged")
    site.http.post("/collections/Logged:disable")
    site.http.post("/collections/Logged:enable")
    site.http.get("/collections/Logged")
    done = [entry.action for entry in site.ledger.audit(100) if entry.target == "Logged"]
    verbs = ("read", "enable", "disable", "create")
    assert done == [f"collection.{verb}" for verb in verbs]
