"""Who is asking, and whether they may: the access token of a request, against the ledger."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outhaul.errors import Forbidden, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

    from outhaul.keys import Claims, Keyring
    from outhaul.ledger.access import Credential
    from outhaul.ledger.ledger import Installation, Ledger

EXPIRED = "ExpiredAuthenticationToken"
"""The code of an access token that has run out."""
RECHECK_MS = 5000
"""A credential that was deleted, or given another role, is noticed after this time at most."""


class Authenticator:
    def __init__(self, ledger: Ledger, keyring: Keyring, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._now = now
        self._seen: dict[str, tuple[int, Credential | None]] = {}

    async def authenticate(self, header: str, installation: Installation) -> Credential:
        """The credential a request's `Authorization` stands for, as it is now.

        Raises:
            Unauthenticated: with the code that says what is wrong with the token.
        """
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated(
                "The request has no access token.",
                hint="Send it in the header `Authorization: Bearer <token>`.",
                code="AuthenticationFailed",
            )
        _, credential = await self.believe(token.strip(), installation)
        return credential

    async def believe(self, token: str, installation: Installation) -> tuple[Claims, Credential]:
        """What an access token says that is good now, and the credential it stands for, as it is now.

        Raises:
            Unauthenticated: with the code that says what is wrong with the token.
        """
        claims = self._read(token)
        if claims.tenant_id != installation.tenant_id:
            raise Unauthenticated(
                "The access token is another tenant's.",
                hint="Ask this server for one.",
                code="InvalidAuthenticationTokenTenant",
            )
        # To the second, with no grace: a token is worth what its expires_on said. The Ruby runtime goes on
        # for five minutes after that, but an installation that shortens the lifetime means it, and the
        # code below is what clients are told to look for before they ask again.
        if claims.expires_at * 1000 <= self._now():
            raise Unauthenticated("The access token has expired.", hint="Ask for a new one.", code=EXPIRED)
        credential = await self._credential(claims.client_id)
        if credential is None:
            raise Unauthenticated(
                "The credential of this access token no longer exists.",
                hint="Ask the operator for another.",
                code="InvalidAuthenticationToken",
            )
        return claims, credential

    def _read(self, token: str) -> Claims:
        try:
            return self._keyring.read(token)
        except Unauthenticated as error:
            raise Unauthenticated(error.message, hint=error.hint, code="InvalidAuthenticationToken") from None

    async def _credential(self, client_id: str) -> Credential | None:
        checked_at, credential = self._seen.get(client_id, (0, None))
        if not checked_at <= self._now() < checked_at + RECHECK_MS:
            checked_at = self._now()
            credential = await asyncio.to_thread(self._ledger.credential, client_id)
            self._seen[client_id] = (checked_at, credential)
        return credential


def authorize(credential: Credential, *, writes: bool) -> None:
    """Let a reader look, and a contributor or an owner also ask for something.

    Raises:
        Forbidden: the role is not enough.
    """
    allowed = {"contributor", "owner"} if writes else {"reader", "contributor", "owner"}
    if credential.role not in allowed:
        raise Forbidden(
            f"The credential {credential.name} is a {credential.role} and may not do this.",
            hint="It takes a contributor or an owner.",
            code="AuthorizationFailed",
        )
