"""`outhaul apps` and `outhaul credentials`: who may send, and who may ask through the old API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from outhaul.cli.folder import now, opened, record
from outhaul.cli.options import Group, data_option, json_option
from outhaul.cli.output import emit, fields, instant, table
from outhaul.rest import MAX_DAYS
from outhaul.wire import Platform, RetainedKind, Role

if TYPE_CHECKING:
    from pathlib import Path

_APP = ("appId", "name", "platform", "appCollection", "appName", "sdkKey", "disabledAt")
_FOR_EVER = "forever"
_CREDENTIAL = ("clientId", "name", "role", "createdAt")


@click.group(cls=Group)
def apps() -> None:
    """Apps whose devices may send.

    Example:
      outhaul apps create shop --platform ios --data ./data
    """


@apps.command("create")
@click.argument("name")
@click.option("--platform", type=click.Choice(get_args(Platform)), default="android", show_default=True)
@click.option(
    "--collection", help="The app collection it is in, to the old API. Without: one of its own name."
)
@data_option
@json_option
def create_app(name: str, platform: Platform, collection: str | None, data: Path, as_json: bool) -> None:
    """Register an app and print its SDK key, and the names that clients of the old API address it by.

    Example:
      outhaul apps create shop --platform android --data ./data --json
    """
    with opened(data, create=True) as ledger:
        app = ledger.create_app(name, platform, now(), collection)
        record(ledger, "app.create", app.app_id, app.app_id)
        shown = _described(ledger, app)
    (emit if as_json else fields)(shown)


@apps.command("list")
@data_option
@json_option
def list_apps(data: Path, as_json: bool) -> None:
    """Show every app with its SDK key.

    Example:
      outhaul apps list --data ./data
    """
    with opened(data) as ledger:
        found = [_described(ledger, app) for app in ledger.apps()]
    if as_json:
        emit({"apps": found})
    else:
        table(_APP, [[app[name] or "" for name in _APP] for app in found])


@apps.command("disable")
@click.argument("name")
@data_option
@json_option
def disable_app(name: str, data: Path, as_json: bool) -> None:
    """Take nothing from the devices of an app, given by its name or appId; they keep what they have.

    A server that runs notices within five seconds. What is stored can be exported as before.

    Example:
      outhaul apps disable shop --data ./data
    """
    with opened(data) as ledger:
        app = ledger.disable_app(ledger.app(name).app_id, now())
        record(ledger, "app.disable", app.app_id, app.app_id)
        shown = _described(ledger, app)
    (emit if as_json else fields)(shown)


@apps.command("enable")
@click.argument("name")
@data_option
@json_option
def enable_app(name: str, data: Path, as_json: bool) -> None:
    """Take what the devices of an app send again, given by its name or appId.

    Example:
      outhaul apps enable shop --data ./data
    """
    with opened(data) as ledger:
        app = ledger.enable_app(ledger.app(name).app_id)
        record(ledger, "app.enable", app.app_id, app.app_id)
        shown = _described(ledger, app)
    (emit if as_json else fields)(shown)


@apps.command("countly-salt")
@click.argument("name")
@click.argument("salt", required=False)
@data_option
@json_option
def set_countly_salt(name: str, salt: str | None, data: Path, as_json: bool) -> None:
    """Say which salt the Countly SDK of an app makes its checksums with, so that requests are proven by them.

    Requests whose checksum is missing or wrong are set aside. Without a salt no checksum is looked at. A server that runs
    notices within five seconds.

    Example:
      outhaul apps countly-salt shop pepper --data ./data
    """
    with opened(data) as ledger:
        app = ledger.set_countly_salt(ledger.app(name).app_id, salt or None)
        record(ledger, "app.salt", app.app_id, app.app_id)
        shown = _described(ledger, app)
    (emit if as_json else fields)(shown)


class Kept(click.ParamType[tuple[RetainedKind, int | None]]):
    """A kind of records and for how many days they are kept; None: for ever."""

    name = "kind=days"

    def convert(
        self,
        value: str | tuple[RetainedKind, int | None],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[RetainedKind, int | None]:
        if isinstance(value, tuple):
            return value
        word, _, text = value.partition("=")
        kind = next((known for known in get_args(RetainedKind) if known == word), None)
        if kind is None:
            self.fail(f"{word!r} is not one of {', '.join(get_args(RetainedKind))}.", param, ctx)
        if text == _FOR_EVER:
            return kind, None
        if not (text.isdecimal() and 1 <= int(text) <= MAX_DAYS):
            self.fail(f"{text!r} is not a number of days from 1 to {MAX_DAYS}, or {_FOR_EVER}.", param, ctx)
        return kind, int(text)


@apps.command("retention")
@click.argument("name")
@click.argument("kept", nargs=-1, type=Kept(), metavar="[KIND=DAYS]...")
@data_option
@json_option
def set_retention(
    name: str, kept: tuple[tuple[RetainedKind, int | None], ...], data: Path, as_json: bool
) -> None:
    """Show for how many days the records of an app are kept, after changing it for the kinds that are given.

    What is older is removed for good within the hour. What is not listed is kept for ever, which `KIND=forever` brings back.
    `device` takes along the tags, tokens and users of devices not seen for so long.

    Example:
      outhaul apps retention shop event=90 crash=365 --data ./data
      outhaul apps retention shop event=forever --data ./data
    """
    with opened(data) as ledger:
        app = ledger.app(name)
        days = ledger.retention(app.app_id).get(app.app_id, {})
        if kept:
            days = {kind: number for kind, number in {**days, **dict(kept)}.items() if number is not None}
            ledger.set_retention(app.app_id, days)
            record(ledger, "retention.set", app.app_id, app.app_id)
    if as_json:
        return emit({"days": days})
    table(("kind", "days"), [(kind, f"{days.get(kind, _FOR_EVER)}") for kind in get_args(RetainedKind)])
    return None


@click.group(cls=Group)
def credentials() -> None:
    """Credentials of those who ask through the old API.

    Example:
      outhaul credentials create reports --role contributor --data ./data
    """


@credentials.command("create")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(get_args(Role)),
    default="owner",
    show_default=True,
    help="A reader may look; contributor and owner may also ask for exports.",
)
@data_option
@json_option
def create_credential(name: str, role: Role, data: Path, as_json: bool) -> None:
    """Make a credential and print its secret, which cannot be shown again.

    Example:
      outhaul credentials create reports --role contributor --data ./data --json
    """
    with opened(data, create=True) as ledger:
        credential, secret = ledger.create_credential(name, role, now())
        record(ledger, "credential.create", credential.client_id)
        installation = ledger.installation(now())
    shown = {
        "subscriptionId": installation.subscription_id,
        "tenantId": installation.tenant_id,
        "clientId": credential.client_id,
        "clientSecret": secret,
        "name": credential.name,
        "role": credential.role,
    }
    (emit if as_json else fields)(shown)


@credentials.command("list")
@data_option
@json_option
def list_credentials(data: Path, as_json: bool) -> None:
    """Show every credential, without its secret.

    Example:
      outhaul credentials list --data ./data
    """
    with opened(data) as ledger:
        found = [
            {
                "clientId": item.client_id,
                "name": item.name,
                "role": item.role,
                "createdAt": instant(item.created_at) or "",
            }
            for item in ledger.credentials()
        ]
    if as_json:
        emit({"credentials": found})
    else:
        table(_CREDENTIAL, [[item[name] for name in _CREDENTIAL] for item in found])


def _described(ledger: Any, app: Any) -> dict[str, Any]:
    installation = ledger.installation(now())
    return {
        "subscriptionId": installation.subscription_id,
        "tenantId": installation.tenant_id,
        "resourceGroup": app.resource_group,
        "appCollection": app.app_collection,
        "appName": app.app_name,
        "appId": app.app_id,
        "sdkKey": app.sdk_key,
        "name": app.name,
        "platform": app.platform,
        "disabledAt": instant(app.disabled_at),
    }
