"""`outhaul config`: which servers are known, and the tokens for them."""

from __future__ import annotations

import sys

import click

from outhaul import profiles
from outhaul.cli.options import Group, json_option, profile_option
from outhaul.cli.output import emit, fields, table
from outhaul.client import Client
from outhaul.config import variable
from outhaul.errors import Invalid
from outhaul.profiles import Profile


@click.group(cls=Group)
def config() -> None:
    """Servers to talk to, kept as profiles in a config file.

    Example:
      outhaul config set https://outhaul.example.com
    """


@config.command("set")
@click.argument("url")
@profile_option
@click.option("--no-check", is_flag=True, help="Do not ask the server whether it takes the token.")
@json_option
def set_profile(url: str, profile: str | None, no_check: bool, as_json: bool) -> None:
    """Keep URL and a token as a profile; the token is read from standard input, or asked for.

    Example:
      outhaul config set https://outhaul.example.com
      outhaul config set http://127.0.0.1:8080 --profile test < token.txt
    """
    name = profiles.chosen(profile)
    made = Profile(name, profiles.checked_url(url), _read_token())
    caller = None
    if not no_check:
        with Client(made.url, made.token) as client:
            caller = client.me()
    profiles.save(made)
    if as_json:
        return emit({"profile": name, "url": made.url, "path": str(profiles.path()), "caller": caller})
    click.echo(f"Profile {name} is {made.url}, in {profiles.path()}.")
    if caller:
        click.echo(f"The server knows you as {caller.actor}, who may: {' '.join(caller.scopes)}.")
    return None


@config.command("list")
@json_option
def list_profiles(as_json: bool) -> None:
    """Show every profile; a star is at the one that is used when none is named.

    Example:
      outhaul config list
    """
    found = [profiles.saved(name) for name in profiles.names()]
    chosen = profiles.chosen(None)
    if as_json:
        shown = [{"name": one.name, "url": one.url, "chosen": one.name == chosen} for one in found]
        return emit({"profiles": shown, "path": str(profiles.path())})
    table(("", "profile", "url"), [("*" if one.name == chosen else "", one.name, one.url) for one in found])
    return None


@config.command("show")
@profile_option
@json_option
def show_profile(profile: str | None, as_json: bool) -> None:
    """Show which server is talked to, and where its URL and its token come from; never the token itself.

    Example:
      outhaul config show --profile test
    """
    found = profiles.load(profile)
    shown = {
        "profile": found.name,
        "url": found.url or None,
        "urlFrom": _origin("OUTHAUL_URL", found.url),
        "tokenFrom": _origin("OUTHAUL_TOKEN", found.token),
        "path": str(profiles.path()),
    }
    if as_json:
        return emit(shown)
    fields({name: value or "(none)" for name, value in shown.items()})
    return None


@config.command("remove")
@click.argument("profile")
@json_option
def remove_profile(profile: str, as_json: bool) -> None:
    """Forget a profile and its token. The token stays valid: `outhaul tokens revoke` ends it.

    Example:
      outhaul config remove test
    """
    profiles.remove(profile)
    if as_json:
        emit({"removed": profile})
    else:
        click.echo(f"Profile {profile} is removed.")


@config.command("path")
@json_option
def show_path(as_json: bool) -> None:
    """Show where the config file is, or would be.

    Example:
      outhaul config path
    """
    if as_json:
        emit({"path": str(profiles.path()), "exists": profiles.path().exists()})
    else:
        click.echo(profiles.path())


def _read_token() -> str:
    """The token, from whoever types it, unseen, or from what is piped in.

    Raises:
        Invalid: nothing came.
    """
    if sys.stdin.isatty():
        return str(click.prompt("Token", hide_input=True, err=True)).strip()
    token = sys.stdin.readline().strip()
    if not token:
        raise Invalid(
            "There is no token on standard input.", hint="Pipe it in, or run this in a terminal to be asked."
        )
    return token


def _origin(name: str, value: str) -> str | None:
    if not value:
        return None
    return name if variable(name) else "file"
