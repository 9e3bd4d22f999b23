"""`outhaul apps` and `outhaul credentials`: who may send, and who may ask through the old API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from outhaul.cli.folder import now, opened, record
from outhaul.cli.options import Group, data_option, json_option
from outhaul.cli.output import emit, fields, instant, table
from outhaul.wire import Platform, Role

if TYPE_CHECKING:
    from pathlib import Path

_APP = ("appId", "name", "platform", "appCollection", "appName", "sdkKey", "disabledAt")
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
