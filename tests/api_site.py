"""A server as a client of `/api/v1` sees it: an app with data, tokens, and requests with them."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec

from outhaul.client import Collector
from outhaul.errors import Conflict
from outhaul.keys import Keyring
from outhaul.ledger.ledger import Ledger
from outhaul.wire import ROLE_SCOPES, Import, Source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from outhaul.wire import Scope
    from running import Server

ENDED = {"succeeded", "failed", "cancelled"}
PERIOD = {"from": "2016-01-01", "to": "2100-01-01"}


class Site:
    """Registers an app with `server`, which need not be running yet, and an owner's token for all apps."""

    def __init__(self, server: Server, name: str = "Shop", platform: str = "ios") -> None:
        self.server = server
        self.ledger = Ledger(server.data)
        self.app = self.ledger.create_app(name, platform, _now())
        self.secret = self.token()
        self.http = self.client(self.secret)

    def token(self, *scopes: Scope, app_id: str | None = None, name: str | None = None) -> str:
        """A new token's secret; with an owner's scopes unless some are given."""
        named = name or f"token-{time.monotonic_ns()}"
        chosen = list(scopes or ROLE_SCOPES["owner"])
        return self.ledger.issue_token(named, chosen, app_id, None, "operator", _now())[1]

    def client(self, secret: str | None = None) -> httpx2.Client:
        """Plain HTTP below `/api/v1`, with a token if one is given."""
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        return httpx2.Client(
            base_url=f"{self.server.url}/api/v1", headers=headers, timeout=30, trust_env=False
        )

    def send(self, records: Iterable[dict[str, Any]]) -> int:
        with Collector(self.server.url, self.app.sdk_key) as collector:
            return collector.send(records)

    def spec(self, **members: Any) -> dict[str, Any]:
        """An export of events that is fine, with members changed; None leaves one out."""
        body = {"app": self.app.app_id, "kind": "event", "period": PERIOD, **members}
        return {name: value for name, value in body.items() if value is not None}

    def create(self, **members: Any) -> dict[str, Any]:
        """Ask for an export, and insist that it is taken."""
        answer = self.http.post("/exports", json=self.spec(**members))
        assert answer.status_code == 202, answer.text
        return answer.json()

    def stuck(self) -> str:
        """An export that waits for what will never have landed; those of the app that come after it wait too."""
        found = self.ledger.task(self.create()["id"])
        self.wait(found.id)
        # Only the door's own words are in the ledger: the clock of the journal is not for clients to choose.
        task = msgspec.structs.replace(found, id=str(uuid.uuid4()), mark=2**50, created_at=_now())
        return self.ledger.create_task(task).id

    def stuck_import(self, **changes: Any) -> str:
        """An import that waits for what will never have landed; those that come after it may wait until `end_imports`."""
        source = Source(url="file:///srv/imports/tags.csv")
        asked = Import(
            id=str(uuid.uuid4()),
            app_id=self.app.app_id,
            format="auto",
            source=Keyring.open(self.server.data, "").seal(source),
            source_shown=source.url,
            state="queued",
            created_at=_now(),
            created_by="token:nobody",
            mark=2**50,
        )
        return self.ledger.create_import(msgspec.structs.replace(asked, **changes)).id

    def end_imports(self) -> None:
        """Stop all that have not ended, so that they hold up nobody."""
        deadline = time.monotonic() + 30
        while due := self.ledger.unfinished_imports():
            assert time.monotonic() < deadline, self.server.log.read_text()[-5000:]
            for one in due:
                with contextlib.suppress(Conflict):
                    self.ledger.cancel_import(one.id, _now())
            time.sleep(0.05)

    def get(self, export_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/exports/{export_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait(self, export_id: str, timeout_s: float = 60) -> dict[str, Any]:
        """Look until the export has ended."""
        deadline = time.monotonic() + timeout_s
        while (found := self.get(export_id))["state"] not in ENDED:
            assert time.monotonic() < deadline, f"{found}\n{self.server.log.read_text()[-5000:]}"
            time.sleep(0.05)
        return found

    def export(self, **members: Any) -> dict[str, Any]:
        """Ask, wait, and insist that it succeeded."""
        found = self.wait(self.create(**members)["id"])
        assert found["state"] == "succeeded", found
        return found


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that an answer is, which must be this one."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), (
        answer.text
    )
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["requestId"] == answer.headers["x-request-id"]
    return body


def _now() -> int:
    return time.time_ns() // 1_000_000
