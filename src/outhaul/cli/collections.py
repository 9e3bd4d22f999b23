"""`outhaul collections`: collections of apps, made and disabled as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from outhaul.cli.folder import now, opened, record
from outhaul.cli.options import Group, data_option, json_option
from outhaul.cli.output import emit, fields, instant, table

if TYPE_CHECKING:
    from pathlib import Path


@click.group(cls=Group)
def collections() -> None:
    """Collections of apps, which can be disabled as a whole.

    Example:
      outhaul collections create games --data ./data
    """


@collections.command("create")
@click.argument("name")
@data_option
@json_option
def create_collection(name: str, data: Path, as_json: bool) -> None:
    """Make a collection with no apps in it; `outhaul apps create --collection` puts one there.

    Example:
      outhaul collections create games --data ./data
    """
    with opened(data, create=True) as ledger:
        made = ledger.create_collection(name, now())
        record(ledger, "collection.create", made.name)
        shown = _described(ledger, made)
    (emit if as_json else _show)(shown)


@collections.command("list")
@data_option
@json_option
def list_collections(data: Path, as_json: bool) -> None:
    """Show every collection with its apps.

    Example:
      outhaul collections list --data ./data
    """
    with opened(data) as ledger:
        found = [_described(ledger, one) for one in ledger.collections()]
    if as_json:
        return emit({"collections": found})
    table(
        ("name", "apps", "disabled"),
        [(one["name"], " ".join(one["apps"]), one["disabledAt"] or "") for one in found],
    )
    return None


@collections.command("disable")
@click.argument("name")
@data_option
@json_option
def disable_collection(name: str, data: Path, as_json: bool) -> None:
    """Take nothing from the devices of all apps in a collection; they keep what they have.

    A server that runs notices within five seconds. What is stored can be exported as before.

    Example:
      outhaul collections disable games --data ./data
    """
    with opened(data) as ledger:
        disabled = ledger.disable_collection(name, now())
        record(ledger, "collection.disable", disabled.name)
        shown = _described(ledger, disabled)
    (emit if as_json else _show)(shown)


@collections.command("enable")
@click.argument("name")
@data_option
@json_option
def enable_collection(name: str, data: Path, as_json: bool) -> None:
    """Take again what the devices of all apps in a collection send; apps disabled by themselves stay so.

    Example:
      outhaul collections enable games --data ./data
    """
    with opened(data) as ledger:
        enabled = ledger.enable_collection(name)
        record(ledger, "collection.enable", enabled.name)
        shown = _described(ledger, enabled)
    (emit if as_json else _show)(shown)


def _described(ledger: Any, collection: Any) -> dict[str, Any]:
    return {
        "name": collection.name,
        "apps": [app.app_id for app in ledger.apps() if app.app_collection == collection.name],
        "createdAt": instant(collection.created_at),
        "disabledAt": instant(collection.disabled_at),
    }


def _show(shown: dict[str, Any]) -> None:
    fields({**shown, "apps": " ".join(shown["apps"]) or None})
