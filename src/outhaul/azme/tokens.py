"""The token endpoint: a client id and its secret for an access token (OAuth 2, client credentials)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outhaul import instants, keys
from outhaul.azme.bodies import read_form
from outhaul.azme.reply import Reply, json_reply
from outhaul.azme.shapes import TokenError, TokenResponse
from outhaul.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from outhaul.azme.request import Request
    from outhaul.config import Config
    from outhaul.ledger.access import Credential
    from outhaul.ledger.ledger import Installation, Ledger

RESOURCES = ("https://management.core.windows.net", "https://management.azure.com")
"""What clients of the old API ask a token for, besides this server itself; a slash may follow."""


class Refused(Exception):  # noqa: N818 - never leaves this module: it becomes the answer
    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.description = description


class Tokens:
    def __init__(self, ledger: Ledger, keyring: keys.Keyring, config: Config, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._lifetime = config.token_lifetime_s
        self._now = now

    async def answer(self, request: Request, installation: Installation) -> Reply:
        """A token, or an OAuth error (RFC 6749, 5.2).

        The Ruby runtime sends a GET with a body, the .NET samples no content type: both are read as a form.
        """
        try:
            _check_method(request.method)
            fields = _read_fields(await request.body())
            _check_grant(fields)
            _check_tenant(request.segments[:-2], installation)
            resource = _check_resource(fields, request.base)
            credential = await self._check_client(fields)
        except Refused as refused:
            return self._error(request, refused)
        return self._token(request, resource, credential, installation)

    async def _check_client(self, fields: dict[str, str]) -> Credential:
        client_id = fields.get("client_id", "")
        if not client_id:
            raise Refused(400, "invalid_request", "client_id is missing.")
        credential = await asyncio.to_thread(self._ledger.credential, client_id.lower())
        if credential is None:
            raise Refused(400, "unauthorized_client", "There is no credential with this client_id.")
        if not keys.matches(fields.get("client_secret", ""), credential.secret_hash):
            raise Refused(401, "invalid_client", "The client_secret is not the one of this client_id.")
        return credential

    def _token(
        self, request: Request, resource: str, credential: Credential, installation: Installation
    ) -> Reply:
        issued = self._now() // 1000
        claims = keys.Claims(
            client_id=credential.client_id,
            tenant_id=installation.tenant_id,
            role=credential.role,
            issued_at=issued,
            expires_at=issued + self._lifetime,
        )
        token = TokenResponse(
            token_type="Bearer",  # noqa: S106 - the scheme, not a secret
            # ADAL counts from expires_in alone, and from when the answer reached it.
            expires_in=str(max(self._lifetime - 1, 0)),
            expires_on=str(claims.expires_at),
            not_before=str(issued),
            resource=resource,
            access_token=self._keyring.issue(claims),
        )
        return json_reply(200, token, **_correlation(request))

    def _error(self, request: Request, refused: Refused) -> Reply:
        error = TokenError(
            error=refused.error,
            error_description=refused.description,
            timestamp=instants.show(self._now()),
            trace_id=request.id,
            correlation_id=request.headers.get("client-request-id", "")[:64] or request.id,
        )
        allow = {"allow": "GET, POST"} if refused.status == 405 else {}  # noqa: PLR2004 - the status itself
        return json_reply(refused.status, error, **allow, **_correlation(request))


def _correlation(request: Request) -> dict[str, str]:
    wanted = request.headers.get("return-client-request-id", "").lower() == "true"
    known = request.headers.get("client-request-id", "")[:64]
    return {"client_request_id": known} if wanted and known else {}


def _check_method(method: str) -> None:
    if method not in {"GET", "POST"}:
        raise Refused(405, "invalid_request", "A token is asked for with POST.")


def _check_tenant(tenant: list[str], installation: Installation) -> None:
    if tenant and tenant[0].lower() != installation.tenant_id:
        raise Refused(400, "invalid_request", "There is no such tenant here.")


def _read_fields(body: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    try:
        for name, value in read_form(body):
            if fields.setdefault(name.lower(), value) != value:
                raise Refused(400, "invalid_request", f"{name[:40]} is given twice.")
    except Invalid as error:
        raise Refused(400, "invalid_request", str(error)) from None
    return fields


def _check_grant(fields: dict[str, str]) -> None:
    match fields.get("grant_type", ""):
        case "client_credentials":
            return
        case "refresh_token":
            # ADAL tries this first when its token has run out, with an empty token; told that the grant is
            # invalid it logs in again, told anything else it gives up.
            raise Refused(
                400, "invalid_grant", "There are no refresh tokens here: log in again with the client_secret."
            )
        case "":
            raise Refused(400, "invalid_request", "grant_type is missing.")
        case _:
            raise Refused(400, "unsupported_grant_type", "The only grant_type here is client_credentials.")


def _check_resource(fields: dict[str, str], base: str) -> str:
    resource = fields.get("resource", "")
    if not resource:
        raise Refused(
            400, "invalid_request", "resource is missing; send https://management.core.windows.net/."
        )
    if resource.lower().removesuffix("/") not in {*RESOURCES, base.lower()}:
        raise Refused(400, "invalid_resource", "No such resource; send https://management.core.windows.net/.")
    return resource
