"""Retention over HTTP, on a real server: set, looked at, refused. What it does to tables is tried where it is done."""

from __future__ import annotations

from typing import get_args

import pytest

from api_site import Site, problem
from outhaul.wire import RetainedKind
from running import Server

PATH = "/apps/Shop/retention"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("retention") / "data") as server:
        yield Site(server)


def put(site, days):
    answer = site.http.put(PATH, json={"days": days})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_everything_is_kept_until_something_is_set(site):
    other = site.ledger.create_app("Other", "web", 1)
    assert site.http.get("/apps/Other/retention").json() == {"days": {}}
    days = {kind: 90 + number for number, kind in enumerate(get_args(RetainedKind))}
    assert put(site, days) == site.http.get(f"/apps/{site.app.app_id}/retention").json() == {"days": days}
    assert site.ledger.retention() == {site.app.app_id: days}
    assert put(site, {"event": 1, "crash": 36_500}) == {"days": {"event": 1, "crash": 36_500}}
    assert site.ledger.retention(other.app_id) == {}
    assert put(site, {}) == {"days": {}}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"days": {"event": 0}},
        {"days": {"event": 36_501}},
        {"days": {"event": 1.5}},
        {"days": {"event": None}},
        {"days": {"tag": 1}},
        {"days": [], "event": 1},
    ],
)
def test_what_is_wrong_changes_nothing(site, body):
    put(site, {"job": 7})
    problem(site.http.put(PATH, json=body), 400, "invalid")
    assert site.ledger.retention(site.app.app_id) == {site.app.app_id: {"job": 7}}


def test_it_takes_scopes_and_is_of_the_callers_app(site):
    site.ledger.create_app("Theirs", "web", 1)
    with site.client(site.token(app_id=site.app.app_id)) as bound:
        problem(bound.get("/apps/Theirs/retention"), 404, "app_not_found")
        problem(bound.put("/apps/Theirs/retention", json={"days": {}}), 404, "app_not_found")
        assert bound.put(PATH, json={"days": {}}).status_code == 200
    with site.client(site.token("apps:read")) as reader:
        assert reader.get(PATH).status_code == 200
        problem(reader.put(PATH, json={"days": {}}), 403, "scope_missing")


def test_it_is_written_down(site):
    put(site, {"event": 30})
    site.http.get(PATH)
    done = [entry.action for entry in site.ledger.audit(100, app_id=site.app.app_id)]
    assert {"retention.set", "retention.read"} <= set(done)
