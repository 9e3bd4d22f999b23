"""`outhaul doctor`: looks at everything that has to be right, and says what to do about what is not."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from outhaul import __version__
from outhaul.cli.exits import ERROR
from outhaul.cli.findings import Check, Finding, look
from outhaul.cli.folder_checks import check_folder
from outhaul.cli.options import Command, json_option, profile_option, url_option
from outhaul.cli.output import emit, painted, plain
from outhaul.cli.server_checks import check_server

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPENING = ("pyarrow", "polars", "pandas")
"""What the SDK opens results with, where it is installed."""


@click.command(cls=Command)
@profile_option
@url_option
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="OUTHAUL_DATA",
    show_envvar=True,
    help="A server's data folder, to be looked at as well.",
)
@json_option
def doctor(profile: str | None, url: str | None, data: Path | None, as_json: bool) -> int:
    """Look whether everything is as it has to be.

    That is packages, profile, server, token and, with --data, its folder.
    Each line is ok, warn or fail, with what to do about it. The exit code is 1 when one is fail.

    Example:
      outhaul doctor
      outhaul doctor --profile test --data ./data --json
    """
    checks: list[Check] = []
    for check in _all(profile, url, data):
        checks.append(check)
        if not as_json:
            _show(check)
    failed = any(check.result == "fail" for check in checks)
    if as_json:
        emit({"ok": not failed, "checks": checks})
    return ERROR if failed else 0


def _all(profile: str | None, url: str | None, data: Path | None) -> Iterator[Check]:
    yield look("packages", _packages)
    packages = look("server packages", lambda: _server_packages(needed=data is not None))
    yield packages
    yield look("opening results", _opening)
    yield from check_server(profile, url or "")
    if data is not None and packages.result == "ok":
        yield from check_folder(data)


def _show(check: Check) -> None:
    click.echo(f"{painted(f'{check.result:<4}')}  {check.name:<16}  {plain(check.detail)}")
    if check.cure:
        click.echo(f"{'':<24}{painted('Try:', 'ok')} {check.cure}")


def _packages() -> Finding:
    named = ", ".join(f"{name} {_version(name)}" for name in _needed(""))
    return Finding("ok", f"outhaul {__version__}, Python {platform.python_version()}, {named}")


def _server_packages(*, needed: bool) -> Finding:
    missing = [name for name in _needed("server") if not _version(name)]
    if not missing:
        return Finding("ok", "installed: serve and the commands on a data folder work")
    lacks = f"not installed: {', '.join(missing)}"
    if needed:
        return Finding("fail", lacks, "pip install 'outhaul[server]'")
    return Finding("ok", f"{lacks}; only serve and the commands on a data folder need them")


def _opening() -> Finding:
    found = [f"{name} {_version(name)}" for name in _OPENING if _version(name)]
    return Finding("ok", ", ".join(found) or f"none of {', '.join(_OPENING)} is installed")


def _needed(extra: str) -> list[str]:
    """The packages that the base install needs, or those that an extra adds."""
    names = []
    for need in requires("outhaul") or []:
        of = re.search(r"extra *== *['\"](\w+)['\"]", need)
        if (of[1] if of else "") == extra and (name := re.match(r"[\w.-]+", need)):
            names.append(name[0])
    return names


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
