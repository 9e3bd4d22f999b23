"""Apps and their collections, kinds of export, tokens and the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul.client.moments import Moment, moment
from outhaul.client.requests import quoted
from outhaul.rest import (
    AppList,
    AppShown,
    AuditList,
    CollectionList,
    CollectionShown,
    IssuedToken,
    KindList,
    NewApp,
    NewCollection,
    NewRetention,
    NewToken,
    RegisteredApp,
    Retention,
    Rotation,
    Token,
    TokenList,
)

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncIterator, Mapping, Sequence

    from outhaul.client.aio.connection import Connection
    from outhaul.rest import AuditEntry, KindShown
    from outhaul.wire import Platform, RetainedKind, Scope


class Apps:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> builtins.list[AppShown]:
        """The apps that we may see."""
        return (await self._connection.get("/apps", AppList)).apps

    async def get(self, app: str) -> AppShown:
        """One app, by its name or its id."""
        return await self._connection.get(f"/apps/{quoted(app)}", AppShown)

    async def create(self, name: str, platform: Platform, *, collection: str | None = None) -> RegisteredApp:
        """Register an app, in the collection of its own name unless another is given; devices send with its `sdk_key`.

        When the answer is lost (`Unreachable`), the app may be there: then another try is `Conflict`.
        """
        body = NewApp(name=name, platform=platform, collection=collection)
        return await self._connection.tell("POST", "/apps", RegisteredApp, body=body, repeat=False)

    async def disable(self, app: str) -> AppShown:
        """Take nothing from its devices, which keep what they have; what is stored can be exported as before."""
        return await self._connection.tell("POST", f"/apps/{quoted(app)}:disable", AppShown, repeat=True)

    async def enable(self, app: str) -> AppShown:
        """Take what its devices send again."""
        return await self._connection.tell("POST", f"/apps/{quoted(app)}:enable", AppShown, repeat=True)

    async def retention(self, app: str) -> dict[str, int]:
        """For how many days its records are kept, by kind; a kind that is not in it is kept for ever."""
        return (await self._connection.get(f"/apps/{quoted(app)}/retention", Retention)).days

    async def set_retention(self, app: str, days: Mapping[RetainedKind, int]) -> dict[str, int]:
        """Set it, in place of what was set before; what is older is removed for good within the hour."""
        path, body = f"/apps/{quoted(app)}/retention", NewRetention(days=dict(days))
        return (await self._connection.tell("PUT", path, Retention, body=body, repeat=True)).days


class Collections:
    """Collections of apps, by their names."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> builtins.list[CollectionShown]:
        """The collections that we may see, those without apps too."""
        return (await self._connection.get("/collections", CollectionList)).collections

    async def get(self, name: str) -> CollectionShown:
        return await self._connection.get(f"/collections/{quoted(name)}", CollectionShown)

    async def create(self, name: str) -> CollectionShown:
        """Make one with no apps in it; an app that is registered with its name comes into it.

        When the answer is lost (`Unreachable`), it may be there: then another try is `Conflict`.
        """
        body = NewCollection(name=name)
        return await self._connection.tell("POST", "/collections", CollectionShown, body=body, repeat=False)

    async def disable(self, name: str) -> CollectionShown:
        """Take nothing from the devices of its apps, which keep what they have."""
        path = f"/collections/{quoted(name)}:disable"
        return await self._connection.tell("POST", path, CollectionShown, repeat=True)

    async def enable(self, name: str) -> CollectionShown:
        """Take again what they send, but for apps that were disabled by themselves."""
        path = f"/collections/{quoted(name)}:enable"
        return await self._connection.tell("POST", path, CollectionShown, repeat=True)


class Kinds:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> builtins.list[KindShown]:
        """The kinds of export there are, with their columns."""
        return (await self._connection.get("/kinds", KindList)).kinds


class Tokens:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self, name: str, scopes: Sequence[Scope], *, app: str | None = None, expires_at: Moment | None = None
    ) -> IssuedToken:
        """Make a token, for one app or, without `app`, for all; its `secret` is shown this once.

        When the answer is lost (`Unreachable`), the token may be there: `list` shows it, `revoke` takes it back.
        """
        expires = None if expires_at is None else moment("expires_at", expires_at)
        body = NewToken(name=name, scopes=list(scopes), app=app, expires_at=expires)
        return await self._connection.tell("POST", "/tokens", IssuedToken, body=body, repeat=False)

    async def list(self) -> builtins.list[Token]:
        return (await self._connection.get("/tokens", TokenList)).tokens

    async def get(self, token_id: str) -> Token:
        return await self._connection.get(f"/tokens/{quoted(token_id)}", Token)

    async def rotate(self, token_id: str, *, overlap_s: int | None = None) -> IssuedToken:
        """Give a token another secret; the one before stays valid for `overlap_s`, a day if not given."""
        body = Rotation() if overlap_s is None else Rotation(overlap_seconds=overlap_s)
        path = f"/tokens/{quoted(token_id)}:rotate"
        return await self._connection.tell("POST", path, IssuedToken, body=body, repeat=False)

    async def revoke(self, token_id: str) -> Token:
        """Make a token invalid for good; the server notices everywhere within seconds."""
        path = f"/tokens/{quoted(token_id)}:revoke"
        return await self._connection.tell("POST", path, Token, repeat=True)


class Audit:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self, *, app: str | None = None) -> AsyncIterator[AuditEntry]:
        """Who did what, newest first; pages are fetched as they are needed."""
        params = {"app": app} if app is not None else {}
        while True:
            page = await self._connection.get("/audit", AuditList, params)
            for entry in page.entries:
                yield entry
            if page.next_page_token is None:
                return
            params["pageToken"] = page.next_page_token
