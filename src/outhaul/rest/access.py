"""Who may, and who did: tokens, callers, the audit log."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from outhaul.rest.base import Answered, Asked, Name
from outhaul.wire import Scope  # noqa: TC001  msgspec resolves it at run time


class NewToken(Asked, frozen=True):
    """A token to be made: for one app (its name or `appId`) or, with None, for all; it may do what its scopes say."""

    name: Name
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    app: Name | None = None
    expires_at: str | None = None


class Rotation(Asked, frozen=True):
    """For how many seconds the secret that is replaced stays valid."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=30 * 24 * 3600)] = 24 * 3600


class Token(Answered, frozen=True):
    """An API token, without its secret. `previousUntil`: until when the secret before the last rotation is valid."""

    id: str
    name: str
    app: str | None
    app_id: str | None
    scopes: list[Scope]
    created_at: str
    created_by: str
    expires_at: str | None
    last_used_at: str | None
    previous_until: str | None
    revoked_at: str | None


class IssuedToken(Token, frozen=True):
    """The same with its secret, which is shown this once."""

    secret: str

    def __repr__(self) -> str:
        return f"IssuedToken({self.id!r}, {self.name!r}, …)"


class TokenList(Answered, frozen=True):
    tokens: list[Token]


class Caller(Answered, frozen=True):
    """Who is asking, and what they may do. `app` of null: in every app."""

    actor: str
    app: str | None
    scopes: list[Scope]
    expires_at: str | None


class AuditEntry(Answered, frozen=True):
    """Who did what to what, when. `actor` is `token:NAME`, `credential:NAME`, `oidc:SUBJECT`, `operator` or `server`."""

    at: str
    actor: str
    action: str
    target: str
    app_id: str | None
    request_id: str | None


class AuditList(Answered, frozen=True):
    """A page of the audit log, newest first."""

    entries: list[AuditEntry]
    next_page_token: str | None
