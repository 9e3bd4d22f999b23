"""API tokens over HTTP, on a real server: nobody can make one that may do more, or elsewhere, or for longer."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import pytest

from api_site import Site, problem
from openid import OpenId
from outhaul import instants
from outhaul.wire import ROLE_SCOPES
from running import Server

# One for all: what is slow about a client is making it.
HTTP = httpx2.Client(trust_env=False, timeout=30)


@pytest.fixture(scope="module")
def openid():
    provider = OpenId()
    provider.add("one", "ES256")
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, openid):
    server = Server(tmp_path_factory.mktemp("tokens") / "data", **openid.settings())
    site = Site(server)
    site.other = site.ledger.create_app("Other", "ios", 1)
    with server:
        yield site


def body(name: str, **members: Any) -> dict[str, Any]:
    return {"name": name, "scopes": ["exports:read"]} | members


def later(seconds: float) -> str:
    return instants.show(int((time.time() + seconds) * 1000))


def make(client: httpx2.Client, name: str, **members: Any) -> dict[str, Any]:
    answer = client.post("/tokens", json=body(name, **members))
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def me(site: Site, secret: str) -> httpx2.Response:
    return HTTP.get(f"{site.server.url}/api/v1/me", headers={"authorization": f"Bearer {secret}"})


def test_a_token_that_was_made_says_who_it_is(site):
    ends = later(3600)
    made = make(site.http, "nightly", app="Shop", scopes=["exports:write", "exports:read"], expiresAt=ends)
    assert made["secret"].startswith("outhaul_")
    assert me(site, made["secret"]).json() == {
        "actor": "token:nightly",
        "app": "Shop",
        "scopes": ["exports:read", "exports:write"],
        "expiresAt": ends,
    }
    shown = site.http.get(f"/tokens/{made['id']}").json()
    assert shown == {
        **{name: made[name] for name in made if name != "secret"},
        "lastUsedAt": shown["lastUsedAt"],
    }
    assert (shown["app"], shown["appId"], shown["createdBy"]) == ("Shop", site.app.app_id, site_actor(site))
    listed = site.http.get("/tokens")
    assert made["id"] in [token["id"] for token in listed.json()["tokens"]]
    assert "secret" not in listed.text.lower()


def site_actor(site: Site) -> str:
    return site.http.get("/me").json()["actor"]


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"scopes": ["everything"]}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"name": ""}, "name"),
        ({"name": " x"}, "name"),
        ({"expiresAt": "soon"}, "expiresAt"),
        ({"expiresAt": "2020-01-01"}, "expiresAt"),
        ({"until": "2020-01-01"}, "until"),
    ],
)
def test_what_is_wrong_with_a_new_token_is_named(site, members, named):
    assert named in problem(site.http.post("/tokens", json=body("wrong") | members), 400, "invalid")["detail"]


def test_a_name_is_taken_until_its_token_is_revoked(site):
    made = make(site.http, "once")
    problem(site.http.post("/tokens", json=body("once")), 409, "conflict")
    problem(site.http.post("/tokens", json=body("x", app="Nowhere")), 404, "app_not_found")
    assert site.http.post(f"/tokens/{made['id']}:revoke").json()["revokedAt"] is not None
    make(site.http, "once")


def test_a_token_cannot_be_given_a_scope_that_its_maker_lacks(site):
    maker = site.client(site.token("tokens:write", "exports:read"))
    make(maker, "same", scopes=["exports:read", "tokens:write"])
    refused = maker.post("/tokens", json=body("more", scopes=["exports:read", "exports:write"]))
    assert "exports:write" in problem(refused, 403, "scope_missing")["detail"]
    # Neither by having the secret of one that has it.
    strong = make(site.http, "strong", scopes=["exports:write"])
    assert (
        "exports:write"
        in problem(maker.post(f"/tokens/{strong['id']}:rotate"), 403, "scope_missing")["detail"]
    )


def test_a_token_of_one_app_makes_and_sees_tokens_of_that_app_only(site):
    scopes = ("tokens:write", "tokens:read", "exports:read")
    maker = site.client(site.token(*scopes, app_id=site.app.app_id))
    own = make(maker, "own", app=site.app.app_id)
    for app in ("Other", site.other.app_id):
        problem(maker.post("/tokens", json=body("elsewhere", app=app)), 404, "app_not_found")
    problem(maker.post("/tokens", json=body("everywhere")), 403, "forbidden")
    everywhere, other = make(site.http, "everywhere"), make(site.http, "elsewhere", app="Other")
    for hidden in (everywhere, other):
        problem(maker.get(f"/tokens/{hidden['id']}"), 404, "not_found")
        for verb in ("rotate", "revoke"):
            problem(maker.post(f"/tokens/{hidden['id']}:{verb}"), 404, "not_found")
    tokens = maker.get("/tokens").json()["tokens"]
    assert {token["appId"] for token in tokens} == {site.app.app_id}
    assert own["id"] in [token["id"] for token in tokens]
    assert me(site, everywhere["secret"]).status_code == 200


def test_a_token_that_ends_makes_none_that_outlives_it(site):
    ends = later(600)
    maker = site.client(
        make(site.http, "brief", scopes=["tokens:write", "exports:read"], expiresAt=ends)["secret"]
    )
    make(maker, "as brief", expiresAt=ends)
    for members in ({}, {"expiresAt": later(601)}):
        problem(maker.post("/tokens", json=body("longer", **members)), 403, "forbidden")
    forever = make(site.http, "forever")
    problem(maker.post(f"/tokens/{forever['id']}:rotate"), 403, "forbidden")


def test_after_a_rotation_both_secrets_work_for_as_long_as_was_said(site):
    made = make(site.http, "rotated")
    rotated = site.http.post(f"/tokens/{made['id']}:rotate", json={"overlapSeconds": 2}).json()
    assert me(site, made["secret"]).status_code == me(site, rotated["secret"]).status_code == 200
    assert rotated["previousUntil"] is not None
    time.sleep(2)
    problem(me(site, made["secret"]), 401, "token_expired")
    again = site.http.post(f"/tokens/{made['id']}:rotate").json()
    assert instants.read("", again["previousUntil"]) > (time.time() + 23 * 3600) * 1000
    assert me(site, rotated["secret"]).status_code == me(site, again["secret"]).status_code == 200
    for wrong in (-1, 30 * 24 * 3600 + 1, "1"):
        problem(
            site.http.post(f"/tokens/{made['id']}:rotate", json={"overlapSeconds": wrong}), 400, "invalid"
        )
    problem(site.http.post("/tokens/none:rotate"), 404, "not_found")


def test_a_revoked_token_is_refused_within_five_seconds_and_stays_revoked(site):
    made = make(site.http, "gone")
    assert me(site, made["secret"]).status_code == 200
    revoked = site.http.post(f"/tokens/{made['id']}:revoke").json()
    deadline = time.monotonic() + 6
    while (answer := me(site, made["secret"])).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    problem(answer, 401, "token_revoked")
    assert "Bearer" in answer.headers["www-authenticate"]
    assert site.http.post(f"/tokens/{made['id']}:revoke").json() == revoked
    problem(site.http.post(f"/tokens/{made['id']}:rotate"), 409, "conflict")


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/tokens", "tokens:write"),
        ("GET", "/tokens", "tokens:read"),
        ("GET", "/tokens/x", "tokens:read"),
        ("POST", "/tokens/x:rotate", "tokens:write"),
        ("POST", "/tokens/x:revoke", "tokens:write"),
        ("GET", "/audit", "audit:read"),
    ],
)
def test_each_operation_takes_its_scope(site, method, path, scope):
    others = [other for other in ROLE_SCOPES["owner"] if other != scope]
    with site.client(site.token(*others)) as client:
        answer = client.request(
            method, path, json=body("x") if path == "/tokens" and method == "POST" else None
        )
        assert scope in problem(answer, 403, "scope_missing")["detail"]
    with site.client() as nobody:
        problem(nobody.request(method, path), 401, "unauthenticated")


def test_a_credential_of_the_token_endpoint_is_let_in_by_its_role(site):
    credential, secret = site.ledger.create_credential("reports", "reader", 1)
    form = {
        "grant_type": "client_credentials",
        "client_id": credential.client_id,
        "client_secret": secret,
        "resource": site.server.url,
    }
    bearer = httpx2.post(f"{site.server.url}/oauth2/token", data=form).json()["access_token"]
    who = me(site, bearer).json()
    assert (who["actor"], who["scopes"]) == ("credential:reports", sorted(ROLE_SCOPES["reader"]))
    with site.client(bearer) as client:
        problem(client.post("/tokens", json=body("x")), 403, "scope_missing")


def test_a_token_of_the_openid_provider_is_let_in_by_its_role(site, openid):
    who = me(site, openid.token("one", roles="Outhaul.Admin")).json()
    assert (who["actor"], who["scopes"]) == ("oidc:alice", sorted(ROLE_SCOPES["owner"]))
    assert "'roles'" in problem(me(site, openid.token("one", roles=[])), 403, "forbidden")["detail"]
    problem(me(site, openid.token("one", exp=int(time.time()) - 61)), 401, "token_expired")
    problem(me(site, openid.token("one", aud="api://other")), 401, "unauthenticated")
    # A person's session ends, what they set up goes on.
    with site.client(openid.token("one", roles="Outhaul.Admin")) as alice:
        assert make(alice, "of alice")["createdBy"] == "oidc:alice"


def test_too_many_requests_and_those_that_nobody_can_judge_now_are_told_to_come_back(tmp_path, openid):
    nowhere = openid.settings(oidc_issuer="http://127.0.0.1:1/")
    server = Server(tmp_path / "data", rate_per_minute="30", exports_per_day="1", **nowhere)
    site = Site(server)
    with server:
        answer = me(site, openid.token("one"))
        problem(answer, 503, "busy")
        assert int(answer.headers["retry-after"]) > 0
        with site.client(site.token()) as client:
            for replayed in (False, True):
                answer = client.post("/exports", json=site.spec(), headers={"idempotency-key": "k"})
                assert answer.status_code == 202
                assert ("idempotency-replayed" in answer.headers) == replayed
            answer = client.post("/exports", json=site.spec(), headers={"idempotency-key": "other"})
            problem(answer, 429, "too_many")
            assert 86_000 < int(answer.headers["retry-after"]) <= 86_400
        # One comes back every two seconds, so a slow machine may have a few more.
        asked = [site.http.get("/me") for _ in range(45)]
        answer = asked[-1]
        assert [one.status_code for one in asked[:30]] == [200] * 30
        problem(answer, 429, "too_many")
        wait = int(answer.headers["retry-after"])
        assert 1 <= wait <= 2
        time.sleep(wait)
        assert site.http.get("/me").status_code == 200
        guesses = [me(site, f"outhaul_{number}").status_code for number in range(45)]
        assert guesses[0] == 401
        assert guesses[-1] == 429
        assert HTTP.get(f"{server.url}/api/v1/me").status_code == 401


def test_the_document_says_all_that_can_become_of_a_caller(site):
    paths = HTTP.get(f"{site.server.url}/api/v1/openapi.json").json()["paths"]
    for path, method in (
        ("/tokens", "get"),
        ("/tokens/{id}:rotate", "post"),
        ("/me", "get"),
        ("/audit", "get"),
    ):
        found = next(one for name, one in paths.items() if name.endswith(path))
        assert {"200", "401", "403", "429", "503"} <= set(found[method]["responses"])


def test_a_provider_that_is_set_up_half_is_said_at_the_start(tmp_path):
    server = Server(tmp_path / "data", oidc_issuer="https://login.example/")
    with pytest.raises(AssertionError, match="OUTHAUL_OIDC_AUDIENCE is not"):
        server.start()
