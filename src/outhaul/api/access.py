"""Who is asking: API tokens, access tokens of our own token endpoint, tokens of an OpenID provider."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING

from msgspec import Struct

from outhaul import keys
from outhaul.api.audit import Audit
from outhaul.api.limits import Limiter
from outhaul.api.oidc import Provider, read_settings
from outhaul.azme.auth import EXPIRED, Authenticator
from outhaul.errors import Forbidden, Unauthenticated
from outhaul.ledger.access import TOKEN_PREFIX
from outhaul.ledger.bearers import Bearers
from outhaul.wire import ROLE_SCOPES, Scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from outhaul.config import Config
    from outhaul.keys import Keyring
    from outhaul.ledger.ledger import Installation, Ledger

_KEPT = 10_000
_JWT_DOTS = 2


class Caller(Struct, frozen=True):
    """Who asks, as the audit log names them, and what they may do: in one app or (`app_id` of None) in all.

    No two that can ask at the same time have the same `actor`. `expires_at` is ms since 1970 UTC.
    """

    actor: str
    app_id: str | None
    scopes: frozenset[Scope]
    expires_at: int | None

    def require(self, scope: Scope) -> None:
        """Let pass who has a scope.

        Raises:
            Forbidden: they do not, naming it.
        """
        if scope not in self.scopes:
            raise Forbidden(
                f"This takes the scope {scope}, which {self.actor} does not have.",
                hint=f"Use a token that has {scope}.",
                code="scope_missing",
            )


class Access:
    """Lets callers in, and writes down what they do. `now` gives ms since 1970 UTC; for use on an event loop.

    Raises:
        Invalid: an `oidc_` setting is missing or cannot be, naming it.
    """

    def __init__(self, ledger: Ledger, keyring: Keyring, config: Config, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._now = now
        self._bearers = Bearers(ledger, now)
        self._authenticator = Authenticator(ledger, keyring, now)
        settings = read_settings(config)
        self._provider = Provider(settings, now) if settings else None
        self._audit = Audit(ledger, now)
        self._requests = Limiter(config.rate_per_minute, now)
        self._failures = Limiter(config.rate_per_minute, now)
        self._believed: dict[str, None] = {}
        self._installed: Installation | None = None

    async def caller(self, request: Request) -> Caller:
        """Who sent a request.

        Raises:
            Unauthenticated: nobody who is known: `unauthenticated`, `token_expired`, `token_revoked`.
            Forbidden: a token of the OpenID provider that gives no role here.
            TooMany: the caller asks too often, or too many that were not let in came from the same address.
            Busy: it cannot be found out now.
        """
        bearer = _read_bearer(request.headers.getlist("authorization"))
        place = _place(request)
        hashed = keys.hash_secret(bearer)
        if hashed not in self._believed:
            # Who was let in before need not suffer from somebody who guesses behind the same proxy.
            self._failures.check(place)
        try:
            caller = await self._believe(bearer)
        except (Unauthenticated, Forbidden):
            self._believed.pop(hashed, None)
            self._failures.spend(place)
            raise
        self._believed.pop(hashed, None)
        if len(self._believed) >= _KEPT:
            del self._believed[next(iter(self._believed))]
        self._believed[hashed] = None
        self._requests.take(caller.actor)
        return caller

    async def audit(
        self, caller: Caller, action: str, target: str, app_id: str | None, request_id: str | None
    ) -> None:
        """Write down what a caller does; it is on disk when this returns. Reads that repeat are written once."""
        await self._audit.write(caller.actor, action, target, app_id, request_id)

    async def _believe(self, bearer: str) -> Caller:
        if bearer.startswith(TOKEN_PREFIX):
            return await self._by_token(bearer)
        if self._provider is not None and bearer.count(".") == _JWT_DOTS:
            return await self._by_provider(self._provider, bearer)
        return await self._by_credential(bearer)

    async def _by_token(self, secret: str) -> Caller:
        token = await self._bearers.find(secret)
        return Caller(
            actor=f"token:{token.name}",
            app_id=token.app_id,
            scopes=frozenset(token.scopes),
            expires_at=token.expires_at,
        )

    async def _by_provider(self, provider: Provider, token: str) -> Caller:
        found = await provider.read(token)
        return Caller(
            actor=f"oidc:{found.subject}",
            app_id=None,
            scopes=frozenset(ROLE_SCOPES[found.role]),
            expires_at=found.expires_at,
        )

    async def _by_credential(self, token: str) -> Caller:
        if self._installed is None:
            self._installed = await asyncio.to_thread(self._ledger.installation, self._now())
        try:
            claims, credential = await self._authenticator.believe(token, self._installed)
        except Unauthenticated as error:
            # Its codes are those of the old API.
            code = "token_expired" if error.code == EXPIRED else ""
            raise Unauthenticated(error.message, hint=error.hint, code=code) from None
        return Caller(
            actor=f"credential:{credential.name}",
            app_id=None,
            scopes=frozenset(ROLE_SCOPES[credential.role]),
            expires_at=claims.expires_at * 1000,
        )


def _read_bearer(headers: list[str]) -> str:
    if len(headers) == 1:
        scheme, _, bearer = headers[0].partition(" ")
        if scheme.lower() == "bearer" and bearer.strip():
            return bearer.strip()
    raise Unauthenticated(
        "The request does not say who is asking.", hint="Send the header `Authorization: Bearer TOKEN` once."
    )


def _place(request: Request) -> str:
    """Where a request comes from, as far as one who guesses cannot easily choose another."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    # One line has a whole /64 of these.
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))
