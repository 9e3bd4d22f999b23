"""`outhaul tokens` and `outhaul audit`: who may use `/api/v1`, and what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from outhaul import instants
from outhaul.cli.folder import ACTOR, now, opened, record
from outhaul.cli.options import Command, Group, Span, data_option, json_option
from outhaul.cli.output import emit, fields, instant, painted, table
from outhaul.errors import NotFound
from outhaul.rest import AuditEntry, AuditList, IssuedToken, Token, TokenList
from outhaul.wire import Scope

if TYPE_CHECKING:
    from pathlib import Path

_OVERLAP = "24h"


@click.group(cls=Group)
def tokens() -> None:
    """API tokens: who may ask for what, and in which app.

    Example:
      outhaul tokens create nightly --scope exports:write --scope exports:read --expires-in 90d --data ./data
    """


@tokens.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(get_args(Scope)),
    help="What its bearer may do; may be given several times.",
)
@click.option("--app", help="Only in this app, by its name or appId. Without: in all.")
@click.option(
    "--expires-in", type=Span(), help="When it ends, such as 12h, 90d or 8w from now. Without: never."
)
@data_option
@json_option
def create_token(
    name: str, scopes: tuple[Scope, ...], app: str | None, expires_in: int | None, data: Path, as_json: bool
) -> None:
    """Make a token and print its secret, which cannot be shown again.

    Example:
      outhaul tokens create nightly --scope exports:write --scope exports:read --app shop --data ./data
    """
    at = now()
    with opened(data, create=True) as ledger:
        app_id = None if app is None else ledger.app(app).app_id
        ends = None if expires_in is None else at + expires_in
        token, secret = ledger.issue_token(name, list(scopes), app_id, ends, ACTOR, at)
        record(ledger, "token.create", token.token_id, app_id)
        shown = _shown(token, _names(ledger))
    _show_issued(shown, secret, as_json)


@tokens.command("list")
@click.option("--app", help="Only those of this app, by its name or appId.")
@data_option
@json_option
def list_tokens(app: str | None, data: Path, as_json: bool) -> None:
    """Show every token, without its secret.

    Example:
      outhaul tokens list --data ./data
    """
    with opened(data) as ledger:
        names = _names(ledger)
        found = ledger.tokens(None if app is None else ledger.app(app).app_id)
    if as_json:
        return emit(TokenList(tokens=[_shown(token, names) for token in found]))
    at = now()
    table(
        ("name", "state", "app", "scopes", "expires", "last used", "id"),
        [
            (
                *(token.name, token.over(at) or "valid", names.get(token.app_id, "(all)")),
                *(" ".join(token.scopes), instant(token.expires_at) or "never"),
                *(instant(token.last_used_at) or "never", token.token_id),
            )
            for token in found
        ],
    )
    return None


@tokens.command("rotate")
@click.argument("token")
@click.option(
    "--overlap",
    type=Span(),
    default=_OVERLAP,
    show_default=True,
    help="How long the secret before stays valid, so that whoever uses it can change over.",
)
@data_option
@json_option
def rotate_token(token: str, overlap: int, data: Path, as_json: bool) -> None:
    """Give TOKEN (its name or id) a new secret and print it; the one before is valid for a while.

    Example:
      outhaul tokens rotate nightly --overlap 2d --data ./data
    """
    with opened(data) as ledger:
        found, secret = ledger.rotate_token(_find(ledger, token), overlap, now())
        record(ledger, "token.rotate", found.token_id, found.app_id)
        shown = _shown(found, _names(ledger))
    _show_issued(shown, secret, as_json)


@tokens.command("revoke")
@click.argument("token")
@data_option
@json_option
def revoke_token(token: str, data: Path, as_json: bool) -> None:
    """End TOKEN (its name or id) for good.

    Example:
      outhaul tokens revoke nightly --data ./data
    """
    with opened(data) as ledger:
        found = ledger.revoke_token(_find(ledger, token), now())
        record(ledger, "token.revoke", found.token_id, found.app_id)
        shown = _shown(found, _names(ledger))
    if as_json:
        emit(shown)
    else:
        click.echo(f"{shown.name} is revoked since {shown.revoked_at}.")


@click.command(cls=Command)
@click.option("--app", help="Only what was done in this app, by its name or appId.")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="How many entries to show."
)
@data_option
@json_option
def audit(app: str | None, limit: int, data: Path, as_json: bool) -> None:
    """Show who did what, newest first.

    Example:
      outhaul audit --app shop --limit 20 --data ./data
    """
    with opened(data) as ledger:
        app_id = None if app is None else ledger.app(app).app_id
        found = ledger.audit(limit, app_id=app_id)
    entries = [
        AuditEntry(
            at=instants.show(entry.at),
            actor=entry.actor,
            action=entry.action,
            target=entry.target,
            app_id=entry.app_id,
            request_id=entry.request_id,
        )
        for entry in found
    ]
    if as_json:
        return emit(AuditList(entries=entries, next_page_token=None))
    table(
        ("at", "actor", "action", "target", "app", "request"),
        [(e.at, e.actor, e.action, e.target, e.app_id or "", e.request_id or "") for e in entries],
    )
    return None


def _find(ledger: Any, token: str) -> str:
    """The id of a token given by its id, or by the name that only one has that is not revoked."""
    for found in ledger.tokens():
        if found.token_id == token or (found.name == token and found.revoked_at is None):
            return str(found.token_id)
    raise NotFound(f"There is no token {token[:80]!r}.", hint="`outhaul tokens list` shows what exists.")


def _names(ledger: Any) -> dict[str | None, str]:
    return {app.app_id: app.name for app in ledger.apps()}


def _shown(token: Any, names: dict[str | None, str]) -> Token:
    times = {
        name: None if (at := getattr(token, name)) is None else instants.show(at)
        for name in ("expires_at", "last_used_at", "previous_until", "revoked_at")
    }
    return Token(
        id=token.token_id,
        name=token.name,
        app=names.get(token.app_id),
        app_id=token.app_id,
        scopes=token.scopes,
        created_at=instants.show(token.created_at),
        created_by=token.created_by,
        **times,
    )


def _show_issued(token: Token, secret: str, as_json: bool) -> None:
    issued = IssuedToken(**msgspec.structs.asdict(token), secret=secret)
    if as_json:
        return emit(issued)
    fields(msgspec.to_builtins(issued) | {"scopes": " ".join(token.scopes), "secret": None})
    click.echo(f"\n{painted(secret, 'head')}")
    return None
