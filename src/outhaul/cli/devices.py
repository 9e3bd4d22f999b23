"""`outhaul devices` and `outhaul tags`: devices as they are now, and what types tags are declared to be of."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, get_args

import click
import msgspec

from outhaul.cli.options import Group, json_option
from outhaul.cli.output import emit, fields, table
from outhaul.cli.talking import QUICK, talks
from outhaul.errors import NotFound
from outhaul.wire import TagType

if TYPE_CHECKING:
    from outhaul.client import Client
    from outhaul.rest import DeviceShown, Tagged


class Pair(click.ParamType[tuple[str, str]]):
    """A tag and its value; the value may hold anything, also nothing."""

    name = "key=value"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not (key and equals):
            self.fail(f"{value!r} is not key=value.", param, ctx)
        return key, text


@click.group(cls=Group)
def devices() -> None:
    """Devices as they are now: look at them, search them, tag them.

    Example:
      outhaul devices list shop --tag plan:pro
    """


@devices.command("list")
@click.argument("app")
@click.option("--tag", metavar="KEY[:VALUE]", help="Only those with this tag: with this value, or with any.")
@click.option("--user", "user_id", metavar="ID", help="Only those of this user.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many to show.")
@talks(QUICK)
@json_option
def list_devices(
    client: Client, app: str, tag: str | None, user_id: str | None, limit: int, as_json: bool
) -> None:
    """Show devices of APP (its name or appId), in order of their ids.

    Example:
      outhaul devices list shop --tag plan:pro --limit 10
      outhaul devices list shop --user ada --json
    """
    found = list(itertools.islice(client.devices.list(app, tag=tag, user_id=user_id), limit))
    if as_json:
        return emit({"devices": found})
    table(
        ("device", "user", "last seen", "model", "version", "tags"),
        [
            (
                *(one.device_id, one.user_id or "", one.last_seen, str(one.info.get("phoneModel", ""))),
                *(str(one.info.get("applicationVersionName", "")), _tags(one)),
            )
            for one in found
        ],
    )
    return None


@devices.command("get")
@click.argument("app")
@click.argument("device")
@talks(QUICK)
@json_option
def get_device(client: Client, app: str, device: str, as_json: bool) -> None:
    """Show everything known now of DEVICE, an id, in APP.

    Example:
      outhaul devices get shop 5f0c
    """
    found = client.devices.get(app, device)
    if as_json:
        return emit(found)
    members = msgspec.to_builtins(found)
    nested = {name: members.pop(name) for name in ("info", "area", "tags", "tokens")}
    fields(
        {
            **members,
            **nested["info"],
            **nested["area"],
            **{f"tag {key}": tag["value"] for key, tag in nested["tags"].items()},
            **{f"{token['service']} token": token["token"] for token in nested["tokens"]},
        }
    )
    return None


@devices.command("tag")
@click.argument("app")
@click.argument("device")
@click.argument("tags", nargs=-1, type=Pair(), metavar="[KEY=VALUE]...")
@click.option("--remove", multiple=True, metavar="KEY", help="Remove this tag. Repeatable.")
@click.option("--user", is_flag=True, help="DEVICE is a user's id: tag all of their devices.")
@talks(QUICK)
@json_option
def tag_device(
    client: Client,
    app: str,
    device: str,
    tags: tuple[tuple[str, str], ...],
    remove: tuple[str, ...],
    user: bool,
    as_json: bool,
) -> None:
    """Set tags of DEVICE, an id, in APP.

    Example:
      outhaul devices tag shop 5f0c plan=pro --remove trial
      outhaul devices tag shop ada vip=true --user
    """
    keys = [*(key for key, _ in tags), *remove]
    if not keys:
        raise click.UsageError("Nothing to set: give KEY=VALUE or --remove KEY.")
    if len(set(keys)) < len(keys):
        raise click.UsageError("A tag is named twice.")
    values: dict[str, str | None] = {**dict(tags), **dict.fromkeys(remove)}
    set_tags = client.devices.tag_users if user else client.devices.tag
    done: Tagged = set_tags(app, {device: values})
    if done.unknown:
        what = "user" if user else "device"
        raise NotFound(f"{app} has no {what} {device!r}.", hint=f"outhaul devices list {app}")
    if as_json:
        return emit(done)
    click.echo(f"{done.devices} device{'' if done.devices == 1 else 's'} tagged")
    return None


def _tags(device: DeviceShown) -> str:
    return " ".join(f"{key}={tag.value}" for key, tag in device.tags.items() if key != "userid")


@click.group(cls=Group)
def tags() -> None:
    """Declared tags: of which types the tags of an app are.

    Example:
      outhaul tags declare shop age integer
    """


@tags.command("declare")
@click.argument("app")
@click.argument("key")
@click.argument("of_type", metavar="TYPE", type=click.Choice(get_args(TagType)))
@talks(QUICK)
@json_option
def declare_tag(client: Client, app: str, key: str, of_type: TagType, as_json: bool) -> None:
    """Say of which TYPE the tag KEY of APP is: string, integer, date or boolean.

    Exports of tags show it, and values set by the API or the command line have to be of it.

    Example:
      outhaul tags declare shop age integer
    """
    declared = client.tags.declare(app, key, of_type)
    (emit if as_json else fields)(msgspec.to_builtins(declared))


@tags.command("list")
@click.argument("app")
@talks(QUICK)
@json_option
def list_tags(client: Client, app: str, as_json: bool) -> None:
    """Show the declared tags of APP.

    Example:
      outhaul tags list shop
    """
    found = client.tags.list(app)
    if as_json:
        return emit({"tags": found})
    table(("key", "type", "declared"), [(one.key, one.type, one.declared_at) for one in found])
    return None


@tags.command("remove")
@click.argument("app")
@click.argument("key")
@talks(QUICK)
@json_option
def remove_tag(client: Client, app: str, key: str, as_json: bool) -> None:
    """Take back the declaration of the tag KEY of APP; its values stay.

    Example:
      outhaul tags remove shop age
    """
    removed = client.tags.remove(app, key)
    if as_json:
        return emit(removed)
    click.echo(f"{removed.key} is no longer declared")
    return None
