"""Who is let in, and how much they may: the classes on a real ledger, and a real server for what devices send."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
from starlette.requests import Request

from openid import OpenId
from outhaul.api.access import Access, Caller
from outhaul.api.limits import DAY_MS, Limiter, check_quota
from outhaul.azme.auth import RECHECK_MS as CREDENTIAL_RECHECK_MS
from outhaul.collect import Apps
from outhaul.config import Config
from outhaul.errors import Busy, Forbidden, Invalid, OuthaulError, TooMany, Unauthenticated
from outhaul.keys import Claims, Keyring
from outhaul.ledger import bearers
from outhaul.ledger.ledger import Ledger
from outhaul.wire import ROLE_SCOPES, ExportRequest, Scope, Task
from running import Server

NOW = 1_800_000_000_000


def asking(bearer: str | None, host: str = "192.0.2.1", *, scheme: str = "Bearer") -> Request:
    headers = [] if bearer is None else [(b"authorization", f"{scheme} {bearer}".encode("latin-1"))]
    return Request({"type": "http", "headers": headers, "client": (host, 1)})


class Place:
    """An Access on a ledger of its own, at a time that stands still until it is moved."""

    def __init__(self, data: Any, **settings: str) -> None:
        self.now = NOW
        self.data = data
        self.ledger = Ledger(data)
        self.keyring = Keyring.open(data, "")
        self.app = self.ledger.create_app("Shop", "ios", 1)
        config = Config({f"OUTHAUL_{name.upper()}": value for name, value in settings.items()})
        self.access = Access(self.ledger, self.keyring, config, lambda: self.now)

    def token(
        self, name: str = "ci", app_id: str | None = None, expires_at: int | None = None
    ) -> tuple[str, str]:
        token, secret = self.ledger.issue_token(
            name, ["exports:read", "data:write"], app_id, expires_at, "operator", self.now
        )
        return token.token_id, secret

    def access_token(self, credential: Any, **changes: Any) -> str:
        claims = {
            "client_id": credential.client_id,
            "tenant_id": self.ledger.installation(1).tenant_id,
            "role": credential.role,
            "issued_at": self.now // 1000,
            "expires_at": self.now // 1000 + 3600,
            **changes,
        }
        return self.keyring.issue(Claims(**claims))

    async def refusal(self, request: Request) -> OuthaulError:
        with pytest.raises(OuthaulError) as refused:
            await self.access.caller(request)
        return refused.value


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_an_api_token_gives_its_scopes_in_its_app(place):
    _, secret = place.token("ci", place.app.app_id, NOW + 1000)
    caller = asyncio.run(place.access.caller(asking(secret)))
    assert caller == Caller(
        "token:ci", place.app.app_id, frozenset({"exports:read", "data:write"}), NOW + 1000
    )
    caller.require("exports:read")
    with pytest.raises(Forbidden, match="exports:write") as refused:
        caller.require("exports:write")
    assert refused.value.code == "scope_missing"


@pytest.mark.parametrize(
    "request_of",
    [
        asking(None),
        asking(""),
        asking("abc", scheme="Basic"),
        asking("outhaul_" + "x" * 43),
        asking("nonsense"),
        asking("a.b.c"),
        asking("é"),
    ],
)
def test_who_is_not_known_is_not_let_in(place, request_of):
    refused = asyncio.run(place.refusal(request_of))
    assert (type(refused), refused.code) == (Unauthenticated, "unauthenticated")


def test_who_shows_two_bearers_is_nobody(place):
    _, secret = place.token()
    headers = [(b"authorization", f"Bearer {shown}".encode()) for shown in (secret, "other")]
    request = Request({"type": "http", "headers": headers, "client": ("192.0.2.1", 1)})
    assert asyncio.run(place.refusal(request)).code == "unauthenticated"


def test_a_token_expires_to_the_ms(place):
    _, secret = place.token(expires_at=NOW + 1000)

    async def check():
        place.now = NOW + 999
        await place.access.caller(asking(secret))
        place.now = NOW + 1000
        assert (await place.refusal(asking(secret))).code == "token_expired"

    asyncio.run(check())


def test_a_token_that_is_revoked_is_refused_after_five_seconds_at_most(place):
    token_id, secret = place.token()

    async def check():
        await place.access.caller(asking(secret))
        place.ledger.revoke_token(token_id, place.now)
        place.now += bearers.RECHECK_MS - 1
        await place.access.caller(asking(secret))
        place.now += 1
        assert (await place.refusal(asking(secret))).code == "token_revoked"

    asyncio.run(check())


def test_after_a_rotation_both_secrets_are_good_until_the_older_is_not(place):
    token_id, first = place.token()

    async def check():
        _, second = place.ledger.rotate_token(token_id, 60_000, place.now)
        assert await place.access.caller(asking(first)) == await place.access.caller(asking(second))
        place.now += 59_999
        await place.access.caller(asking(first))
        place.now += 1
        assert (await place.refusal(asking(first))).code == "token_expired"
        await place.access.caller(asking(second))
        _, third = place.ledger.rotate_token(token_id, 0, place.now)
        place.now += bearers.RECHECK_MS
        assert (await place.refusal(asking(second))).code == "token_expired"
        await place.access.caller(asking(third))

    asyncio.run(check())


def test_a_token_for_an_app_that_is_gone_gives_nothing(place):
    _, secret = place.token(app_id="ios000009")
    assert asyncio.run(place.refusal(asking(secret))).code == "unauthenticated"


def test_that_a_token_is_used_is_written_once_a_minute(place):
    token_id, secret = place.token()

    async def used(after: int) -> int | None:
        place.now = NOW + after
        await place.access.caller(asking(secret))
        await asyncio.sleep(0.1)
        return place.ledger.token(token_id).last_used_at

    async def check():
        assert await used(0) == NOW
        assert await used(bearers.TOUCH_MS - 1) == NOW
        assert await used(bearers.TOUCH_MS) == NOW + bearers.TOUCH_MS

    asyncio.run(check())


def test_what_is_kept_of_tokens_does_not_grow_without_end(place, monkeypatch):
    monkeypatch.setattr(bearers, "_KEPT", 3)
    found = bearers.Bearers(place.ledger, lambda: place.now)
    secrets = [place.token(f"t{n}")[1] for n in range(5)]

    async def check():
        for secret in secrets:
            await found.find(secret)
            with pytest.raises(Unauthenticated):
                await found.find(secret + "x")

    asyncio.run(check())
    assert (len(found._seen), len(found._missed)) == (3, 3)  # noqa: SLF001  what is kept is what this is about


def test_while_the_ledger_fails_tokens_are_busy(place):
    _, secret = place.token()
    place.ledger.close()
    for path in place.data.glob("ledger.db*"):
        path.unlink()
    (place.data / "ledger.db").write_bytes(b"not a database" * 100)
    assert type(asyncio.run(place.refusal(asking(secret)))) is Busy


def test_an_access_token_of_the_token_endpoint_gives_what_the_credential_may_now(place):
    credential, _ = place.ledger.create_credential("reports", "reader", 1)

    async def check():
        bearer = place.access_token(credential, role="owner")
        caller = await place.access.caller(asking(bearer))
        assert caller == Caller("credential:reports", None, frozenset(ROLE_SCOPES["reader"]), NOW + 3_600_000)
        place.now += 3_599_999
        await place.access.caller(asking(bearer))
        place.now += 1
        assert (await place.refusal(asking(bearer))).code == "token_expired"
        other = place.access_token(credential, tenant_id="another")
        assert (await place.refusal(asking(other))).code == "unauthenticated"
        fresh = place.access_token(credential)
        await place.access.caller(asking(fresh))
        with sqlite3.connect(place.data / "ledger.db") as database:
            database.execute("DELETE FROM credentials")
        place.now += CREDENTIAL_RECHECK_MS
        assert (await place.refusal(asking(fresh))).code == "unauthenticated"

    asyncio.run(check())


def test_a_token_of_the_provider_gives_what_its_role_may(tmp_path):
    openid = OpenId()
    openid.add("one")
    place = Place(tmp_path, **openid.settings())
    try:

        async def check():
            bearer = openid.token("one", NOW / 1000)
            expected = Caller("oidc:alice", None, frozenset(ROLE_SCOPES["contributor"]), NOW + 3_600_000)
            assert await place.access.caller(asking(bearer)) == expected
            refused = await place.refusal(asking(openid.token("one", NOW / 1000, roles=[])))
            assert type(refused) is Forbidden
            _, secret = place.token()
            await place.access.caller(asking(secret))

        asyncio.run(check())
    finally:
        openid.close()


def test_a_caller_that_asks_too_often_is_told_when_to_come_back(tmp_path):
    place = Place(tmp_path, rate_per_minute="6")
    (_, one), (_, other) = place.token("one"), place.token("other")

    async def check():
        for _ in range(6):
            await place.access.caller(asking(one))
        refused = await place.refusal(asking(one))
        assert isinstance(refused, TooMany)
        assert refused.retry_after_s == 10
        await place.access.caller(asking(other))
        place.now += 9_999
        assert isinstance(await place.refusal(asking(one)), TooMany)
        place.now += 1
        await place.access.caller(asking(one))
        assert isinstance(await place.refusal(asking(one)), TooMany)

    asyncio.run(check())


def test_guesses_from_one_place_are_slowed_but_nobody_who_was_let_in_before(tmp_path):
    place = Place(tmp_path, rate_per_minute="6")
    (_, known), (_, new) = place.token("known"), place.token("new")

    async def check():
        await place.access.caller(asking(known, "2001:db8::1"))
        for number in range(6):
            refused = await place.refusal(asking(f"outhaul_{number}", f"2001:db8::{number}"))
            assert type(refused) is Unauthenticated
        for bearer in ("outhaul_x", "nonsense", new):
            assert isinstance(await place.refusal(asking(bearer, "2001:db8::9")), TooMany)
        await place.access.caller(asking(known, "2001:db8::9"))
        await place.access.caller(asking(new, "2001:db8:0:1::9"))
        place.now += 10_000
        assert type(await place.refusal(asking("outhaul_x", "2001:db8::9"))) is Unauthenticated
        # Without anything shown there is nothing to guess, and nothing to slow.
        assert type(await place.refusal(asking(None, "2001:db8::9"))) is Unauthenticated

    asyncio.run(check())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("", "", True),
    ],
)
def test_a_place_is_an_address_or_a_line_of_them(tmp_path, one, other, same):
    place = Place(tmp_path, rate_per_minute="1")

    async def check():
        await place.refusal(asking("guess", one))
        refused = await place.refusal(asking("guess", other))
        assert isinstance(refused, TooMany) == same

    asyncio.run(check())


def test_no_limit_is_none():
    limiter = Limiter(0, lambda: NOW)
    for _ in range(1000):
        limiter.take("x")


def test_a_clock_put_back_neither_gives_nor_takes():
    now = [NOW]
    limiter = Limiter(2, lambda: now[0])
    limiter.take("x")
    now[0] = 0
    limiter.take("x")
    with pytest.raises(TooMany):
        limiter.take("x")


def test_what_is_kept_of_callers_does_not_grow_without_end():
    limiter = Limiter(1, lambda: NOW)
    for number in range(10_001):
        limiter.take(str(number))
    limiter.take("0")
    with pytest.raises(TooMany):
        limiter.take("10000")


def task(number: int, **changes: Any) -> Task:
    values = {
        "id": f"task-{number}",
        "app_id": "ios000001",
        "request": ExportRequest(kind="tag", format="json"),
        "destination": "sealed",
        "state": "queued",
        "created_at": NOW,
        "created_by": "token:ci",
        "mark": 0,
    }
    return Task(**{**values, **changes})


CI = Caller("token:ci", None, frozenset(), None)


def test_so_many_exports_may_be_unfinished(place):
    config = Config({"OUTHAUL_EXPORTS_UNFINISHED": "2"})
    place.ledger.create_task(task(1))
    place.ledger.create_task(task(2, created_by="token:other"))
    place.ledger.create_task(task(3, state="failed"))
    check_quota(place.ledger, CI, config, NOW)
    place.ledger.create_task(task(4, state="started"))
    with pytest.raises(TooMany, match="unfinished") as refused:
        check_quota(place.ledger, CI, config, NOW)
    assert refused.value.retry_after_s > 0
    check_quota(place.ledger, CI, Config({"OUTHAUL_EXPORTS_UNFINISHED": "0"}), NOW)


def test_so_many_exports_may_be_asked_for_in_a_day(place):
    config = Config({"OUTHAUL_EXPORTS_PER_DAY": "2", "OUTHAUL_EXPORTS_UNFINISHED": "0"})
    for number, ago in enumerate((DAY_MS, DAY_MS - 5000, 4000, 3000)):
        place.ledger.create_task(task(number, created_at=NOW - ago, state="failed"))
    with pytest.raises(TooMany, match="24 hours") as refused:
        check_quota(place.ledger, CI, config, NOW)
    later = NOW + int(refused.value.retry_after_s * 1000)
    with pytest.raises(TooMany):
        check_quota(place.ledger, CI, config, later - 1)
    check_quota(place.ledger, CI, config, later)
    check_quota(place.ledger, CI, Config({"OUTHAUL_EXPORTS_PER_DAY": "0"}), NOW)


def test_settings_of_a_provider_that_cannot_be_are_said_at_once(tmp_path):
    with pytest.raises(Invalid, match="OUTHAUL_OIDC_AUDIENCE"):
        Place(tmp_path, oidc_issuer="https://login.example/")


# Devices and servers that send with a token


@pytest.fixture(scope="module")
def sending(tmp_path_factory):
    data = tmp_path_factory.mktemp("sending") / "data"
    ledger = Ledger(data)
    app = ledger.create_app("Shop", "web", 1)
    with Server(data) as server:
        yield server, ledger, app


EVENT = {"records": [{"kind": "event", "deviceId": "d1", "name": "a", "timestamp": NOW}]}


def send(server: Server, bearer: str) -> httpx2.Response:
    return httpx2.post(
        f"{server.url}/api/v1/collect", json=EVENT, headers={"authorization": f"Bearer {bearer}"}
    )


def test_a_token_that_may_sends_data_for_its_app(sending):
    server, ledger, app = sending
    token, secret = ledger.issue_token("sends", ["data:write"], app.app_id, None, "operator", NOW)
    answer = send(server, secret)
    assert (answer.status_code, answer.json()) == (202, {"received": 1})
    assert send(server, app.sdk_key).status_code == 202
    for _ in range(50):
        if ledger.token(token.token_id).last_used_at is not None:
            break
        time.sleep(0.05)
    assert ledger.token(token.token_id).last_used_at is not None


def test_a_known_key_needs_no_ledger_because_tokens_exist(tmp_path):
    place = Place(tmp_path)
    _, secret = place.token(app_id=place.app.app_id)
    apps = Apps(place.ledger, now=lambda: place.now)

    async def check():
        assert await apps.admit(place.app.sdk_key) == await apps.admit(secret) == place.app
        place.ledger.close()
        for path in place.data.glob("ledger.db*"):
            path.write_bytes(b"not a database" * 100)
        assert await apps.admit(place.app.sdk_key) == await apps.admit(secret) == place.app
        place.now += bearers.RECHECK_MS
        assert await apps.admit(place.app.sdk_key) == place.app
        with pytest.raises(Busy):
            await apps.admit(secret)

    asyncio.run(check())


@pytest.mark.parametrize(
    ("scopes", "bound", "expires_at", "status", "code"),
    [
        (["exports:write"], True, None, 403, "forbidden"),
        (["data:write"], False, None, 403, "forbidden"),
        (["data:write"], True, 1, 401, "token_expired"),
    ],
)
def test_a_token_that_may_not_sends_nothing(sending, scopes, bound, expires_at, status, code):
    server, ledger, app = sending
    name = f"{code}-{bound}"
    _, secret = ledger.issue_token(name, scopes, app.app_id if bound else None, expires_at, "operator", NOW)
    answer = send(server, secret)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert send(server, "outhaul_guess").status_code == 401


def test_the_docs_say_what_each_role_may():
    text = (Path(__file__).parent.parent / "docs" / "access.md").read_text()
    roles = ("reader", "contributor", "owner")
    for scope in get_args(Scope):
        cells = " | ".join("yes" if scope in ROLE_SCOPES[role] else "" for role in roles)
        assert f"| `{scope}` | {cells} |".replace("|  |", "| |").replace("|  |", "| |") in text
