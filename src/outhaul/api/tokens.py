"""API tokens over HTTP: made, listed, given a new secret, revoked; and who one is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outhaul import instants
from outhaul.api.exports import app_names, find_app
from outhaul.api.operations import PREFIX, Operation, reply
from outhaul.errors import Forbidden, Invalid, NotFound
from outhaul.rest import Caller, IssuedToken, NewToken, Rotation, Token, TokenList

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from outhaul.api.operations import Call
    from outhaul.ledger.access import ApiToken
    from outhaul.wire import Scope

_TOKEN_ACTOR = "token:"  # noqa: S105  how actors begin that are API tokens


async def create(call: Call) -> Response:
    """Make a token; its secret is in the answer and nowhere else."""
    asked: NewToken = call.body
    door, caller = call.door, call.caller
    app_id = (await find_app(call, asked.app)).app_id if asked.app is not None else None
    expires_at = None if asked.expires_at is None else instants.read("expiresAt", asked.expires_at)
    if expires_at is not None and expires_at <= door.now():
        raise Invalid("expiresAt: it is not in the future.", hint="Give a later instant.")
    _check_reach(call, asked.scopes, app_id, expires_at)
    token, secret = await asyncio.to_thread(
        door.ledger.issue_token, asked.name, asked.scopes, app_id, expires_at, caller.actor, door.now()
    )
    await _audit(call, "token.create", token)
    return await _issued(call, token, secret, 201)


async def list_tokens(call: Call) -> Response:
    """The tokens that the caller may know of, those that are good no more too."""
    bound = call.caller.app_id
    tokens = await asyncio.to_thread(call.door.ledger.tokens, bound)
    names = await app_names(call.door)
    await call.door.access.audit(call.caller, "token.list", bound or "", bound, call.request_id)
    return reply(TokenList(tokens=[_show(token, names) for token in tokens]))


async def get(call: Call) -> Response:
    """One token."""
    token = await _find(call)
    await _audit(call, "token.read", token)
    return reply(_show(token, await app_names(call.door)))


async def rotate(call: Call) -> Response:
    """Give a token a new secret."""
    rotation: Rotation = call.body
    door = call.door
    found = await _find(call)
    _check_reach(call, found.scopes, found.app_id, found.expires_at)
    token, secret = await asyncio.to_thread(
        door.ledger.rotate_token, found.token_id, rotation.overlap_seconds * 1000, door.now()
    )
    await _audit(call, "token.rotate", token)
    return await _issued(call, token, secret, 200)


async def revoke(call: Call) -> Response:
    """End a token for good."""
    found = await _find(call)
    token = await asyncio.to_thread(call.door.ledger.revoke_token, found.token_id, call.door.now())
    await _audit(call, "token.revoke", token)
    return reply(_show(token, await app_names(call.door)))


async def me(call: Call) -> Response:
    """Who the caller is."""
    caller = call.caller
    names = await app_names(call.door)
    return reply(
        Caller(
            actor=caller.actor,
            app=None if caller.app_id is None else names.get(caller.app_id, caller.app_id),
            scopes=sorted(caller.scopes),
            expires_at=_instant(caller.expires_at),
        )
    )


async def _find(call: Call) -> ApiToken:
    asked = call.names["id"]
    missing = NotFound(f"There is no token {asked[:80]!r}.", hint=f"GET {PREFIX}/tokens lists them.")
    try:
        token = await asyncio.to_thread(call.door.ledger.token, asked.lower())
    except NotFound:
        raise missing from None
    # Another app's token is not said to exist.
    if call.caller.app_id not in {None, token.app_id}:
        raise missing
    return token


def _check_reach(call: Call, scopes: list[Scope], app_id: str | None, expires_at: int | None) -> None:
    """Let a caller have the secret of a token that may do nothing they may not do themselves, nor for longer.

    Raises:
        Forbidden: it may, naming what.
    """
    caller = call.caller
    for scope in scopes:
        if scope not in caller.scopes:
            raise Forbidden(
                f"{caller.actor} does not have the scope {scope}, so it cannot be had from it.",
                hint="Leave the scope out, or ask with a token that has it.",
                code="scope_missing",
            )
    if caller.app_id not in {None, app_id}:
        raise Forbidden(
            f"{caller.actor} is for one app, so a token from it is as well.",
            hint=f"Give {caller.app_id} as app.",
        )
    # People and credentials of the token endpoint go on when what they show today has run out; a token does not.
    ends_at = caller.expires_at if caller.actor.startswith(_TOKEN_ACTOR) else None
    if ends_at is not None and (expires_at is None or expires_at > ends_at):
        raise Forbidden(
            f"{caller.actor} expires at {instants.show(ends_at)}, so a token from it does by then.",
            hint="Give an expiresAt that is not later.",
        )


async def _audit(call: Call, action: str, token: ApiToken) -> None:
    await call.door.access.audit(call.caller, action, token.token_id, token.app_id, call.request_id)


async def _issued(call: Call, token: ApiToken, secret: str, status: int) -> Response:
    shown = _show(token, await app_names(call.door))
    members = {name: getattr(shown, name) for name in Token.__struct_fields__}
    return reply(IssuedToken(**members, secret=secret), status)


def _show(token: ApiToken, names: Mapping[str, str]) -> Token:
    return Token(
        id=token.token_id,
        name=token.name,
        app=None if token.app_id is None else names.get(token.app_id, token.app_id),
        app_id=token.app_id,
        scopes=token.scopes,
        created_at=instants.show(token.created_at),
        created_by=token.created_by,
        expires_at=_instant(token.expires_at),
        last_used_at=_instant(token.last_used_at),
        previous_until=_instant(token.previous_until),
        revoked_at=_instant(token.revoked_at),
    )


def _instant(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else instants.show(milliseconds)


OPERATIONS = (
    Operation(
        "POST",
        "/tokens",
        "createToken",
        "Make an API token",
        create,
        "tokens:write",
        body=NewToken,
        answer=IssuedToken,
        status=201,
        help="The secret is in this answer and nowhere else. A token can be given only what the caller may do itself.",
        problems=("app_not_found", "conflict"),
        example={"name": "nightly", "scopes": ["exports:read", "exports:write"], "app": "Shop"},
    ),
    Operation(
        "GET", "/tokens", "listTokens", "List API tokens", list_tokens, "tokens:read", answer=TokenList
    ),
    Operation(
        "GET",
        "/tokens/{id}",
        "getToken",
        "Look at an API token",
        get,
        "tokens:read",
        answer=Token,
        problems=("not_found",),
    ),
    Operation(
        "POST",
        "/tokens/{id}:rotate",
        "rotateToken",
        "Give an API token a new secret",
        rotate,
        "tokens:write",
        body=Rotation,
        body_optional=True,
        answer=IssuedToken,
        help="The secret that is replaced stays valid for `overlapSeconds`, so that nothing stands still.",
        problems=("not_found", "conflict"),
    ),
    Operation(
        "POST",
        "/tokens/{id}:revoke",
        "revokeToken",
        "Revoke an API token",
        revoke,
        "tokens:write",
        answer=Token,
        help="It is refused within five seconds, for good.",
        problems=("not_found",),
    ),
    Operation("GET", "/me", "getCaller", "Say who is asking", me, "caller", answer=Caller),
)
